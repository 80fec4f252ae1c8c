"""Everything between the browser and Streamlit: log in, log out, and the gate that lets only known sessions through.

A login gives an opaque random token in an HttpOnly SameSite=Strict cookie. The gate looks the token up in the store for
every request and every WebSocket, and hands Streamlit a fingerprint of it as a trusted header, so that a Streamlit
session can never be resumed by another login.
"""

from __future__ import annotations

import hashlib
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qs, urlsplit

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from dashboards.login_page import login_html, problem_html
from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.store.errors import StoreError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "flexergy_session"
SESSION_HEADER = "x-flexergy-session"
MAX_FORM_BYTES = 8192
OPEN_PATHS = frozenset({"/login", "/logout", "/session", "/_stcore/health", "/favicon.png", "/favicon.ico"})
OPEN_FOLDER = "/static/"
SECURITY_HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)

_log = get_logger(__name__)


class LoginRefusedError(Exception):
    """A login that did not succeed; the text is for the person at the screen."""


class Authority(Protocol):
    """Who may come in: the store's users and sessions."""

    def login(self, name: str, password: str, address: str | None) -> str:
        """Token of a new session; raises `LoginRefusedError`."""
        ...

    def knows(self, token: str) -> bool:
        """Whether the token belongs to a session that is open now."""
        ...

    def logout(self, token: str) -> None:
        """End the session of the token, if there is one."""
        ...


def fingerprint(token: str) -> str:
    """What Streamlit is told of a token: enough to tell two sessions apart, useless to log in with."""
    return hashlib.sha256(b"flexergy-dashboards:" + token.encode()).hexdigest()


def token_of(scope_headers: list[tuple[bytes, bytes]]) -> str | None:
    """The session token among a request's headers."""
    for name, value in scope_headers:
        if name == b"cookie":
            try:
                morsel = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if morsel is not None and morsel.value:
                return morsel.value
    return None


def _same_origin(request: Request) -> bool:
    """Whether a form came from our own page; browsers send Origin with every POST."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


class LoginRoutes:
    """The routes outside Streamlit."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def routes(self) -> list[Route]:
        """What `st.App` mounts."""
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["GET"]),
            Route("/session", self.session, methods=["GET"]),
        ]

    async def show(self, request: Request) -> Response:
        """The login page; straight on for somebody who is in already."""
        token = token_of(request.scope["headers"])
        if token and await to_thread.run_sync(self._authority.knows, token):
            return RedirectResponse("/", status_code=303)
        return HTMLResponse(login_html(), headers={"cache-control": "no-store"})

    async def session(self, request: Request) -> Response:
        """Whether the browser's cookie is that of an open session."""
        token = token_of(request.scope["headers"])
        known = bool(token) and await to_thread.run_sync(self._authority.knows, token or "")
        return JSONResponse({"open": known}, status_code=200 if known else 401, headers={"cache-control": "no-store"})

    async def log_in(self, request: Request) -> Response:
        """Check name and password and set the cookie."""
        if not _same_origin(request):
            return PlainTextResponse("this form was not sent from the login page", status_code=403)
        name, password = _credentials(await _bounded_body(request))
        if not name or not password:
            return HTMLResponse(login_html("Give a user name and a password.", name), status_code=400)
        address = request.client.host if request.client else None
        try:
            token = await to_thread.run_sync(self._authority.login, name, password, address)
        except LoginRefusedError as refused:
            return HTMLResponse(login_html(str(refused), name), status_code=401)
        response = RedirectResponse("/", status_code=303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure, path="/")
        return response

    async def log_out(self, request: Request) -> Response:
        """End the session for good, in the store and in the browser.

        A plain link: a foreign page cannot use it, because the Strict cookie does not come along from there.
        """
        token = token_of(request.scope["headers"])
        if token:
            await to_thread.run_sync(self._authority.logout, token)
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response


async def _bounded_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return b""
    return body


def _credentials(body: bytes) -> tuple[str, str]:
    try:
        fields = parse_qs(body.decode("utf-8"), max_num_fields=8)
    except ValueError:
        return "", ""
    return fields.get("name", [""])[0].strip(), fields.get("password", [""])[0]


class SessionGate:
    """ASGI middleware: only open sessions reach Streamlit, and each reaches it under its own fingerprint."""

    def __init__(self, app: ASGIApp, authority: Authority) -> None:
        self._app = app
        self._authority = authority

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *SECURITY_HEADERS]}
            await send(message)

        headers = [(name, value) for name, value in scope["headers"] if name != SESSION_HEADER.encode()]
        path = scope["path"]
        try:
            if path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
                await self._app({**scope, "headers": headers}, receive, send_guarded)
                return
            token = token_of(headers)
            known = token is not None and await to_thread.run_sync(self._authority.knows, token)
        except StoreError as error:
            _log.warning("session check failed", error=str(error))
            await self._unavailable(scope, receive, send_guarded)
            return
        if token is None or not known:
            await self._refuse(scope, receive, send_guarded)
            return
        headers.append((SESSION_HEADER.encode(), fingerprint(token).encode()))
        await self._app({**scope, "headers": headers}, receive, send_guarded)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4401, "reason": "log in first"})
            return
        page = scope["method"] == "GET" and "." not in scope["path"].rsplit("/", 1)[-1]
        page = page and not scope["path"].startswith(("/_stcore/", "/media/", "/component/"))
        response: Response = (
            RedirectResponse("/login", status_code=303) if page else PlainTextResponse("log in first", status_code=401)
        )
        await response(scope, receive, send)

    async def _unavailable(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1013, "reason": "database unavailable"})
            return
        text = "The database cannot be reached just now. This page tries again every 5 seconds."
        await HTMLResponse(problem_html("One moment", text), status_code=503)(scope, receive, send)
