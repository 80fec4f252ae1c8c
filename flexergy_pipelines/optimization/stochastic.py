"""Plans that hold in many futures: one decision on bids and commitment now, dispatch later as each scenario turns out.

Two-stage stochastic programming: the problem is stated once for each scenario, side by side, and what has to be decided
here and now (bids of services, on/off states of gensets) is the same in all of them. The objective weighs expected cost
and conditional value at risk (CVaR), the mean of the worst part of the costs:

    minimise  (1 - w) * sum_s p_s c_s  +  w * (eta + sum_s p_s z_s / (1 - alpha)),   z_s >= c_s - eta,  z_s >= 0

References
----------
Birge, Louveaux, "Introduction to Stochastic Programming", Springer 2011, ch. 4 (value of the stochastic solution).
Rockafellar, Uryasev, "Optimization of conditional value-at-risk", Journal of Risk 2 (2000) 21-41.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from flexergy_pipelines.optimization.assembly import assemble
from flexergy_pipelines.optimization.board import Board
from flexergy_pipelines.optimization.errors import ProblemError, SolveError
from flexergy_pipelines.optimization.formulation import assemble_matrix, compile_board, load_libraries
from flexergy_pipelines.optimization.highs import Basis, Solver
from flexergy_pipelines.optimization.plan import Plan, Status
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.scenario_boards import NOW_QUANTITIES, Risk, side_by_side
from flexergy_pipelines.optimization.series import FloatArray
from flexergy_pipelines.optimization.solving import solve_board, solve_exactly

Decisions = Mapping[tuple[str, str], FloatArray]
"""Values of what is decided here and now, by asset and quantity."""

TIME_FOR_SCENARIOS = 0.7
GOAL_PRICE_EUR_PER_KWH = 1.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One future.

    Attributes
    ----------
    probability : float
        Of this scenario; all of a set sum up to 1.
    power_kw : mapping
        Series (kW) by asset of what differs from the problem: sources, loads, EV blocks.
    import_price_eur_per_kwh, export_price_eur_per_kwh : ndarray or None
        Prices where they differ.
    """

    probability: float
    power_kw: Mapping[str, FloatArray] = field(default_factory=dict)
    import_price_eur_per_kwh: FloatArray | None = None
    export_price_eur_per_kwh: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class StochasticPlan:
    """A decision for here and now, and what it comes to in each scenario.

    Attributes
    ----------
    plan : Plan
        Dispatch for the problem's own forecast with the decision taken: what is carried out unless the day turns out
        otherwise.
    decisions : mapping
        What is decided here and now.
    scenario_costs_eur : ndarray
        Cost in each scenario, dispatched at its best after the decision.
    probabilities : ndarray
        Of the scenarios.
    expected_cost_eur, cvar_eur : float
        Their mean, and the mean of the worst ``1 - cvar_level`` of them.
    status, gap
        How good the decision is proven to be.
    solve_s : float
        Time spent on the scenarios (s).
    """

    plan: Plan
    decisions: Decisions
    scenario_costs_eur: FloatArray
    probabilities: FloatArray
    expected_cost_eur: float
    cvar_eur: float
    status: Status
    gap: float
    solve_s: float


def in_scenario(problem: Problem, scenario: Scenario) -> Problem:
    """The problem as it turns out in a scenario.

    Raises
    ------
    ProblemError
        When the scenario names an asset that the problem has no series of, or a series doesn't fit the horizon.
    """
    series = {name: np.maximum(np.asarray(power, dtype=np.float64), 0.0) for name, power in scenario.power_kw.items()}
    for name, power in series.items():
        if power.shape != (problem.horizon.steps,) or not np.isfinite(power).all():
            raise ProblemError(
                [f"scenario: {name} needs {problem.horizon.steps} finite values, it has {power.size} of which "
                 f"{int(np.isfinite(power).sum())} finite"]
            )  # fmt: skip
    parts = {
        "loads": ("power_kw", problem.loads),
        "controllable_loads": ("power_kw", problem.controllable_loads),
        "ev_blocks": ("power_kw", problem.ev_blocks),
        "renewables": ("available_kw", problem.renewables),
    }
    known = {asset.id for _, assets in parts.values() for asset in assets}
    if wrong := sorted(set(series) - known):
        raise ProblemError(
            [f"scenario: asset {name} is unknown, known are {', '.join(sorted(known))}" for name in wrong]
        )
    update: dict[str, object] = {
        part: tuple(
            asset.model_copy(update={name: series[asset.id]}) if asset.id in series else asset for asset in assets
        )
        for part, (name, assets) in parts.items()
    }
    prices = {
        name: value
        for name in ("import_price_eur_per_kwh", "export_price_eur_per_kwh")
        if (value := getattr(scenario, name)) is not None
    }
    if prices and problem.grid is not None:
        update["grid"] = problem.grid.model_copy(update=prices)
    return problem.model_copy(update=update)


def solve_stochastic(
    problem: Problem,
    scenarios: Sequence[Scenario],
    time_limit_s: float = 30.0,
    *,
    cvar_weight: float = 0.0,
    cvar_level: float = 0.9,
    mip_gap: float = 1e-3,
) -> StochasticPlan:
    """The decision for here and now that is best over all scenarios.

    Parameters
    ----------
    problem : Problem
        With the point forecast.
    scenarios : sequence of Scenario
        At least one.
    time_limit_s : float
        On the wall clock (s).
    cvar_weight : float
        0 for least expected cost, 1 for least CVaR.
    cvar_level : float
        Share of the scenarios that CVaR leaves out: 0.9 is the mean of the worst tenth.
    mip_gap : float
        Relative gap at which the decision counts as optimal.

    Raises
    ------
    ProblemError
        When the scenarios don't fit the problem, or a weight is out of range.
    SolveError
        When no decision was found in the time.
    """
    risk = Risk(cvar_weight, cvar_level)
    return _decide(problem, scenarios, time_limit_s, risk=risk, mip_gap=mip_gap)


def evaluate(
    problem: Problem,
    scenarios: Sequence[Scenario],
    decisions: Decisions,
    time_limit_s: float = 30.0,
    *,
    cvar_level: float = 0.9,
    mip_gap: float = 1e-3,
) -> StochasticPlan:
    """What decisions that are already taken come to over the scenarios, each dispatched at its best afterwards.

    With the decisions taken, no scenario has to do with another: each is solved for itself.
    """
    weights = _checked(scenarios, Risk(0.0, cvar_level))
    load_libraries()
    began = time.monotonic()
    share = time_limit_s / (len(scenarios) + 1)
    plans = [
        carry_out(case, decisions, began + share * (number + 1), mip_gap)
        for number, case in enumerate([*(in_scenario(problem, scenario) for scenario in scenarios), problem])
    ]
    own = np.array([plan.objective_eur for plan in plans[:-1]])
    expected = float(weights @ own)
    bound = float(weights @ np.array([plan.bound_eur for plan in plans[:-1]]))
    return StochasticPlan(
        plan=plans[-1],
        decisions=decisions,
        scenario_costs_eur=own,
        probabilities=weights,
        expected_cost_eur=expected,
        cvar_eur=cvar(own, weights, cvar_level),
        status="optimal" if all(plan.status == "optimal" for plan in plans) else "feasible",
        gap=max(expected - bound, 0.0) / max(abs(expected), 1e-9) if np.isfinite(bound) else float("inf"),
        solve_s=sum(plan.timings_s["solve"] for plan in plans[:-1]),
    )


def decisions_of(problem: Problem, plan: Plan) -> Decisions:
    """What a plan of one forecast decides here and now, to be evaluated over scenarios."""
    columns = plan.schedule.columns
    found: dict[tuple[str, str], FloatArray] = {}
    for genset in problem.gensets:
        if f"{genset.id}.running" in columns:
            found[genset.id, "on"] = np.round(plan.column(genset.id, "running"))
    for service in problem.services:
        for quantity in ("up_bid_kw", "down_bid_kw"):
            if f"{service.id}.{quantity}" in columns:
                first = np.unique(service.blocks(problem.horizon.steps), return_index=True)[1]
                found[service.id, quantity] = plan.column(service.id, quantity)[first]
    return found


def _decide(
    problem: Problem,
    scenarios: Sequence[Scenario],
    time_limit_s: float,
    *,
    risk: Risk,
    mip_gap: float,
) -> StochasticPlan:
    weights = _checked(scenarios, risk)
    load_libraries()
    began = time.monotonic()
    boards = [assemble(in_scenario(problem, scenario)) for scenario in scenarios]
    merged = side_by_side(boards, weights, risk)
    solver = Solver(
        merged, assemble_matrix(merged), deadline=began + TIME_FOR_SCENARIOS * time_limit_s, mip_gap=mip_gap
    )
    money = np.abs(merged.cost_vector(penalties=False)).max(initial=0.0)
    goal = merged.goal_vector()
    if goal.any():
        solver.set_costs(merged.cost_vector(money=False) + goal * GOAL_PRICE_EUR_PER_KWH, 1.0)
        reached = float(goal @ solve_exactly(solver, merged).values[: merged.column_count])
        solver.limit_sum(goal, reached + 1e-6 * (1 + abs(reached)))
    elif len(boards) > 1:
        # Each scenario for itself is solved in a fraction of the time, and only what they share is left to be settled.
        solver.start_from([_relaxed_basis(board, solver) for board in boards])
    costs = merged.cost_vector()
    grown = np.concatenate([costs, np.zeros(solver.column_count - costs.size)])
    solver.set_costs(grown, 1.0 / money if money > 0 else 1.0)
    answer = solve_exactly(solver, merged)
    linear = solver.fix_integers(answer.values) if solver.is_mip else answer
    values = (linear or answer).values[: merged.column_count]
    decided = {
        (variable.asset_id.removeprefix("0/"), variable.quantity): values[variable.columns]
        for variable in merged.variables
        if variable.asset_id.startswith("0/") and variable.quantity in NOW_QUANTITIES
    }
    edges = np.cumsum([0, *(board.column_count for board in boards)])
    constants = [sum(board.constant_costs.values()) for board in boards]
    own = np.array(
        [
            float(board.cost_vector() @ values[first:after]) + constant
            for board, first, after, constant in zip(boards, edges[:-1], edges[1:], constants, strict=True)
        ]
    )
    fixed = (1.0 - risk.weight) * float(weights @ np.array(constants))
    objective, bound = answer.objective + fixed, answer.bound + fixed
    return StochasticPlan(
        plan=carry_out(problem, decided, began + time_limit_s, mip_gap),
        decisions=decided,
        scenario_costs_eur=own,
        probabilities=weights,
        expected_cost_eur=float(weights @ own),
        cvar_eur=cvar(own, weights, risk.level),
        status="optimal" if answer.optimal else "feasible",
        gap=max(objective - bound, 0.0) / max(abs(objective), 1e-9) if np.isfinite(bound) else float("inf"),
        solve_s=solver.run_s,
    )


def _relaxed_basis(board: Board, whole: Solver) -> Basis:
    """Where the relaxed problem of one scenario ends."""
    solver = Solver(board, assemble_matrix(board), deadline=whole.deadline, mip_gap=0.0)
    costs = board.cost_vector()
    money = np.abs(board.cost_vector(penalties=False)).max(initial=0.0)
    solver.set_costs(costs, 1.0 / money if money > 0 else 1.0)
    solver.run()
    return solver.basis()


def cvar(costs_eur: FloatArray, weights: FloatArray, level: float) -> float:
    """Mean of the worst ``1 - level`` of the costs (EUR), with part of a scenario where the share ends inside it."""
    left, total = 1.0 - level, 0.0
    for place in np.argsort(-costs_eur):
        share = min(float(weights[place]), left)
        total += share * float(costs_eur[place])
        left -= share
    return total / (1.0 - level)


def _checked(scenarios: Sequence[Scenario], risk: Risk) -> FloatArray:
    problems = []
    weights = np.array([scenario.probability for scenario in scenarios], dtype=np.float64)
    if not scenarios:
        problems.append("scenarios: none given, at least 1 is needed")
    elif (weights < 0).any() or abs(weights.sum() - 1.0) > 1e-6:
        problems.append(
            f"scenarios: probabilities sum up to {weights.sum():g}, they must be at least 0 and sum up to 1"
        )
    if not 0 <= risk.weight <= 1:
        problems.append(f"cvar_weight {risk.weight:g} must be between 0 and 1")
    if not 0 <= risk.level < 1:
        problems.append(f"cvar_level {risk.level:g} must be at least 0 and below 1")
    if problems:
        raise ProblemError(problems)
    return weights


def _take(board: Board, decisions: Decisions) -> None:
    """Fix the variables of decisions that are taken, within what is possible."""
    for place, variable in enumerate(board.variables):
        value = decisions.get((variable.asset_id, variable.quantity))
        if value is not None:
            kept = np.clip(value, variable.lower, variable.upper)
            board.variables[place] = replace(variable, lower=kept, upper=kept)


def carry_out(problem: Problem, decisions: Decisions, deadline: float, mip_gap: float) -> Plan:
    """The best plan with some decisions already taken.

    Parameters
    ----------
    decisions : mapping
        What is fixed; see :func:`decisions_of`.
    deadline : float
        Instant of ``time.monotonic()`` by which it ends.

    Raises
    ------
    SolveError
        When no plan was found in the time.
    """
    began = time.monotonic()
    board = assemble(problem)
    # A bid that is a hair beyond what rounding allows must not make the dispatch impossible.
    _take(board, {key: np.where(np.abs(value) < 1e-7, 0.0, value) for key, value in decisions.items()})
    assembled = time.monotonic()
    compiled = compile_board(board)
    timings = {"build": assembled - began + compiled.build_s, "compile": compiled.compile_s}
    return solve_board(problem, board, compiled, deadline=deadline, mip_gap=mip_gap, timings=timings)


__all__ = [
    "Decisions",
    "Scenario",
    "SolveError",
    "StochasticPlan",
    "carry_out",
    "cvar",
    "decisions_of",
    "evaluate",
    "in_scenario",
    "solve_stochastic",
]
