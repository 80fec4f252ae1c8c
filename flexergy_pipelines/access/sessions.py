"""Sessions: an opaque random token for the user, its SHA-256 for us; every request looks it up again."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from flexergy_pipelines.access.passwords import password_fits
from flexergy_pipelines.access.users import COLUMNS, FROM, User, end_sessions, get_user
from flexergy_pipelines.store.errors import clear_errors

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from flexergy_pipelines.store import Store, TenantStore

LIFETIME: Final = timedelta(hours=12)
_FAILURES_ALLOWED: Final = 10
_WINDOW: Final = timedelta(minutes=15)
_LONGEST_NAME: Final = 64


def authenticate(store: Store, name: str, password: str) -> str | None:
    """Log in: a session token when name and password fit, else None; every attempt is recorded.

    After 10 failures within 15 minutes a name is refused whatever the password, until the window has passed. The
    caller learns nothing about why it was refused; `login_attempts` tells an administrator.

    Parameters
    ----------
    store : Store
        The whole store: the name decides which tenant it is.
    name, password : str
        As typed.
    """
    # A name that no user can have is recorded in a form that can be stored, and looked up like any other.
    name = name.replace("\0", "?")[:_LONGEST_NAME]
    with clear_errors("login"):
        with store.engine.begin() as connection:
            found = _find(connection, name)
        user, tenant_id, stored_hash, failures = found or (None, None, None, 0)
        fits = password_fits(stored_hash, password)
        reason = _refusal(user, failures=failures, fits=fits)
        with store.engine.begin() as connection:
            _bind(connection, tenant_id)
            connection.exec_driver_sql(
                "INSERT INTO login_attempts (name, succeeded, reason) VALUES (%s, %s, %s)",
                (name, reason is None, reason or "ok"),
            )
            if user is None or reason is not None:
                return None
            return _open(connection, user)


def _find(connection: Connection, name: str) -> tuple[User, int, str, int] | None:
    connection.exec_driver_sql("SELECT set_config('app.login', %s, true)", (name,))
    row = connection.exec_driver_sql(
        f"SELECT u.tenant_id, u.password_hash, {COLUMNS} {FROM} WHERE u.name = %s", (name,)
    ).one_or_none()
    if row is None:
        return None
    tenant_id, stored_hash, *rest = row
    _bind(connection, tenant_id)
    failures: int = connection.exec_driver_sql(
        "SELECT count(*) FROM login_attempts WHERE name = %(name)s AND NOT succeeded "
        "AND at > clock_timestamp() - %(window)s::interval AND at > coalesce((SELECT max(at) FROM login_attempts "
        "WHERE name = %(name)s AND succeeded), '-infinity')",
        {"name": name, "window": _WINDOW},
    ).scalar_one()
    return User(*rest), tenant_id, stored_hash, failures


def _refusal(user: User | None, *, failures: int, fits: bool) -> str | None:
    if user is None:
        return "unknown user"
    if failures >= _FAILURES_ALLOWED:
        return "too many failures"
    if not fits:
        return "wrong password"
    if not user.may_enter():
        return "locked" if user.locked else "outside the period of access"
    return None


def _bind(connection: Connection, tenant_id: int | None) -> None:
    text = "" if tenant_id is None else str(tenant_id)
    connection.exec_driver_sql("SELECT set_config('app.tenant', %s, true)", (text,))


def open_session(db: TenantStore, name: str) -> str:
    """A token for a user who was authenticated by other means.

    Raises
    ------
    NotFoundError
        The tenant has no such user.
    """
    with db.begin() as connection:
        return _open(connection, get_user(db, name))


def _open(connection: Connection, user: User) -> str:
    token = secrets.token_urlsafe(32)
    connection.exec_driver_sql("DELETE FROM sessions WHERE expires_at < clock_timestamp() - interval '7 days'")
    connection.exec_driver_sql(
        "INSERT INTO sessions (token_sha256, user_id, expires_at) VALUES (%s, %s, clock_timestamp() + %s::interval)",
        (_digest(token), user.user_id, LIFETIME),
    )
    return token


def resolve_session(store: Store, token: str) -> User | None:
    """Who a token belongs to; None when it is unknown, revoked or run out, or the account is closed by now."""
    if not token:
        return None
    with clear_errors("session"), store.engine.begin() as connection:
        connection.exec_driver_sql("SELECT set_config('app.token_sha256', %s, true)", (_digest(token),))
        session = connection.exec_driver_sql(
            "SELECT tenant_id, user_id FROM sessions WHERE token_sha256 = %s AND revoked_at IS NULL "
            "AND expires_at > clock_timestamp()",
            (_digest(token),),
        ).one_or_none()
        if session is None:
            return None
        _bind(connection, session[0])
        row = connection.exec_driver_sql(f"SELECT {COLUMNS} {FROM} WHERE u.user_id = %s", (session[1],)).one()
    user = User(*row)
    return user if user.may_enter() else None


def revoke(store: Store, token: str) -> None:
    """End a session (log out); an unknown token changes nothing."""
    with clear_errors("session"), store.engine.begin() as connection:
        connection.exec_driver_sql("SELECT set_config('app.token_sha256', %s, true)", (_digest(token),))
        session = connection.exec_driver_sql(
            "SELECT tenant_id FROM sessions WHERE token_sha256 = %s", (_digest(token),)
        ).one_or_none()
        if session is not None:
            _bind(connection, session[0])
            connection.exec_driver_sql(
                "UPDATE sessions SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE token_sha256 = %s",
                (_digest(token),),
            )


def revoke_all(db: TenantStore, name: str) -> None:
    """End every session of a user."""
    with db.begin() as connection:
        end_sessions(connection, get_user(db, name))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
