"""What can be said about the database without changing anything, for `flexergy doctor` and `flexergy db status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from flexergy_pipelines.store.embedded import running_server
from flexergy_pipelines.store.errors import StoreError
from flexergy_pipelines.store.migrate import newest_version

if TYPE_CHECKING:
    from flexergy_pipelines.settings import Settings
    from flexergy_pipelines.store.engine import Store

State = Literal["ok", "note", "bad"]


def database_status(settings: Settings) -> tuple[State, str, str]:
    """State of the configured database: (state, what was found, what to do).

    Nothing is started, created or changed.
    """
    from flexergy_pipelines.store.engine import attach, open_store

    try:
        if settings.database_url is not None:
            with open_store(settings) as store:
                return _of(store, "PostgreSQL by FLEXERGY_DATABASE_URL")
        server = running_server(settings)
        if server is None:
            created = (settings.postgres_dir / "PG_VERSION").exists()
            return "ok", f"embedded, {'not running' if created else 'not yet created'}", ""
        with attach(server) as store:
            return _of(store, f"embedded, running (pid {server.pid})")
    except StoreError as error:
        return "bad", "cannot be used", str(error)


def _of(store: Store, name: str) -> tuple[State, str, str]:
    version = store.schema_version()
    if version is None:
        return "note", f"{name}, without tables", "run `flexergy db migrate`"
    if version != newest_version():
        return "note", f"{name}, schema {version} of {newest_version()}", "run `flexergy db migrate`"
    return "ok", f"{name}, schema {version}", ""
