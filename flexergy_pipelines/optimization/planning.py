"""Plan a site: read what is known, solve, write the plan. A failure raises an alarm and keeps the previous plan."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as wall_time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.optimization.charging import Car, cars_of, charging_patterns, limits_of_groups, with_cars
from flexergy_pipelines.optimization.conditions import (
    MarketNews,
    apply_modes,
    apply_outages,
    apply_settings,
    paid_peak_kw,
    services_of,
    with_headroom,
    with_reserve,
)
from flexergy_pipelines.optimization.errors import ProblemError, SolveError
from flexergy_pipelines.optimization.explanation import explain
from flexergy_pipelines.optimization.inputs import (
    PRICE_ASSET,
    PRICE_QUANTITY,
    PlanInputError,
    PlanInputs,
    read_inputs,
)
from flexergy_pipelines.optimization.ordered import apply_grid_orders
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.plan_record import carry_on, intervals, offers, plan_values
from flexergy_pipelines.optimization.planning_state import POWER
from flexergy_pipelines.optimization.problem import Horizon, Problem
from flexergy_pipelines.optimization.reactive_plan import reactive_setpoints
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.settings import PlanningSettings, read_settings
from flexergy_pipelines.optimization.site_problem import build_problem
from flexergy_pipelines.optimization.solving import solve
from flexergy_pipelines.optimization.stochastic import Scenario, carry_out, decisions_of, solve_stochastic

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

STOCHASTIC_TIME_LIMIT_S = 60.0


class PlanningError(RuntimeError):
    """No plan was made; the alarm is raised and the previous plan is still in force."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A site's problem, and what it was made from."""

    problem: Problem
    inputs: PlanInputs
    settings: PlanningSettings
    cars: dict[str, list[Car]]


def plan_site(
    db: TenantStore,
    site_id: str,
    kind: PlanKind,
    now: datetime,
    *,
    day: date | None = None,
    because: Sequence[str] = (),
) -> PlanRecord:
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
    because : sequence of str
        Why it is made now, where something asked for it; kept with the plan.

    Returns
    -------
    PlanRecord
        As stored.

    Raises
    ------
    PlanningError
        With a clear line; an alarm of high priority is then active. The previous plan stays in force as far as it
        reaches, and is carried on by its own values of the day before where it ends.
    """
    from flexergy_pipelines.store.alarms import clear_alarm, raise_alarm
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    horizon = horizon_of(site, kind, now, day)
    try:
        record = _plan(db, site, kind, horizon, now, because)
    except (PlanInputError, ProblemError, SolveError) as error:
        kept = carry_on(db, site, kind, horizon, now, str(error))
        message = f"{kind.replace('_', '-')} plan of {site_id} failed, {kept}: {error}"
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


def prepare(db: TenantStore, site: Site, horizon: Horizon, now: datetime) -> Prepared:
    """The problem of a site as it is known at `now`: forecasts, prices, state, settings, modes, interventions, market.

    Raises
    ------
    PlanInputError
        When a power or a price is nowhere to be found.
    ProblemError
        When what was found makes no problem.
    """
    from flexergy_pipelines.operation.grid_orders import orders_between
    from flexergy_pipelines.operation.modes import modes_between
    from flexergy_pipelines.operation.outages import outages_between
    from flexergy_pipelines.store.ancillary import read_ancillary_prices, read_transactions

    start, end = horizon.start.astimezone(UTC), horizon.end
    inputs = read_inputs(db, site, horizon, now)
    settings = read_settings(db, site.id)
    problem = build_problem(site, horizon, inputs.power_kw, inputs.spot_eur_per_kwh, inputs.state)
    paid_kw = paid_peak_kw(problem)
    problem = apply_settings(problem, settings)
    modes = modes_between(db, site.id, start, end)
    problem = apply_modes(problem, modes, paid_kw)
    outages = outages_between(db, site.id, start, end)
    problem = apply_outages(problem, outages)
    orders = orders_between(db, site.id, start, end)
    problem = apply_grid_orders(problem, site, orders)
    news = MarketNews(
        read_ancillary_prices(db, site.id, start, end, known_at=now), read_transactions(db, site.id, start, end)
    )
    services = services_of(settings, news, horizon, site.zone, now) if problem.batteries else ()
    problem = with_reserve(problem.model_copy(update={"services": services}), inputs.quantiles_kw, settings)
    problem = with_headroom(problem, site)
    cars = cars_of(db, site, settings, horizon, now) if problem.ev_blocks else {}
    problem = with_cars(problem, cars)
    for manager, own in cars.items():
        inputs.sources[manager]["cars"] = dict(Counter(car.source for car in own))
    inputs.sources |= {
        "modes": [one.mode for one in modes],
        "outages": [f"{one.asset_id}: {one.reason}" for one in outages],
        "grid_orders": [f"{one.asset_id}: {one.text}, {one.reason}" for one in orders],
        "goal": problem.objective.goal,
        "sold": len(news.sold),
    }
    return Prepared(problem, inputs, settings, cars)


def _plan(  # noqa: PLR0917 - as plan_site, with the horizon
    db: TenantStore, site: Site, kind: PlanKind, horizon: Horizon, now: datetime, because: Sequence[str]
) -> PlanRecord:
    from flexergy_pipelines.store.plans import PlanRecord, write_plan

    began = time.perf_counter()
    prepared = prepare(db, site, horizon, now)
    read_s = time.perf_counter() - began
    problem = prepared.problem
    plan, uncertainty = _solved(db, site, kind, prepared, now)
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
        inputs={
            **prepared.inputs.sources,
            "because": list(because) or ["time of the " + kind.replace("_", "-") + " plan"],
            "uncertainty": uncertainty,
            "why": why,
            "intervals": intervals(problem, plan),
            "charging": charging_patterns(problem, plan, prepared.cars),
            **offers(problem, plan, prepared.settings),
        },
    )
    values = plan_values(problem, plan, reactive_setpoints(site, plan))
    ratings = {block.id: (block.rated_kw, block.min_limit_kw) for block in site.ev_blocks()}
    write_plan(
        db, record, pl.concat([values, limits_of_groups(problem, plan, ratings).with_columns(pl.col("value").round(6))])
    )
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


def _solved(
    db: TenantStore, site: Site, kind: PlanKind, prepared: Prepared, now: datetime
) -> tuple[Plan, dict[str, Any]]:
    """The plan of the forecast, or over scenarios where the operator wants that for the coming day."""
    problem, settings = prepared.problem, prepared.settings
    decides = bool(problem.gensets or problem.services)
    if kind == "day_ahead" and settings.day_ahead == "stochastic" and decides:
        scenarios = site_scenarios(db, site, prepared, now)
        if scenarios:
            try:
                found = solve_stochastic(
                    problem,
                    scenarios,
                    STOCHASTIC_TIME_LIMIT_S,
                    cvar_weight=settings.cvar_weight,
                    cvar_level=settings.cvar_level,
                    mip_gap=MIP_GAP,
                )
            except SolveError as error:
                return _deterministic(problem), {"kind": "deterministic", "reason": f"over scenarios: {error}"}
            return found.plan, {
                "kind": "stochastic",
                "scenarios": len(scenarios),
                "expected_cost_eur": round(found.expected_cost_eur, 4),
                "cvar_eur": round(found.cvar_eur, 4),
                "worst_cost_eur": round(float(found.scenario_costs_eur.max()), 4),
                "cvar_weight": settings.cvar_weight,
                "gap": found.gap,
            }
        return _deterministic(problem), {"kind": "deterministic", "reason": "the forecasts have no quantiles"}
    return _deterministic(problem), {"kind": "deterministic"}


def _deterministic(problem: Problem) -> Plan:
    """The best plan in the time; where steps of bids make it too hard, that of continuous bids, rounded down."""
    plan = explained(problem, solve(problem, TIME_LIMIT_S, mip_gap=MIP_GAP))
    if not plan.last_resort or not any(service.min_bid_kw or service.bid_step_kw for service in problem.services):
        return plan
    try:
        rounded = with_rounded_bids(problem)
    except SolveError:
        return plan
    if rounded.objective_eur >= plan.objective_eur:
        return plan
    gap = (rounded.objective_eur - plan.bound_eur) / max(abs(rounded.objective_eur), 1e-9)
    return replace(rounded, status="feasible", bound_eur=plan.bound_eur, gap=gap)


def explained(problem: Problem, plan: Plan) -> Plan:
    """The plan with its shadow prices, found again for its own decisions where the time had ended before them."""
    if plan.duals:
        return plan
    try:
        again = carry_out(problem, decisions_of(problem, plan), time.monotonic() + TIME_LIMIT_S / 2, MIP_GAP)
    except SolveError:
        return plan
    bound = min(plan.bound_eur, again.objective_eur)
    gap = (again.objective_eur - bound) / max(abs(again.objective_eur), 1e-9)
    return replace(again, status=plan.status, bound_eur=bound, gap=gap)


def with_rounded_bids(problem: Problem, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """A plan whose bids are those of the problem without bid steps, rounded down to what the markets take.

    Raises
    ------
    SolveError
        When no plan was found in the time.
    """
    deadline = time.monotonic() + time_limit_s
    free = tuple(service.model_copy(update={"min_bid_kw": 0.0, "bid_step_kw": 0.0}) for service in problem.services)
    easy = problem.model_copy(update={"services": free})
    found = decisions_of(easy, solve(easy, 0.6 * time_limit_s, mip_gap=MIP_GAP))
    taken: dict[tuple[str, str], FloatArray] = {}
    for service in problem.services:
        block_of = service.blocks(problem.horizon.steps)
        first = np.unique(block_of, return_index=True)[1]
        closed = expand(service.closed, problem.horizon.steps)[first] > 0.5
        pair = [key for key in ((service.id, "up_bid_kw"), (service.id, "down_bid_kw")) if key in found]
        step = service.bid_step_kw
        for key in pair:
            bid = found[key]
            whole = np.floor(bid / step + 1e-6) * step if step > 0 else bid
            taken[key] = np.where(closed, bid, np.where(whole < service.min_bid_kw - 1e-9, 0.0, whole))
    return carry_out(problem, taken, deadline, MIP_GAP)


def site_scenarios(db: TenantStore, site: Site, prepared: Prepared, now: datetime) -> list[Scenario]:
    """Scenarios of a site's problem from its stored forecasts; empty where none has quantiles."""
    from flexergy_pipelines.forecasting.scenarios import draw_scenarios

    problem, horizon = prepared.problem, prepared.problem.horizon
    drawn = draw_scenarios(
        db,
        site.id,
        horizon.start.astimezone(UTC),
        horizon.end,
        step_minutes=horizon.step_minutes,
        known_at=now,
        count=prepared.settings.scenarios,
    )
    parts = (*problem.loads, *problem.controllable_loads, *problem.ev_blocks, *problem.renewables)
    names = [part.id for part in parts if (part.id, POWER) in drawn.values]
    prices = drawn.values.get((PRICE_ASSET, PRICE_QUANTITY))
    if not names:
        return []
    tariff = site.tariff
    found = []
    for number, probability in enumerate(drawn.probability.tolist()):
        spot = None if prices is None else prices[number]
        found.append(
            Scenario(
                probability,
                {name: drawn.values[name, POWER][number] for name in names},
                None if spot is None else np.array([tariff.import_price(price) for price in spot.tolist()]),
                None if spot is None else np.array([tariff.export_price(price) for price in spot.tolist()]),
            )
        )
    return found


def _cost_without_storage(problem: Problem) -> float | None:
    """Cost of the same problem without batteries; None when that was not found in the time, which fails no plan.

    Without what only storage can deliver: services and reserve, whose missing would be priced as a violation.
    """
    bare = problem.without_storage().model_copy(update={"services": (), "reserve": None})
    try:
        return solve(bare, TIME_LIMIT_S / 2, mip_gap=MIP_GAP).objective_eur
    except SolveError:
        return None
