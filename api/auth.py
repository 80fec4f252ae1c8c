"""Who calls: bearer tokens checked against the store at every request, and logins that cannot be guessed at speed."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.problems import ProblemError
from flexergy_pipelines.access import resolve_session
from flexergy_pipelines.grid import Site
from flexergy_pipelines.store import Store
from flexergy_pipelines.store.engine import TenantStore
from flexergy_pipelines.store.errors import NotFoundError
from flexergy_pipelines.store.sites import list_sites, load_site

bearer = HTTPBearer(auto_error=False, description="The token that POST /login gave.")

COMMANDERS = frozenset({"administrator", "operator"})


@dataclass(frozen=True, slots=True)
class Caller:
    """The user behind a request and the store of their own subsystem."""

    name: str
    role: str
    db: TenantStore


def get_store(request: Request) -> Store:
    """The process's store."""
    return request.app.state.store


def caller(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Caller:
    """The user of the request's token.

    Raises
    ------
    ProblemError
        401 when there is no token, or its session is over.
    """
    challenge = {"www-authenticate": "Bearer"}
    if credentials is None:
        raise ProblemError(401, "send the token of POST /login as 'Authorization: Bearer <token>'", headers=challenge)
    store = get_store(request)
    user = resolve_session(store, credentials.credentials)
    if user is None:
        raise ProblemError(401, "the token is unknown, expired or revoked; log in again", headers=challenge)
    return Caller(user.name, user.role, store.tenant(user.tenant))


CallerDep = Annotated[Caller, Depends(caller)]


def commander(who: CallerDep) -> Caller:
    """A caller that may command the plant; 403 for others."""
    if who.role not in COMMANDERS:
        allowed = " or ".join(sorted(COMMANDERS))
        raise ProblemError(403, f"role {who.role} may not command; only {allowed}")
    return who


CommanderDep = Annotated[Caller, Depends(commander)]


def site_of(who: Caller, site_id: str) -> Site:
    """A site of the caller's own subsystem.

    A site of another subsystem is answered exactly as one that does not exist.
    """
    try:
        if not site_id.isprintable():
            raise NotFoundError("an id of printable characters")
        return load_site(who.db, site_id)
    except NotFoundError:
        known = ", ".join(list_sites(who.db)) or "none yet"
        raise ProblemError(
            404,
            f"there is no site {site_id[:100]!r}; yours: {known}",
            [{"field": "site_id", "value": site_id[:100], "allowed": known}],
        ) from None


class LoginThrottle:
    """At most so many login attempts from one address in a window of time, kept in this process.

    Beside the store's own lock of a user name: it also slows down attempts with ever new names.
    """

    def __init__(self, attempts: int = 10, window_s: float = 60.0) -> None:
        self._attempts = attempts
        self._window_s = window_s
        self._seen: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def check(self, address: str, moment_s: float | None = None) -> None:
        """Count an attempt.

        Parameters
        ----------
        address : str
            Where it comes from.
        moment_s : float, optional
            Monotonic time; the present by default.

        Raises
        ------
        ProblemError
            429 when there were too many; Retry-After tells when to come back.
        """
        now = time.monotonic() if moment_s is None else moment_s
        with self._lock:
            for old in [key for key, times in self._seen.items() if times and now - times[-1] > self._window_s]:
                del self._seen[old]
            times = self._seen.setdefault(address, deque())
            while times and now - times[0] > self._window_s:
                times.popleft()
            if len(times) >= self._attempts:
                wait = int(self._window_s - (now - times[0])) + 1
                raise ProblemError(
                    429,
                    f"too many logins from this address; try again in {wait} s",
                    headers={"retry-after": str(wait)},
                )
            times.append(now)
