"""Prices: for each instant what was known when, so that a past plan can be judged by what it could know."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.copying import staged_insert
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of, period, utc
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

_COLUMNS: Final = {
    "time": Column("time"),
    "price_eur_per_kwh": Column("number"),
    "resolution_minutes": Column("integer"),
}
_SCHEMA: Final = {"time": TIME, "price_eur_per_kwh": pl.Float64, "known_at": TIME, "resolution_minutes": pl.Int64}


def write_prices(db: TenantStore, site_id: str, kind: str, frame: pl.DataFrame, known_at: datetime | pl.Series) -> int:
    """Store prices.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        Site that the prices hold for.
    kind : str
        ``"day_ahead"``, or another market.
    frame : pl.DataFrame
        time (start of the interval), price_eur_per_kwh, resolution_minutes.
    known_at : datetime or pl.Series
        When they became known; a series gives one time for each row.

    Returns
    -------
    int
        Rows stored: a price that was known before with the same value is not stored again.
    """
    what = f"prices of {site_id}"
    rows = conform(frame, _COLUMNS, what)
    if isinstance(known_at, pl.Series):
        times = conform(pl.DataFrame({"known_at": known_at}), {"known_at": Column("time")}, what)["known_at"]
        rows = rows.with_columns(times)
    else:
        rows = rows.with_columns(pl.lit(utc(known_at, "known_at")).cast(TIME).alias("known_at"))
    rows = rows.unique(subset=["time", "known_at"], keep="last", maintain_order=True)
    if rows.is_empty():
        return 0
    with db.begin() as connection:
        require_site(connection, site_id)
        last = connection.exec_driver_sql(
            "SELECT DISTINCT ON (time) time, price_eur_per_kwh, known_at FROM prices "
            "WHERE site_id = %s AND kind = %s AND time BETWEEN %s AND %s ORDER BY time, known_at DESC",
            (site_id, kind, rows["time"].min(), rows["time"].max()),
        ).all()
        held = frame_of([tuple(row) for row in last], {"time": TIME, "held": pl.Float64, "held_at": TIME})
        fresh = rows.join(held, on="time", how="left").filter(
            pl.col("held").is_null()
            | (pl.col("held") != pl.col("price_eur_per_kwh"))
            | (pl.col("known_at") < pl.col("held_at"))
        )
        return staged_insert(
            connection,
            "prices",
            fresh.drop("held", "held_at").with_columns(site_id=pl.lit(site_id), kind=pl.lit(kind)),
            "ON CONFLICT (tenant_id, site_id, kind, time, known_at) DO UPDATE SET "
            "price_eur_per_kwh = excluded.price_eur_per_kwh, resolution_minutes = excluded.resolution_minutes",
        )


def read_prices(  # noqa: PLR0917 - kind and known_at read well by place
    db: TenantStore,
    site_id: str,
    start: datetime,
    end: datetime,
    kind: str = "day_ahead",
    known_at: datetime | None = None,
) -> pl.DataFrame:
    """Prices with start <= time < end, each as last known (at `known_at` when given).

    Returns
    -------
    pl.DataFrame
        time, price_eur_per_kwh, known_at, resolution_minutes.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT ON (time) time, price_eur_per_kwh, known_at, resolution_minutes FROM prices "
            "WHERE site_id = %s AND kind = %s AND time >= %s AND time < %s "
            "AND known_at <= coalesce(%s, 'infinity'::timestamptz) ORDER BY time, known_at DESC",
            (site_id, kind, first, last, utc(known_at, "known_at") if known_at else None),
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)
