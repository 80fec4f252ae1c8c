"""Users of a tenant and their roles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from flexergy_pipelines.access.passwords import generate_password, hash_password
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.events import record_event
from flexergy_pipelines.store.frames import utc

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from flexergy_pipelines.store import TenantStore

ADMINISTRATOR: Final = "administrator"
OPERATOR: Final = "operator"
FIELD_STAFF: Final = "field_staff"
VIEWER: Final = "viewer"
ROLES: Final = (ADMINISTRATOR, OPERATOR, FIELD_STAFF, VIEWER)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
COLUMNS: Final = "u.user_id, u.name, u.role, t.name, u.locked, u.valid_from, u.valid_until"
FROM: Final = "FROM users u JOIN tenants t USING (tenant_id) "


@dataclass(frozen=True, slots=True)
class User:
    """A person or program that may log in.

    Attributes
    ----------
    user_id : int
        Number within the tenant.
    name : str
        Login name, unique in the whole installation.
    role : str
        One of `ROLES`.
    tenant : str
        Name of the tenant whose data the user sees.
    locked : bool
        Whether an administrator closed the account.
    valid_from, valid_until : datetime or None
        Period of access.
    """

    user_id: int
    name: str
    role: str
    tenant: str
    locked: bool
    valid_from: datetime | None
    valid_until: datetime | None

    def may_enter(self, at: datetime | None = None) -> bool:
        """Whether the account is open at an instant (default now)."""
        moment = at or datetime.now(UTC)
        early = self.valid_from is not None and moment < self.valid_from
        late = self.valid_until is not None and moment >= self.valid_until
        return not (self.locked or early or late)


def create_user(
    db: TenantStore,
    name: str,
    password: str,
    role: str,
    *,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    actor: str = "system",
) -> User:
    """Add a user.

    Parameters
    ----------
    db : TenantStore
        Tenant that the user belongs to.
    name : str
        Login name, 1 to 64 letters, digits and ``._@+-``.
    password : str
        8 to 256 characters.
    role : str
        One of `ROLES`.
    valid_from, valid_until : datetime, optional
        Period of access.
    actor : str
        Who adds them; goes to the event log.

    Raises
    ------
    InvalidDataError
        A bad name, role, password or period, or a name that is taken.
    """
    if not _NAME.fullmatch(name):
        raise InvalidDataError(
            f"user name {name!r}: give 1 to 64 letters, digits and . _ @ + -, a letter or digit first"
        )
    _check_role(name, role)
    first = utc(valid_from, "valid_from") if valid_from else None
    last = utc(valid_until, "valid_until") if valid_until else None
    if first and last and first >= last:
        raise InvalidDataError(f"user {name}: valid_from {first} is not before valid_until {last}")
    hashed = hash_password(password, name)
    with db.begin() as connection:
        added = connection.exec_driver_sql(
            "INSERT INTO users (name, role, password_hash, valid_from, valid_until) VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (name) DO NOTHING",
            (name, role, hashed, first, last),
        ).rowcount
        if not added:
            raise InvalidDataError(f"user name '{name}' is taken; choose another")
        record_event(db, actor=actor, kind="user_added", subject=name, detail={"role": role})
        return _get(connection, name)


def list_users(db: TenantStore) -> list[User]:
    """Users of the tenant, by name."""
    with db.begin() as connection:
        return [User(*row) for row in connection.exec_driver_sql(f"SELECT {COLUMNS} {FROM} ORDER BY u.name")]


def get_user(db: TenantStore, name: str) -> User:
    """One user of the tenant.

    Raises
    ------
    NotFoundError
        The tenant has no such user.
    """
    with db.begin() as connection:
        return _get(connection, name)


def set_password(db: TenantStore, name: str, password: str, *, actor: str = "system") -> None:
    """Change a password; every open session of the user ends."""
    hashed = hash_password(password, name)
    with db.begin() as connection:
        user = _get(connection, name)
        connection.exec_driver_sql("UPDATE users SET password_hash = %s WHERE user_id = %s", (hashed, user.user_id))
        end_sessions(connection, user)
        record_event(db, actor=actor, kind="password_changed", subject=name)


def set_role(db: TenantStore, name: str, role: str, *, actor: str = "system") -> None:
    """Change a user's role; it holds from the next request on."""
    _check_role(name, role)
    with db.begin() as connection:
        user = _get(connection, name)
        if role != ADMINISTRATOR:
            _keep_an_administrator(connection, user, "change the role of")
        connection.exec_driver_sql("UPDATE users SET role = %s WHERE user_id = %s", (role, user.user_id))
        record_event(db, actor=actor, kind="role_changed", subject=name, detail={"from": user.role, "to": role})


def lock_user(db: TenantStore, name: str, *, locked: bool = True, actor: str = "system") -> None:
    """Close an account and end its sessions, or open it again.

    Raises
    ------
    InvalidDataError
        It is the tenant's last open administrator.
    """
    with db.begin() as connection:
        user = _get(connection, name)
        if locked:
            _keep_an_administrator(connection, user, "lock")
            end_sessions(connection, user)
        connection.exec_driver_sql("UPDATE users SET locked = %s WHERE user_id = %s", (locked, user.user_id))
        record_event(db, actor=actor, kind="user_locked" if locked else "user_unlocked", subject=name)


def ensure_admin(db: TenantStore) -> str | None:
    """Give a new tenant an administrator "admin" (or "admin@TENANT" where that name is taken).

    Returns
    -------
    str or None
        The generated password, this once; None when the tenant has an administrator.
    """
    with db.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('ensure_admin'))")
        if _administrators(connection):
            return None
        password = generate_password()
        try:
            create_user(db, "admin", password, ADMINISTRATOR)
        except InvalidDataError:
            tenant = re.sub(r"[^A-Za-z0-9._+-]", "-", db.name)[:58]
            create_user(db, f"admin@{tenant}", password, ADMINISTRATOR)
    return password


def end_sessions(connection: Connection, user: User) -> None:
    """Revoke every open session of a user."""
    connection.exec_driver_sql(
        "UPDATE sessions SET revoked_at = clock_timestamp() WHERE user_id = %s AND revoked_at IS NULL", (user.user_id,)
    )


def _get(connection: Connection, name: str) -> User:
    row = connection.exec_driver_sql(f"SELECT {COLUMNS} {FROM} WHERE u.name = %s", (name,)).one_or_none()
    if row is None:
        raise NotFoundError(f"user '{name}' does not exist")
    return User(*row)


def _administrators(connection: Connection) -> list[User]:
    rows = connection.exec_driver_sql(f"SELECT {COLUMNS} {FROM} WHERE u.role = %s", (ADMINISTRATOR,)).all()
    return [User(*row) for row in rows]


def _keep_an_administrator(connection: Connection, user: User, action: str) -> None:
    others = [other for other in _administrators(connection) if other.may_enter() and other.user_id != user.user_id]
    if user.role == ADMINISTRATOR and not others:
        raise InvalidDataError(f"cannot {action} '{user.name}': no other administrator could enter any more")


def _check_role(name: str, role: str) -> None:
    if role not in ROLES:
        raise InvalidDataError(f"user {name}: role '{role}' is not one of {', '.join(ROLES)}")
