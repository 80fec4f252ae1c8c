"""Import the sample sites with a year of history, prices and weather."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(add_completion=False, help="The sample sites.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Work with the sample sites."""


@app.command("import")
def import_command(
    site: Annotated[list[str] | None, typer.Option(help="Sample site to import; all when left out.")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder of all state, instead of FLEXERGY_HOME.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Tenant to import into, instead of FLEXERGY_TENANT.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Import sample sites; a site that already has history is left as it is."""
    from flexergy_pipelines.grid import SiteError
    from flexergy_pipelines.grid.samples import SAMPLE_FILES, sample_site
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store import StoreError, open_store
    from flexergy_pipelines.store.sample import import_sample

    wanted = site or list(SAMPLE_FILES)
    unknown = [name for name in wanted if name not in SAMPLE_FILES]
    if unknown:
        _refuse(f"--site: no sample site {unknown[0]}, there are {', '.join(SAMPLE_FILES)}")
    if home is not None:
        os.environ["FLEXERGY_HOME"] = str(home)
    settings = load_settings()
    name = tenant or settings.tenant
    results: list[dict[str, object]] = []
    try:
        with open_store(settings) as store:
            store.migrate()
            store.create_tenant(name)
            db = store.tenant(name)
            for site_id in wanted:
                result = import_sample(
                    db,
                    settings,
                    sample_site(site_id),
                    datetime.now(UTC),
                    progress=None if json else lambda step, share, s=site_id: typer.echo(f"{s}: {share:4.0%} {step}"),
                )
                results.append(asdict(result))
    except (StoreError, SiteError, ValueError, OSError) as error:
        _refuse(str(error).splitlines()[0])
    if json:
        import json as encoder

        typer.echo(encoder.dumps(results))
        return
    for result in results:
        if result["skipped"]:
            typer.echo(f"{result['site_id']}: already has history, left as it is")
        else:
            typer.echo(
                f"{result['site_id']}: {result['readings']} readings, {result['prices']} prices, "
                f"{result['weather']} weather values, {result['clean']} clean values"
            )


def _refuse(message: str) -> NoReturn:
    typer.echo(f"flexergy sample import: {message}", err=True)
    raise typer.Exit(2)
