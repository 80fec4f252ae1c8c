"""Jobs of bulk reading as operators set them, and how reading went."""

from __future__ import annotations

import getpass
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore
    from flexergy_pipelines.store.bulk import BulkJob
    from ingestion.meters.bulk import BulkRules

app = typer.Typer(add_completion=False, no_args_is_help=True)

HOURLY = "hourly"
"""Name of the job that every site without jobs of its own has: all meters, every hour."""
_SPAN = re.compile(r"^(\d{1,4})(h|d)$")

SiteOption = Annotated[str, typer.Option(help="Site whose meters are read.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def jobs_of(db: TenantStore, site_id: str) -> list[BulkJob]:
    """Jobs of a site; the usual one when its operator set none."""
    from flexergy_pipelines.store.bulk import BulkJob, list_bulk_jobs

    return list_bulk_jobs(db, site_id) or [BulkJob(site_id, HOURLY)]


def job_of(db: TenantStore, site_id: str, name: str) -> BulkJob:
    """One job.

    Raises
    ------
    NotFoundError
        The site has no such job.
    """
    from flexergy_pipelines.store import NotFoundError

    jobs = {job.name: job for job in jobs_of(db, site_id)}
    if name not in jobs:
        raise NotFoundError(f"site '{site_id}' has no bulk job '{name}'; known: {', '.join(jobs)}")
    return jobs[name]


def due_jobs(db: TenantStore, site_id: str, tick: datetime, tick_minutes: int) -> list[BulkJob]:
    """Enabled jobs whose period begins within the `tick_minutes` that begin at `tick`.

    Notes
    -----
    Due instants are whole multiples of the period since the epoch, so that restarts neither shift nor repeat them.
    """
    minute = int(tick.timestamp()) // 60
    return [job for job in jobs_of(db, site_id) if job.enabled and minute % job.period_minutes < tick_minutes]


def rules_of(job: BulkJob) -> BulkRules:
    """How a job reads."""
    from ingestion.meters.bulk import BulkRules

    return BulkRules(attempts=job.attempts, timeout_s=job.timeout_s, reports=job.reports)


@app.command("set")
def set_job(  # noqa: PLR0917 - options of a command
    name: Annotated[str, typer.Argument(help="Name of the job; an existing one is changed.")],
    site: SiteOption,
    meter: Annotated[list[str] | None, typer.Option(help="Meter to read; may be given often. None: all.")] = None,
    report: Annotated[list[str] | None, typer.Option(help="instant, profile, or both (default).")] = None,
    period_minutes: Annotated[int, typer.Option(help="How often, 5 to 10080 minutes.")] = 60,
    attempts: Annotated[int, typer.Option(help="Tries of each meter, 1 to 20.")] = 3,
    timeout_s: Annotated[float, typer.Option(help="Longest wait for one answer, 0.05 to 60 seconds.")] = 1.0,
    disabled: Annotated[bool, typer.Option("--disabled", help="Keep the job, but do not do it.")] = False,
) -> None:
    """Set a job: which meters are read, what for, how often and how patiently."""
    from flexergy_pipelines.store import InvalidDataError
    from flexergy_pipelines.store.bulk import REPORTS, BulkJob, save_bulk_job
    from flexergy_pipelines.store.sites import load_site

    with _tenant() as db:
        known = [item.id for item in load_site(db, site).meters]
        unknown = [one for one in meter or [] if one not in known]
        if unknown:
            raise InvalidDataError(f"{', '.join(unknown)}: no meter of {site}; meters: {', '.join(known)}")
        job = BulkJob(
            site, name, tuple(meter or ()), tuple(report or REPORTS), period_minutes, attempts, timeout_s,
            enabled=not disabled,
        )  # fmt: skip
        save_bulk_job(db, job, actor=getpass.getuser())
    print(_line(job))


@app.command("list")
def list_jobs(site: SiteOption, as_json: JsonOption = False) -> None:
    """List a site's jobs."""
    with _tenant() as db:
        jobs = jobs_of(db, site)
    if as_json:
        print(json.dumps([asdict(job) for job in jobs], indent=1))
    else:
        for job in jobs:
            print(_line(job))


@app.command("delete")
def delete_job(name: Annotated[str, typer.Argument(help="Name of the job.")], site: SiteOption) -> None:
    """Delete a job; what it read stays."""
    from flexergy_pipelines.store.bulk import delete_bulk_job

    with _tenant() as db:
        delete_bulk_job(db, site, name, actor=getpass.getuser())
    print(f"{name}: deleted")


def print_statistics(
    site: SiteOption,
    by: Annotated[str, typer.Option(help="meter or concentrator.")] = "meter",
    last: Annotated[str, typer.Option(help="How long back: 24h, 7d.")] = "7d",
    as_json: JsonOption = False,
) -> None:
    """Show success rate, completeness and latency of reading, by meter or by data concentrator."""
    from flexergy_pipelines.store.bulk import reading_statistics

    match = _SPAN.match(last)
    if not match or int(match[1]) == 0:
        _fail(f"--last {last}: give a number and h or d, such as 24h or 7d")
    span = timedelta(**{{"h": "hours", "d": "days"}[match[2]]: int(match[1])})
    now = datetime.now(UTC)
    with _tenant() as db:
        frame = reading_statistics(db, site, now - span, now + timedelta(minutes=1), by=by)
    if as_json:
        print(json.dumps({"site": site, "by": by, "rows": frame.to_dicts()}, indent=1, default=str))
        return
    if frame.is_empty():
        print(f"{site}: nothing was read in the last {last}")
    for row in frame.iter_rows(named=True):
        latency = "" if row["mean_latency_s"] is None else f", {1000 * row['mean_latency_s']:.0f} ms"
        complete = "" if row["completeness"] is None else f", {row['completeness']:.1%} complete"
        error = f"; last error: {row['last_error']}" if row["last_error"] else ""
        print(f"{row[by] or 'none'}: {row['success_rate']:.1%} of {row['reads']} reads{complete}{latency}{error}")


def _line(job: BulkJob) -> str:
    meters = ", ".join(job.meters) or "all meters"
    state = "" if job.enabled else " (disabled)"
    return f"{job.name}: {' and '.join(job.reports)} of {meters} every {job.period_minutes} min{state}"


@contextmanager
def _tenant() -> Iterator[TenantStore]:
    from flexergy_pipelines.settings import load_settings
    from flexergy_pipelines.store import StoreError, open_store

    settings = load_settings()
    try:
        with open_store(settings) as store:
            yield store.tenant(settings.tenant)
    except StoreError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    print(f"flexergy meters: {message}", file=sys.stderr)
    raise typer.Exit(2)
