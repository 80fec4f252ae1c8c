"""What the store's command lines share: opening it for the tenant, and one line instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError, StoreError

if TYPE_CHECKING:
    from flexergy_pipelines.settings import Settings
    from flexergy_pipelines.store.engine import Store, TenantStore


def refuse(message: str, code: int = 2) -> NoReturn:
    """Say what is wrong on standard error and end: 2 for bad input, 1 for what the user did not cause."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


@contextmanager
def told_clearly() -> Iterator[None]:
    """Turn errors of the store into one line and an exit code."""
    try:
        yield
    except (InvalidDataError, NotFoundError) as error:
        refuse(str(error), 2)
    except StoreError as error:
        refuse(str(error), 1)


@contextmanager
def opened(settings: Settings | None = None) -> Iterator[Store]:
    """The store with a schema that fits; an embedded one is migrated when it is older."""
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store.engine import open_store
    from flexergy_pipelines.store.migrate import newest_version

    settings = settings or load_settings()
    with told_clearly(), open_store(settings) as store:
        if store.schema_version() != newest_version():
            if settings.database_url is not None:
                raise StoreError("the database's schema does not fit this program; run `flexergy db migrate`")
            store.migrate()
        yield store


@contextmanager
def tenant_opened() -> Iterator[TenantStore]:
    """The store of FLEXERGY_TENANT; in an empty installation that tenant is made."""
    from flexergy_pipelines.settings import load_settings

    settings = load_settings()
    with opened(settings) as store:
        if not store.tenants():
            store.create_tenant(settings.tenant)
        yield store.tenant(settings.tenant)
