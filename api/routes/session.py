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
from flexergy_pipelines.store import Store, StoreError
from flexergy_pipelines.store.live import read_live
from flexergy_pipelines.store.plans import list_plans
from flexergy_pipelines.store.sites import list_sites

router = APIRouter()


@router.get("/health", tags=["service"], summary="Does the service and its store work")
def health(request: Request, response: Response) -> Health:
    """No login needed; 503 when the database does not answer. Ages are those of the installation's own subsystem."""
    now = datetime.now(UTC)
    try:
        live_at, plan_at = _newest(get_store(request), request.app.state.tenant)
    except StoreError:
        response.status_code = 503
        return Health(status="degraded", store="unreachable", time=now, version=version("flexergy"))
    return Health(
        status="ok",
        store="reachable",
        live_age_s=None if live_at is None else max(0.0, (now - live_at).total_seconds()),
        plan_age_s=None if plan_at is None else max(0.0, (now - plan_at).total_seconds()),
        time=now,
        version=version("flexergy"),
    )


def _newest(store: Store, tenant: str | None) -> tuple[datetime | None, datetime | None]:
    """Times of the newest live value and the newest plan of a tenant."""
    if tenant is None or tenant not in {known.name for known in store.tenants()}:
        return None, None
    db = store.tenant(tenant)
    lives: list[datetime] = []
    plans: list[datetime] = []
    for site_id in list_sites(db):
        newest = read_live(db, site_id)["time"].max()
        lives += [newest] if isinstance(newest, datetime) else []
        plans += [plan.record.created_at for plan in list_plans(db, site_id, 1)]
    return max(lives, default=None), max(plans, default=None)


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
