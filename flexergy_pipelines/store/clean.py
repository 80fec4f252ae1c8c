"""Clean readings: the 15-minute series that the other modules compute from; every change is flagged."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.copying import copy_in_binary, copy_out_series
from flexergy_pipelines.store.frames import TIME, Column, conform, period
from flexergy_pipelines.store.sites import select_points, with_point_ids

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

_COLUMNS: Final = {
    "asset_id": Column("text"),
    "quantity": Column("text"),
    "time": Column("time"),
    "value": Column("number", nullable=True),
    "flag": Column("text", nullable=True, optional=True),
    "uncertainty": Column("number", nullable=True, optional=True),
}
# A flag travels as its place in a list of the flags that occur, 0 for none.
_STAGED: Final = {
    "point_id": "int4",
    "time": "timestamptz",
    "value": "float8",
    "uncertainty": "float8",
    "flag_place": "int4",
}
_FLAGS: Final = """
SELECT DISTINCT flag FROM clean_readings
WHERE point_id = ANY(%(points)s) AND time >= %(first)s AND time < %(last)s AND flag IS NOT NULL
"""
_SELECT: Final = """
SELECT point_id, array_agg(time), array_agg(coalesce(value, 'NaN')), array_agg(coalesce(uncertainty, 'NaN')),
  array_agg(coalesce(array_position(%(flags)s::text[], flag), 0))
FROM (SELECT point_id, time, value, uncertainty, flag FROM clean_readings
  WHERE point_id = ANY(%(points)s) AND time >= %(first)s AND time < %(last)s ORDER BY point_id, time) AS r
GROUP BY point_id ORDER BY point_id
"""
_INSERT: Final = """
INSERT INTO clean_readings (point_id, time, value, uncertainty, flag)
SELECT point_id, time, nullif(value, 'NaN'), nullif(uncertainty, 'NaN'), (%(flags)s::text[])[flag_place]
FROM staged_clean
"""
_UPSERT: Final = (
    _INSERT
    + """
ON CONFLICT (tenant_id, point_id, time) DO UPDATE
SET value = excluded.value, uncertainty = excluded.uncertainty, flag = excluded.flag
WHERE (clean_readings.value, clean_readings.uncertainty, clean_readings.flag)
  IS DISTINCT FROM (excluded.value, excluded.uncertainty, excluded.flag)
"""
)


def write_clean(db: TenantStore, site_id: str, frame: pl.DataFrame) -> int:
    """Store clean values; a value for a known point and instant replaces it.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    frame : pl.DataFrame
        asset_id, quantity, time, value (null: unknown), flag (null: untouched), uncertainty (unit of the value).

    Returns
    -------
    int
        Rows that were new or changed.
    """
    what = f"clean readings of {site_id}"
    rows = conform(frame, _COLUMNS, what)
    if rows.is_empty():
        return 0
    flags = rows["flag"].drop_nulls().unique().sort().to_list()
    with db.begin() as connection:
        staged = (
            with_point_ids(connection, site_id, rows, what)
            .unique(subset=["point_id", "time"], keep="last", maintain_order=True)
            .with_columns(flag_place=_places(flags))
        )
        bounds = {"first": staged["time"].min(), "last": staged["time"].max(), "flags": flags}
        # One writer a site at a time: two that overlap would wait for each other's rows.
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(hashtext(current_setting('app.tenant') || ':' || %s))", (f"clean:{site_id}",)
        )
        connection.exec_driver_sql("SELECT ensure_month_partitions(%(first)s, %(last)s)", bounds)
        connection.exec_driver_sql(
            "CREATE TEMPORARY TABLE IF NOT EXISTS staged_clean (point_id int, time timestamptz, value float8, "
            "uncertainty float8, flag_place int) ON COMMIT DROP"
        )
        connection.exec_driver_sql("TRUNCATE staged_clean")
        copy_in_binary(connection, "staged_clean", staged, _STAGED)
        known = connection.exec_driver_sql(
            "SELECT EXISTS (SELECT 1 FROM clean_readings "
            "WHERE point_id = ANY(%(points)s) AND time BETWEEN %(first)s AND %(last)s)",
            bounds | {"points": staged["point_id"].unique().to_list()},
        ).scalar_one()
        return connection.exec_driver_sql(_UPSERT if known else _INSERT, bounds).rowcount


def _places(flags: list[str]) -> pl.Expr:
    places = pl.Series(range(1, len(flags) + 1), dtype=pl.Int32)
    return pl.col("flag").replace_strict(pl.Series(flags, dtype=pl.String), places, default=0, return_dtype=pl.Int32)


def read_clean(
    db: TenantStore, site_id: str, start: datetime, end: datetime, points: list[tuple[str, str]] | None = None
) -> pl.DataFrame:
    """Clean values with start <= time < end, by point and time.

    Returns
    -------
    pl.DataFrame
        asset_id, quantity, time, value, flag, uncertainty. An instant that was never cleaned has no row.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        chosen = select_points(connection, site_id, points, f"clean readings of {site_id}")
        parameters = {"points": chosen["point_id"].to_list(), "first": first, "last": last}
        flags = list(connection.exec_driver_sql(_FLAGS, parameters).scalars())
        found = copy_out_series(connection, _SELECT, parameters | {"flags": flags}, _STAGED)
    names = pl.DataFrame({"flag_place": range(1, len(flags) + 1), "flag": flags}).cast(
        {"flag_place": pl.Int32, "flag": pl.String}
    )
    return (
        found.join(names, on="flag_place", how="left", maintain_order="left")
        .join(chosen, on="point_id", how="left", maintain_order="left")
        .select("asset_id", "quantity", pl.col("time").cast(TIME), "value", "flag", "uncertainty")
    )
