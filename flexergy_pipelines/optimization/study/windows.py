"""Long horizons window by window: each solved for itself, the state handed on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field

from flexergy_pipelines.optimization.errors import Spec
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Horizon, Problem
from flexergy_pipelines.optimization.specs_market import Service
from flexergy_pipelines.optimization.study.carry import bid_directions, carried

Solve = Callable[[Problem], Plan]


class Windows(Spec):
    """How a horizon is cut.

    Attributes
    ----------
    steps : int
        Steps that are kept of each window.
    look_ahead_steps : int
        Further steps that each window sees but doesn't keep.
    carry_state : bool
        Hand to the next window what this one leaves behind (SoC, running units, peaks, tiers, fuel, what is still to be
        charged or shifted); otherwise every window starts as the case says.
    """

    steps: Annotated[int, Field(ge=1)]
    look_ahead_steps: Annotated[int, Field(ge=0)] = 0
    carry_state: bool = True


def cut(problem: Problem, first: int, count: int) -> Problem:
    """The steps ``first`` to ``first + count`` of a problem."""
    steps = problem.horizon.steps
    begin = problem.horizon.start
    start = (begin.astimezone(UTC) + timedelta(minutes=problem.horizon.step_minutes * first)).astimezone(begin.tzinfo)
    horizon = Horizon(start=start, step_minutes=problem.horizon.step_minutes, steps=count)
    changed: dict[str, Any] = {"horizon": horizon}
    for name in Problem.model_fields:
        held = getattr(problem, name)
        if name != "horizon":
            changed[name] = _cut_value(held, steps, first, count)
    changed["services"] = tuple(
        service.model_copy(update={"block_offset": (service.block_offset + first) % service.block_steps})
        for service in changed["services"]
    )
    return problem.model_copy(update=changed)


def _cut_value(value: Any, steps: int, first: int, count: int) -> Any:
    if isinstance(value, np.ndarray):
        return value[first : first + count] if value.size == steps and steps > 1 else value
    if isinstance(value, tuple):
        return tuple(_cut_value(part, steps, first, count) for part in value)
    if isinstance(value, Spec):
        fields = {name: _cut_value(getattr(value, name), steps, first, count) for name in type(value).model_fields}
        return value.model_copy(update=fields)
    return value


def solve_windows(problem: Problem, windows: Windows, solve: Solve) -> Plan:
    """Solve window by window and join the plans.

    Without look-ahead the cost is the sum of the windows' costs. With it the kept operation of the batteries is
    priced over the whole horizon, because a window's cost also counts steps that are not kept.
    """
    plans: list[Plan] = []
    current = problem
    first = 0
    while first < problem.horizon.steps:
        kept = min(windows.steps, problem.horizon.steps - first)
        seen = min(kept + windows.look_ahead_steps, problem.horizon.steps - first)
        plan = solve(cut(current, first, seen))
        plans.append(_keep(plan, kept))
        first += kept
        if windows.carry_state:
            current = carried(current, plans[-1])
    joined = _join(problem, plans)
    return joined if windows.look_ahead_steps == 0 else priced(problem, joined, solve)


def priced(problem: Problem, plan: Plan, solve: Solve) -> Plan:
    """What `problem` costs when its batteries do and hold what `plan` says, and everything else reacts."""
    fixed = tuple(
        battery.model_copy(update={"fixed_power_kw": plan.column(battery.id, "active_power_kw")})
        for battery in problem.batteries
    )
    sold = tuple(_sold(service, plan) for service in problem.services)
    result = solve(problem.model_copy(update={"batteries": fixed, "services": sold}))
    timings = {part: plan.timings_s[part] + result.timings_s[part] for part in result.timings_s}
    return replace(result, timings_s=timings)


def _sold(service: Service, plan: Plan) -> Service:
    """The service with what a plan bids as sold, and nothing more to bid."""
    changed: dict[str, Any] = {"closed": np.ones(1)}
    for direction in bid_directions(service):
        changed[f"sold_{direction}_kw"] = plan.column(service.id, f"{direction}_bid_kw")
    return service.model_copy(update=changed)


def _keep(plan: Plan, steps: int) -> Plan:
    """A plan's first steps; its states at their end."""
    if steps == plan.horizon.steps:
        return plan
    final = {name: float(plan.schedule[name][steps]) for name in plan.final_state}
    horizon = Horizon(start=plan.horizon.start, step_minutes=plan.horizon.step_minutes, steps=steps)
    return replace(plan, schedule=plan.schedule.head(steps), final_state=final, horizon=horizon)


def _join(problem: Problem, plans: list[Plan]) -> Plan:
    began = time.monotonic()
    costs: dict[str, float] = {}
    timings: dict[str, float] = {}
    for plan in plans:
        for part, eur in plan.costs.items():
            costs[part] = costs.get(part, 0.0) + eur
        for part, seconds in plan.timings_s.items():
            timings[part] = timings.get(part, 0.0) + seconds
    objective = sum(costs.values())
    bound = sum(plan.bound_eur for plan in plans)
    # What has nothing to decide in a window may lack a column there.
    schedule = pl.concat([plan.schedule for plan in plans], how="diagonal")
    timings["read"] = timings.get("read", 0.0) + time.monotonic() - began
    return Plan(
        status="optimal" if all(plan.status == "optimal" for plan in plans) else "feasible",
        objective_eur=objective,
        bound_eur=min(bound, objective),
        gap=max(objective - bound, 0.0) / max(abs(objective), 1e-9),
        costs=costs,
        violations=[violation for plan in plans for violation in plan.violations],
        schedule=schedule,
        final_state=plans[-1].final_state,
        timings_s=timings,
        horizon=problem.horizon,
        solver_runs=sum(plan.solver_runs for plan in plans),
    )
