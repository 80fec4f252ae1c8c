"""Setpoints: what was asked of each actuator, what was sent, what the device says it took, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.copying import staged_insert
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of, period
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

_COLUMNS: Final = {
    "asset_id": Column("text"),
    "quantity": Column("text"),
    "time": Column("time"),
    "requested": Column("number", nullable=True, optional=True),
    "sent": Column("number", nullable=True, optional=True),
    "readback": Column("number", nullable=True, optional=True),
    "layer": Column("text", nullable=True, optional=True),
    "reason": Column("text", nullable=True, optional=True),
    "plan_id": Column("integer", nullable=True, optional=True),
    "valid_until": Column("time", nullable=True, optional=True),
    "status": Column("text"),
}
_KINDS: Final = {"time": TIME, "number": pl.Float64, "integer": pl.Int64, "text": pl.String}
_SCHEMA: Final = {name: _KINDS[column.kind] for name, column in _COLUMNS.items()}
_SELECT: Final = (
    "asset_id, quantity, time, requested, sent, readback, layer, reason, plan_id, valid_until, status FROM setpoints "
)


def write_setpoints(db: TenantStore, site_id: str, frame: pl.DataFrame) -> int:
    """Store setpoints; one for the same asset, quantity and time is replaced.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    frame : pl.DataFrame
        asset_id, quantity, time, requested, sent, readback (unit of the quantity), layer (which priority asked),
        reason, plan_id, valid_until, status ("ok", "clipped", "no_answer", ...).

    Returns
    -------
    int
        Rows stored.
    """
    keys = ["asset_id", "quantity", "time"]
    rows = conform(frame, _COLUMNS, f"setpoints of {site_id}").unique(subset=keys, keep="last", maintain_order=True)
    with db.begin() as connection:
        require_site(connection, site_id)
        return staged_insert(
            connection,
            "setpoints",
            rows.with_columns(site_id=pl.lit(site_id)),
            "ON CONFLICT (tenant_id, site_id, asset_id, quantity, time) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in keys),
        )


def read_setpoints(
    db: TenantStore, site_id: str, start: datetime, end: datetime, points: Sequence[tuple[str, str]] | None = None
) -> pl.DataFrame:
    """Setpoints with start <= time < end, by asset, quantity and time; of all, or of some ``(asset, quantity)``."""
    first, last = period(start, end)
    chosen = None if points is None else [f"{asset_id}/{quantity}" for asset_id, quantity in points]
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT " + _SELECT + "WHERE site_id = %s AND time >= %s AND time < %s "
            "AND coalesce(asset_id || '/' || quantity = ANY(%s), true) ORDER BY 1, 2, 3",
            (site_id, first, last, chosen),
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)


def latest_setpoints(db: TenantStore, site_id: str) -> pl.DataFrame:
    """The newest setpoint of each asset and quantity."""
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT ON (asset_id, quantity) "
            + _SELECT
            + "WHERE site_id = %s ORDER BY asset_id, quantity, time DESC",
            (site_id,),
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)
