"""Register meters in bulk, read and set them in bulk, and list what they can be asked for."""

from __future__ import annotations

import getpass
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ingestion.meters.jobs import app as jobs_app
from ingestion.meters.jobs import print_statistics

app = typer.Typer(add_completion=False, no_args_is_help=True)
app.add_typer(jobs_app, name="job", help="Jobs of bulk reading: what is read, how often, how patiently.")
app.command("stats")(print_statistics)


@app.callback()
def meters() -> None:
    """Register meters in bulk, read and set them in bulk, and list what they can be asked for."""


@app.command()
def register(
    file: Annotated[Path, typer.Argument(help="CSV: id, role, port, template and more; one meter a row.")],
    site: Annotated[str, typer.Option(help="Site the meters belong to.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Register all meters of a CSV; with an error in any row nothing is stored."""
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store import StoreError, open_store
    from flexergy_pipelines.store.sites import load_site, save_site
    from ingestion.meters.registration import RegistrationError, plan_registration

    settings = load_settings()
    version: int | None = None
    try:
        with open_store(settings) as store:
            db = store.tenant(settings.tenant)
            found = plan_registration(load_site(db, site), file)
            stored = not dry_run and not found.errors and bool(found.rows)
            if stored:
                version = save_site(db, found.site, actor="bulk registration")
    except (StoreError, RegistrationError) as error:
        _fail(str(error))
    if as_json:
        answer = {"site": site, "stored": stored, "version": version, "rows": [asdict(row) for row in found.rows]}
        print(json.dumps(answer, indent=1))
    else:
        for row in found.rows:
            print(f"row {row.row}: {row.meter}: {row.reason or row.action}")
        done = f"stored as version {version}" if stored else "dry run: nothing stored" if dry_run else "nothing stored"
        print(f"{len(found.rows)} rows, {len(found.errors)} with errors; {done}")
    if found.errors:
        raise typer.Exit(2)


@app.command()
def collect(  # noqa: PLR0917 - options of a command
    site: Annotated[str, typer.Option(help="Site whose meters are read.")],
    meter: Annotated[list[str] | None, typer.Option(help="Only this meter; may be given more than once.")] = None,
    job: Annotated[str | None, typer.Option(help="Do this job once, with its meters and rules.")] = None,
    attempts: Annotated[int, typer.Option(min=1, max=20, help="Tries of each meter.")] = 3,
    timeout_s: Annotated[float, typer.Option(min=0.05, max=60, help="Longest wait for one answer, in seconds.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read meters themselves, many at once, store their values and show how well it went."""
    from flexergy_pipelines.metering.keys import KeysError, access_of
    from flexergy_pipelines.settings import load_settings, read_endpoints
    from flexergy_pipelines.store import StoreError, open_store
    from flexergy_pipelines.store.sites import load_site
    from ingestion.meters.bulk import BulkRules, MeterOutcome, read_in_bulk
    from ingestion.meters.jobs import job_of, rules_of

    def show(outcome: MeterOutcome, done: int, count: int) -> None:
        if not as_json:
            latency = "" if outcome.latency_s is None else f", {1000 * outcome.latency_s:.0f} ms"
            text = outcome.error or f"{outcome.received} of {outcome.expected} values{latency}"
            print(f"{done}/{count} {outcome.meter}: {text}", flush=True)

    if job is not None and meter:
        _fail("--job brings its own meters; leave out --meter")
    settings = load_settings()
    rules, name = BulkRules(attempts=attempts, timeout_s=timeout_s), "on request"
    try:
        with open_store(settings) as store:
            db = store.tenant(settings.tenant)
            if job is not None:
                found = job_of(db, site, job)
                rules, name, meter = rules_of(found), found.name, list(found.meters) or None
            report = read_in_bulk(
                db, load_site(db, site), datetime.now(UTC), read_endpoints(settings), meters=meter, rules=rules,
                job=name, credentials=lambda device: access_of(settings, device), progress=show,
            )  # fmt: skip
    except (StoreError, KeysError, ValueError) as error:
        _fail(str(error))
    if as_json:
        outcomes = [asdict(outcome) for outcome in report.outcomes]
        print(json.dumps({"site": site, "success_rate": report.success_rate, "written": report.written,
                          "meters": outcomes}, indent=1))  # fmt: skip
    else:
        print(f"success rate {report.success_rate or 0:.0%}, {report.written} new readings")
    if report.success_rate != 1:
        raise typer.Exit(1)


@app.command()
def configure(  # noqa: PLR0917 - options of a command
    site: Annotated[str, typer.Option(help="Site whose meters are set.")],
    meter: Annotated[
        list[str] | None,
        typer.Option("--meter", "--meters", help="Only these, with commas or given often. None: all that speak DLMS."),
    ] = None,
    capture_period: Annotated[
        int | None, typer.Option(help="Interval of the load profile: 1, 5, 10, 15, 30 or 60 minutes.")
    ] = None,
    set_clock: Annotated[bool, typer.Option("--set-clock", help="Set the clocks to this machine's time.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only ask the meters and say what would change.")] = False,
    attempts: Annotated[int, typer.Option(min=1, max=20, help="Tries of each meter.")] = 3,
    timeout_s: Annotated[float, typer.Option(min=0.05, max=60, help="Longest wait for one answer, in seconds.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send settings to many meters at once, read each back, and log what became of each."""
    from flexergy_pipelines.metering.keys import KeysError, access_of
    from flexergy_pipelines.settings import load_settings, read_endpoints
    from flexergy_pipelines.store import StoreError, open_store
    from flexergy_pipelines.store.sites import load_site
    from ingestion.meters.bulk import BulkRules
    from ingestion.meters.configuring import ConfigureOutcome, WantedSettings, configure_in_bulk

    def show(outcome: ConfigureOutcome, done: int, count: int) -> None:
        if not as_json:
            changes = "; ".join(change.text() for change in outcome.changes)
            would = "would change: " if dry_run and changes else ""
            text = "; ".join(part for part in (would + changes, outcome.error) if part) or "as wanted"
            print(f"{done}/{count} {outcome.meter}: {text}", flush=True)

    names = [name.strip() for text in meter or [] for name in text.split(",") if name.strip()]
    settings = load_settings()
    try:
        with open_store(settings) as store:
            db = store.tenant(settings.tenant)
            outcomes = configure_in_bulk(
                db, load_site(db, site), read_endpoints(settings), WantedSettings(capture_period, set_clock),
                actor=getpass.getuser(), meters=names if meter is not None else None, dry_run=dry_run,
                rules=BulkRules(attempts=attempts, timeout_s=timeout_s),
                credentials=lambda device: access_of(settings, device), progress=show,
            )  # fmt: skip
    except (StoreError, KeysError, ValueError) as error:
        _fail(str(error))
    good = sum(outcome.success for outcome in outcomes)
    if as_json:
        print(json.dumps({"site": site, "dry_run": dry_run, "meters": [asdict(o) for o in outcomes]}, indent=1))
    else:
        done = "answered; nothing was sent" if dry_run else "are as wanted"
        print(f"{good} of {len(outcomes)} meters {done}")
    if good < len(outcomes):
        raise typer.Exit(1)


@app.command()
def catalogue(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the objects of load profiles (S29), instantaneous values (S21) and registers."""
    from ingestion.meters.catalogue import CATALOGUE

    if as_json:
        print(json.dumps([asdict(item) | {"full_obis": item.full_obis} for item in CATALOGUE], indent=1))
        return
    for item in CATALOGUE:
        print(f"{item.report:<9} {item.code:<9} {item.full_obis:<17} {item.unit:<6} every {item.period_s:>5} s")


def _fail(message: str) -> NoReturn:
    print(f"flexergy meters: {message}", file=sys.stderr)
    raise typer.Exit(2)
