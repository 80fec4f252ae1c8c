"""The board on which the blocks write down a problem: variables, constraints, cost terms and what each of them means.

The board holds numbers only (numpy), so that a re-plan with new numbers can be compared with the last one and reuse its
compiled matrix. :mod:`formulation` turns a board into a Pyomo model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from flexergy_pipelines.optimization.series import FloatArray

IndexArray = npt.NDArray[np.int64]
Numbers = float | FloatArray

HELD_BACK_KW = 1e-6
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DOMINANCE = 20.0


@dataclass(frozen=True, slots=True)
class Variable:
    """A family of variables, usually one a step.

    Attributes
    ----------
    asset_id, quantity : str
        Whose it is and what it is, with its unit in the name ("charge_kw").
    meaning : str
        A phrase that an operator understands.
    columns : ndarray
        Positions on the board.
    lower, upper : ndarray
        Bounds.
    integer : bool
        Whether only whole values make sense.
    safe : ndarray or None
        Whole values that keep the block's own rules whatever the rest does; None where the lower bounds do.
    rounded : callable or None
        From a relaxed solution (all columns), whole values near it that keep the block's own rules; None where `safe`
        is all there is.
    """

    asset_id: str
    quantity: str
    meaning: str
    columns: IndexArray
    lower: FloatArray
    upper: FloatArray
    integer: bool = False
    safe: FloatArray | None = None
    rounded: Callable[[FloatArray], FloatArray] | None = None

    @property
    def name(self) -> str:
        return f"{self.asset_id}.{self.quantity}"

    def before(self, steps: int = 1) -> IndexArray:
        """Columns of the value `steps` earlier; -1 where that lies before the horizon."""
        return earlier(self.columns, steps)


def earlier(columns: IndexArray, steps: int = 1) -> IndexArray:
    """Columns of the value `steps` earlier; -1 where that lies before the horizon."""
    shifted = np.full(columns.size, -1, dtype=np.int64)
    if steps < columns.size:
        shifted[steps:] = columns[: columns.size - steps]
    return shifted


@dataclass(frozen=True, slots=True)
class Rows:
    """A family of linear constraints ``lower <= A x <= upper``; `row`, `column`, `coefficient` are the entries of A."""

    asset_id: str
    name: str
    meaning: str
    row: IndexArray
    column: IndexArray
    coefficient: FloatArray
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost term in EUR for each unit of a column; `penalty` prices a preference or violation, not money."""

    part: str
    columns: IndexArray
    coefficient: FloatArray
    penalty: bool


@dataclass(frozen=True, slots=True)
class ExclusivePair:
    """Two variables of which only one may be above zero in a step; the maxima bound each.

    `in_order` marks the room in a piece and the piece after it.
    """

    first: Variable
    second: Variable
    first_max: FloatArray
    second_max: FloatArray
    meaning: str
    in_order: bool = False


@dataclass(frozen=True, slots=True)
class SoftLimit:
    """A variable that is zero as long as a limit is kept."""

    code: str
    asset_id: str
    variable: Variable
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Output:
    """A series of the result, computed from the values of all columns; of length steps, or steps + 1 for a state."""

    asset_id: str
    quantity: str
    compute: Callable[[FloatArray], FloatArray]


Suggestion = Callable[[FloatArray, FloatArray], Iterable[tuple[IndexArray, FloatArray]]]
"""From whole-number decisions that are taken (all columns) and the price of raising each, others that keep the block's
own rules: the columns that change and their values."""


@dataclass(slots=True)
class Board:
    """Collects what the blocks contribute.

    Parameters
    ----------
    steps : int
        Number of steps.
    hours : float
        Length of a step (h).
    start : datetime
        Start of the horizon; its offset says when a calendar day begins.
    """

    steps: int
    hours: float
    start: datetime = EPOCH
    variables: list[Variable] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    pairs: list[ExclusivePair] = field(default_factory=list)
    soft_limits: list[SoftLimit] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    goal: list[tuple[IndexArray, FloatArray]] = field(default_factory=list)
    preferences: list[tuple[IndexArray, FloatArray]] = field(default_factory=list)
    suggestions: list[Suggestion] = field(default_factory=list)
    largest_price_eur_per_kwh: float = 0.0
    column_count: int = 0
    constant_costs: dict[str, float] = field(default_factory=dict)
    supply_max: FloatArray = field(init=False)
    demand_max: FloatArray = field(init=False)
    injections: list[tuple[IndexArray, FloatArray]] = field(default_factory=list)
    fixed_kw: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.supply_max = np.zeros(self.steps)
        self.demand_max = np.zeros(self.steps)

    def full(self, value: Numbers, size: int | None = None) -> FloatArray:
        """`value` as an array of `size` (default: one a step)."""
        return np.array(np.broadcast_to(np.asarray(value, dtype=np.float64), self.steps if size is None else size))

    def variable(
        self,
        asset_id: str,
        quantity: str,
        meaning: str,
        *,
        lower: Numbers = 0.0,
        upper: Numbers = np.inf,
        size: int | None = None,
        integer: bool = False,
        safe: FloatArray | None = None,
        rounded: Callable[[FloatArray], FloatArray] | None = None,
    ) -> Variable:
        """Add a family of variables (default: one a step)."""
        count = self.steps if size is None else size
        columns = np.arange(self.column_count, self.column_count + count, dtype=np.int64)
        self.column_count += count
        bounds = self.full(lower, count), self.full(upper, count)
        made = Variable(asset_id, quantity, meaning, columns, *bounds, integer, safe, rounded)
        self.variables.append(made)
        return made

    def constrain(
        self,
        asset_id: str,
        name: str,
        meaning: str,
        terms: Sequence[tuple[Numbers, IndexArray]],
        *,
        lower: Numbers = -np.inf,
        upper: Numbers = np.inf,
    ) -> None:
        """Add constraints of one row for each position: ``lower <= sum(coefficient * column) <= upper``.

        A column of -1 (see :meth:`Variable.before`) drops out of its row.
        """
        count = terms[0][1].size
        rows, columns, coefficients = [], [], []
        for coefficient, column in terms:
            there = np.flatnonzero(column >= 0)
            rows.append(there)
            columns.append(column[there])
            coefficients.append(self.full(coefficient, count)[there])
        self.rows.append(
            Rows(
                asset_id,
                name,
                meaning,
                np.concatenate(rows),
                np.concatenate(columns),
                np.concatenate(coefficients),
                self.full(lower, count),
                self.full(upper, count),
            )
        )

    def constrain_sum(
        self,
        asset_id: str,
        name: str,
        meaning: str,
        terms: Sequence[tuple[Numbers, IndexArray]],
        *,
        lower: float = -np.inf,
        upper: float = np.inf,
    ) -> None:
        """Add a single constraint over the sum of all terms and positions."""
        columns = np.concatenate([column for _, column in terms])
        coefficients = np.concatenate([self.full(coefficient, column.size) for coefficient, column in terms])
        self.rows.append(
            Rows(
                asset_id,
                name,
                meaning,
                np.zeros(columns.size, dtype=np.int64),
                columns,
                coefficients,
                np.array([lower]),
                np.array([upper]),
            )
        )

    def constrain_sparse(
        self,
        asset_id: str,
        name: str,
        meaning: str,
        entries: Sequence[tuple[IndexArray, IndexArray, Numbers]],
        *,
        lower: FloatArray,
        upper: FloatArray,
    ) -> None:
        """Add constraints given by their entries: ``(rows, columns, coefficients)``."""
        row = np.concatenate([rows for rows, _, _ in entries]).astype(np.int64)
        column = np.concatenate([columns for _, columns, _ in entries])
        coefficient = np.concatenate([self.full(value, columns.size) for _, columns, value in entries])
        there = column >= 0
        self.rows.append(Rows(asset_id, name, meaning, row[there], column[there], coefficient[there], lower, upper))

    def cost(self, part: str, columns: IndexArray, eur_per_unit: Numbers, *, penalty: bool = False) -> None:
        """Add a cost term under the name `part`."""
        self.costs.append(Cost(part, columns, self.full(eur_per_unit, columns.size), penalty))

    def constant_cost(self, part: str, eur: float) -> None:
        """Add money that no decision changes."""
        self.constant_costs[part] = self.constant_costs.get(part, 0.0) + eur

    def prefer(self, columns: IndexArray, weight: Numbers) -> None:
        """Among plans of the same cost, prefer those in which the weighted sum of these columns is small."""
        self.preferences.append((columns, self.full(weight, columns.size)))

    def suggest(self, moves: Suggestion) -> None:
        """Declare how decisions of a block may be changed, one move at a time."""
        self.suggestions.append(moves)

    def dominant(self, eur_per_kwh: float) -> float:
        """Price of a soft limit (EUR/kWh): `eur_per_kwh`, or more where the problem's own prices are higher."""
        return max(eur_per_kwh, DOMINANCE * self.largest_price_eur_per_kwh)

    def inject(self, columns: IndexArray, sign: Numbers) -> None:
        """Let each unit of a variable flow into the busbar with `sign` kW (+1 in, -1 out)."""
        self.injections.append((columns, self.full(sign)))

    def inject_fixed(self, power_kw: FloatArray, owner: str) -> None:
        """Let a given power of `owner` flow into the busbar (kW, positive in)."""
        self.fixed_kw[owner] = self.fixed_kw.get(owner, np.zeros(self.steps)) + power_kw

    def owner_of(self, column: int) -> str:
        """Asset whose variable a column is."""
        starts = [int(variable.columns[0]) for variable in self.variables]
        return self.variables[int(np.searchsorted(starts, column, side="right")) - 1].asset_id

    def close_busbar(self) -> None:
        """Balance the busbar, after every block has contributed."""
        fixed = sum(self.fixed_kw.values(), np.zeros(self.steps))
        self.constrain(
            "busbar",
            "balance",
            "what flows into the busbar flows out of it",
            [(coefficient, columns) for columns, coefficient in self.injections],
            lower=-fixed,
            upper=-fixed,
        )

    def exclude(
        self,
        first: Variable,
        second: Variable,
        first_max: FloatArray,
        second_max: FloatArray,
        meaning: str,
        *,
        in_order: bool = False,
    ) -> None:
        """Declare that `first` and `second` are never above zero at once."""
        self.pairs.append(ExclusivePair(first, second, first_max, second_max, meaning, in_order))

    def exclude_parts(self, first: Variable, second: Variable, size: int, meaning: str) -> None:
        """As :meth:`exclude`, for the first `size` positions, with the variables' own upper bounds."""
        self.exclude(_head(first, size), _head(second, size), first.upper[:size], second.upper[:size], meaning)

    def soft_limit(self, code: str, variable: Variable, unit: str, meaning: str) -> None:
        """Declare that `variable` above zero is a violation to be named."""
        self.soft_limits.append(SoftLimit(code, variable.asset_id, variable, unit, meaning))

    def output(self, asset_id: str, quantity: str, compute: Callable[[FloatArray], FloatArray]) -> None:
        """Declare a series of the result."""
        self.outputs.append(Output(asset_id, quantity, compute))

    def cost_vector(self, *, money: bool = True, penalties: bool = True) -> FloatArray:
        """EUR for a unit of each column."""
        total = np.zeros(self.column_count)
        for cost in self.costs:
            if penalties if cost.penalty else money:
                np.add.at(total, cost.columns, cost.coefficient)
        return total

    def goal_vector(self) -> FloatArray:
        """kWh of the dominating goal for a unit of each column; all zero when there is none."""
        total = np.zeros(self.column_count)
        for columns, coefficient in self.goal:
            np.add.at(total, columns, coefficient)
        return total

    def preference_vector(self) -> FloatArray:
        """Weight of each column among plans of the same cost; all zero when there is no preference."""
        total = np.zeros(self.column_count)
        for columns, weight in self.preferences:
            np.add.at(total, columns, weight)
        return total

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bound of each column."""
        if not self.variables:
            return np.zeros(0), np.zeros(0)
        return (
            np.concatenate([variable.lower for variable in self.variables]),
            np.concatenate([variable.upper for variable in self.variables]),
        )

    def integers(self) -> IndexArray:
        """Columns that may only be whole."""
        parts = [variable.columns for variable in self.variables if variable.integer]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _head(variable: Variable, size: int) -> Variable:
    return replace(variable, columns=variable.columns[:size], lower=variable.lower[:size], upper=variable.upper[:size])


def limit_to_send(wanted_kw: FloatArray, held_back_kw: FloatArray, rated_kw: float | None) -> FloatArray:
    """Limit for an asset (kW): the planned power where it is held back, else its rating, which restricts nothing."""
    free = wanted_kw if rated_kw is None else np.maximum(wanted_kw, rated_kw)
    return np.where(held_back_kw > HELD_BACK_KW, wanted_kw - held_back_kw, free)
