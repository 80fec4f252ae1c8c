"""Many futures on one board, with the same decisions where they are taken before it is known which one comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flexergy_pipelines.optimization.board import Board, Rows
from flexergy_pipelines.optimization.series import FloatArray

NOW_QUANTITIES = ("on", "up_bid_kw", "down_bid_kw")


@dataclass(frozen=True, slots=True)
class Risk:
    """Weight of CVaR in the objective, and the share of the scenarios it leaves out."""

    weight: float
    level: float


def side_by_side(boards: Sequence[Board], weights: FloatArray, risk: Risk) -> Board:
    """One board with every scenario on it, the same decisions in all, and the objective over all of them."""
    merged = Board(boards[0].steps, boards[0].hours)
    for number, (board, weight) in enumerate(zip(boards, weights, strict=True)):
        _append(merged, board, number, float(weight) * (1.0 - risk.weight), float(weight))
    now = {
        variable.name.removeprefix("0/"): variable
        for variable in merged.variables
        if variable.asset_id.startswith("0/") and variable.quantity in NOW_QUANTITIES
    }
    for variable in list(merged.variables):
        number, _, name = variable.name.partition("/")
        if number != "0" and variable.quantity in NOW_QUANTITIES:
            merged.constrain(
                variable.asset_id,
                f"{variable.quantity}_now",
                f"{name} is decided before it is known how the day turns out",
                [(1.0, variable.columns), (-1.0, now[name].columns)],
                lower=0.0,
                upper=0.0,
            )
    if risk.weight == 0:
        return merged
    edge = merged.variable("risk", "edge_eur", "cost that the worst scenarios exceed", lower=-np.inf, size=1)
    beyond = merged.variable("risk", "beyond_eur", "cost of a scenario beyond that", size=len(boards))
    merged.cost("risk", edge.columns, risk.weight)
    merged.cost("risk", beyond.columns, risk.weight * weights / (1.0 - risk.level))
    offset = 0
    for number, board in enumerate(boards):
        costs = board.cost_vector()
        priced = np.flatnonzero(costs)
        constant = sum(board.constant_costs.values())
        merged.constrain_sum(
            f"{number}/risk",
            "beyond",
            "cost of the scenario beyond the edge",
            [(costs[priced], priced + offset), (-1.0, edge.columns), (-1.0, beyond.columns[number : number + 1])],
            upper=-constant,
        )
        offset += board.column_count
    return merged


def _append(merged: Board, board: Board, number: int, cost_weight: float, goal_weight: float) -> None:
    """Put a scenario's board behind what is there; its assets are named ``<number>/<asset>``."""
    offset = merged.column_count
    merged.column_count += board.column_count
    merged.variables += [
        replace(
            variable,
            asset_id=f"{number}/{variable.asset_id}",
            columns=variable.columns + offset,
            rounded=None if variable.rounded is None else _of_part(variable.rounded, offset, board.column_count),
        )
        for variable in board.variables
    ]
    merged.rows += [
        Rows(f"{number}/{rows.asset_id}", rows.name, rows.meaning, rows.row, rows.column + offset, rows.coefficient,
             rows.lower, rows.upper)
        for rows in board.rows
    ]  # fmt: skip
    for pair in board.pairs:
        merged.pairs.append(
            replace(
                pair,
                first=replace(pair.first, columns=pair.first.columns + offset),
                second=replace(pair.second, columns=pair.second.columns + offset),
            )
        )
    merged.costs += [
        replace(cost, columns=cost.columns + offset, coefficient=cost.coefficient * cost_weight) for cost in board.costs
    ]
    merged.goal += [(columns + offset, coefficient * goal_weight) for columns, coefficient in board.goal]


def _of_part(rounded: Callable[[FloatArray], FloatArray], first: int, count: int) -> Callable[[FloatArray], FloatArray]:
    """A scenario's own rounding, from the values of all scenarios."""
    return lambda x: rounded(x[first : first + count])
