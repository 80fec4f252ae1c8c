"""Energy of quarters of an hour by asset, as the metering room computes it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.copying import copy_in_binary, copy_out_series
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import TIME, Column, conform, period
from flexergy_pipelines.store.sites import select_points, with_point_ids

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

_QUANTITY: Final = "active_power_kw"
_COLUMNS: Final = {
    "asset_id": Column("text"),
    "time": Column("time"),
    "forward_kwh": Column("number", nullable=True),
    "reverse_kwh": Column("number", nullable=True),
    "basis": Column("integer"),
    "estimated": Column("integer"),
}
_STAGED: Final = {
    "point_id": "int4",
    "time": "timestamptz",
    "forward_kwh": "float8",
    "reverse_kwh": "float8",
    "basis": "int2",
    "estimated": "int2",
}
_SELECT: Final = """
SELECT point_id, array_agg(time), array_agg(coalesce(forward_kwh, 'NaN')), array_agg(coalesce(reverse_kwh, 'NaN')),
  array_agg(basis), array_agg(estimated::int::smallint)
FROM (SELECT * FROM energy_15min
  WHERE point_id = ANY(%(points)s) AND time >= %(first)s AND time < %(last)s ORDER BY point_id, time) AS r
GROUP BY point_id ORDER BY point_id
"""
_INSERT: Final = """
INSERT INTO energy_15min (point_id, time, forward_kwh, reverse_kwh, basis, estimated)
SELECT point_id, time, nullif(forward_kwh, 'NaN'), nullif(reverse_kwh, 'NaN'), basis, estimated::int::boolean
FROM staged_energy
"""
_UPSERT: Final = (
    _INSERT
    + """
ON CONFLICT (tenant_id, point_id, time) DO UPDATE SET forward_kwh = excluded.forward_kwh,
  reverse_kwh = excluded.reverse_kwh, basis = excluded.basis, estimated = excluded.estimated
WHERE (energy_15min.forward_kwh, energy_15min.reverse_kwh, energy_15min.basis, energy_15min.estimated)
  IS DISTINCT FROM (excluded.forward_kwh, excluded.reverse_kwh, excluded.basis, excluded.estimated)
"""
)


def write_energy(db: TenantStore, site_id: str, frame: pl.DataFrame) -> int:
    """Store energy of intervals; that of a known asset and interval is replaced.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    frame : pl.DataFrame
        asset_id, time (start of the quarter), forward_kwh and reverse_kwh (at least 0; null: unknown), basis (0 power,
        1 registers), estimated (bool).

    Returns
    -------
    int
        Rows that were new or changed.

    Raises
    ------
    InvalidDataError
        Unknown asset, naive time, NaN, or energy below zero; nothing was written then.
    """
    what = f"energy of {site_id}"
    rows = conform(frame.with_columns(pl.col("estimated").cast(pl.Int16)), _COLUMNS, what)
    if rows.is_empty():
        return 0
    lowest = rows.select(pl.min_horizontal(pl.col("forward_kwh").min(), pl.col("reverse_kwh").min())).item()
    if lowest is not None and lowest < 0:
        raise InvalidDataError(f"{what}: {lowest:g} kWh is below 0; a direction is told by its column")
    with db.begin() as connection:
        named = rows.with_columns(pl.lit(_QUANTITY).alias("quantity"))
        staged = with_point_ids(connection, site_id, named, what).unique(
            subset=["point_id", "time"], keep="last", maintain_order=True
        )
        bounds = {"first": staged["time"].min(), "last": staged["time"].max()}
        connection.exec_driver_sql("SELECT ensure_month_partitions(%(first)s, %(last)s)", bounds)
        connection.exec_driver_sql(
            "CREATE TEMPORARY TABLE IF NOT EXISTS staged_energy (point_id int, time timestamptz, forward_kwh float8, "
            "reverse_kwh float8, basis smallint, estimated smallint) ON COMMIT DROP"
        )
        connection.exec_driver_sql("TRUNCATE staged_energy")
        copy_in_binary(connection, "staged_energy", staged, _STAGED)
        known = connection.exec_driver_sql(
            "SELECT EXISTS (SELECT 1 FROM energy_15min "
            "WHERE point_id = ANY(%(points)s) AND time BETWEEN %(first)s AND %(last)s)",
            bounds | {"points": staged["point_id"].unique().to_list()},
        ).scalar_one()
        return connection.exec_driver_sql(_UPSERT if known else _INSERT).rowcount


def read_energy(
    db: TenantStore, site_id: str, start: datetime, end: datetime, assets: list[str] | None = None
) -> pl.DataFrame:
    """Energy of the quarters of an hour with start <= time < end, by asset and time.

    Returns
    -------
    pl.DataFrame
        asset_id, time, forward_kwh, reverse_kwh [kWh; forward is the direction in which the asset's power is positive],
        basis (0 power, 1 registers), estimated.
    """
    first, last = period(start, end)
    points = None if assets is None else [(asset, _QUANTITY) for asset in assets]
    with db.begin() as connection:
        chosen = select_points(connection, site_id, points, f"energy of {site_id}")
        chosen = chosen.filter(pl.col("quantity") == _QUANTITY)
        parameters = {"points": chosen["point_id"].to_list(), "first": first, "last": last}
        found = copy_out_series(connection, _SELECT, parameters, _STAGED)
    return found.join(chosen, on="point_id", how="left", maintain_order="left").select(
        "asset_id",
        pl.col("time").cast(TIME),
        "forward_kwh",
        "reverse_kwh",
        pl.col("basis").cast(pl.Int16),
        pl.col("estimated").cast(pl.Boolean),
    )
