"""Connections to the store: which server, as which role, and bound to which tenant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from flexergy_pipelines.store.bootstrap import APP_ROLE, DATABASES, OWNER_ROLE, ensure_cluster, may_bootstrap
from flexergy_pipelines.store.embedded import EmbeddedServer, start_embedded
from flexergy_pipelines.store.errors import NotFoundError, StoreError, clear_errors

if TYPE_CHECKING:
    import polars as pl
    import psycopg
    from sqlalchemy import URL, Connection, Engine

    from flexergy_pipelines.settings import Settings

Role = Literal["app", "owner"]

# No wait without an end: a frozen server or a forgotten lock becomes an error that the caller can handle.
_SESSION = {
    "statement_timeout": "300s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "600s",
    "timezone": "UTC",
}
_CONNECT: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


@dataclass(frozen=True, slots=True)
class Tenant:
    """One subsystem whose data no other subsystem can reach."""

    tenant_id: int
    name: str
    created_at: datetime


class TenantStore:
    """The store as one tenant sees it.

    Attributes
    ----------
    engine : sqlalchemy.Engine
        Connections of the store's role; outside of `begin` no tenant is bound and no row is visible.
    tenant_id : int
        The tenant's number.
    name : str
        The tenant's name.
    """

    def __init__(self, store: Store, tenant: Tenant) -> None:
        self.store = store
        self.engine = store.engine
        self.tenant_id = tenant.tenant_id
        self.name = tenant.name
        self._current: ContextVar[Connection | None] = ContextVar(f"tenant-{tenant.tenant_id}", default=None)

    def __repr__(self) -> str:
        return f"TenantStore({self.name!r})"

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A connection in a transaction bound to this tenant; commits at the end, rolls back on an error.

        Inside another `begin` of the same tenant store it is the same transaction: whoever wraps several
        writes makes them happen together or not at all.
        """
        outer = self._current.get()
        if outer is not None:
            yield outer
            return
        with clear_errors(f"store of tenant '{self.name}'"), self.engine.begin() as connection:
            connection.exec_driver_sql("SELECT set_config('app.tenant', %s, true)", (str(self.tenant_id),))
            mark = self._current.set(connection)
            try:
                yield connection
            finally:
                self._current.reset(mark)

    def copy_in(self, table: str, frame: pl.DataFrame, *, conflict: str = "") -> int:
        """Write a frame whose columns are named as the table's, by COPY through a staging table.

        Parameters
        ----------
        table : str
            Name of a table; its `tenant_id` is filled in.
        frame : pl.DataFrame
            Rows; column names are column names of `table`.
        conflict : str
            Ending of the INSERT, such as ``ON CONFLICT (...) DO NOTHING``.

        Returns
        -------
        int
            Rows inserted or changed.
        """
        from flexergy_pipelines.store.copying import staged_insert

        with self.begin() as connection:
            return staged_insert(connection, table, frame, conflict)


class Store:
    """One database of the platform, seen with the rights of one role. Make it with `open_store`."""

    def __init__(
        self, url: URL, role: Role, *, owner_url: URL | None = None, server: EmbeddedServer | None = None
    ) -> None:
        self.role: Role = role
        self.server = server
        self._url = url
        self._owner_url = owner_url or url

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @cached_property
    def engine(self) -> Engine:
        url = self._url if self.role == "app" else self._owner_url
        return make_engine(url, APP_ROLE if self.role == "app" else OWNER_ROLE)

    @property
    def database(self) -> str:
        return self._url.database or ""

    def url(self, database: str = "flexergy", driver: str = "psycopg2") -> str:
        """URL of a database on this server with this store's login, for Dagster and MLflow; holds the password if any.

        ``flexergy`` stands for the platform's own database, whatever its name on this server.
        """
        name = self.database if database == "flexergy" else database
        url = self._url.set(drivername=f"postgresql+{driver}", database=name)
        return url.render_as_string(hide_password=False)

    @property
    def app_url(self) -> str:
        """What FLEXERGY_DATABASE_URL should be for a process that is to share this server."""
        return self.url(driver="psycopg")

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection:
        """A connection of its own, outside the pool, for LISTEN and the like."""
        import psycopg

        with clear_errors(self._where):
            return psycopg.connect(_conninfo(self._url), autocommit=autocommit, **_CONNECT)

    def migrate(self) -> str:
        """Bring schema and sites' points to this program's version; does nothing when they are. Returns the version."""
        from flexergy_pipelines.store.migrate import migrate
        from flexergy_pipelines.store.sites import refresh_points

        with clear_errors(self._where):
            self._bootstrap()
            engine = make_engine(self._owner_url, OWNER_ROLE, schema_change=True)
            try:
                version = migrate(engine)
            finally:
                engine.dispose()
        opened_here = "engine" not in self.__dict__
        try:
            for tenant in self.tenants():
                refresh_points(self.tenant(tenant.name))
        finally:
            if opened_here:
                self.__dict__.pop("engine").dispose()
        return version

    def schema_version(self) -> str | None:
        """The schema's version in the database, None when it has none yet."""
        from flexergy_pipelines.store.migrate import current_version

        with clear_errors(self._where):
            return current_version(self.engine)

    def tenants(self) -> list[Tenant]:
        """All tenants of this database, by name."""
        with clear_errors(self._where), self.engine.begin() as connection:
            rows = connection.exec_driver_sql("SELECT tenant_id, name, created_at FROM tenants ORDER BY name")
            return [Tenant(*row) for row in rows]

    def create_tenant(self, name: str) -> Tenant:
        """Add a tenant; the existing one when the name is known."""
        if not name.strip() or len(name) > 100:
            raise StoreError(f"tenant name {name!r}: give 1 to 100 characters")
        with clear_errors(self._where), self.engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO tenants (name) VALUES (%s) ON CONFLICT DO NOTHING", (name,))
        return self._find(name)

    def tenant(self, name: str) -> TenantStore:
        """The store as tenant `name` sees it.

        Raises
        ------
        NotFoundError
            No tenant has this name.
        """
        return TenantStore(self, self._find(name))

    def close(self) -> None:
        """Close all connections; an embedded server that nobody uses any more is stopped."""
        engine = self.__dict__.pop("engine", None)
        if engine is not None:
            engine.dispose()
        if self.server is not None:
            self.server.release()

    @property
    def _where(self) -> str:
        return f"database {self._url.render_as_string(hide_password=True)}"

    def _find(self, name: str) -> Tenant:
        with clear_errors(self._where), self.engine.begin() as connection:
            row = connection.exec_driver_sql(
                "SELECT tenant_id, name, created_at FROM tenants WHERE name = %s", (name,)
            ).one_or_none()
        if row is None:
            raise NotFoundError(f"tenant '{name}' does not exist; known: {[t.name for t in self.tenants()]}")
        return Tenant(*row)

    def _bootstrap(self) -> None:
        import psycopg

        with psycopg.connect(_conninfo(self._owner_url), autocommit=True, **_CONNECT) as connection:
            if may_bootstrap(connection):
                ensure_cluster(connection)


def make_engine(url: URL, role: str, *, schema_change: bool = False) -> Engine:
    """An engine all of whose connections act as `role`, whoever logs in."""
    from sqlalchemy import create_engine, event

    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=5,
        max_overflow=10,
        pool_timeout=15,
        pool_pre_ping=True,
        connect_args=_CONNECT | {"application_name": f"flexergy-{os.getpid()}"},
    )

    @event.listens_for(engine, "connect")
    def _become(connection: Any, _record: object) -> None:
        for name, value in _SESSION.items():
            timeout = "0" if schema_change and name == "statement_timeout" else value
            connection.execute("SELECT set_config(%s, %s, false)", (name, timeout))
        if url.username != role:
            connection.execute(f'SET ROLE "{role}"')
        connection.commit()

    return engine


def open_store(settings: Settings | None = None, *, role: Role = "app") -> Store:
    """Open the platform's store.

    Parameters
    ----------
    settings : Settings, optional
        Default: from the environment. With a `database_url` that server is used; without, the embedded server under
        the home folder, which is started when it does not run.
    role : {"app", "owner"}
        "app" sees and changes rows of the tenant it is bound to; "owner" may change tables too.

    Raises
    ------
    StoreError
        The server cannot be started or reached; the message says why and what to do.

    Notes
    -----
    With FLEXERGY_DATABASE_OWNER_URL set, schema changes use that login instead of FLEXERGY_DATABASE_URL's.
    """
    from flexergy_pipelines.settings import load_settings

    settings = settings or load_settings()
    if settings.database_url is not None:
        return _open_by_url(settings.database_url, role)
    server = start_embedded(settings)
    return _on(server, role, "flexergy", own=True)


def attach(server: EmbeddedServer, *, role: Role = "app", database: str = "flexergy") -> Store:
    """The store on an embedded server that runs, and runs on when the store is closed."""
    return _on(server, role, database, own=False)


def _on(server: EmbeddedServer, role: Role, database: str, *, own: bool) -> Store:
    from sqlalchemy import make_url

    owner_url = make_url(server.url(database, user=OWNER_ROLE))
    return Store(make_url(server.url(database)), role, owner_url=owner_url, server=server if own else None)


def _open_by_url(text: str, role: Role) -> Store:
    import psycopg
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except ArgumentError as error:
        raise StoreError(
            "FLEXERGY_DATABASE_URL is not a URL like postgresql://user:password@host:5432/flexergy"
        ) from error
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise StoreError(f"FLEXERGY_DATABASE_URL names '{url.get_backend_name()}'; only postgresql is supported")
    if not url.database:
        url = url.set(database=next(iter(DATABASES)))
    owner_text = os.environ.get("FLEXERGY_DATABASE_OWNER_URL")
    owner_url = make_url(owner_text) if owner_text else url
    if not owner_text and url.username == APP_ROLE:
        owner_url = url.set(username=OWNER_ROLE)
    wanted = url if role == "app" else owner_url
    with clear_errors(f"database {wanted.render_as_string(hide_password=True)}"):
        psycopg.connect(_conninfo(wanted), **_CONNECT).close()
    return Store(url, role, owner_url=owner_url)


def _conninfo(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


__all__ = ["Role", "Store", "Tenant", "TenantStore", "attach", "make_engine", "open_store"]
