"""Live values: the newest value of each point, overwritten each cycle, for screens and supervision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.copying import staged_insert
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of
from flexergy_pipelines.store.notify import LIVE, notify
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

_COLUMNS: Final = {
    "asset_id": Column("text"),
    "quantity": Column("text"),
    "time": Column("time"),
    "value": Column("number", nullable=True),
    "quality": Column("integer"),
}
_SCHEMA: Final = {
    "asset_id": pl.String,
    "quantity": pl.String,
    "time": TIME,
    "value": pl.Float64,
    "quality": pl.Int16,
}


def write_live(db: TenantStore, site_id: str, frame: pl.DataFrame) -> int:
    """Overwrite live values; one that is older than the stored one is left out.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    frame : pl.DataFrame
        asset_id, quantity, time, value (null when it could not be read), quality (as of readings).

    Returns
    -------
    int
        Rows that were new or newer.
    """
    rows = (
        conform(frame, _COLUMNS, f"live values of {site_id}")
        .sort("time")
        .unique(subset=["asset_id", "quantity"], keep="last", maintain_order=True)
    )
    with db.begin() as connection:
        require_site(connection, site_id)
        written = staged_insert(
            connection,
            "live",
            rows.sort("asset_id", "quantity").with_columns(site_id=pl.lit(site_id)),
            "ON CONFLICT (tenant_id, site_id, asset_id, quantity) DO UPDATE SET "
            "time = excluded.time, value = excluded.value, quality = excluded.quality "
            "WHERE live.time <= excluded.time",
        )
        if written:
            notify(connection, LIVE, db, site_id)
    return written


def read_live(db: TenantStore, site_id: str) -> pl.DataFrame:
    """Newest values of a site: asset_id, quantity, time, value, quality. Look at `time`: it may be old."""
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT asset_id, quantity, time, value, quality FROM live WHERE site_id = %s ORDER BY 1, 2", (site_id,)
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)
