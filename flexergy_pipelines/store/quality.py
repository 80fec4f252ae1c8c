"""Quality of measured points by local day, and what the checks found on which day."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

_COUNTS: Final = ("expected", "measured", "wrong", "estimated", "empty")
_SCHEMA: Final = {
    "asset_id": pl.String,
    "quantity": pl.String,
    "day": pl.Date,
    **dict.fromkeys(_COUNTS, pl.Int64),
}
_FINDING: Final = {
    "check_name": Column("text"),
    "subject": Column("text"),
    "expected": Column("number", nullable=True),
    "found": Column("number", nullable=True),
    "deviation": Column("number", nullable=True),
    "detail": Column("text"),
}
_FINDINGS: Final = {
    "check_name": pl.String,
    "day": pl.Date,
    "subject": pl.String,
    "expected": pl.Float64,
    "found": pl.Float64,
    "deviation": pl.Float64,
    "detail": pl.String,
    "found_at": TIME,
}


def write_quality(db: TenantStore, site_id: str, frame: pl.DataFrame) -> int:
    """Store the quality of points by day; that of a known point and day is replaced.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    frame : pl.DataFrame
        asset_id, quantity, day (date), expected (intervals of the day), measured (of them measured and untouched),
        wrong (found wrong), estimated (filled in), empty (left empty).
    """
    rows = frame.select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items())
    with db.begin() as connection:
        require_site(connection, site_id)
        if rows.is_empty():
            return 0
        columns = [rows[name].to_list() for name in _SCHEMA]
        return connection.exec_driver_sql(
            "INSERT INTO meter_quality (site_id, asset_id, quantity, day, expected, measured, wrong, estimated, empty) "
            "SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::date[], %s::int[], %s::int[], %s::int[], %s::int[], "
            "%s::int[]) ON CONFLICT (tenant_id, site_id, asset_id, quantity, day) DO UPDATE SET "
            "expected = excluded.expected, measured = excluded.measured, wrong = excluded.wrong, "
            "estimated = excluded.estimated, empty = excluded.empty, computed_at = clock_timestamp()",
            (site_id, *columns),
        ).rowcount


def read_quality(db: TenantStore, site_id: str, first: date, last: date) -> pl.DataFrame:
    """Quality of the days `first` to `last`, both included.

    Returns
    -------
    pl.DataFrame
        asset_id, quantity, day, expected, measured, wrong, estimated, empty (intervals), coverage (measured share).
    """
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            f"SELECT {', '.join(_SCHEMA)} FROM meter_quality WHERE site_id = %s AND day BETWEEN %s AND %s "  # noqa: S608
            "ORDER BY asset_id, quantity, day",
            (site_id, first, last),
        ).all()
    frame = frame_of([tuple(row) for row in rows], dict(_SCHEMA))
    return frame.with_columns((pl.col("measured") / pl.col("expected")).alias("coverage"))


def complete_days(db: TenantStore, now: datetime) -> set[date]:
    """Local days that are cleansed to their end at every site that has them, and wait for no late reading."""
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT q.day FROM (SELECT DISTINCT site_id, day FROM meter_quality) q JOIN LATERAL (SELECT "
            "coalesce(config ->> 'time_zone', 'UTC') AS zone FROM site_versions v WHERE v.site_id = q.site_id "
            "ORDER BY version DESC LIMIT 1) z ON true LEFT JOIN open_days o USING (site_id, day) "
            "GROUP BY q.day HAVING bool_and(q.day < (%s AT TIME ZONE z.zone)::date AND o.day IS NULL)",
            (now,),
        ).scalars()
        return set(rows)


def replace_findings(  # noqa: PLR0917 - who, what, when, found
    db: TenantStore, site_id: str, check_names: list[str], first: date, last: date, frame: pl.DataFrame
) -> int:
    """Store what checks found on the days `first` to `last`, in place of what they had found there before.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    check_names : list of str
        The checks that looked; a check that found nothing leaves nothing.
    first, last : date
        Days they looked at, both included.
    frame : pl.DataFrame
        check_name, day, subject (point or assets), expected, found, deviation (null where it does not apply), detail.
    """
    days = frame.select(pl.col("day").cast(pl.Date))
    rows = conform(frame.drop("day"), _FINDING, f"findings of {site_id}").with_columns(days["day"])
    with db.begin() as connection:
        require_site(connection, site_id)
        connection.exec_driver_sql(
            "DELETE FROM quality_findings WHERE site_id = %s AND check_name = ANY(%s) AND day BETWEEN %s AND %s",
            (site_id, check_names, first, last),
        )
        rows = rows.unique(subset=["check_name", "day", "subject"], keep="first", maintain_order=True)
        if rows.is_empty():
            return 0
        names = ["check_name", "day", "subject", "expected", "found", "deviation", "detail"]
        return connection.exec_driver_sql(
            f"INSERT INTO quality_findings (site_id, {', '.join(names)}) SELECT %s, * FROM unnest(%s::text[], "  # noqa: S608
            "%s::date[], %s::text[], %s::float8[], %s::float8[], %s::float8[], %s::text[])",
            (site_id, *(rows[name].to_list() for name in names)),
        ).rowcount


def read_findings(db: TenantStore, site_id: str, first: date, last: date) -> pl.DataFrame:
    """What the checks found on the days `first` to `last`, newest day first.

    Returns
    -------
    pl.DataFrame
        check_name, day, subject, expected, found, deviation, detail, found_at.
    """
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            f"SELECT {', '.join(_FINDINGS)} FROM quality_findings WHERE site_id = %s AND day BETWEEN %s AND %s "  # noqa: S608
            "ORDER BY day DESC, check_name, subject",
            (site_id, first, last),
        ).all()
    return frame_of([tuple(row) for row in rows], dict(_FINDINGS))
