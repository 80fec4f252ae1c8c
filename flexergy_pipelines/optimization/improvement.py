"""A good plan soon: whole-number decisions rounded by their blocks, then moved one by one as long as that pays.

With the whole-number decisions given, the rest is a linear problem that follows from the last one in milliseconds. Its
least cost is a convex function of the decisions (the rest relaxed), and the reduced costs are a subgradient of it:
``cost(y) >= cost(y0) + d0 (y - y0)`` for each choice ``y0`` that was tried. A move that some earlier choice proves not
to pay is not tried at all, so that few linear problems are solved for each step forward.

References
----------
Geoffrion, "Generalized Benders decomposition", J. Optimization Theory and Applications 10 (1972): the same cuts.
"""

from __future__ import annotations

import time

import numpy as np

from flexergy_pipelines.optimization.board import Board, IndexArray
from flexergy_pipelines.optimization.highs import Answer, Solver
from flexergy_pipelines.optimization.series import FloatArray

WORTH_A_MOVE = 2e-5
"""Least gain of a move, as a share of the cost."""
SHARE_OF_TIME = 0.4


class _Tried:
    """What earlier choices prove about every other one."""

    def __init__(self, columns: IndexArray) -> None:
        self.columns = columns
        self._constants: list[float] = []
        self._prices: list[FloatArray] = []

    def add(self, cost: float, whole: FloatArray, price: FloatArray) -> None:
        chosen = price[self.columns]
        self._constants.append(cost - float(chosen @ whole[self.columns]))
        self._prices.append(chosen)

    @property
    def price(self) -> FloatArray:
        """What a unit more of each decision costs beside the choice that was tried last."""
        return self._prices[-1]

    def least_cost(self, whole: FloatArray) -> float:
        """What this choice costs at least."""
        if not self._prices:
            return -np.inf
        return float(np.max(np.array(self._constants) + np.array(self._prices) @ whole[self.columns]))


def rounded(board: Board, relaxed: FloatArray) -> FloatArray:
    """Values of all columns in which every whole-number decision is near the relaxed solution, or safe."""
    near = relaxed.copy()
    for variable in board.variables:
        if variable.integer:
            found = variable.rounded(relaxed) if variable.rounded is not None else variable.safe
            found = variable.lower if found is None else found
            near[variable.columns] = np.clip(found, np.ceil(variable.lower), np.floor(variable.upper))
    return near


def improved(solver: Solver, board: Board, relaxed: Answer, *, mip_gap: float) -> Answer | None:
    """The best plan that rounding and moving single decisions finds in a part of the time; None where it finds none.

    Either-or rules are left out, as they are in the relaxed problem. The model is afterwards as it was.

    Parameters
    ----------
    relaxed : Answer
        Of the relaxed problem: its cost is the bound.
    mip_gap : float
        Relative gap at which the search ends.
    """
    columns = board.integers()
    left = solver.deadline - time.monotonic()
    deadline = time.monotonic() + SHARE_OF_TIME * left
    whole = rounded(board, relaxed.values)
    tried = _Tried(columns)
    best = solver.dispatch(columns, whole, deadline=deadline)
    if best is not None:
        tried.add(best.objective, best.values, solver.bound_duals())
        while best.objective - relaxed.bound > mip_gap * abs(best.objective) and time.monotonic() < deadline:
            better = _step(solver, board, best, tried, deadline)
            if better is None:
                break
            best = better
    solver.release(columns)
    if best is None:
        return None
    optimal = best.objective - relaxed.bound <= mip_gap * abs(best.objective)
    return Answer(best.values, best.objective, min(relaxed.bound, best.objective), optimal)


def _step(solver: Solver, board: Board, best: Answer, tried: _Tried, deadline: float) -> Answer | None:
    """The first move that pays, the most promising first."""
    columns = tried.columns
    price = np.zeros(board.column_count)
    price[columns] = tried.price
    enough = best.objective - WORTH_A_MOVE * abs(best.objective)
    promising: list[tuple[float, int, FloatArray]] = []
    current = best.values[: board.column_count]
    for suggest in board.suggestions:
        for where, values in suggest(current, price):
            moved = current.copy()
            moved[where] = values
            cost = tried.least_cost(moved)
            if cost < enough:
                promising.append((cost, len(promising), moved))
    for _, _, moved in sorted(promising, key=lambda entry: entry[:2]):
        if time.monotonic() > deadline:
            return None
        if tried.least_cost(moved) >= enough:
            continue
        answer = solver.dispatch(columns, moved, deadline=deadline)
        if answer is None:
            continue
        tried.add(answer.objective, answer.values, solver.bound_duals())
        if answer.objective < enough:
            return answer
    return None
