"""Run the pipeline (ingest, cleanse, train, forecast, plan, account) or prepare Dagster to run it."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from flexergy_pipelines.settings import Settings

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def pipeline() -> None:
    """Run the pipeline, or prepare Dagster to run it."""


@app.command()
def run(
    _once: Annotated[bool, typer.Option("--once", help="Run the chain once and end (the only way so far).")] = True,
    site: Annotated[list[str] | None, typer.Option(help="Only this site; may be given more than once.")] = None,
    progress_json: Annotated[bool, typer.Option("--progress-json", help="One JSON object a line.")] = False,
    backfill_days: Annotated[
        int | None, typer.Option(min=1, max=3660, help="How many days back to cleanse and to account for.")
    ] = None,
) -> None:
    """Run ingest, cleanse, train, forecast, plan, dispatch check and KPIs once; each step is a run in Dagster.

    Exits 1 when a step failed, after all the others.
    """
    from flexergy_pipelines.logs import configure_logging
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store import StoreError

    configure_logging("pipeline")
    settings = load_settings()
    try:
        _check_sites(site or [])
        _use_instance(settings)
    except StoreError as error:
        _fail(str(error), code=1)
    import dagster as dg

    from assets_defs.chain import Progress, run_chain

    def show(row: Progress) -> None:
        if progress_json:
            line = {"step": row.step, "status": row.status, "seconds": row.seconds, "detail": row.detail}
            print(json.dumps(line), flush=True)
        elif row.status != "started":
            mark = "ok    " if row.status == "done" else "FAILED"
            print(f"{mark} {row.step:<15} {row.seconds:7.1f} s  {row.detail}", flush=True)

    with dg.DagsterInstance.get() as instance:
        good = run_chain(instance, site or [], show, backfill_days=backfill_days)
    if not good:
        raise typer.Exit(1)


@app.command()
def instance(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web interface on 127.0.0.1.")] = 3000,
    separate: Annotated[
        bool, typer.Option("--separate", help="Webserver and daemon each load the definitions: no third process.")
    ] = False,
) -> None:
    """Prepare Dagster's home and print the command lines of its processes as JSON, in starting order."""
    from assets_defs.instance import commands, prepare_instance
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store import StoreError

    settings = load_settings()
    try:
        prepare_instance(settings, shared_code_server=not separate)
    except StoreError as error:
        _fail(str(error), code=1)
    print(json.dumps(commands(settings, port, shared_code_server=not separate)))


def _use_instance(settings: Settings) -> None:
    """Make this process use the installation's Dagster, preparing it when nobody has."""
    from pathlib import Path

    from assets_defs.instance import prepare_instance

    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    home = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home)
    if not (home / "dagster.yaml").exists():
        home = prepare_instance(settings)
    os.environ["DAGSTER_HOME"] = str(home)


def _check_sites(wanted: list[str]) -> None:
    from assets_defs.resources import StoreResource
    from flexergy_pipelines.store.sites import list_sites

    known = list_sites(StoreResource().db())
    if not known:
        _fail("no site is configured; import one with `flexergy site import FILE` or the samples with `flexergy up`")
    for name in wanted:
        if name not in known:
            _fail(f"site '{name}' is unknown; known: {', '.join(known)}")


def _fail(message: str, code: int = 2) -> NoReturn:
    print(f"flexergy pipeline: {message}", file=sys.stderr)
    raise typer.Exit(code)
