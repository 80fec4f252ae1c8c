"""Readings: every value as it came in, once for each point and instant; corrections keep the value they replace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from flexergy_pipelines.store.copying import copy_in_binary, copy_out_series
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of, period
from flexergy_pipelines.store.open_days import days_of, mark_days, zone_of
from flexergy_pipelines.store.sites import cyclic_periods, select_points, with_point_ids

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from flexergy_pipelines.store.engine import TenantStore

GOOD: Final = 0
SUSPECT: Final = 1
BAD: Final = 2
MISSING: Final = 3
ESTIMATED: Final = 4
QUALITIES: Final = {GOOD: "good", SUSPECT: "suspect", BAD: "bad", MISSING: "missing", ESTIMATED: "estimated"}

_MOST_SOURCES: Final = 30_000
_FUTURE_TOLERANCE: Final = timedelta(minutes=5)
_COLUMNS: Final = {
    "asset_id": Column("text"),
    "quantity": Column("text"),
    "time": Column("time"),
    "value": Column("number", nullable=True),
    "quality": Column("integer"),
}
_STAGED: Final = {"point_id": "int4", "time": "timestamptz", "value": "float8", "quality": "int2"}
_SCHEMA: Final = {
    "asset_id": pl.String,
    "quantity": pl.String,
    "time": TIME,
    "value": pl.Float64,
    "quality": pl.Int16,
}
_SELECT: Final = """
SELECT point_id, array_agg(time), array_agg(coalesce(value, 'NaN')), array_agg(quality)
FROM (SELECT point_id, time, value, quality FROM readings
  WHERE point_id = ANY(%(points)s) AND time >= %(first)s AND time < %(last)s ORDER BY point_id, time) AS r
GROUP BY point_id ORDER BY point_id
"""
# Qualities 0 (good) and 4 (estimated) count; 3 says that an interval has neither. A value weighs as long as it stood:
# until the next one or the end of the interval, at most the point's cyclic period, after which it would have been
# written again. So values at a regular period weigh the same, and a burst beyond a dead band only as long as it lasts.
_SELECT_MEANS: Final = """
SELECT point_id, array_agg(bin), array_agg(coalesce(mean, 'NaN')), array_agg(coalesce(quality, 3)::smallint)
FROM (
  SELECT point_id, bin, max(quality) AS quality, sum(value * weight) / nullif(sum(weight), 0) AS mean
  FROM (
    SELECT s.point_id, s.bin, CASE WHEN s.quality IN (0, 4) THEN s.quality END AS quality,
      CASE WHEN s.quality IN (0, 4) THEN s.value END AS value,
      CASE WHEN s.quality IN (0, 4)
        THEN least(date_part('epoch', least(s.until, s.bin + %(step)s) - s.time), c.cyclic_s) END AS weight
    FROM (
      SELECT point_id, time, value, quality, date_bin(%(step)s, time, '2000-01-01Z') AS bin,
        lead(time) OVER (PARTITION BY point_id ORDER BY time) AS until
      FROM readings WHERE point_id = ANY(%(points)s) AND time >= %(first)s AND time < %(last)s
    ) AS s JOIN unnest(%(points)s::int[], %(cyclic)s::float8[]) AS c(point_id, cyclic_s) USING (point_id)
  ) AS weighted
  GROUP BY 1, 2 ORDER BY 1, 2
) AS r
GROUP BY point_id ORDER BY point_id
"""
# One pass over what is there already: rows that are new or differ, the differing ones kept as corrections.
_MERGE: Final = """
WITH fresh AS MATERIALIZED (
  SELECT s.point_id, s.time, nullif(s.value, 'NaN') AS value, s.quality,
    r.point_id AS held, r.value AS old_value, r.quality AS old_quality, r.source_id AS old_source_id
  FROM staged_readings s
  LEFT JOIN readings r ON r.point_id = s.point_id AND r.time = s.time AND r.time BETWEEN %(first)s AND %(last)s
  WHERE r.point_id IS NULL OR (r.value, r.quality) IS DISTINCT FROM (nullif(s.value, 'NaN'), s.quality)
), kept AS (
  INSERT INTO reading_corrections (point_id, time, old_value, old_quality, old_source_id, new_source_id)
  SELECT point_id, time, old_value, old_quality, old_source_id, %(source)s FROM fresh WHERE held IS NOT NULL
), written AS (
  INSERT INTO readings (point_id, time, value, quality, source_id)
  SELECT point_id, time, value, quality, %(source)s FROM fresh
  ON CONFLICT (tenant_id, point_id, time) DO UPDATE
  SET value = excluded.value, quality = excluded.quality, source_id = excluded.source_id
)
SELECT count(*), count(held), (SELECT jsonb_object_agg(day, readings) FROM (
  SELECT (time AT TIME ZONE %(zone)s)::date AS day, count(*) AS readings FROM fresh GROUP BY 1) AS d)
FROM fresh
"""
_INSERT: Final = """
INSERT INTO readings (point_id, time, value, quality, source_id)
SELECT point_id, time, nullif(value, 'NaN'), quality, %(source)s FROM staged_readings
"""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write did.

    Attributes
    ----------
    rows_in : int
        Rows handed over.
    written : int
        Rows that were new or changed.
    changed : int
        Of those, rows that replaced another value (which is kept in `reading_corrections`).
    """

    rows_in: int
    written: int
    changed: int


def write_readings(
    db: TenantStore, site_id: str, frame: pl.DataFrame, source: str, *, allow_future: bool = False
) -> WriteResult:
    """Store readings; writing the same again changes nothing, whatever the order.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        Site whose points these are.
    frame : pl.DataFrame
        asset_id, quantity, time (aware), value (unit of the point; null when not measured), quality (0..4, may be left
        out: good, or missing for null).
    source : str
        Where the values come from ("control", "sample", a file's name).
    allow_future : bool
        Take stamps more than 5 minutes ahead of the clock.

    Returns
    -------
    WriteResult

    Raises
    ------
    InvalidDataError
        Unknown point, naive or future time, NaN, infinite; nothing was written then.
    """
    what = f"readings of {site_id}"
    if "quality" not in frame.columns and "value" in frame.columns:
        frame = frame.with_columns(
            pl.when(pl.col("value").is_null()).then(MISSING).otherwise(GOOD).cast(pl.Int16).alias("quality")
        )
    rows = conform(frame, _COLUMNS, what)
    if not source.strip():
        raise InvalidDataError(f"{what}: source is empty; say where the values come from")
    if rows.is_empty():
        return WriteResult(0, 0, 0)
    _check_quality(rows, what)
    last = rows["time"].max()
    limit = datetime.now(UTC) + _FUTURE_TOLERANCE
    if not allow_future and isinstance(last, datetime) and last > limit:
        row = rows.filter(pl.col("time") == last).row(0, named=True)
        raise InvalidDataError(
            f"{what}: {row['asset_id']}/{row['quantity']} is stamped {last.isoformat()}, which is in the future"
        )
    with db.begin() as connection:
        staged = with_point_ids(connection, site_id, rows, what).unique(
            subset=["point_id", "time"], keep="last", maintain_order=True
        )
        written, changed = _upsert(connection, site_id, staged, _source_id(connection, source))
    return WriteResult(rows.height, written, changed)


def prepare_history(db: TenantStore, start: datetime, end: datetime, source: str) -> None:
    """Make what a long import of readings needs, in a short transaction of its own.

    Partitions and the name of a source that are made within a long transaction would keep every other writer of the
    same months waiting until it ends.

    Parameters
    ----------
    db : TenantStore
        Tenant that will write.
    start, end : datetime
        Period of the readings, aware.
    source : str
        As for `write_readings`.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        connection.exec_driver_sql("SELECT ensure_month_partitions(%s, %s)", (first, last))
        _source_id(connection, source)


def _check_quality(rows: pl.DataFrame, what: str) -> None:
    strange = rows.filter(~pl.col("quality").is_in(list(QUALITIES)))
    if strange.height:
        raise InvalidDataError(
            f"{what}: quality {strange['quality'][0]} is not one of "
            + ", ".join(f"{code} {name}" for code, name in QUALITIES.items())
        )
    blank = rows.filter(pl.col("value").is_null() & pl.col("quality").is_in([GOOD, ESTIMATED]))
    if blank.height:
        row = blank.row(0, named=True)
        raise InvalidDataError(
            f"{what}: {row['asset_id']}/{row['quantity']} at {row['time'].isoformat()} has no value but quality "
            f"'{QUALITIES[row['quality']]}'; a value that was not measured has quality {MISSING}"
        )


def _source_id(connection: Connection, source: str) -> int:
    """Number of a source; a new one is given a number, of which there are 32,767.

    An INSERT that finds its row there uses up a number too, so it is only tried for a name that is not known. When
    numbers run short, the kind of the source (what stands before its colon) takes the place of a new name.
    """
    found = "SELECT source_id FROM sources WHERE name = %s"
    known = connection.exec_driver_sql(found, (source,)).scalar_one_or_none()
    if known is not None:
        return known
    kind = source.partition(":")[0]
    given = connection.exec_driver_sql("SELECT coalesce(max(source_id), 0) FROM sources").scalar_one()
    if kind != source and given >= _MOST_SOURCES:
        return _source_id(connection, kind)
    connection.exec_driver_sql("INSERT INTO sources (name) VALUES (%s) ON CONFLICT DO NOTHING", (source,))
    return connection.exec_driver_sql(found, (source,)).scalar_one()


def _upsert(connection: Connection, site_id: str, staged: pl.DataFrame, source_id: int) -> tuple[int, int]:
    first, last = staged["time"].min(), staged["time"].max()
    # One writer a site at a time: corrections need a "before" that nobody else changes meanwhile.
    connection.exec_driver_sql(
        "SELECT pg_advisory_xact_lock(hashtext(current_setting('app.tenant') || ':' || %s))", (f"readings:{site_id}",)
    )
    connection.exec_driver_sql("SELECT ensure_month_partitions(%s, %s)", (first, last))
    connection.exec_driver_sql(
        "CREATE TEMPORARY TABLE IF NOT EXISTS staged_readings "
        "(point_id int, time timestamptz, value float8, quality smallint) ON COMMIT DROP"
    )
    connection.exec_driver_sql("TRUNCATE staged_readings")
    copy_in_binary(connection, "staged_readings", staged, _STAGED)
    zone = zone_of(connection, site_id)
    bounds = {"first": first, "last": last, "source": source_id, "zone": zone}
    known = connection.exec_driver_sql(
        "SELECT EXISTS (SELECT 1 FROM readings "
        "WHERE point_id = ANY(%(points)s) AND time BETWEEN %(first)s AND %(last)s)",
        bounds | {"points": staged["point_id"].unique().to_list()},
    ).scalar_one()
    if not known:
        connection.exec_driver_sql(_INSERT, bounds)
        mark_days(connection, site_id, days_of(staged["time"], zone))
        return staged.height, 0
    written, changed, days = connection.exec_driver_sql(_MERGE, bounds).one()
    if days:
        mark_days(connection, site_id, {date.fromisoformat(day): count for day, count in days.items()})
    return written, changed


def read_readings(  # noqa: PLR0917 - points and step read well by place
    db: TenantStore,
    site_id: str,
    start: datetime,
    end: datetime,
    points: list[tuple[str, str]] | None = None,
    step: str | None = None,
) -> pl.DataFrame:
    """Readings with start <= time < end.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    start, end : datetime
        Aware bounds of the period.
    points : list of (asset_id, quantity), optional
        Default: all points of the site that have readings.
    step : str, optional
        Interval such as ``"15m"``, ``"1h"`` (polars notation, a divisor or multiple of a minute up to a day, UTC
        aligned): the mean of the good and estimated values of each interval, weighted by how long each stood (at most
        the cyclic period of its point), null where there are none.

    Returns
    -------
    pl.DataFrame
        asset_id, quantity, time, value, quality; by point and time. With `step`, every interval of the period is there.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        chosen = select_points(connection, site_id, points, f"readings of {site_id}")
        parameters: dict[str, Any] = {"points": chosen["point_id"].to_list(), "first": first, "last": last}
        if step is not None:
            parameters["step"] = step_of(step)
            parameters["cyclic"] = cyclic_periods(connection, site_id, chosen)
        found = copy_out_series(connection, _SELECT if step is None else _SELECT_MEANS, parameters, _STAGED)
    if step is not None:
        asked = chosen if points is not None else chosen.join(found, on="point_id", how="semi")
        found = _every_interval(found, asked, first, last, step)
    return found.join(chosen, on="point_id", how="left", maintain_order="left").select(
        pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items()
    )


def step_of(step: str) -> timedelta:
    """Length of an interval written like ``15m``.

    Raises
    ------
    InvalidDataError
        Not a number and one of s, m, h, d, or outside 1 s to 1 d.
    """
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(step[-1:], 0)
    number = step[:-1]
    length = timedelta(seconds=int(number) * unit) if unit and number.isdecimal() else timedelta(0)
    if not timedelta(seconds=1) <= length <= timedelta(days=1):
        raise InvalidDataError(f"step {step!r} is not an interval; give 1s to 1d, such as 15m or 1h")
    return length


def _every_interval(
    found: pl.DataFrame, points: pl.DataFrame, first: datetime, last: datetime, step: str
) -> pl.DataFrame:
    length = step_of(step)
    origin = datetime(2000, 1, 1, tzinfo=UTC)
    start = origin + (first - origin) // length * length
    grid = pl.DataFrame(
        {"time": pl.datetime_range(start, last, length, closed="left", eager=True, time_unit="us", time_zone="UTC")}
    )
    return (
        points.select("point_id")
        .join(grid, how="cross")
        .join(found, on=["point_id", "time"], how="left", maintain_order="left")
        .with_columns(pl.col("quality").fill_null(MISSING))
    )


def latest_reading_time(
    db: TenantStore, site_id: str, asset_id: str | None = None, quantity: str | None = None
) -> datetime | None:
    """Time of the newest reading of a site, of one asset, or of one point; None when there is none."""
    with db.begin() as connection:
        chosen = select_points(connection, site_id, None, "latest reading")
        if asset_id is not None:
            chosen = chosen.filter(pl.col("asset_id") == asset_id)
        if quantity is not None:
            chosen = chosen.filter(pl.col("quantity") == quantity)
        return connection.exec_driver_sql(
            "SELECT max(newest) FROM unnest(%s::int[]) AS p(id) CROSS JOIN LATERAL "
            "(SELECT max(time) AS newest FROM readings WHERE point_id = p.id) AS last",
            (chosen["point_id"].to_list(),),
        ).scalar_one()


def read_corrections(db: TenantStore, site_id: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Values that were replaced in a period.

    Returns
    -------
    pl.DataFrame
        asset_id, quantity, time, old_value, old_quality, old_source, new_source, replaced_at; oldest correction first.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT p.asset_id, p.quantity, c.time, c.old_value, c.old_quality, o.name, n.name, c.replaced_at "
            "FROM reading_corrections c JOIN points p USING (tenant_id, point_id) "
            "JOIN sources o ON o.tenant_id = c.tenant_id AND o.source_id = c.old_source_id "
            "JOIN sources n ON n.tenant_id = c.tenant_id AND n.source_id = c.new_source_id "
            "WHERE p.site_id = %s AND c.time >= %s AND c.time < %s ORDER BY c.correction_id",
            (site_id, first, last),
        ).all()
    schema = {
        "asset_id": pl.String,
        "quantity": pl.String,
        "time": TIME,
        "old_value": pl.Float64,
        "old_quality": pl.Int16,
        "old_source": pl.String,
        "new_source": pl.String,
        "replaced_at": TIME,
    }
    return frame_of([tuple(row) for row in rows], schema)
