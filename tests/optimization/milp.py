"""A plain mixed-integer program in scipy, and piecewise-linear functions by weights of their points.

Written apart from the product: no block, no relaxation, no reuse; every either-or is a binary from the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import milp
from scipy.sparse import coo_array

Expression = Mapping[int, float]


def add(*parts: tuple[float, Expression]) -> dict[int, float]:
    """Weighted sum of linear expressions."""
    total: dict[int, float] = {}
    for weight, expression in parts:
        for column, value in expression.items():
            total[column] = total.get(column, 0.0) + weight * value
    return total


class Milp:
    """Least cost over variables, each an index; expressions map indices to coefficients."""

    def __init__(self) -> None:
        self.low: list[float] = []
        self.high: list[float] = []
        self.whole: list[bool] = []
        self.cost: list[float] = []
        self.rows: list[tuple[Expression, float, float]] = []
        self.constant = 0.0

    def var(
        self, upper: float = np.inf, *, lower: float = 0.0, cost: float = 0.0, whole: bool = False
    ) -> dict[int, float]:
        """A new variable, as an expression."""
        self.low.append(lower)
        self.high.append(upper)
        self.whole.append(whole)
        self.cost.append(cost)
        return {len(self.low) - 1: 1.0}

    def binary(self, cost: float = 0.0) -> dict[int, float]:
        return self.var(1.0, cost=cost, whole=True)

    def keep(self, expression: Expression, lower: float, upper: float) -> None:
        self.rows.append((expression, lower, upper))

    def equal(self, expression: Expression, value: float = 0.0) -> None:
        self.keep(expression, value, value)

    def most(self, expression: Expression, value: float = 0.0) -> None:
        self.keep(expression, -np.inf, value)

    def least(self, expression: Expression, value: float = 0.0) -> None:
        self.keep(expression, value, np.inf)

    def price(self, expression: Expression, eur_per_unit: float) -> None:
        for column, value in expression.items():
            self.cost[column] += eur_per_unit * value

    def either(self, first: Expression, first_most: float, second: Expression, second_most: float) -> None:
        """Only one of two is above zero."""
        choice = self.binary()
        self.most(add((1, first), (-first_most, choice)))
        self.most(add((1, second), (second_most, choice)), second_most)

    def curve(self, place: Expression, points: Sequence[tuple[float, float]]) -> dict[int, float]:
        """The value of a piecewise-linear function: weights of points, of which two neighbours are above zero."""
        weights = [self.var(1.0) for _ in points]
        pieces = [self.binary() for _ in points[1:]]
        self.equal(add(*((1.0, weight) for weight in weights)), 1.0)
        self.equal(add(*((1.0, piece) for piece in pieces)), 1.0)
        for number, weight in enumerate(weights):
            around = [pieces[k] for k in (number - 1, number) if 0 <= k < len(pieces)]
            self.most(add((1.0, weight), *((-1.0, piece) for piece in around)))
        self.equal(add((-1.0, place), *((point[0], weight) for point, weight in zip(points, weights, strict=True))))
        return add(*((point[1], weight) for point, weight in zip(points, weights, strict=True)))

    def optimum(self) -> float:
        entries = [(k, c, v) for k, (row, _, _) in enumerate(self.rows) for c, v in row.items()]
        place = [entry[0] for entry in entries], [entry[1] for entry in entries]
        matrix = coo_array(([entry[2] for entry in entries], place), shape=(len(self.rows), len(self.low)))
        result = milp(
            np.array(self.cost),
            integrality=np.array(self.whole, dtype=float),
            bounds=(np.array(self.low), np.array(self.high)),
            constraints=(matrix.tocsr(), np.array([r[1] for r in self.rows]), np.array([r[2] for r in self.rows])),
            options={"mip_rel_gap": 0.0},
        )
        assert result.status == 0, result.message
        return float(result.fun) + self.constant
