"""HiGHS, spoken to directly: a compiled board goes in, values and duals come out; safe in threads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np

from flexergy_pipelines.optimization.board import Board, IndexArray
from flexergy_pipelines.optimization.errors import SolveError
from flexergy_pipelines.optimization.formulation import Compiled
from flexergy_pipelines.optimization.series import FloatArray

Basis = tuple[list[highspy.HighsBasisStatus], list[highspy.HighsBasisStatus]]
"""Status of each column and of each row."""

_FEASIBLE = 2  # HiGHS: kSolutionStatusFeasible
LAST_CHANCE_S = 0.05
SHARE_WITHOUT_SUB_PROBLEMS = 0.15


@dataclass(frozen=True, slots=True)
class Answer:
    """One run's result.

    Attributes
    ----------
    values : ndarray
        Value of each column of the solver's model.
    objective, bound : float
        In the unit of the costs given.
    optimal : bool
        Proven to the gap asked for; otherwise the best found in the time.
    """

    values: FloatArray
    objective: float
    bound: float
    optimal: bool


class Solver:
    """One model inside HiGHS, growing by binaries where they turn out to be needed.

    Parameters
    ----------
    board : Board
        Bounds and integer columns.
    compiled : Compiled
        Its matrix.
    deadline : float
        Instant of ``time.monotonic()`` by which every run ends.
    mip_gap : float
        Relative gap at which a mixed-integer solution counts as optimal.
    """

    def __init__(self, board: Board, compiled: Compiled, *, deadline: float, mip_gap: float) -> None:
        self.deadline = deadline
        self.mip_gap = mip_gap
        # A search that uses all its time would leave none for the linear run that gives exact values and prices.
        self._kept_back_s = min(1.0, 0.1 * max(deadline - time.monotonic(), 0.0))
        self._integers = board.integers()
        self._scale = 1.0
        self._constant = 0.0
        self.run_s = 0.0
        self.runs = 0
        self.is_mip = False
        self._begun = False
        self.integers_required = False
        self.separated: list[np.ndarray] = []
        self.relaxed: FloatArray | None = None
        self.proven = -np.inf
        self._choices: list[tuple[IndexArray, IndexArray, IndexArray]] = []
        self._highs = highspy.Highs()
        for option, value in (
            ("output_flag", False),
            ("threads", 1),
            ("mip_rel_gap", mip_gap),
            ("mip_feasibility_tolerance", 1e-7),
        ):
            self._highs.setOptionValue(option, value)
        self._pass(board, compiled)

    def _pass(self, board: Board, compiled: Compiled) -> None:
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = board.column_count, compiled.row_lower.size
        lower, upper = self._own_bounds = board.bounds()
        model.col_cost_ = np.zeros(board.column_count)
        model.col_lower_, model.col_upper_ = lower, upper
        model.row_lower_, model.row_upper_ = compiled.row_lower, compiled.row_upper
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = compiled.starts
        model.a_matrix_.index_ = compiled.rows
        model.a_matrix_.value_ = compiled.values
        self._highs.passModel(model)

    @property
    def column_count(self) -> int:
        """Columns of the model, added binaries included."""
        return self._highs.getNumCol()

    def set_costs(self, eur_per_unit: FloatArray, scale: float, *, constant_eur: float = 0.0) -> None:
        """Set the objective; `scale` brings its typical coefficient to one, for the solver's absolute tolerances.

        `constant_eur` is what no decision changes: the relative gap is that of the whole cost.
        """
        self._scale, self._constant = scale, constant_eur
        self.proven = -np.inf
        self._highs.changeObjectiveOffset(constant_eur * scale)
        count = eur_per_unit.size
        self._highs.changeColsCost(count, np.arange(count, dtype=np.int32), eur_per_unit * scale)

    def limit_sum(self, coefficient: FloatArray, upper: float) -> None:
        """Add the constraint ``coefficient * x <= upper`` (a goal that later stages must keep)."""
        used = np.flatnonzero(coefficient)
        self._highs.addRow(-highspy.kHighsInf, upper, used.size, used.astype(np.int32), coefficient[used])

    def require_integers(self) -> None:
        """Make the board's integer columns whole."""
        kinds = np.full(self._integers.size, highspy.HighsVarType.kInteger.value, dtype=np.uint8)
        self._highs.changeColsIntegrality(self._integers.size, self._integers.astype(np.int32), kinds)
        self.is_mip = self.integers_required = True

    def separate(self, first: IndexArray, second: IndexArray, first_max: FloatArray, second_max: FloatArray) -> None:
        """Add a binary for each position, so that only one of the two columns is above zero."""
        count = first.size
        empty_i, empty_f = np.zeros(0, dtype=np.int32), np.zeros(0)
        base = self._highs.getNumCol()
        starts = np.zeros(count, dtype=np.int32)
        self._highs.addCols(count, np.zeros(count), np.zeros(count), np.ones(count), 0, starts, empty_i, empty_f)
        chosen = np.arange(base, base + count, dtype=np.int32)
        kinds = np.full(count, highspy.HighsVarType.kInteger.value, dtype=np.uint8)
        self._highs.changeColsIntegrality(count, chosen, kinds)
        self._integers = np.concatenate([self._integers, chosen.astype(np.int64)])
        self._choices.append((chosen.astype(np.int64), first, second))
        # first <= first_max * chosen  and  second <= second_max * (1 - chosen)
        index = np.empty(4 * count, dtype=np.int32)
        index[0 : 2 * count : 2], index[1 : 2 * count : 2] = first, chosen
        index[2 * count :: 2], index[2 * count + 1 :: 2] = second, chosen
        value = np.ones(4 * count)
        value[1 : 2 * count : 2] = -first_max
        value[2 * count + 1 :: 2] = second_max
        self._highs.addRows(
            2 * count,
            np.full(2 * count, -highspy.kHighsInf),
            np.concatenate([np.zeros(count), second_max]),
            4 * count,
            np.arange(0, 4 * count, 2, dtype=np.int32),
            index,
            value,
        )
        self.is_mip = True

    def fractional(self, values: FloatArray) -> bool:
        """Whether an integer column has a value between two whole ones."""
        chosen = values[self._integers]
        return bool((np.abs(chosen - np.round(chosen)) > 1e-6).any())

    def run(self) -> Answer:
        """Solve within what is left of the time.

        Raises
        ------
        SolveError
            When the *solution* isn't feasible, whatever the call itself says.
        """
        left = self._left_s()
        first_bound = -np.inf
        if self.is_mip:
            # Searches in sub-problems find plans where nothing else does, but take most of the time where the tree
            # alone would have been enough: without them first, and at all where a good plan is known already.
            self._search_sub_problems(False)
            self._run_for(left if self._begun else SHARE_WITHOUT_SUB_PROBLEMS * left)
            if not self._begun and self._highs.getModelStatus() == highspy.HighsModelStatus.kTimeLimit:
                first_bound = self._highs.getInfo().mip_dual_bound
                self._search_sub_problems(True)
                self._keep_incumbent()
                self._run_for(self._left_s())
        else:
            self._run_for(left)
        status = self._highs.getModelStatus()
        info = self._highs.getInfo()
        if self.is_mip:
            searched = max(info.mip_dual_bound, first_bound)
            self.proven = max(self.proven, searched / self._scale - self._constant)
        if info.primal_solution_status != _FEASIBLE:
            text = self._highs.modelStatusToString(status).lower()
            raise SolveError(text, f"no plan found: the solver says {text}")
        optimal = status == highspy.HighsModelStatus.kOptimal
        objective = info.objective_function_value / self._scale - self._constant
        proven = max(info.mip_dual_bound, first_bound) / self._scale - self._constant if self.is_mip else -np.inf
        bound = proven if self.is_mip or not optimal else objective
        values = np.array(self._highs.getSolution().col_value)
        return Answer(values, objective, bound, optimal)

    def _left_s(self) -> float:
        kept_back = self._kept_back_s if self.is_mip else 0.0
        return max(self.deadline - kept_back - time.monotonic(), LAST_CHANCE_S)

    def _run_for(self, seconds: float) -> None:
        # The clock of linear runs runs on from one run of a model to the next, that of mixed-integer runs begins anew.
        elapsed = 0.0 if self.is_mip else self._highs.getRunTime()
        self._highs.setOptionValue("time_limit", elapsed + seconds)
        began = time.perf_counter()
        self._highs.run()
        self.run_s += time.perf_counter() - began
        self.runs += 1

    def _search_sub_problems(self, wanted: bool) -> None:
        for heuristic in ("rins", "rens", "root_reduced_cost"):
            self._highs.setOptionValue(f"mip_heuristic_run_{heuristic}", wanted)
        for heuristic in ("zi_round", "shifting"):
            self._highs.setOptionValue(f"mip_heuristic_run_{heuristic}", not wanted)

    def _keep_incumbent(self) -> None:
        """Start the next run from the best plan found so far, where there is one."""
        if self._highs.getInfo().primal_solution_status == _FEASIBLE:
            self._highs.setSolution(self._highs.getSolution())

    def dispatch(self, columns: IndexArray, values: FloatArray, *, deadline: float) -> Answer | None:
        """The best of the linear problem with these columns held at their whole values; None where there is none.

        The columns stay held until :meth:`release`.
        """
        whole = np.round(values[columns])
        self._highs.changeColsBounds(columns.size, columns.astype(np.int32), whole, whole)
        self._run_for(max(deadline - time.monotonic(), LAST_CHANCE_S))
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        found = np.array(self._highs.getSolution().col_value)
        found[columns] = whole
        objective = self._highs.getInfo().objective_function_value / self._scale - self._constant
        return Answer(found, objective, -np.inf, optimal=False)

    def release(self, columns: IndexArray) -> None:
        """Let columns that were held move between their own bounds again."""
        lower, upper = self._own_bounds
        self._highs.changeColsBounds(columns.size, columns.astype(np.int32), lower[columns], upper[columns])

    def begin_at(self, values: FloatArray) -> None:
        """Let the next search begin with a plan that is known."""
        known = highspy.HighsSolution()
        known.col_value = values.tolist()
        known.value_valid = True
        self._highs.setSolution(known)
        self._begun = True

    def hold_at_zero(self, columns: IndexArray) -> None:
        """Let these columns, which are zero in the last solution, not rise again."""
        count = columns.size
        zeros = np.zeros(count)
        self._highs.changeColsBounds(count, columns.astype(np.int32), zeros, zeros)

    def extended(self, values: FloatArray) -> FloatArray:
        """Values of an earlier, smaller model with a choice for every binary that was added since.

        The choice of :meth:`separate` is one where the first of the two is the larger.
        """
        full = np.zeros(self.column_count)
        full[: values.size] = values
        for chosen, first, second in self._choices:
            full[chosen] = (values[first] > values[second]).astype(np.float64)
        return full

    def fix_integers(self, values: FloatArray, *, at_any_time: bool = False) -> Answer | None:
        """Solve the linear problem with every integer at its rounded value: exact zeros, and prices.

        Returns None when rounding left no feasible point, or the time is over and it isn't asked for `at_any_time`.
        """
        if self._integers.size:
            columns = self._integers.astype(np.int32)
            whole = np.round(values[self._integers])
            kinds = np.full(columns.size, highspy.HighsVarType.kContinuous.value, dtype=np.uint8)
            self._highs.changeColsIntegrality(columns.size, columns, kinds)
            self._highs.changeColsBounds(columns.size, columns, whole, whole)
        self.is_mip = False
        deadline = self.deadline
        self.deadline = np.inf if at_any_time else deadline
        try:
            return self.run()
        except SolveError:
            return None
        finally:
            self.deadline = deadline

    def basis(self) -> Basis:
        """Where the last linear run ended."""
        basis = self._highs.getBasis()
        return list(basis.col_status), list(basis.row_status)

    def start_from(self, parts: Sequence[Basis]) -> None:
        """Begin the next linear run where those of the model's parts ended.

        Columns and rows that belong to no part, which have to be the last ones, start in the basis' slack.
        """
        basis = highspy.HighsBasis()
        columns = [status for part, _ in parts for status in part]
        rows = [status for _, part in parts for status in part]
        more_columns = self._highs.getNumCol() - len(columns)
        more_rows = self._highs.getNumRow() - len(rows)
        basis.col_status = columns + [highspy.HighsBasisStatus.kLower] * more_columns
        basis.row_status = rows + [highspy.HighsBasisStatus.kBasic] * more_rows
        basis.valid = True
        self._highs.setBasis(basis)

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound of each column, as the model has them now."""
        model = self._highs.getLp()
        return np.array(model.col_lower_), np.array(model.col_upper_)

    def bound_duals(self) -> FloatArray:
        """EUR for a unit of each column's binding bound, from the last run; below zero at an upper bound."""
        return np.array(self._highs.getSolution().col_dual) / self._scale

    def row_duals(self) -> FloatArray:
        """EUR for a unit of each row's right-hand side, from the last run (linear problems only)."""
        return np.array(self._highs.getSolution().row_dual) / self._scale
