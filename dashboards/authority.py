"""Logins and sessions of the dashboards, kept in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.web import LoginRefusedError
from flexergy_pipelines import access
from flexergy_pipelines.store import StoreError

if TYPE_CHECKING:
    from flexergy_pipelines.store import Store


REFUSAL = (
    "User name or password is wrong, or the account is closed for now. After 10 failed attempts within 15 minutes "
    "a name is refused until they have passed; an administrator can see why."
)


class StoreAuthority:
    """`dashboards.web.Authority` over the store's users and sessions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def login(self, name: str, password: str, address: str | None) -> str:
        """Token of a new session; raises `LoginRefusedError` with a text for the screen."""
        del address
        if not name.isprintable():
            raise LoginRefusedError(REFUSAL)
        try:
            token = access.authenticate(self._store, name, password)
        except StoreError as error:
            raise LoginRefusedError(f"The database cannot be reached just now: {error}") from error
        if token is None:
            raise LoginRefusedError(REFUSAL)
        return token

    def knows(self, token: str) -> bool:
        """Whether the token belongs to a session that is open now."""
        return access.resolve_session(self._store, token) is not None

    def logout(self, token: str) -> None:
        """End the session of the token."""
        access.revoke(self._store, token)
