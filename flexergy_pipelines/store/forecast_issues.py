"""Forecasts as they were issued, all of them: what monitoring and scenarios learn the forecasts' errors from."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.forecasts import QUANTILES
from flexergy_pipelines.store.frames import TIME, frame_of, period, utc
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

_SCHEMA: Final = {
    "asset_id": pl.String,
    "quantity": pl.String,
    "issued_at": TIME,
    "time": TIME,
    "value": pl.Float64,
    **dict.fromkeys(QUANTILES, pl.Float64),
    "fallback_level": pl.Int64,
}


def read_forecast_issues(
    db: TenantStore,
    site_id: str,
    start: datetime,
    end: datetime,
    *,
    spacing: timedelta = timedelta(0),
    known_at: datetime | None = None,
) -> pl.DataFrame:
    """Every stored forecast of a period's instants, with the time each was issued.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    start, end : datetime
        start <= time < end.
    spacing : timedelta
        Of the issues of a target within each such span only the first counts; zero takes all.
    known_at : datetime, optional
        Leave out what was issued later.

    Returns
    -------
    pl.DataFrame
        asset_id, quantity, issued_at, time, value, p10 to p90, fallback_level; by target, issue and time.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "WITH runs AS (SELECT run_id, tenant_id, asset_id, quantity, issued_at, fallback_level, row_number() OVER "
            "(PARTITION BY asset_id, quantity, CASE WHEN %(spacing)s > interval '0' "
            "THEN date_bin(%(spacing)s, issued_at, timestamptz '1970-01-01 00:00+00') ELSE issued_at END "
            "ORDER BY issued_at, run_id DESC) AS place FROM forecast_runs WHERE site_id = %(site)s "
            "AND issued_at > %(first)s - interval '8 days' AND issued_at < %(last)s "
            "AND issued_at <= coalesce(%(known)s, 'infinity'::timestamptz)) "
            "SELECT r.asset_id, r.quantity, r.issued_at, v.time, v.value, p10, p20, p30, p40, p50, p60, p70, p80, p90, "
            "r.fallback_level FROM runs r JOIN forecast_values v USING (tenant_id, run_id) "
            "WHERE r.place = 1 AND v.time >= %(first)s AND v.time < %(last)s ORDER BY 1, 2, 3, 4",
            {
                "site": site_id,
                "first": first,
                "last": last,
                "spacing": spacing,
                "known": utc(known_at, "known_at") if known_at else None,
            },
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)
