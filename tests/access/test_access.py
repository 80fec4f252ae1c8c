"""Logging in, staying in and being thrown out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flexergy_pipelines.access import (
    authenticate,
    create_user,
    ensure_admin,
    get_user,
    list_users,
    lock_user,
    open_session,
    resolve_session,
    revoke,
    revoke_all,
    set_password,
    set_role,
)
from flexergy_pipelines.store import InvalidDataError, NotFoundError, Store, TenantStore
from flexergy_pipelines.store.events import list_events

PASSWORD = "correct horse battery"


@pytest.fixture
def ann(db: TenantStore) -> str:
    create_user(db, "ann", PASSWORD, "operator")
    return "ann"


def attempts(db: TenantStore) -> list[tuple[str, bool, str]]:
    with db.begin() as connection:
        rows = connection.exec_driver_sql("SELECT name, succeeded, reason FROM login_attempts ORDER BY attempt_id")
        return [(row[0], row[1], row[2]) for row in rows]


def test_the_right_password_opens_a_session_of_that_user_and_tenant(store: Store, db: TenantStore, ann: str) -> None:
    token = authenticate(store, ann, PASSWORD)
    assert token is not None
    user = resolve_session(store, token)
    assert user is not None
    assert (user.name, user.role, user.tenant) == ("ann", "operator", "demo")


@pytest.mark.requirement("users.03.3")
def test_wrong_passwords_and_unknown_names_are_refused_and_recorded(store: Store, db: TenantStore, ann: str) -> None:
    assert authenticate(store, ann, "wrong") is None
    assert authenticate(store, "nobody", PASSWORD) is None
    assert authenticate(store, ann, "x" * 1000) is None
    assert authenticate(store, "an\0n", PASSWORD) is None
    assert authenticate(store, ann, PASSWORD) is not None
    assert attempts(db) == [("ann", False, "wrong password")] * 2 + [("ann", True, "ok")]
    with store.engine.begin() as connection:
        unknown = connection.exec_driver_sql("SELECT name, reason FROM login_attempts").all()
    assert [tuple(row) for row in unknown] == [("nobody", "unknown user"), ("an?n", "unknown user")]


def test_guessing_is_stopped_after_ten_failures(store: Store, db: TenantStore, ann: str) -> None:
    with db.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO login_attempts (name, succeeded, reason) SELECT 'ann', false, 'wrong password' "
            "FROM generate_series(1, 10)"
        )
    assert authenticate(store, ann, PASSWORD) is None
    with db.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO login_attempts (name, succeeded, reason, at) VALUES ('ann', true, 'ok', clock_timestamp())"
        )
    assert authenticate(store, ann, PASSWORD) is not None


def test_neither_password_nor_token_is_stored(store: Store, db: TenantStore, ann: str) -> None:
    token = authenticate(store, ann, PASSWORD)
    with db.begin() as connection:
        stored = connection.exec_driver_sql(
            "SELECT u.password_hash, s.token_sha256 FROM users u JOIN sessions s USING (tenant_id, user_id)"
        ).one()
    assert stored[0].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in stored[0]
    assert token != stored[1]
    assert resolve_session(store, stored[1]) is None


def test_a_session_ends_by_logout_lock_new_password_and_time(store: Store, db: TenantStore, ann: str) -> None:
    ensure_admin(db)
    tokens = [open_session(db, ann) for _ in range(2)]
    revoke(store, tokens[0])
    assert resolve_session(store, tokens[0]) is None
    assert resolve_session(store, tokens[1]) is not None
    set_password(db, ann, "another password")
    assert resolve_session(store, tokens[1]) is None
    assert authenticate(store, ann, PASSWORD) is None
    token = open_session(db, ann)
    revoke_all(db, ann)
    assert resolve_session(store, token) is None
    token = open_session(db, ann)
    lock_user(db, ann)
    assert resolve_session(store, token) is None
    assert authenticate(store, ann, "another password") is None
    lock_user(db, ann, locked=False)
    token = authenticate(store, ann, "another password")
    assert token is not None
    with db.begin() as connection:
        connection.exec_driver_sql("UPDATE sessions SET expires_at = clock_timestamp()")
    assert resolve_session(store, token) is None
    assert resolve_session(store, "") is None


def test_a_changed_role_holds_at_the_next_request(store: Store, db: TenantStore, ann: str) -> None:
    token = open_session(db, ann)
    set_role(db, ann, "viewer")
    user = resolve_session(store, token)
    assert user is not None
    assert user.role == "viewer"


@pytest.mark.requirement("users.01.2", "users.01.3", "users.01.4")
@pytest.mark.parametrize("role", ["operator", "field_staff", "viewer"])
def test_access_is_only_within_the_period_that_was_set(store: Store, db: TenantStore, role: str) -> None:
    now = datetime.now(UTC)
    day = timedelta(days=1)
    create_user(db, "past", PASSWORD, role, valid_until=now - day)
    create_user(db, "future", PASSWORD, role, valid_from=now + day)
    create_user(db, "present", PASSWORD, role, valid_from=now - day, valid_until=now + day)
    assert [authenticate(store, name, PASSWORD) is not None for name in ("past", "future", "present")] == [
        False,
        False,
        True,
    ]
    token = open_session(db, "past")
    assert resolve_session(store, token) is None


def test_a_new_tenant_gets_one_administrator_and_the_password_is_told_once(
    store: Store, db: TenantStore, other_db: TenantStore
) -> None:
    password = ensure_admin(db)
    assert password is not None
    assert ensure_admin(db) is None
    assert authenticate(store, "admin", password) is not None
    other = ensure_admin(other_db)
    assert other is not None
    assert [user.name for user in list_users(other_db)] == ["admin@other"]
    assert other != password


@pytest.mark.requirement("users.02.1")
def test_users_of_another_tenant_cannot_be_seen_or_changed(db: TenantStore, other_db: TenantStore, ann: str) -> None:
    assert list_users(other_db) == []
    for act in (
        lambda: get_user(other_db, ann),
        lambda: set_password(other_db, ann, "stolen password"),
        lambda: lock_user(other_db, ann),
        lambda: open_session(other_db, ann),
    ):
        with pytest.raises(NotFoundError, match="user 'ann' does not exist"):
            act()
    with pytest.raises(InvalidDataError, match="user name 'ann' is taken"):
        create_user(other_db, ann, PASSWORD, "viewer")


def test_the_last_administrator_cannot_be_locked_out(db: TenantStore) -> None:
    ensure_admin(db)
    with pytest.raises(InvalidDataError, match="no other administrator"):
        lock_user(db, "admin")
    with pytest.raises(InvalidDataError, match="no other administrator"):
        set_role(db, "admin", "viewer")
    create_user(db, "second", PASSWORD, "administrator")
    lock_user(db, "admin")


@pytest.mark.parametrize(
    ("name", "password", "role", "complaint"),
    [
        ("", PASSWORD, "viewer", "user name ''"),
        ("a b", PASSWORD, "viewer", "user name 'a b'"),
        ("x" * 65, PASSWORD, "viewer", "1 to 64"),
        ("bob", "short", "viewer", "has 5 characters; give 8 to 256"),
        ("bobbobbob", "BobBobBob", "viewer", "is the user's name"),
        ("bob", PASSWORD, "king", "role 'king' is not one of administrator, operator, field_staff, viewer"),
    ],
)
def test_bad_users_are_refused(db: TenantStore, name: str, password: str, role: str, complaint: str) -> None:
    with pytest.raises(InvalidDataError, match=complaint):
        create_user(db, name, password, role)
    assert list_users(db) == []


@pytest.mark.requirement("users.03.4")
def test_changes_of_users_are_logged_with_who_did_them(db: TenantStore, ann: str) -> None:
    set_role(db, ann, "viewer", actor="boss")
    log = list_events(db, datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    assert log.select("actor", "kind", "subject").rows() == [
        ("system", "user_added", "ann"),
        ("boss", "role_changed", "ann"),
    ]
