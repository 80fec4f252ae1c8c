"""Log in, log out, and health."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials

from api.auth import LoginThrottle, bearer, get_store
from api.models import Health, Login, Session
from api.problems import ProblemError
from flexergy_pipelines.access import authenticate, resolve_session, revoke
from flexergy_pipelines.store import StoreError

router = APIRouter()


@router.get("/health", tags=["service"], summary="Does the service and its store work")
def health(request: Request, response: Response) -> Health:
    """No login needed; 503 when the database does not answer."""
    reachable = True
    try:
        get_store(request).tenants()
    except StoreError:
        reachable = False
        response.status_code = 503
    return Health(
        status="ok" if reachable else "degraded",
        store="reachable" if reachable else "unreachable",
        time=datetime.now(UTC),
        version=version("flexergy"),
    )


@router.post("/login", tags=["session"], summary="Log in")
def login(body: Login, request: Request) -> Session:
    """Give a bearer token for a name and a password."""
    throttle: LoginThrottle = request.app.state.throttle
    throttle.check(request.client.host if request.client else "unknown")
    store = get_store(request)
    token = authenticate(store, body.name, body.password) if body.name.isprintable() else None
    user = resolve_session(store, token) if token else None
    if token is None or user is None:
        detail = "user name or password is wrong, or the account is closed for now"
        raise ProblemError(401, detail, headers={"www-authenticate": "Bearer"})
    return Session(token=token, user=user.name, role=user.role)


@router.post("/logout", tags=["session"], summary="Log out", status_code=204)
def logout(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
    """End the session of the token, at once and for good; a token that is not known is no error."""
    if credentials is not None:
        revoke(get_store(request), credentials.credentials)
