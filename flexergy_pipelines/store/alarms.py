"""Alarms: raised once, counted while they stand, cleared when the cause is gone, acknowledged by a person."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.events import record_event
from flexergy_pipelines.store.frames import TIME, frame_of
from flexergy_pipelines.store.notify import ALARM, notify
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

CRITICAL: Final = 1
HIGH: Final = 2
MEDIUM: Final = 3
LOW: Final = 4
_SCHEMA: Final = {
    "alarm_id": pl.Int64,
    "asset_id": pl.String,
    "code": pl.String,
    "severity": pl.Int64,
    "message": pl.String,
    "first_at": TIME,
    "last_at": TIME,
    "count": pl.Int64,
    "cleared_at": TIME,
    "acknowledged_at": TIME,
    "acknowledged_by": pl.String,
}


def raise_alarm(  # noqa: PLR0917 - code, severity and message read well by place
    db: TenantStore, site_id: str, code: str, severity: int, message: str, asset_id: str | None = None
) -> int:
    """Raise an alarm; while it stands, raising it again counts, and updates message and severity.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    code : str
        What is wrong, as a fixed word ("optimization_failed").
    severity : int
        1 critical, 2 high, 3 medium, 4 low.
    message : str
        What an operator should know.
    asset_id : str, optional
        The asset it is about.

    Returns
    -------
    int
        Number of the alarm.
    """
    if severity not in {CRITICAL, HIGH, MEDIUM, LOW}:
        raise InvalidDataError(f"alarm {code}: severity {severity} is not 1 (critical) to 4 (low)")
    with db.begin() as connection:
        require_site(connection, site_id)
        row = connection.exec_driver_sql(
            "INSERT INTO alarms (site_id, asset_id, code, severity, message) VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, site_id, code, coalesce(asset_id, '')) WHERE cleared_at IS NULL DO UPDATE SET "
            "count = alarms.count + 1, last_at = clock_timestamp(), message = excluded.message, "
            "severity = excluded.severity RETURNING alarm_id, count",
            (site_id, asset_id, code, severity, message),
        ).one()
        if row[1] == 1:
            notify(connection, ALARM, db, site_id)
    return row[0]


def clear_alarm(db: TenantStore, site_id: str, code: str, asset_id: str | None = None) -> bool:
    """Say that the cause is gone. Returns whether the alarm stood."""
    with db.begin() as connection:
        require_site(connection, site_id)
        cleared = connection.exec_driver_sql(
            "UPDATE alarms SET cleared_at = clock_timestamp() WHERE site_id = %s AND code = %s "
            "AND asset_id IS NOT DISTINCT FROM %s AND cleared_at IS NULL",
            (site_id, code, asset_id),
        ).rowcount
        if cleared:
            notify(connection, ALARM, db, site_id)
    return cleared > 0


def list_alarms(
    db: TenantStore, site_id: str, active_only: bool = True, *, since: datetime | None = None, limit: int = 1000
) -> pl.DataFrame:
    """Alarms of a site, the gravest and newest first; with `active_only` those that stand.

    Where there are more than `limit`, the gravest of those that stand are told, and the newest of all.

    Returns
    -------
    pl.DataFrame
        alarm_id, asset_id, code, severity, message, first_at, last_at, count, cleared_at, acknowledged_at,
        acknowledged_by.
    """
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT * FROM (SELECT alarm_id, asset_id, code, severity, message, first_at, last_at, count, cleared_at, "
            "acknowledged_at, acknowledged_by FROM alarms WHERE site_id = %(site)s "
            "AND (cleared_at IS NULL OR NOT %(active)s) AND last_at >= coalesce(%(since)s, '-infinity'::timestamptz) "
            "ORDER BY CASE WHEN %(active)s THEN severity END, last_at DESC LIMIT %(limit)s) AS told "
            "ORDER BY severity, last_at DESC",
            {"site": site_id, "active": active_only, "since": since, "limit": limit},
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)


def acknowledge_alarm(db: TenantStore, alarm_id: int, user: str) -> None:
    """Record who has seen an alarm, and when; the first acknowledgement counts.

    Raises
    ------
    NotFoundError
        The tenant has no such alarm.
    """
    with db.begin() as connection:
        row = connection.exec_driver_sql(
            "UPDATE alarms SET acknowledged_at = coalesce(acknowledged_at, clock_timestamp()), "
            "acknowledged_by = coalesce(acknowledged_by, %s) WHERE alarm_id = %s RETURNING site_id, code",
            (user, alarm_id),
        ).one_or_none()
        if row is None:
            raise NotFoundError(f"alarm {alarm_id} does not exist")
        record_event(db, actor=user, kind="alarm_acknowledged", site_id=row[0], subject=row[1])
        notify(connection, ALARM, db, row[0])
