"""Print what each site plans, dispatches and expects now."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from flexergy_pipelines.settings import load_settings

app = typer.Typer(add_completion=False)


@app.command()
def summary(
    site: Annotated[list[str] | None, typer.Option(help="Only this site; may be given several times.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Today's plan, its cost against idle storage, forecast errors, battery wear and what is dispatched now."""
    from flexergy_pipelines.operation.summary import summarize
    from flexergy_pipelines.operation.summary_text import summary_text
    from flexergy_pipelines.store import StoreError, open_store
    from flexergy_pipelines.store.sites import list_sites

    settings = load_settings()
    try:
        store = open_store(settings)
        db = store.tenant(settings.tenant)
        now = datetime.now(UTC)
        rows = [summarize(db, name, now) for name in (site or list_sites(db))]
        store.close()
    except StoreError as error:
        typer.echo(f"flexergy summary: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(json.dumps(rows, indent=1) if as_json else "\n".join(map(summary_text, rows)) or "no site yet")
