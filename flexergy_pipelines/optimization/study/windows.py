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
        Hand SoC, running units and the peak so far to the next window; otherwise every window starts as the case says.
    """

    steps: Annotated[int, Field(ge=1)]
    look_ahead_steps: Annotated[int, Field(ge=0)] = 0
    carry_state: bool = True


def cut(problem: Problem, first: int, count: int) -> Problem:
    """The steps ``first`` to ``first + count`` of a problem."""
    steps = problem.horizon.steps
    start = problem.horizon.start.astimezone(UTC) + timedelta(minutes=problem.horizon.step_minutes * first)
    horizon = Horizon(start=start, step_minutes=problem.horizon.step_minutes, steps=count)
    changed: dict[str, Any] = {"horizon": horizon}
    for name in Problem.model_fields:
        held = getattr(problem, name)
        if name != "horizon":
            changed[name] = _cut_value(held, steps, first, count)
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
            current = _carry(current, plan, kept)
    joined = _join(problem, plans)
    return joined if windows.look_ahead_steps == 0 else priced(problem, joined, solve)


def priced(problem: Problem, plan: Plan, solve: Solve) -> Plan:
    """What `problem` costs when its batteries do what `plan` says, and everything else reacts."""
    fixed = tuple(
        battery.model_copy(update={"fixed_power_kw": plan.column(battery.id, "active_power_kw")})
        for battery in problem.batteries
    )
    result = solve(problem.model_copy(update={"batteries": fixed}))
    timings = {part: plan.timings_s[part] + result.timings_s[part] for part in result.timings_s}
    return replace(result, timings_s=timings)


def _keep(plan: Plan, steps: int) -> Plan:
    """A plan's first steps; its states at their end."""
    if steps == plan.horizon.steps:
        return plan
    final = {name: float(plan.schedule[name][steps]) for name in plan.final_state}
    horizon = Horizon(start=plan.horizon.start, step_minutes=plan.horizon.step_minutes, steps=steps)
    return replace(plan, schedule=plan.schedule.head(steps), final_state=final, horizon=horizon)


def _carry(problem: Problem, plan: Plan, kept: int) -> Problem:
    """The problem with the state that a window left behind."""
    kept_plan = _keep(plan, kept)
    batteries = tuple(
        b.model_copy(
            update={
                "soc_start": min(max(kept_plan.final_state.get(f"{b.id}.soc", b.soc_start), 0.0), 1.0),
                "terminal_soc": b.terminal_soc if b.terminal_soc is not None else b.soc_start,
            }
        )
        for b in problem.batteries
    )
    gensets = tuple(
        g.model_copy(update=_genset_state(kept_plan, g.id)) if f"{g.id}.running" in kept_plan.schedule.columns else g
        for g in problem.gensets
    )
    grid = problem.grid
    if grid is not None and grid.demand_charges:
        exchange = kept_plan.column(grid.id, "active_power_kw")
        charges = []
        for charge in grid.demand_charges:
            counted = _cut_value(charge.applies, problem.horizon.steps, _position(problem, kept_plan), kept)
            peak = float((exchange * (np.broadcast_to(counted, kept) > 0.5)).max(initial=0.0))
            charges.append(charge.model_copy(update={"peak_so_far_kw": max(charge.peak_so_far_kw, peak)}))
        grid = grid.model_copy(update={"demand_charges": tuple(charges)})
    return problem.model_copy(update={"batteries": batteries, "gensets": gensets, "grid": grid})


def _position(problem: Problem, plan: Plan) -> int:
    ahead = plan.horizon.start - problem.horizon.start
    return round(ahead / timedelta(minutes=problem.horizon.step_minutes))


def _genset_state(plan: Plan, genset_id: str) -> dict[str, Any]:
    running = plan.column(genset_id, "running") > 0.5
    same = np.flatnonzero(running != running[-1])
    steps = running.size - (int(same[-1]) + 1 if same.size else 0)
    return {"running_at_start": bool(running[-1]), "minutes_in_state": steps * plan.horizon.step_minutes}


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
    schedule = pl.concat([plan.schedule for plan in plans])
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
