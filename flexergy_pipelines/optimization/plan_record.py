"""What is kept of a plan: its values, what bound each interval, its offers, and how an old one is carried on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from flexergy_pipelines.optimization.auction import bids, system_capacity, unit_capacities
from flexergy_pipelines.optimization.explanation import Binding, binding_limits, energy_price_eur_per_kwh
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Horizon, Problem
from flexergy_pipelines.optimization.series import FloatArray
from flexergy_pipelines.optimization.settings import PlanningSettings

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

MOST_LIMITS = 4
DAY = timedelta(days=1)
_WRITTEN = ("active_power_kw", "active_power_setpoint_kw", "active_power_limit_kw", "soc")
_SCHEMA = {
    "asset_id": pl.String,
    "quantity": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "value": pl.Float64,
}


def plan_values(problem: Problem, plan: Plan, reactive_kvar: Mapping[str, FloatArray] | None = None) -> pl.DataFrame:
    """What is stored of a plan: ``asset_id, quantity, time, value``.

    Expected power of every asset, setpoints and limits of the controllable ones, reactive setpoints, SoC and marginal
    value of the stored energy of each ESS, bids of each service, what energy is worth at the busbar, and the prices
    (asset ``market``).
    """
    # Cars are no assets of the site: what is sent is the limit of their charging manager.
    others = ["busbar", *(session.id for session in problem.ev_sessions)]
    values = plan.values().filter(
        pl.col("quantity").is_in(_WRITTEN) & ~pl.col("asset_id").is_in(others) & (pl.col("time") < problem.horizon.end)
    )
    batteries = [battery.id for battery in problem.batteries]
    setpoints = values.filter(pl.col("asset_id").is_in(batteries) & (pl.col("quantity") == "active_power_kw"))
    frames = [values, setpoints.with_columns(pl.lit("active_power_setpoint_kw").alias("quantity"))]
    times = problem.horizon.times()
    for battery in problem.batteries:
        marginal = plan.marginal_value_eur_per_kwh(battery.id)
        if marginal is not None:
            frames.append(_series(battery.id, "marginal_value_eur_per_kwh", times, marginal))
    for name, kvar in (reactive_kvar or {}).items():
        frames.append(_series(name, "reactive_power_setpoint_kvar", times, kvar))
    for service in problem.services:
        bid = [name for name in ("up_bid_kw", "down_bid_kw") if f"{service.id}.{name}" in plan.schedule.columns]
        frames += [_series(service.id, name, times, plan.column(service.id, name)) for name in bid]
    worth = energy_price_eur_per_kwh(plan)
    if worth is not None:
        frames.append(_series("busbar", "energy_price_eur_per_kwh", times, worth))
    if problem.grid is not None:
        for quantity in ("import_price_eur_per_kwh", "export_price_eur_per_kwh"):
            price = np.broadcast_to(getattr(problem.grid, quantity), problem.horizon.steps)
            frames.append(_series("market", quantity, times, price))
    return pl.concat(frames).with_columns(pl.col("value").round(6))


def _series(asset_id: str, quantity: str, times: list[datetime], values: Any) -> pl.DataFrame:
    return pl.DataFrame(
        {"asset_id": asset_id, "quantity": quantity, "time": times, "value": np.array(values, dtype=np.float64)},
        schema=_SCHEMA,
    )


def intervals(problem: Problem, plan: Plan) -> list[dict[str, Any]]:
    """For each interval: what energy is worth, and the limits that bind with what one more unit of each would save."""
    worth = energy_price_eur_per_kwh(plan)
    if worth is None:
        return []
    there = {car.id: np.broadcast_to(car.connected, problem.horizon.steps) > 0.5 for car in problem.ev_sessions}

    def limits(step: int) -> list[Binding]:
        # That a car takes nothing before it has come is no limit of the site's.
        binding = binding_limits(plan, step)
        return [limit for limit in binding if limit.asset_id not in there or there[limit.asset_id][step]]

    return [
        {
            "time": start.isoformat(),
            "energy_price_eur_per_kwh": round(float(worth[step]), 6),
            "limits": [
                {"asset_id": limit.asset_id, "meaning": limit.meaning, "saves_eur": round(limit.shadow_price_eur, 5)}
                for limit in limits(step)[:MOST_LIMITS]
            ],
        }
        for step, start in enumerate(problem.horizon.times())
    ]


def offers(problem: Problem, plan: Plan, settings: PlanningSettings) -> dict[str, Any]:
    """Bids, what each unit can give in each auction period, and the capacity of the storage as a whole.

    With each bid stand the units that it may be held by, the most that may be bid, and where its price comes from.
    """
    found: dict[str, Any] = {}
    if problem.batteries:
        capacity = system_capacity(problem, plan)
        found["capacity"] = {
            "charge_kw": round(float(capacity.charge_kw.min()), 3),
            "discharge_kw": round(float(capacity.discharge_kw.min()), 3),
            "energy_kwh": round(capacity.energy_kwh, 3),
            "limited_by": capacity.limited_by,
        }
    if problem.services:
        known = {offer.id: offer for offer in settings.services}
        found["bids"] = [
            {
                **row,
                "units": list(offer.providers) or [battery.id for battery in problem.batteries],
                "max_bid_kw": offer.max_bid_kw,
                "price_source": offer.price_source,
            }
            for row in _rows(bids(problem, plan))
            for offer in (known[row["service"]],)
        ]
        found["units"] = _rows(unit_capacities(problem, plan))
    return found


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.with_columns(pl.col(pl.Float64).round(6), pl.col("start", "end").dt.to_string("iso:strict")).to_dicts()


def carry_on(  # noqa: PLR0917 - as the plan that it stands in for, and why
    db: TenantStore, site: Site, kind: Literal["day_ahead", "intraday"], horizon: Horizon, now: datetime, reason: str
) -> str:
    """Keep the plan in force, and carry it on by its own values of the day before where it ends within the horizon.

    Returns
    -------
    str
        What drives the site now, for the alarm.
    """
    from flexergy_pipelines.store.plans import PlanRecord, read_active_plan, write_plan

    active = read_active_plan(db, site.id, now)
    if active is None:
        return "no earlier plan is there"
    end = horizon.end
    if active.record.end >= end:
        return "the previous plan stays in force"
    start = max(horizon.start.astimezone(UTC), active.record.start)
    parts = [active.values.with_columns(pl.col("time") + days * DAY) for days in range(4)]
    carried = (
        pl.concat(parts)
        .filter((pl.col("time") >= start) & (pl.col("time") < end))
        .unique(["asset_id", "quantity", "time"], keep="first", maintain_order=True)
    )
    if carried.is_empty():
        return "no earlier plan reaches so far"
    record = PlanRecord(
        site_id=site.id,
        kind=kind,
        created_at=now.astimezone(UTC),
        start=start,
        end=end,
        step_minutes=active.record.step_minutes,
        status="shifted",
        inputs={"because": [f"planning failed: {reason}"], "shifted_from_version": active.version},
    )
    write_plan(db, record, carried)
    return f"version {active.version} of the plan is carried on with its values of the day before"
