"""A real PostgreSQL for the tests: one server a run, a fresh migrated database a test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import EmbeddedServer, Store, TenantStore, start_embedded
from flexergy_pipelines.store.bootstrap import OWNER_ROLE, lock_down
from flexergy_pipelines.store.embedded import SUPERUSER
from flexergy_pipelines.store.engine import attach
from flexergy_pipelines.store.sites import register_site

_TEMPLATE = "flexergy_template"
_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedServer]:
    """One embedded server for the whole run, with a migrated template database."""
    home = Path(tempfile.mkdtemp(prefix="fxt-"))
    settings = Settings(home=home, database_url=None, tenant="demo")
    server = start_embedded(settings, durable=False)
    try:
        with attach(server, role="owner") as store:
            store.migrate()
            _clone(server, "flexergy", _TEMPLATE)
            yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def store(postgres: EmbeddedServer) -> Iterator[Store]:
    """A store on a fresh, migrated, empty database with the tenants "demo" and "other"."""
    database = f"test_{next(_numbers)}"
    _clone(postgres, _TEMPLATE, database)
    opened = attach(postgres, database=database)
    try:
        opened.create_tenant("demo")
        opened.create_tenant("other")
        yield opened
    finally:
        opened.close()
        with _admin(postgres) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


@pytest.fixture
def db(store: Store) -> TenantStore:
    """The store as tenant "demo" sees it."""
    return store.tenant("demo")


@pytest.fixture
def other_db(store: Store) -> TenantStore:
    """The same database as tenant "other" sees it."""
    return store.tenant("other")


@pytest.fixture
def store_settings(store: Store, tmp_path: Path) -> Settings:
    """Settings of an installation whose database is the test's own, for code that opens the store itself."""
    return Settings(home=tmp_path, database_url=store.app_url, tenant="demo")


def plain_site(db: TenantStore, site_id: str, points: list[tuple[str, str]]) -> str:
    """Register a site that is nothing but an id and points; returns the id."""
    register_site(
        db, site_id, name=site_id, kind="microgrid", config={"id": site_id}, points=[(*point, "kW") for point in points]
    )
    return site_id


def _clone(server: EmbeddedServer, template: str, database: str) -> None:
    with _admin(server) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(database), sql.Identifier(OWNER_ROLE), sql.Identifier(template)
            )
        )
        lock_down(admin, database)


def _admin(server: EmbeddedServer) -> psycopg.Connection:
    return psycopg.connect(server.url("postgres", user=SUPERUSER, driver=None), autocommit=True)
