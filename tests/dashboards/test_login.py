"""The gate before the dashboards, over the wire and against the real store of users and sessions."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dashboards.authority import REFUSAL, StoreAuthority
from dashboards.web import COOKIE, SESSION_HEADER, LoginRoutes, SessionGate, fingerprint
from flexergy_pipelines import access
from flexergy_pipelines.store import Store, TenantStore
from tests.api.serving import served

PASSWORD = "a long enough passphrase"


async def _inside(request: Request) -> JSONResponse:
    return JSONResponse({"session": request.headers.getlist(SESSION_HEADER)})


async def _stream(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.headers.get(SESSION_HEADER, ""))
    await websocket.close()


@pytest.fixture
def address(store: Store, db: TenantStore) -> Iterator[str]:
    """The gate in front of a stand-in for Streamlit that tells what reached it."""
    access.create_user(db, "olga", PASSWORD, "operator")
    access.create_user(db, "victor", PASSWORD, "viewer")
    authority = StoreAuthority(store)
    app = Starlette(
        routes=[
            *LoginRoutes(authority).routes(),
            Route("/", _inside),
            Route("/media/export.csv", _inside),
            WebSocketRoute("/_stcore/stream", _stream),
        ],
        middleware=[Middleware(SessionGate, authority=authority)],
    )
    with served(app) as where:
        yield where


def browser(address: str) -> httpx.Client:
    return httpx.Client(base_url=address, trust_env=False, timeout=30)


def log_in(client: httpx.Client, name: str, password: str = PASSWORD) -> httpx.Response:
    return client.post("/login", data={"name": name, "password": password})


def test_without_login_nothing_is_served(address: str) -> None:
    with browser(address) as client:
        page = client.get("/")
        assert (page.status_code, page.headers["location"]) == (303, "/login")
        assert client.get("/media/export.csv").status_code == 401
        assert "password" in client.get("/login").text
    with pytest.raises(InvalidStatus), connect(address.replace("http", "ws") + "/_stcore/stream", proxy=None):
        pass


def test_login_gives_a_cookie_that_scripts_and_foreign_pages_cannot_use(address: str) -> None:
    with browser(address) as client:
        answer = log_in(client, "olga")
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/").json()["session"] == [fingerprint(client.cookies[COOKIE])]


@pytest.mark.parametrize(
    ("name", "password"),
    [("olga", "wrong"), ("nobody", PASSWORD), ("olga' OR 1=1 --", PASSWORD), ("ol\x00ga", PASSWORD), ("ö" * 400, "x")],
)
def test_wrong_credentials_all_look_alike(address: str, name: str, password: str) -> None:
    with browser(address) as client:
        answer = log_in(client, name, password)
        assert answer.status_code == 401
        assert REFUSAL in answer.text
        assert COOKIE not in client.cookies


@pytest.mark.parametrize(
    "body", [b"", b"name=olga", b"name=&password=", b"name=%ff%fe&password=x", b"a=" + b"x" * 20_000]
)
def test_bodies_that_are_no_login_are_told_so(address: str, body: bytes) -> None:
    with browser(address) as client:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = client.post("/login", content=body, headers=headers)
        assert answer.status_code in {400, 401}
        assert "<form" in answer.text


def test_a_name_is_closed_after_too_many_failures(address: str) -> None:
    with browser(address) as client:
        for _ in range(10):
            assert log_in(client, "olga", "wrong").status_code == 401
        closed = log_in(client, "olga")
        assert closed.status_code == 401
        assert "10 failed attempts" in closed.text
        assert log_in(client, "victor").status_code == 303


def test_logout_ends_the_session_for_every_copy_of_the_cookie(address: str) -> None:
    with browser(address) as client:
        log_in(client, "olga")
        token = client.cookies[COOKIE]
        client.get("/logout")
        assert client.get("/").status_code == 303
    with browser(address) as thief:
        thief.cookies.set(COOKIE, token)
        assert thief.get("/").status_code == 303


def test_a_form_from_another_site_is_refused(address: str) -> None:
    with browser(address) as client:
        answer = client.post(
            "/login", data={"name": "olga", "password": PASSWORD}, headers={"origin": "https://evil.example"}
        )
        assert answer.status_code == 403
        assert COOKIE not in client.cookies


def test_a_forged_session_header_never_reaches_the_app(address: str) -> None:
    """Streamlit resumes a session only under the fingerprint it began with; nobody may choose that fingerprint."""
    with browser(address) as olga, browser(address) as victor:
        log_in(olga, "olga")
        log_in(victor, "victor")
        stolen = fingerprint(olga.cookies[COOKIE])
        own = fingerprint(victor.cookies[COOKIE])
        assert victor.get("/", headers={SESSION_HEADER: stolen}).json()["session"] == [own]
        where = address.replace("http", "ws") + "/_stcore/stream"
        headers = {"cookie": f"{COOKIE}={victor.cookies[COOKIE]}", SESSION_HEADER: stolen}
        with connect(where, additional_headers=headers, proxy=None) as stream:
            assert stream.recv(timeout=60) == own


def test_pages_cannot_be_framed(address: str) -> None:
    with browser(address) as client:
        assert client.get("/login").headers["x-frame-options"] == "DENY"
