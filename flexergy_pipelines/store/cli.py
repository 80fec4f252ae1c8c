"""Migrate and prune the database, print its URL, or tell its state."""

from __future__ import annotations

from typing import Annotated

import typer

from flexergy_pipelines.store.terminal import tenant_opened, told_clearly

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def migrate() -> None:
    """Bring the schema to this program's version; roles and databases are made when the login may."""
    from flexergy_pipelines.store import open_store

    with told_clearly(), open_store() as store:
        typer.echo(f"schema {store.migrate()}")


@app.command()
def url(
    database: Annotated[str, typer.Argument(help="flexergy, dagster or mlflow.")] = "flexergy",
    driver: Annotated[str, typer.Option(help="SQLAlchemy driver.")] = "psycopg",
) -> None:
    """Print the database's URL; of an embedded server only while it runs."""
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store import StoreError, open_store
    from flexergy_pipelines.store.embedded import running_server

    settings = load_settings()
    with told_clearly():
        if settings.database_url is not None:
            with open_store(settings) as store:
                typer.echo(store.url(database, driver))
            return
        server = running_server(settings)
        if server is None:
            raise StoreError("the embedded database does not run; start it with `flexergy up`")
        typer.echo(server.url(database, driver=driver))


@app.command()
def prune(
    site: Annotated[list[str] | None, typer.Option(help="Only this site; may be given several times.")] = None,
) -> None:
    """Delete history that is older than each site's configuration keeps."""
    from datetime import UTC, datetime

    from flexergy_pipelines.store.retention import apply_retention
    from flexergy_pipelines.store.sites import list_sites

    with tenant_opened() as db:
        for name in site or list_sites(db):
            deleted = apply_retention(db, name, datetime.now(UTC)).deleted
            typer.echo(f"{name}: " + (", ".join(f"{count} {table}" for table, count in deleted.items()) or "nothing"))


@app.command()
def status() -> None:
    """Tell whether the database can be used, and what to do if not; changes nothing."""
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store import database_status

    state, found, advice = database_status(load_settings())
    typer.echo(f"{state}: {found}" + (f"; {advice}" if advice else ""))
    if state == "bad":
        raise typer.Exit(1)
