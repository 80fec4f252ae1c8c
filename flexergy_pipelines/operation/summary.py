"""A site in one look: today's plan, what it is worth, how good the forecasts are, and what is dispatched now."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.kpis_table import read_kpis
from flexergy_pipelines.store.live import read_live
from flexergy_pipelines.store.plans import ActivePlan, read_active_plan
from flexergy_pipelines.store.setpoints import latest_setpoints
from flexergy_pipelines.store.sites import load_site

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

MODEL_AGE_LIMIT = timedelta(days=60)
LIVE_AGE_LIMIT = timedelta(seconds=30)


def summarize(db: TenantStore, site_id: str, now: datetime) -> dict[str, Any]:
    """Everything an operator asks first, as plain JSON values.

    Parameters
    ----------
    db : TenantStore
        The tenant's store.
    site_id : str
        The site.
    now : datetime
        Time of asking, aware.

    Returns
    -------
    dict
        ``site``, ``name``, ``time_zone``, ``as_of``, ``plan`` (None without one), ``forecasts``, ``dispatch``, ``live``
        and ``alarms``; powers in kW, energy in kWh, money in EUR, times ISO 8601 in the site's zone.
    """
    site = load_site(db, site_id)
    plan = read_active_plan(db, site_id, now)
    return {
        "site": site.id,
        "name": site.name,
        "time_zone": site.time_zone,
        "as_of": now.astimezone(site.zone).isoformat(timespec="seconds"),
        "plan": None if plan is None else _plan_part(site, plan),
        "forecasts": _forecast_part(db, site_id, now),
        "dispatch": dispatched_setpoints(db, site_id, now - LIVE_AGE_LIMIT * 10),
        "live": _live_part(db, site_id, now),
        "alarms": [
            {"severity": row["severity"], "code": row["code"], "asset": row["asset_id"], "message": row["message"]}
            for row in list_alarms(db, site_id).iter_rows(named=True)
        ],
    }


def dispatched_setpoints(db: TenantStore, site_id: str, since: datetime) -> list[dict[str, Any]]:
    """The newest setpoint of each actuator that was sent for a plan at or after `since`."""
    rows = latest_setpoints(db, site_id).filter(
        pl.col("sent").is_not_null(), pl.col("plan_id").is_not_null(), pl.col("time") >= since
    )
    return [
        {
            "asset": row["asset_id"],
            "quantity": row["quantity"],
            "sent": row["sent"],
            "read_back": row["readback"],
            "layer": row["layer"],
            "reason": row["reason"],
            "plan_id": row["plan_id"],
        }
        for row in rows.iter_rows(named=True)
    ]


def _plan_part(site: Site, plan: ActivePlan) -> dict[str, Any]:
    record = plan.record
    storage_ids = [asset.id for asset in site.ess()]
    cost, idle_cost = record.objective_eur, record.no_storage_cost_eur
    return {
        "plan_id": plan.plan_id,
        "version": plan.version,
        "kind": record.kind,
        "from": record.start.astimezone(site.zone).isoformat(timespec="minutes"),
        "to": record.end.astimezone(site.zone).isoformat(timespec="minutes"),
        "status": record.status,
        "gap": record.gap,
        "cost_eur": cost,
        "no_storage_cost_eur": idle_cost,
        "saved_eur": None if cost is None or idle_cost is None else idle_cost - cost,
        "costs_eur": record.costs,
        "battery_wear_eur": sum(value for part, value in record.costs.items() if "wear" in part),
        "battery": [_battery_part(asset_id, plan) for asset_id in storage_ids],
        "violations": record.violations,
    }


def _battery_part(asset_id: str, plan: ActivePlan) -> dict[str, Any]:
    hours = plan.record.step_minutes / 60.0
    rows = plan.values.filter(pl.col("asset_id") == asset_id)
    power_kw = rows.filter(pl.col("quantity") == "active_power_kw")["value"]
    soc = rows.filter(pl.col("quantity") == "soc")["value"]
    return {
        "asset": asset_id,
        "charged_kwh": -float(power_kw.clip(upper_bound=0.0).sum()) * hours,
        "discharged_kwh": float(power_kw.clip(lower_bound=0.0).sum()) * hours,
        "soc_lowest": soc.min(),
        "soc_highest": soc.max(),
    }


def _forecast_part(db: TenantStore, site_id: str, now: datetime) -> list[dict[str, Any]]:
    rows = read_kpis(db, site_id, now - MODEL_AGE_LIMIT, now + timedelta(hours=1), period_kind="training")
    newest = rows.sort("period_start").unique(subset=["scope", "kpi"], keep="last")
    parts = []
    for (scope,), group in newest.group_by(["scope"], maintain_order=True):
        values = dict(zip(group["kpi"], group["value"], strict=True))
        served = group.filter(pl.col("kpi") == "forecast_mae")
        error, naive = values.get("forecast_mae"), values.get("naive_mae")
        parts.append(
            {
                "target": scope,
                "model": served["reference"].first() if served.height else None,
                "mae": error,
                "naive_mae": naive,
                "unit": served["unit"].first() if served.height else None,
                "better_than_naive": None if error is None or not naive else 1.0 - error / naive,
            }
        )
    return sorted(parts, key=lambda part: str(part["target"]))


def _live_part(db: TenantStore, site_id: str, now: datetime) -> list[dict[str, Any]]:
    rows = read_live(db, site_id).filter(pl.col("quantity").is_in(["active_power_kw", "soc"]))
    return [
        {
            "asset": row["asset_id"],
            "quantity": row["quantity"],
            "value": row["value"],
            "age_s": round((now - row["time"]).total_seconds(), 1),
        }
        for row in rows.iter_rows(named=True)
    ]
