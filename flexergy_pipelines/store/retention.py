"""How long history is kept: each point as its site's configuration says; what is older is deleted."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from flexergy_pipelines.store.events import record_event
from flexergy_pipelines.store.frames import utc
from flexergy_pipelines.store.sites import load_site, points_frame

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

# What belongs to no point goes by the site's general retention. Plans after the setpoints that name them.
_BY_SITE: Final = {
    "setpoints": "DELETE FROM setpoints WHERE site_id = %(site)s AND time < %(limit)s",
    "forecast_runs": (
        "DELETE FROM forecast_runs r WHERE site_id = %(site)s AND issued_at < %(limit)s AND NOT EXISTS "
        "(SELECT 1 FROM forecast_values v WHERE v.tenant_id = r.tenant_id AND v.run_id = r.run_id "
        "AND v.time >= %(limit)s)"
    ),
    "weather": "DELETE FROM weather WHERE site_id = %(site)s AND time < %(limit)s",
    "prices": "DELETE FROM prices WHERE site_id = %(site)s AND time < %(limit)s",
    "plans": (
        "DELETE FROM plans p WHERE site_id = %(site)s AND period_end < %(limit)s AND NOT EXISTS "
        "(SELECT 1 FROM setpoints s WHERE s.tenant_id = p.tenant_id AND s.plan_id = p.plan_id)"
    ),
    "alarms": "DELETE FROM alarms WHERE site_id = %(site)s AND cleared_at < %(limit)s",
}


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """Rows deleted, by table; tables of which nothing was deleted are left out."""

    site_id: str
    deleted: dict[str, int]


def apply_retention(db: TenantStore, site_id: str, now: datetime) -> RetentionResult:
    """Delete what is older than the site's configuration keeps. Indicators, events and corrections stay.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site; `history.retention_days` and the rules for single points decide.
    now : datetime
        The present.

    Returns
    -------
    RetentionResult

    Notes
    -----
    One transaction: a failure leaves everything as it was. Points that the configuration no longer has keep the
    general retention.
    """
    moment = utc(now, "now")
    history = load_site(db, site_id).history
    deleted: dict[str, int] = defaultdict(int)
    with db.begin() as connection:
        by_days: dict[int, list[int]] = defaultdict(list)
        for point_id, asset_id, quantity, _active in points_frame(connection, site_id).iter_rows():
            days = history.rule_for(asset_id, quantity).retention_days or history.retention_days
            by_days[days].append(point_id)
        for days, points in by_days.items():
            limit = moment - timedelta(days=days)
            for table, statement in (
                ("readings", "DELETE FROM readings WHERE point_id = ANY(%s) AND time < %s"),
                ("clean_readings", "DELETE FROM clean_readings WHERE point_id = ANY(%s) AND time < %s"),
            ):
                deleted[table] += connection.exec_driver_sql(statement, (points, limit)).rowcount
        bounds = {"site": site_id, "limit": moment - timedelta(days=history.retention_days)}
        for table, statement in _BY_SITE.items():
            deleted[table] += connection.exec_driver_sql(statement, bounds).rowcount
        found = {table: count for table, count in deleted.items() if count}
        if found:
            record_event(db, actor="retention", kind="history_deleted", site_id=site_id, detail=found)
    return RetentionResult(site_id, found)
