"""Roles and databases of one PostgreSQL server: made once, by whoever may make them."""

from __future__ import annotations

import psycopg
from psycopg import sql

OWNER_ROLE = "flexergy_owner"
APP_ROLE = "flexergy_app"
DATABASES = {"flexergy": OWNER_ROLE, "dagster": APP_ROLE, "mlflow": APP_ROLE}

_LOCK = 0x666C6578  # any fixed number; two installers must not race


def ensure_cluster(connection: psycopg.Connection) -> None:
    """Create the roles and databases that are missing.

    Neither role is a superuser or bypasses row-level security: the owner changes tables, the application only rows.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit mode, of a user that may create roles and databases.
    """
    connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        for role in (OWNER_ROLE, APP_ROLE):
            _ensure_role(connection, role)
        for database, owner in DATABASES.items():
            ensure_database(connection, database, owner)
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))


def may_bootstrap(connection: psycopg.Connection) -> bool:
    """Whether the connected user may create roles and databases."""
    row = connection.execute(
        "SELECT rolsuper OR (rolcreaterole AND rolcreatedb) FROM pg_roles WHERE rolname = session_user"
    ).fetchone()
    return bool(row and row[0])


def _ensure_role(connection: psycopg.Connection, role: str) -> None:
    found = connection.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    if found is None:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS").format(sql.Identifier(role))
        )
    row = connection.execute(
        "SELECT rolsuper OR pg_has_role(session_user, %s, 'SET') FROM pg_roles WHERE rolname = session_user", (role,)
    ).fetchone()
    if not (row and row[0]):
        connection.execute(sql.SQL("GRANT {} TO SESSION_USER").format(sql.Identifier(role)))


def ensure_database(connection: psycopg.Connection, database: str, owner: str) -> None:
    """Create one database for `owner`, closed to everybody but our two roles."""
    name = sql.Identifier(database)
    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is None:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0").format(
                name, sql.Identifier(owner)
            )
        )
        lock_down(connection, database)


def lock_down(connection: psycopg.Connection, database: str) -> None:
    """Take every right on `database` from the public and give our roles what they need."""
    name = sql.Identifier(database)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    connection.execute(
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}, {}").format(
            name, sql.Identifier(OWNER_ROLE), sql.Identifier(APP_ROLE)
        )
    )
