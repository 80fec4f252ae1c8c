"""A plan when the time is over and the search has none: whole-number decisions by rule, the rest by one linear run.

Limits that could make a plan impossible are soft, so that with every whole-number decision at a value that keeps its
own block's rules the linear problem has a solution. What is lost is money, and it is stated: weak duality turns the
reduced costs of the decisions that were fixed into a bound of the problem in which they are free.

References
----------
Bertsimas, Tsitsiklis, "Introduction to Linear Optimization", Athena Scientific 1997, ch. 4 (weak duality).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flexergy_pipelines.optimization.board import Board, ExclusivePair, Variable
from flexergy_pipelines.optimization.errors import SolveError
from flexergy_pipelines.optimization.formulation import Compiled
from flexergy_pipelines.optimization.highs import Answer, Solver
from flexergy_pipelines.optimization.series import FloatArray

BOTH_ABOVE_KW = 1e-6
ROUNDS = 12
NO_PRICE = 1e-9


def last_resort(
    board: Board,
    compiled: Compiled,
    costs: FloatArray,
    scale: float,
    *,
    constant_eur: float = 0.0,
    relaxed: FloatArray | None = None,
) -> tuple[Solver, Answer]:
    """A plan that keeps every rule, and how far from the best it can be at most.

    Runs without a time limit, but linear problems only.

    Parameters
    ----------
    costs : ndarray
        For a unit of each column (EUR).
    scale : float
        Factor for the costs inside the solver.
    constant_eur : float
        What no decision changes.
    relaxed : ndarray or None
        Solution of the relaxed problem, where there is one already.

    Returns
    -------
    solver : Solver
        With the linear problem that was solved last, for its shadow prices.
    answer : Answer
        Values, cost and bound.

    Raises
    ------
    SolveError
        When the problem has no solution at all.
    """
    least = -np.inf
    if relaxed is None:
        solver = _solver(board, compiled, costs, scale, constant_eur)
        first = solver.run()
        relaxed, least = first.values, first.bound
    for whole in _candidates(board, relaxed):
        for careful in (False, True):
            solver = _solver(board, compiled, costs, scale, constant_eur)
            answer = _dispatched(solver, board, whole, relaxed, careful=careful)
            if answer is not None:
                bound = max(least, _bound(solver, board, answer))
                return solver, Answer(answer.values, answer.objective, min(bound, answer.objective), optimal=False)
    raise SolveError("time limit", "no plan found that keeps every rule within the time")


def _solver(board: Board, compiled: Compiled, costs: FloatArray, scale: float, constant_eur: float) -> Solver:
    solver = Solver(board, compiled, deadline=np.inf, mip_gap=0.0)
    solver.set_costs(costs, scale, constant_eur=constant_eur)
    return solver


def _candidates(board: Board, relaxed: FloatArray) -> Iterator[FloatArray]:
    """Values of all columns with whole-number decisions: near the relaxed solution, then as safe as can be."""
    decisions = [variable for variable in board.variables if variable.integer]
    safe = relaxed.copy()
    near = relaxed.copy()
    for variable in decisions:
        kept = _safe(variable)
        safe[variable.columns] = kept
        near[variable.columns] = kept
        if variable.rounded is not None:
            found = variable.rounded(relaxed)
            near[variable.columns] = np.clip(found, np.ceil(variable.lower), np.floor(variable.upper))
    yield near
    if not np.array_equal(near, safe):
        yield safe


def _safe(variable: Variable) -> FloatArray:
    wanted = variable.lower if variable.safe is None else variable.safe
    return np.clip(wanted, np.ceil(variable.lower), np.floor(variable.upper))


def _dispatched(
    solver: Solver, board: Board, whole: FloatArray, relaxed: FloatArray, *, careful: bool
) -> Answer | None:
    """The best dispatch for whole-number decisions that keeps every either-or rule; None when none was found.

    Of two that exclude each other the smaller gives way where both are used; with `careful` everywhere from the start,
    and a piece is never filled behind another.
    """
    states = {v.asset_id: v.columns for v in board.variables if v.integer and v.quantity == "on"}

    def smaller(pair: ExclusivePair, values: FloatArray) -> np.ndarray:
        # A vehicle that is decided to charge has a smallest power: it is giving back that gives way.
        found = _smaller(pair, values)
        state = states.get(pair.first.asset_id)
        if state is None or pair.first.quantity != "charge_kw":
            return found
        return np.where(whole[state] > 0.5, pair.second.columns, pair.first.columns)

    if careful:
        for pair in board.pairs:
            if pair.in_order:
                solver.hold_at_zero(pair.second.columns[pair.second.lower <= 0])
            elif not _of_grid(pair):
                solver.hold_at_zero(smaller(pair, relaxed))
    answer = solver.fix_integers(whole)
    for _ in range(ROUNDS):
        if answer is None:
            return None
        values = answer.values
        clashing = [
            (pair, both)
            for pair in board.pairs
            if (both := np.minimum(values[pair.first.columns], values[pair.second.columns]) > BOTH_ABOVE_KW).any()
        ]
        if not clashing:
            return answer
        # What flows over the connection follows from everything behind it: it is settled last.
        behind = [(pair, both) for pair, both in clashing if not _of_grid(pair)]
        for pair, both in behind or clashing:
            solver.hold_at_zero(smaller(pair, values)[both])
        answer = solver.fix_integers(whole)
    return None


def _of_grid(pair: ExclusivePair) -> bool:
    return pair.first.quantity.startswith("import")


def _smaller(pair: ExclusivePair, values: FloatArray) -> np.ndarray:
    first, second = values[pair.first.columns], values[pair.second.columns]
    return np.where(first <= second, pair.first.columns, pair.second.columns)


def _bound(solver: Solver, board: Board, answer: Answer) -> float:
    """Least cost of the problem in which nothing that was fixed is fixed (EUR), by the reduced costs."""
    price = solver.bound_duals()
    lower, upper = board.bounds()
    held_lower, held_upper = solver.bounds()
    changed = np.flatnonzero((held_lower != lower) | (held_upper != upper))
    price = np.where(np.abs(price[changed]) < NO_PRICE, 0.0, price[changed])
    best = np.where(price >= 0, lower[changed], upper[changed])
    moved = np.where(price == 0, 0.0, best - answer.values[changed])
    return answer.objective + float(price @ moved)
