"""Plan a site: read what is known, solve, write the plan. A failure raises an alarm and keeps the previous plan."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall_time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.optimization.errors import ProblemError, SolveError
from flexergy_pipelines.optimization.explanation import explain
from flexergy_pipelines.optimization.inputs import PlanInputError, read_inputs
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Horizon, Problem
from flexergy_pipelines.optimization.site_problem import build_problem
from flexergy_pipelines.optimization.solving import solve

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore
    from flexergy_pipelines.store.plans import PlanRecord

PlanKind = Literal["day_ahead", "intraday"]
ALARM = "optimization_failed"
ALARM_SEVERITY = 2
TIME_LIMIT_S = 10.0
MIP_GAP = 1e-3
SHORTEST_INTRADAY = timedelta(hours=24)

_WRITTEN = ("active_power_kw", "active_power_setpoint_kw", "active_power_limit_kw", "soc")


class PlanningError(RuntimeError):
    """No plan was made; the alarm is raised and the previous plan is still in force."""


def plan_site(db: TenantStore, site_id: str, kind: PlanKind, now: datetime, *, day: date | None = None) -> PlanRecord:
    """Make and store one plan.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    kind : {"day_ahead", "intraday"}
        See :func:`horizon_of`.
    now : datetime
        Nothing that became known later is used.
    day : date, optional
        Local day of a day-ahead plan.

    Returns
    -------
    PlanRecord
        As stored.

    Raises
    ------
    PlanningError
        With a clear line; an alarm of high priority is then active and the previous plan untouched.
    """
    from flexergy_pipelines.store.alarms import clear_alarm, raise_alarm
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    try:
        record = _plan(db, site, kind, now, day)
    except (PlanInputError, ProblemError, SolveError) as error:
        message = f"{kind.replace('_', '-')} plan of {site_id} failed, the previous plan stays in force: {error}"
        raise_alarm(db, site_id, ALARM, ALARM_SEVERITY, message)
        get_logger(__name__).error("planning failed", site=site_id, kind=kind, reason=str(error))
        raise PlanningError(message) from error
    clear_alarm(db, site_id, ALARM)
    return record


def horizon_of(site: Site, kind: PlanKind, now: datetime, day: date | None = None) -> Horizon:
    """Time that a plan covers.

    Day-ahead: the local day `day`, 00:00 to 24:00 (23, 24 or 25 hours). Without `day` it is the coming local day, or,
    within the hour after midnight, the day that has just begun. Of a day that has begun only the rest is planned.
    Intraday: from the step that contains `now` to the end of the local day, at least 24 hours.
    """
    step = timedelta(minutes=site.operation.plan_step_minutes)
    local = now.astimezone(site.zone)
    current = _floor(now, step)
    if kind == "intraday":
        start = current
        end = max(_midnight(site, local.date() + timedelta(days=1)), start + SHORTEST_INTRADAY)
    else:
        planned = day or (local.date() if local.hour == 0 else local.date() + timedelta(days=1))
        start = max(_midnight(site, planned), current)
        end = _midnight(site, planned + timedelta(days=1))
        if end <= start:
            raise PlanInputError(f"day {planned} is over; a plan is made for a day that has hours left")
    return Horizon(start=start, step_minutes=site.operation.plan_step_minutes, steps=round((end - start) / step))


def _midnight(site: Site, day: date) -> datetime:
    return datetime.combine(day, wall_time(0), site.zone).astimezone(UTC)


def _floor(instant: datetime, step: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (instant - epoch) // step * step


def _plan(db: TenantStore, site: Site, kind: PlanKind, now: datetime, day: date | None) -> PlanRecord:
    from flexergy_pipelines.store.plans import PlanRecord, write_plan

    horizon = horizon_of(site, kind, now, day)
    began = time.perf_counter()
    inputs = read_inputs(db, site, horizon, now)
    read_s = time.perf_counter() - began
    problem = build_problem(site, horizon, inputs.power_kw, inputs.spot_eur_per_kwh, inputs.state)
    plan = solve(problem, TIME_LIMIT_S, mip_gap=MIP_GAP)
    no_storage = _cost_without_storage(problem)
    why = [reason.as_dict() for reason in explain(problem, plan, site.zone)]
    record = PlanRecord(
        site_id=site.id,
        kind=kind,
        created_at=now.astimezone(UTC),
        start=horizon.start.astimezone(UTC),
        end=horizon.end,
        step_minutes=horizon.step_minutes,
        status=plan.status,
        gap=plan.gap,
        objective_eur=plan.objective_eur,
        bound_eur=plan.bound_eur,
        no_storage_cost_eur=no_storage,
        costs=plan.costs,
        violations=[violation.as_dict() for violation in plan.violations],
        timings={**plan.timings_s, "inputs": read_s},
        inputs={**inputs.sources, "why": why},
    )
    write_plan(db, record, plan_values(problem, plan))
    get_logger(__name__).info(
        "planned",
        site=site.id,
        kind=kind,
        status=plan.status,
        objective_eur=round(plan.objective_eur, 2),
        no_storage_cost_eur=None if no_storage is None else round(no_storage, 2),
        solve_s=round(plan.timings_s["solve"], 3),
    )
    return record


def _cost_without_storage(problem: Problem) -> float | None:
    """Cost of the same problem without batteries; None when that was not found in the time, which fails no plan."""
    try:
        return solve(problem.without_storage(), TIME_LIMIT_S / 2, mip_gap=MIP_GAP).objective_eur
    except SolveError:
        return None


def plan_values(problem: Problem, plan: Plan) -> pl.DataFrame:
    """What is stored of a plan: ``asset_id, quantity, time, value``.

    Expected power of every asset, setpoints and limits of the controllable ones, SoC and marginal value of the stored
    energy of each ESS, and the prices (asset ``market``).
    """
    values = plan.values().filter(
        pl.col("quantity").is_in(_WRITTEN) & (pl.col("asset_id") != "busbar") & (pl.col("time") < problem.horizon.end)
    )
    batteries = [battery.id for battery in problem.batteries]
    setpoints = values.filter(pl.col("asset_id").is_in(batteries) & (pl.col("quantity") == "active_power_kw"))
    frames = [values, setpoints.with_columns(pl.lit("active_power_setpoint_kw").alias("quantity"))]
    times = problem.horizon.times()
    for battery in problem.batteries:
        marginal = plan.marginal_value_eur_per_kwh(battery.id)
        if marginal is not None:
            frames.append(_series(battery.id, "marginal_value_eur_per_kwh", times, marginal))
    if problem.grid is not None:
        for quantity in ("import_price_eur_per_kwh", "export_price_eur_per_kwh"):
            price = np.broadcast_to(getattr(problem.grid, quantity), problem.horizon.steps)
            frames.append(_series("market", quantity, times, price))
    return pl.concat(frames).with_columns(pl.col("value").round(6))


def _series(asset_id: str, quantity: str, times: list[datetime], values: Any) -> pl.DataFrame:
    return pl.DataFrame(
        {"asset_id": asset_id, "quantity": quantity, "time": times, "value": np.array(values, dtype=np.float64)},
        schema={
            "asset_id": pl.String,
            "quantity": pl.String,
            "time": pl.Datetime("us", "UTC"),
            "value": pl.Float64,
        },
    )
