"""Power limits that were in force, by quarter of an hour: which measurements show less than was possible or wanted."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.frames import TIME, frame_of, period
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

_SCHEMA: Final = {"asset_id": pl.String, "time": TIME, "limit_kw": pl.Float64}


def read_limits(db: TenantStore, site_id: str, start: datetime, end: datetime) -> pl.DataFrame:
    """The lowest active-power limit that each asset was sent in each quarter of an hour.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    start, end : datetime
        start <= time < end.

    Returns
    -------
    pl.DataFrame
        asset_id, time (start of the quarter), limit_kw; quarters without a limit have no row.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT asset_id, date_bin('15 minutes', time, timestamptz '1970-01-01 00:00+00') AS quarter, min(sent) "
            "FROM setpoints WHERE site_id = %s AND quantity = 'active_power_limit_kw' AND sent IS NOT NULL "
            "AND time >= %s AND time < %s GROUP BY 1, 2 ORDER BY 1, 2",
            (site_id, first, last),
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)
