"""Solve a problem: relax it, check it, and add whole-number decisions only where the relaxation broke a rule."""

from __future__ import annotations

import time

import numpy as np

from flexergy_pipelines.optimization.assembly import assemble
from flexergy_pipelines.optimization.board import Board
from flexergy_pipelines.optimization.errors import SolveError
from flexergy_pipelines.optimization.formulation import Compiled, compile_board, load_libraries
from flexergy_pipelines.optimization.highs import Answer, Solver
from flexergy_pipelines.optimization.improvement import improved
from flexergy_pipelines.optimization.last_resort import last_resort
from flexergy_pipelines.optimization.plan import Plan, read_costs, read_schedule, read_violations
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.series import FloatArray

BOTH_ABOVE_KW = 1e-6
ROUNDS = 6
SAME_COST = 1e-8
WHOLE_ORDER_STEPS = 1000
GOAL_PRICE_EUR_PER_KWH = 1.0


def solve(problem: Problem, time_limit_s: float = 10.0, *, mip_gap: float = 1e-4) -> Plan:
    """The best plan for `problem` that is found within the time.

    Parameters
    ----------
    time_limit_s : float
        On the wall clock, everything included but the first import of the libraries (s).
    mip_gap : float
        Relative gap at which a plan with on/off decisions counts as optimal.

    Raises
    ------
    SolveError
        When no plan was found in the time.
    """
    load_libraries()
    began = time.monotonic()
    board = assemble(problem)
    assembled = time.monotonic()
    compiled = compile_board(board)
    timings = {"build": assembled - began + compiled.build_s, "compile": compiled.compile_s}
    return solve_board(problem, board, compiled, deadline=began + time_limit_s, mip_gap=mip_gap, timings=timings)


def relaxed_bound_eur(problem: Problem, time_limit_s: float) -> float:
    """A cost (EUR) that no plan for `problem` is below: that of its relaxation; minus infinity where time ends it."""
    load_libraries()
    deadline = time.monotonic() + time_limit_s
    board = assemble(problem)
    solver = Solver(board, compile_board(board), deadline=deadline, mip_gap=0.0)
    constant = sum(board.constant_costs.values())
    solver.set_costs(board.cost_vector(), _scale(board), constant_eur=constant)
    try:
        answer = solver.run()
    except SolveError:
        return -np.inf
    return answer.bound + constant if answer.optimal else -np.inf


def solve_board(
    problem: Problem,
    board: Board,
    compiled: Compiled,
    *,
    deadline: float,
    mip_gap: float,
    timings: dict[str, float],
) -> Plan:
    """Solve an assembled and compiled problem; see :func:`solve`."""
    passed = time.monotonic()
    solver = Solver(board, compiled, deadline=deadline, mip_gap=mip_gap)
    costs = board.cost_vector()
    scale = _scale(board)
    goal = board.goal_vector()
    constant = sum(board.constant_costs.values())
    resorted = False
    try:
        if goal.any():
            penalties = board.cost_vector(money=False)
            solver.set_costs(_grown(penalties + goal * GOAL_PRICE_EUR_PER_KWH, solver), 1.0)
            first = solve_exactly(solver, board)
            reached = float(goal @ first.values[: board.column_count])
            solver.limit_sum(goal, reached + 1e-6 * (1 + abs(reached)))
        solver.set_costs(_grown(costs, solver), scale, constant_eur=constant)
        answer = solve_exactly(solver, board)
        # Whole numbers that are whole only to the solver's tolerance would leave the balance open by as much.
        linear = _with_whole_numbers(solver, board, answer) if solver.is_mip else answer
    except SolveError:
        solver, answer = _resort(board, compiled, costs, scale, solver)
        linear, resorted = answer, True
    duals = _duals(solver, compiled) if linear is not None else {}
    bound_duals = _bound_duals(solver, board) if linear is not None else {}
    found = linear or answer
    values = (found.values if resorted else _preferred(solver, board, found, costs, scale))[: board.column_count]
    solved = time.monotonic()
    parts = read_costs(board, values)
    objective = sum(parts.values())
    bound = min(answer.bound + constant, objective)
    schedule, final = read_schedule(board, problem.horizon, values)
    violations = read_violations(board, problem.horizon, values)
    return Plan(
        status="optimal" if answer.optimal else "feasible",
        objective_eur=objective,
        bound_eur=bound,
        gap=_gap(objective, bound),
        costs=parts,
        violations=violations,
        schedule=schedule,
        final_state=final,
        timings_s={**timings, "solve": solved - passed, "read": time.monotonic() - solved},
        horizon=problem.horizon,
        solver_runs=solver.runs,
        duals=duals,
        bound_duals=bound_duals,
        meanings=_meanings(board),
        last_resort=resorted,
    )


def _resort(board: Board, compiled: Compiled, costs: FloatArray, scale: float, failed: Solver) -> tuple[Solver, Answer]:
    """A plan though the time is over; a dominating goal counts as a price above every other.

    The bound is said in the money of the plan: its cost less what it can be away from the best.
    """
    goal = board.goal_vector()
    price = board.dominant(GOAL_PRICE_EUR_PER_KWH)
    constant = sum(board.constant_costs.values())
    relaxed = None if failed.relaxed is None else failed.relaxed[: board.column_count]
    weighted = costs + goal * price
    solver, answer = last_resort(board, compiled, weighted, scale, constant_eur=constant, relaxed=relaxed)
    known = failed.proven if not goal.any() else -np.inf
    away = answer.objective - max(answer.bound, known)
    money = float(costs @ answer.values[: board.column_count])
    return solver, Answer(answer.values, money, money - max(away, 0.0), optimal=False)


def _with_whole_numbers(solver: Solver, board: Board, answer: Answer) -> Answer | None:
    """The same decisions at exactly whole numbers, with the prices of the linear problem that is left.

    Among its solutions of equal cost are some that use both of a pair which the search had no need to separate.
    """
    linear = solver.fix_integers(answer.values, at_any_time=True)
    pairs = range(len(board.pairs))
    if linear is None or not any(_clashes(board, index, linear.values).any() for index in pairs):
        return linear
    for index, pair in enumerate(board.pairs):
        clashing = _clashes(board, index, linear.values)
        first, second = answer.values[pair.first.columns], answer.values[pair.second.columns]
        solver.hold_at_zero(np.where(first <= second, pair.first.columns, pair.second.columns)[clashing])
    return solver.fix_integers(answer.values, at_any_time=True)


def _preferred(solver: Solver, board: Board, answer: Answer, costs: FloatArray, scale: float) -> FloatArray:
    """Among the solutions of the same cost and the same whole-number decisions, the preferred one."""
    weights = board.preference_vector()
    if not weights.any() or float(weights @ answer.values[: board.column_count]) <= BOTH_ABOVE_KW:
        return answer.values
    scaled = costs * scale
    reached = float(scaled @ answer.values[: board.column_count])
    solver.limit_sum(scaled, reached + SAME_COST * (1 + abs(reached)))
    for pair in board.pairs:
        first, second = answer.values[pair.first.columns], answer.values[pair.second.columns]
        solver.hold_at_zero(np.where(first <= second, pair.first.columns, pair.second.columns))
    solver.set_costs(_grown(weights, solver), 1.0)
    found = solver.fix_integers(answer.values)
    return answer.values if found is None else found.values


def _grown(costs: FloatArray, solver: Solver) -> FloatArray:
    """Costs for every column of the solver's model, which may have grown by binaries (they cost nothing)."""
    return np.concatenate([costs, np.zeros(solver.column_count - costs.size)])


def _scale(board: Board) -> float:
    """Factor that brings the largest money coefficient to one; penalties would drown the prices."""
    money = board.cost_vector(penalties=False)
    largest = float(np.abs(money).max(initial=0.0))
    return 1.0 / largest if largest > 0 else 1.0


def solve_exactly(solver: Solver, board: Board) -> Answer:
    """Relax, check, and add whole-number decisions where they are needed, until nothing is violated.

    The relaxed problem's optimum is a lower bound, so a relaxed solution that breaks no rule is optimal.
    """
    separated = [np.zeros(pair.first.columns.size, dtype=bool) for pair in board.pairs]
    separated = solver.separated or separated
    solver.separated = separated
    answer = solver.run()
    solver.relaxed = answer.values
    known: Answer | None = None
    for attempt in range(ROUNDS):
        fractional = not solver.integers_required and solver.fractional(answer.values)
        clashes = [_clashes(board, index, answer.values) & ~separated[index] for index in range(len(board.pairs))]
        if not fractional and not any(clash.any() for clash in clashes):
            return answer
        # After some rounds the complete formulation ends the search.
        everything = attempt >= ROUNDS - 2
        if fractional:
            if not solver.is_mip and board.suggestions:
                known = improved(solver, board, answer, mip_gap=solver.mip_gap)
            solver.require_integers()
            if known is not None and known.optimal:
                solver.proven = known.bound
                answer = known
                continue
        for index, pair in enumerate(board.pairs):
            possible = (pair.first_max > 0) & (pair.second_max > 0) & ~separated[index]
            # Pieces that fill in the wrong order once do so wherever they are used.
            whole = pair.in_order and clashes[index].any() and board.steps <= WHOLE_ORDER_STEPS
            steps = np.flatnonzero(possible if everything or whole else clashes[index])
            if steps.size:
                solver.separate(
                    pair.first.columns[steps], pair.second.columns[steps], pair.first_max[steps], pair.second_max[steps]
                )
                separated[index][steps] = True
        if known is not None:
            solver.begin_at(solver.extended(known.values))
        try:
            answer = solver.run()
        except SolveError:
            if known is not None:
                answer = known
            elif fractional:
                raise
            # Out of time: the last answer, made to obey its rules.
            return _repaired(solver, board, answer)
    if any((_clashes(board, index, answer.values) & ~separated[index]).any() for index in range(len(board.pairs))):
        return _repaired(solver, board, answer)
    return answer


def _repaired(solver: Solver, board: Board, answer: Answer) -> Answer:
    """The nearest plan that keeps every either-or rule: of two that exclude each other the smaller gives way.

    Raises
    ------
    SolveError
        When there is none.
    """
    for pair in board.pairs:
        first, second = answer.values[pair.first.columns], answer.values[pair.second.columns]
        smaller = np.where(first <= second, pair.first.columns, pair.second.columns)
        solver.hold_at_zero(smaller[np.minimum(first, second) > BOTH_ABOVE_KW])
    found = solver.fix_integers(solver.extended(answer.values))
    if found is None:
        raise SolveError("time limit", "no plan found that keeps every either-or rule within the time")
    return Answer(found.values, found.objective, answer.bound, optimal=False)


def _clashes(board: Board, index: int, values: FloatArray) -> np.ndarray:
    """Steps in which both of a pair are above zero."""
    pair = board.pairs[index]
    both = np.minimum(values[pair.first.columns], values[pair.second.columns])
    return both > BOTH_ABOVE_KW


def _duals(solver: Solver, compiled: Compiled) -> dict[tuple[str, str], FloatArray]:
    """Shadow price of each family of constraints."""
    duals = solver.row_duals()
    return {key: np.where(rows >= 0, duals[rows], 0.0) for key, rows in compiled.row_of.items()}


def _bound_duals(solver: Solver, board: Board) -> dict[tuple[str, str], FloatArray]:
    """What each binding bound of a variable costs."""
    duals = solver.bound_duals()
    return {(variable.asset_id, variable.quantity): duals[variable.columns] for variable in board.variables}


def _meanings(board: Board) -> dict[tuple[str, str], str]:
    variables = {(variable.asset_id, variable.quantity): variable.meaning for variable in board.variables}
    return variables | {(rows.asset_id, rows.name): rows.meaning for rows in board.rows}


def _gap(objective: float, bound: float) -> float:
    return max(objective - bound, 0.0) / max(abs(objective), 1e-9) if np.isfinite(bound) else float("inf")
