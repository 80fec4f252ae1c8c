"""Forecasts: each value with the time it is for and the time it was issued, and its quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.copying import staged_insert
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of, period, utc
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

QUANTILES: Final = tuple(f"p{level}" for level in range(10, 100, 10))
_COLUMNS: Final = {
    "time": Column("time"),
    "value": Column("number"),
    **{name: Column("number", nullable=True, optional=True) for name in QUANTILES},
}
_SCHEMA: Final = {
    "time": TIME,
    "value": pl.Float64,
    **dict.fromkeys(QUANTILES, pl.Float64),
    "issued_at": TIME,
    "model": pl.String,
    "fallback_level": pl.Int64,
}


@dataclass(frozen=True, slots=True)
class ForecastRun:
    """One forecast of one quantity of one asset.

    Attributes
    ----------
    site_id, asset_id, quantity : str
        What is forecast.
    issued_at : datetime
        When it was made; nothing later was known to it.
    model, model_version : str
        What made it.
    fallback_level : int
        0 the champion; 1 and up the stand-ins, in order.
    reason : str
        Why this model served.
    """

    site_id: str
    asset_id: str
    quantity: str
    issued_at: datetime
    model: str
    model_version: str = ""
    fallback_level: int = 0
    reason: str = ""


def write_forecast(db: TenantStore, run: ForecastRun, frame: pl.DataFrame) -> int:
    """Store a forecast.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    run : ForecastRun
        What was forecast, when and by what.
    frame : pl.DataFrame
        time, value, and quantiles p10 to p90 (may be left out); in the quantity's unit.

    Returns
    -------
    int
        Number of the run.
    """
    what = f"forecast of {run.asset_id}/{run.quantity}"
    rows = conform(frame, _COLUMNS, what)
    if rows["time"].is_duplicated().any():
        raise InvalidDataError(f"{what}: a time occurs twice")
    if run.fallback_level < 0:
        raise InvalidDataError(f"{what}: fallback_level {run.fallback_level} is negative")
    with db.begin() as connection:
        require_site(connection, run.site_id)
        run_id: int = connection.exec_driver_sql(
            "INSERT INTO forecast_runs (site_id, asset_id, quantity, issued_at, model, model_version, fallback_level, "
            "reason) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING run_id",
            (
                run.site_id,
                run.asset_id,
                run.quantity,
                utc(run.issued_at, "issued_at"),
                run.model,
                run.model_version,
                run.fallback_level,
                run.reason,
            ),
        ).scalar_one()
        staged_insert(connection, "forecast_values", rows.select(pl.lit(run_id).alias("run_id"), pl.all()))
    return run_id


def read_forecast(  # noqa: PLR0917 - what is forecast and for when reads well by place
    db: TenantStore,
    site_id: str,
    asset_id: str,
    quantity: str,
    start: datetime,
    end: datetime,
    known_at: datetime | None = None,
) -> pl.DataFrame:
    """The newest forecast for each instant of a period.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id, asset_id, quantity : str
        What was forecast.
    start, end : datetime
        start <= time < end.
    known_at : datetime, optional
        Leave out what was issued after this instant (default: take the newest there is).

    Returns
    -------
    pl.DataFrame
        time, value, p10 to p90, issued_at, model, fallback_level.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT ON (v.time) v.time, v.value, p10, p20, p30, p40, p50, p60, p70, p80, p90, "
            "r.issued_at, r.model, r.fallback_level "
            "FROM forecast_runs r JOIN forecast_values v USING (tenant_id, run_id) "
            "WHERE r.site_id = %s AND r.asset_id = %s AND r.quantity = %s AND v.time >= %s AND v.time < %s "
            "AND r.issued_at <= coalesce(%s, 'infinity'::timestamptz) "
            "ORDER BY v.time, r.issued_at DESC, r.run_id DESC",
            (site_id, asset_id, quantity, first, last, utc(known_at, "known_at") if known_at else None),
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)


def list_forecast_runs(
    db: TenantStore, site_id: str, *, asset_id: str | None = None, quantity: str | None = None, limit: int = 200
) -> pl.DataFrame:
    """The newest forecast runs of a site: run_id, asset_id, quantity, issued_at, model, model_version, ..."""
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT run_id, asset_id, quantity, issued_at, model, model_version, fallback_level, reason "
            "FROM forecast_runs WHERE site_id = %(site)s AND coalesce(asset_id = %(asset)s, true) "
            "AND coalesce(quantity = %(quantity)s, true) ORDER BY issued_at DESC, run_id DESC LIMIT %(limit)s",
            {"site": site_id, "asset": asset_id, "quantity": quantity, "limit": limit},
        ).all()
    schema = {
        "run_id": pl.Int64,
        "asset_id": pl.String,
        "quantity": pl.String,
        "issued_at": TIME,
        "model": pl.String,
        "model_version": pl.String,
        "fallback_level": pl.Int64,
        "reason": pl.String,
    }
    return frame_of([tuple(row) for row in rows], schema)
