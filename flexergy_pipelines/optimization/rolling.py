"""Solve many problems of one structure: the matrix is compiled once, later only numbers change."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from flexergy_pipelines.optimization.assembly import assemble
from flexergy_pipelines.optimization.board import Board
from flexergy_pipelines.optimization.formulation import Compiled, compile_board, load_libraries
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.solving import solve_board


class Planner:
    """Solves one problem after the other, reusing the compiled matrix where the structure is the same.

    New prices, forecasts, limits, SoC and capacities are numbers; another horizon length, asset or efficiency is
    another structure and is compiled anew, by itself.

    Parameters
    ----------
    time_limit_s : float
        On the wall clock, for each problem (s).
    mip_gap : float
        Relative gap at which a plan with on/off decisions counts as optimal.
    """

    def __init__(self, time_limit_s: float = 10.0, *, mip_gap: float = 1e-4) -> None:
        self._time_limit_s = time_limit_s
        self._mip_gap = mip_gap
        self._board: Board | None = None
        self._compiled: Compiled | None = None
        self.compilations = 0

    def solve(self, problem: Problem) -> Plan:
        """The best plan for `problem`; see :func:`flexergy_pipelines.optimization.solve`."""
        load_libraries()
        began = time.monotonic()
        board = assemble(problem)
        assembled = time.monotonic()
        timings = {"build": assembled - began, "compile": 0.0}
        compiled = self._compiled
        if compiled is not None and self._board is not None and same_structure(self._board, board):
            compiled = with_numbers(compiled, board)
            timings["build"] += time.monotonic() - assembled
        else:
            compiled = compile_board(board)
            self.compilations += 1
            timings = {"build": timings["build"] + compiled.build_s, "compile": compiled.compile_s}
        self._board, self._compiled = board, compiled
        deadline = began + self._time_limit_s
        return solve_board(problem, board, compiled, deadline=deadline, mip_gap=self._mip_gap, timings=timings)


def same_structure(first: Board, second: Board) -> bool:
    """Whether two boards differ in numbers (bounds, right-hand sides, costs) only."""
    if len(first.variables) != len(second.variables) or len(first.rows) != len(second.rows):
        return False
    for one, other in zip(first.variables, second.variables, strict=True):
        if (one.name, one.columns.size, one.integer) != (other.name, other.columns.size, other.integer):
            return False
    for mine, yours in zip(first.rows, second.rows, strict=True):
        if (mine.asset_id, mine.name) != (yours.asset_id, yours.name) or mine.lower.size != yours.lower.size:
            return False
        same = (
            np.array_equal(mine.column, yours.column)
            and np.array_equal(mine.row, yours.row)
            and np.array_equal(mine.coefficient, yours.coefficient)
            and np.array_equal(_stated(mine.lower, mine.upper), _stated(yours.lower, yours.upper))
        )
        if not same:
            return False
    return True


def _stated(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Rows that say something; one without any bound has no place in the matrix."""
    return np.isfinite(lower) | np.isfinite(upper)


def with_numbers(compiled: Compiled, board: Board) -> Compiled:
    """The compiled matrix with the right-hand sides of another board of the same structure."""
    lower, upper = np.full_like(compiled.row_lower, -np.inf), np.full_like(compiled.row_upper, np.inf)
    for family in board.rows:
        where = compiled.row_of[family.asset_id, family.name]
        there = where >= 0
        lower[where[there]] = family.lower[there]
        upper[where[there]] = family.upper[there]
    return replace(compiled, row_lower=lower, row_upper=upper)
