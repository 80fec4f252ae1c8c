"""Reads from the store what models learn from and forecast with."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from flexergy_pipelines.forecasting.targets import PRICE_ASSET, Target

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

HISTORY_DAYS = 400
_EMPTY = pl.DataFrame(schema={"time": pl.Datetime("us", "UTC"), "value": pl.Float64})


def read_histories(
    db: TenantStore, site_id: str, targets: list[Target], now: datetime, days: int = HISTORY_DAYS
) -> dict[str, pl.DataFrame]:
    """History of each target as known at `now`: cleaned values, and raw ones where cleansing has not come yet.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    targets : list of Target
    now : datetime
        Aware; nothing later is read.
    days : int
        How far back [d].

    Returns
    -------
    dict of polars.DataFrame
        By target name: ``time, value``; empty where there is nothing.
    """
    from flexergy_pipelines.store.clean import read_clean
    from flexergy_pipelines.store.readings import read_readings

    start = now - timedelta(days=days)
    power = [target for target in targets if target.asset_id != PRICE_ASSET]
    found: dict[str, pl.DataFrame] = {}
    if power:
        points = [(target.asset_id, target.quantity) for target in power]
        clean = read_clean(db, site_id, start, now, points).filter(pl.col("value").is_not_null())
        newest = clean.group_by("asset_id", "quantity").agg(pl.col("time").max())
        raw_from = newest["time"].min() if newest.height == len(points) else start
        raw_start = raw_from if isinstance(raw_from, datetime) else start
        raw = read_readings(db, site_id, raw_start, now, points, step="15m").filter(pl.col("value").is_not_null())
        for target in power:
            here = (pl.col("asset_id") == target.asset_id) & (pl.col("quantity") == target.quantity)
            cleaned = clean.filter(here).select("time", "value")
            last = cleaned["time"].max()
            fresh = raw.filter(here).select("time", "value")
            # an interval that has not ended has only part of its mean
            fresh = fresh.filter(pl.col("time") + timedelta(minutes=15) <= now)
            if isinstance(last, datetime):
                fresh = fresh.filter(pl.col("time") > last)
            found[target.name] = pl.concat([cleaned, fresh])
    for target in targets:
        if target.asset_id == PRICE_ASSET:
            found[target.name] = _prices(db, site_id, start, now)
    return found


def _prices(db: TenantStore, site_id: str, start: datetime, now: datetime) -> pl.DataFrame:
    from flexergy_pipelines.store.prices import read_prices

    frame = read_prices(db, site_id, start, now + timedelta(days=2), known_at=now)
    return frame.select("time", pl.col("price_eur_per_kwh").alias("value")) if frame.height else _EMPTY


def read_weather(
    db: TenantStore, site_id: str, now: datetime, *, days: int = HISTORY_DAYS, spacing_hours: int = 12
) -> pl.DataFrame | None:
    """Weather forecasts published by `now`, whole and with their issue times, thinned to one in `spacing_hours`.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    now : datetime
        Aware; later issues are not read.
    days : int
        How far back issues are read [d].
    spacing_hours : int
        Of the issues in each such period the newest is read [h].

    Returns
    -------
    polars.DataFrame or None
        ``time, issued_at`` and the weather columns; None when there are none.
    """
    from flexergy_pipelines.store.weather import WEATHER_COLUMNS

    columns = ", ".join(WEATHER_COLUMNS)
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT DISTINCT ON (issued_at, time) time, issued_at, {columns} FROM weather "  # noqa: S608 - own names
            "WHERE site_id = %(site)s AND issued_at IN (SELECT max(issued_at) FROM weather WHERE site_id = %(site)s "
            "AND issued_at > %(first)s AND issued_at <= %(now)s "
            "GROUP BY date_bin(%(spacing)s, issued_at, timestamptz '1970-01-01 00:00+00')) "
            "ORDER BY issued_at, time, provider",
            {
                "site": site_id,
                "first": now - timedelta(days=days),
                "now": now,
                "spacing": timedelta(hours=spacing_hours),
            },
        ).all()
    if not rows:
        return None
    stamps = {"time": pl.Datetime("us", "UTC"), "issued_at": pl.Datetime("us", "UTC")}
    schema = stamps | dict.fromkeys(WEATHER_COLUMNS, pl.Float64)
    return pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row")
