"""Days to do again: whichever way a reading comes in, the local day it falls into is marked until it is cleansed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from flexergy_pipelines.store.engine import TenantStore


@dataclass(frozen=True, slots=True)
class OpenDay:
    """A day with readings that no cleansing has seen.

    Attributes
    ----------
    site_id : str
        The site.
    day : date
        In the site's own time zone.
    marked_at : datetime
        When the newest of these readings came in.
    readings : int
        How many readings came in since the day was cleansed last.
    """

    site_id: str
    day: date
    marked_at: datetime
    readings: int


def zone_of(connection: Connection, site_id: str) -> str:
    """IANA name of a site's time zone; UTC for one that has none."""
    found = connection.exec_driver_sql(
        "SELECT config ->> 'time_zone' FROM site_versions WHERE site_id = %s ORDER BY version DESC LIMIT 1", (site_id,)
    ).scalar_one_or_none()
    return found or "UTC"


def days_of(times: pl.Series, zone: str) -> dict[date, int]:
    """How many of `times` fall into each local day of `zone`."""
    counts = times.dt.convert_time_zone(zone).dt.date().value_counts()
    return dict(counts.iter_rows())


def mark_days(connection: Connection, site_id: str, days: Mapping[date, int]) -> None:
    """Mark days into which so many new or changed readings came."""
    connection.exec_driver_sql(
        "INSERT INTO open_days (site_id, day, marked_at, readings) "
        "SELECT %s, d.day, clock_timestamp(), d.readings FROM unnest(%s::date[], %s::bigint[]) AS d(day, readings) "
        "ORDER BY d.day ON CONFLICT (tenant_id, site_id, day) DO UPDATE "
        "SET marked_at = excluded.marked_at, readings = open_days.readings + excluded.readings",
        (site_id, list(days), list(days.values())),
    )


def open_days(
    db: TenantStore, before: Mapping[str, date] | None = None, *, quiet: timedelta = timedelta(0)
) -> list[OpenDay]:
    """Days with readings that no cleansing has seen, by site and day.

    Parameters
    ----------
    db : TenantStore
        Tenant whose sites are looked at.
    before : mapping, optional
        For each site the first day that does not count (its today); all marked days when left out.
    quiet : timedelta
        Only days into which nothing came for this long: a spool that catches up is left to finish.
    """
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT site_id, day, marked_at, readings FROM open_days "
            "WHERE marked_at <= clock_timestamp() - %s::interval ORDER BY site_id, day",
            (quiet,),
        ).all()
    found = [OpenDay(*row) for row in rows]
    return (
        found if before is None else [one for one in found if one.site_id in before and one.day < before[one.site_id]]
    )


def marks_within(db: TenantStore, site_id: str, zone: str, start: datetime, end: datetime) -> list[OpenDay]:
    """Marks of the days that lie in [start, end) as a whole; ask before reading what is to be cleansed."""
    return [
        one
        for one in open_days(db)
        if one.site_id == site_id and start <= _midnight(one.day, zone) and _midnight(one.day, zone, 1) <= end
    ]


def close_days(db: TenantStore, marks: Iterable[OpenDay]) -> int:
    """Take away marks whose days were done; a day into which readings came meanwhile stays marked.

    Returns
    -------
    int
        Days that are no longer marked.
    """
    marks = list(marks)
    with db.begin() as connection:
        return connection.exec_driver_sql(
            "DELETE FROM open_days o USING unnest(%s::text[], %s::date[], %s::timestamptz[]) AS m(site_id, day, at) "
            "WHERE o.site_id = m.site_id AND o.day = m.day AND o.marked_at = m.at",
            ([m.site_id for m in marks], [m.day for m in marks], [m.marked_at for m in marks]),
        ).rowcount


def _midnight(day: date, zone: str, add: int = 0) -> datetime:
    day += timedelta(days=add)
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
