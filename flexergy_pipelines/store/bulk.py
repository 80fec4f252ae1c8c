"""Bulk reading of meters: the jobs that operators set, and how every reading of every meter went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.events import record_event
from flexergy_pipelines.store.frames import TIME, frame_of, period, utc
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexergy_pipelines.store.engine import TenantStore

REPORTS: Final = ("instant", "profile")
"""What a job asks for: the values of now (S21 and registers), and the load profile since the last reading (S29)."""
_ALLOWED: Final = {"period_minutes": (5, 10_080), "attempts": (1, 20), "timeout_s": (0.05, 60.0)}


@dataclass(frozen=True, slots=True)
class BulkJob:
    """One job of bulk reading.

    Attributes
    ----------
    name : str
        Its name within the site.
    meters : tuple of str
        Ids of the meters; none means all of the site.
    reports : tuple of str
        Of `REPORTS`.
    period_minutes : int
        How often it is done [min], 5 to 10080.
    attempts : int
        Tries of each meter.
    timeout_s : float
        Longest wait for one answer [s].
    enabled : bool
        Whether it is done at its period.
    """

    site_id: str
    name: str
    meters: tuple[str, ...] = ()
    reports: tuple[str, ...] = REPORTS
    period_minutes: int = 60
    attempts: int = 3
    timeout_s: float = 1.0
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class MeterRead:
    """How one reading of one meter went."""

    meter: str
    concentrator: str | None
    at: datetime
    success: bool
    attempts: int
    latency_s: float | None
    expected: int
    received: int
    error: str | None = None


def save_bulk_job(db: TenantStore, job: BulkJob, *, actor: str) -> None:
    """Store a job in place of the one with its name; the change is an event.

    Raises
    ------
    InvalidDataError
        Empty name, unknown report, or a number out of its range.
    """
    if not job.name.strip() or len(job.name) > 60:
        raise InvalidDataError(f"bulk job: name {job.name!r} is not 1 to 60 characters")
    unknown = [report for report in job.reports if report not in REPORTS]
    if unknown or not job.reports:
        raise InvalidDataError(f"bulk job {job.name}: reports {list(job.reports)}; give {' or '.join(REPORTS)}")
    for field, (low, high) in _ALLOWED.items():
        value = getattr(job, field)
        if not low <= value <= high:
            raise InvalidDataError(f"bulk job {job.name}: {field} {value:g} is outside {low:g} to {high:g}")
    with db.begin() as connection:
        require_site(connection, job.site_id)
        connection.exec_driver_sql(
            "INSERT INTO bulk_jobs (site_id, name, meters, reports, period_minutes, attempts, timeout_s, enabled, "
            "changed_by) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, site_id, name) DO UPDATE "
            "SET meters = excluded.meters, reports = excluded.reports, period_minutes = excluded.period_minutes, "
            "attempts = excluded.attempts, timeout_s = excluded.timeout_s, enabled = excluded.enabled, "
            "changed_by = excluded.changed_by, changed_at = clock_timestamp()",
            (
                job.site_id, job.name, list(job.meters), list(job.reports), job.period_minutes, job.attempts,
                job.timeout_s, job.enabled, actor,
            ),
        )  # fmt: skip
        detail = {"period_minutes": job.period_minutes, "meters": list(job.meters), "enabled": job.enabled}
        record_event(db, actor=actor, kind="bulk_job_changed", site_id=job.site_id, subject=job.name, detail=detail)


def delete_bulk_job(db: TenantStore, site_id: str, name: str, *, actor: str) -> None:
    """Delete a job; what it read stays.

    Raises
    ------
    NotFoundError
        There is no such job.
    """
    with db.begin() as connection:
        gone = connection.exec_driver_sql(
            "DELETE FROM bulk_jobs WHERE site_id = %s AND name = %s", (site_id, name)
        ).rowcount
        if not gone:
            known = ", ".join(job.name for job in list_bulk_jobs(db, site_id)) or "none"
            raise NotFoundError(f"site '{site_id}' has no bulk job '{name}'; known: {known}")
        record_event(db, actor=actor, kind="bulk_job_deleted", site_id=site_id, subject=name)


def list_bulk_jobs(db: TenantStore, site_id: str) -> list[BulkJob]:
    """Jobs of a site by name."""
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT site_id, name, meters, reports, period_minutes, attempts, timeout_s, enabled FROM bulk_jobs "
            "WHERE site_id = %s ORDER BY name",
            (site_id,),
        ).all()
    return [BulkJob(r[0], r[1], tuple(r[2]), tuple(r[3]), *r[4:]) for r in rows]


def write_meter_reads(db: TenantStore, site_id: str, job: str, reads: Iterable[MeterRead]) -> None:
    """Keep how each meter's reading went."""
    with db.begin() as connection:
        require_site(connection, site_id)
        for read in reads:
            connection.exec_driver_sql(
                "INSERT INTO meter_reads (site_id, job, meter, concentrator, at, success, attempts, latency_s, "
                "expected, received, error) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    site_id, job, read.meter, read.concentrator, utc(read.at, "at"), read.success, read.attempts,
                    read.latency_s, read.expected, read.received, read.error,
                ),
            )  # fmt: skip


def last_successes(db: TenantStore, site_id: str, job: str) -> dict[str, datetime]:
    """When each meter was last read by a job with success."""
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT meter, max(at) FROM meter_reads WHERE site_id = %s AND job = %s AND success GROUP BY 1",
            (site_id, job),
        )
        return {meter: at for meter, at in rows.all()}  # noqa: C416 - rows, not tuples


def reading_statistics(
    db: TenantStore, site_id: str, start: datetime, end: datetime, *, by: str = "meter"
) -> pl.DataFrame:
    """How reading went with start <= time < end, by meter or by data concentrator.

    Parameters
    ----------
    by : str
        ``meter`` or ``concentrator``.

    Returns
    -------
    pl.DataFrame
        The key ("" for meters without concentrator), reads, success_rate, completeness (values that came of those
        asked for; null when none was asked for), mean_latency_s, p95_latency_s, attempts, last_success, last_error.
    """
    if by not in ("meter", "concentrator"):
        raise InvalidDataError(f"statistics by {by!r}; give meter or concentrator")
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            f"SELECT coalesce({by}, ''), count(*), avg(success::int)::float8, "  # noqa: S608 - one of two names
            "(sum(received)::float8 / nullif(sum(expected), 0)), avg(latency_s), "
            "percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_s), sum(attempts)::bigint, "
            "max(at) FILTER (WHERE success), (array_agg(error ORDER BY at DESC) FILTER (WHERE NOT success))[1] "
            "FROM meter_reads WHERE site_id = %s AND at >= %s AND at < %s GROUP BY 1 ORDER BY 1",
            (site_id, first, last),
        ).all()
    schema = {
        by: pl.String, "reads": pl.Int64, "success_rate": pl.Float64, "completeness": pl.Float64,
        "mean_latency_s": pl.Float64, "p95_latency_s": pl.Float64, "attempts": pl.Int64, "last_success": TIME,
        "last_error": pl.String,
    }  # fmt: skip
    return frame_of([tuple(row) for row in rows], schema)
