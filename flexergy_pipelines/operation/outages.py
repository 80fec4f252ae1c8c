"""Planned interventions: when an asset is out of operation, so that plan and bids do without it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flexergy_pipelines.store.commands import request_replan
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.events import record_event
from flexergy_pipelines.store.frames import period
from flexergy_pipelines.store.sites import load_site, require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore


@dataclass(frozen=True, slots=True)
class Outage:
    """A planned intervention at one asset."""

    outage_id: int
    asset_id: str
    starts_at: datetime
    ends_at: datetime
    reason: str
    created_by: str


def plan_outage(
    db: TenantStore, site_id: str, asset_id: str, *, starts_at: datetime, ends_at: datetime, reason: str, user: str
) -> int:
    """Enter a planned intervention and ask for a new plan.

    Raises
    ------
    InvalidDataError
        Unknown asset, the grid connection, an end that isn't after the start, or no reason.
    """
    first, last = period(starts_at, ends_at)
    site = load_site(db, site_id)
    known = [asset.id for asset in site.assets() if asset.id != site.grid_connection.id]
    if asset_id not in known:
        raise InvalidDataError(f"outage: asset {asset_id} is not one of {', '.join(known)}")
    if last <= first:
        raise InvalidDataError(f"outage of {asset_id}: it ends at {last.isoformat()}, not after its start")
    if not 3 <= len(reason.strip()) <= 500:
        raise InvalidDataError(f"outage of {asset_id}: reason has {len(reason.strip())} letters, 3 to 500 are needed")
    with db.begin() as connection:
        outage_id: int = connection.exec_driver_sql(
            "INSERT INTO asset_outages (site_id, asset_id, starts_at, ends_at, reason, created_by) "
            "VALUES (%s, %s, %s, %s, %s, %s) RETURNING outage_id",
            (site_id, asset_id, first, last, reason.strip(), user),
        ).scalar_one()
        detail = {"from": first.isoformat(), "to": last.isoformat()}
        record_event(
            db, actor=user, kind="outage_planned", site_id=site_id, subject=asset_id, reason=reason, detail=detail
        )
        request_replan(db, site_id, f"{asset_id} will be out of operation")
    return outage_id


def cancel_outage(db: TenantStore, site_id: str, outage_id: int, *, user: str) -> None:
    """Take a planned intervention back."""
    with db.begin() as connection:
        changed = connection.exec_driver_sql(
            "UPDATE asset_outages SET cancelled_at = clock_timestamp() "
            "WHERE site_id = %s AND outage_id = %s AND cancelled_at IS NULL",
            (site_id, outage_id),
        ).rowcount
        if not changed:
            raise NotFoundError(f"outage {outage_id} of {site_id} does not exist or is cancelled already")
        record_event(db, actor=user, kind="outage_cancelled", site_id=site_id, subject=str(outage_id))
        request_replan(db, site_id, f"outage {outage_id} cancelled")


def outages_between(db: TenantStore, site_id: str, start: datetime, end: datetime) -> list[Outage]:
    """Planned interventions that touch start..end, by their start."""
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT outage_id, asset_id, starts_at, ends_at, reason, created_by FROM asset_outages "
            "WHERE site_id = %s AND cancelled_at IS NULL AND starts_at < %s AND ends_at > %s ORDER BY starts_at",
            (site_id, last, first),
        ).all()
    return [Outage(*row) for row in rows]
