"""What the asset pages say about each site's work: facts and previews, read back from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from assets_defs.sites import SiteReport

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.serving import ServedForecast
    from flexergy_pipelines.forecasting.training import TrainingResult
    from flexergy_pipelines.store import TenantStore

_PREVIEWED = 4


def training_facts(results: Sequence[TrainingResult]) -> SiteReport:
    """Which model serves each target, and how much better than naive it is."""
    champions = Counter(result.champion or "none" for result in results)
    lines = ["| target | champion | MAE | naive MAE | promoted | why |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {result.target} | {result.champion} | {_number(result.metrics.get('mae'))} "
        f"| {_number(result.metrics.get('naive_mae'))} | {'yes' if result.promoted else 'no'} | {result.reason} |"
        for result in results
    ]
    detail = ", ".join(f"{name} in {count}" for name, count in champions.most_common())
    text = f"{len(results)} targets, champion {detail}" if results else "all models up to date"
    return SiteReport(
        {"targets trained": len(results), "champions": detail}, "\n".join(lines) if results else None, text
    )


def forecast_facts(db: TenantStore, site_id: str, now: datetime, served: Sequence[ServedForecast]) -> SiteReport:
    """How many forecasts were served, by which level of fallback, with a picture of the first few."""
    from assets_defs.previews import forecast_preview
    from flexergy_pipelines.store.forecasts import read_forecast
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    until = now + timedelta(hours=site.forecasts.horizon_hours)
    frames: dict[str, pl.DataFrame] = {}
    for forecast in served[:_PREVIEWED]:
        target = forecast.target
        frame = read_forecast(db, site_id, target.asset_id, target.quantity, now, until)
        if not frame.is_empty():
            frames[f"{target.asset_id} {target.quantity}"] = frame
    fallbacks = [f"{f.target.asset_id} ({f.reason})" for f in served if f.fallback_level]
    return SiteReport(
        {"targets": len(served), "by fallback": len(fallbacks), "which": ", ".join(fallbacks), "until": until},
        forecast_preview(frames, site.zone) if frames else None,
        f"{len(served)} targets" + (f", {len(fallbacks)} by fallback" if fallbacks else ""),
    )


def plan_facts(db: TenantStore, site_id: str, now: datetime) -> SiteReport:
    """How good the active plan is, with its picture."""
    from assets_defs.previews import plan_preview
    from flexergy_pipelines.store.plans import read_active_plan
    from flexergy_pipelines.store.sites import load_site

    plan = read_active_plan(db, site_id, now)
    if plan is None:
        raise LookupError(f"{site_id}: no plan covers {now:%Y-%m-%dT%H:%MZ} after planning")
    record = plan.record
    count = (record.end - record.start) // timedelta(minutes=record.step_minutes)
    gap = "" if record.gap is None else f", gap {record.gap:.2g}"
    saving = ""
    if record.objective_eur is not None and record.no_storage_cost_eur is not None:
        saving = f", {record.objective_eur:.2f} EUR against {record.no_storage_cost_eur:.2f} without storage"
    return SiteReport(
        {
            "plan": plan.version,
            "status": record.status,
            "steps": count,
            "gap": record.gap,
            "cost EUR": record.objective_eur,
            "without storage EUR": record.no_storage_cost_eur,
            "violations": len(record.violations),
        },
        plan_preview(plan.values, load_site(db, site_id).zone),
        f"{count} steps, {record.status}{gap}{saving}",
    )


def dispatch_facts(db: TenantStore, site_id: str, now: datetime) -> SiteReport:
    """The last setpoint of every actuator beside the plan's."""
    from flexergy_pipelines.store.plans import read_active_plan
    from flexergy_pipelines.store.setpoints import latest_setpoints

    plan = read_active_plan(db, site_id, now)
    sent = latest_setpoints(db, site_id)
    if sent.is_empty():
        facts = {"plan": plan.version if plan else None, "dispatched": 0}
        return SiteReport(facts, summary="nothing sent yet")
    planned = pl.DataFrame(schema={"asset_id": pl.String, "quantity": pl.String, "planned": pl.Float64})
    if plan is not None:
        planned = (
            plan.values.filter(pl.col("time") <= now)
            .sort("time")
            .group_by("asset_id", "quantity")
            .agg(pl.col("value").last().alias("planned"))
        )
    table = sent.join(planned, on=["asset_id", "quantity"], how="left").sort("asset_id", "quantity")
    lines = ["| actuator | planned | sent | read back | layer | at |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {row['asset_id']}/{row['quantity']} | {_number(row['planned'])} | {_number(row['sent'])} "
        f"| {_number(row['readback'])} | {row['layer']} | {row['time']:%H:%M:%S} |"
        for row in table.iter_rows(named=True)
    ]
    on_plan = table.filter((pl.col("sent") - pl.col("planned")).abs() < 0.5).height
    return SiteReport(
        {
            "plan": plan.version if plan else None,
            "dispatched": table.height,
            "as planned": on_plan,
            "newest": table["time"].max(),
        },
        "\n".join(lines),
        f"{table.height} setpoints, {on_plan} as planned",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
