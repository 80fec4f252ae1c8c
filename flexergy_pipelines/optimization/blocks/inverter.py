"""Active and reactive power of inverters together, and the reactive power asked for at the connection."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from flexergy_pipelines.optimization.blocks.grid_connection import GridVariables
from flexergy_pipelines.optimization.blocks.pieces import Terms, add_pieces, slopes
from flexergy_pipelines.optimization.board import Board, Numbers, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import Load
from flexergy_pipelines.optimization.specs_reactive import Inverter, ReactiveSupport

INVERTER_PRICE_EUR_PER_KVAH = 70.0


def add_inverter(
    board: Board, asset_id: str, inverter: Inverter, active: Terms, given_kw: Numbers = 0.0, *, reactive: bool
) -> Variable | None:
    """Contribute an inverter's capability.

    Parameters
    ----------
    active : list of (coefficient, columns)
        Its active power (kW), beside `given_kw`.
    reactive : bool
        Whether reactive power is planned; otherwise the rating limits active power alone.

    Returns
    -------
    Variable or None
        Its reactive power (kvar, positive into the busbar).
    """
    rating, given = inverter.apparent_power_kva, board.full(given_kw)
    over = board.variable(asset_id, "apparent_excess_kva", f"power of {asset_id} beyond its inverter's rating")
    board.cost("violations", over.columns, board.dominant(INVERTER_PRICE_EUR_PER_KVAH) * board.hours, penalty=True)
    board.soft_limit("inverter_rating", over, "kVA", f"inverter of {asset_id} exceeds its rating")
    meaning = f"rating of the inverter of {asset_id}"
    if not reactive:
        for sign, name in ((1.0, "rating"), (-1.0, "rating_back")):
            terms = [(sign * np.asarray(c), columns) for c, columns in active]
            board.constrain(asset_id, name, meaning, [*terms, (-1.0, over.columns)], upper=rating - sign * given)
        return None
    most = inverter.max_reactive_share * rating
    q = board.variable(asset_id, "reactive_kvar", f"reactive power of {asset_id}", lower=-most, upper=most)
    board.output(asset_id, "reactive_power_kvar", lambda x: x[q.columns])
    if inverter.capability == "rectangle":
        for sign, name in ((1.0, "rating"), (-1.0, "rating_back")):
            terms = [(sign * np.asarray(c), columns) for c, columns in active]
            board.constrain(asset_id, name, meaning, [*terms, (-1.0, over.columns)], upper=rating - sign * given)
        return q
    # A polygon with its corners on the circle: each side is a half plane at distance S cos(pi / n).
    count = inverter.corners
    middle = 2 * np.pi * (np.arange(count) + 0.5) / count
    distance = rating * np.cos(np.pi / count)
    for side, angle in enumerate(middle.tolist()):
        terms = [(np.cos(angle) * np.asarray(c), columns) for c, columns in active]
        terms += [(float(np.sin(angle)), q.columns), (-1.0, over.columns)]
        board.constrain(asset_id, f"capability_{side}", meaning, terms, upper=distance - np.cos(angle) * given)
    return q


def add_reactive_support(
    board: Board,
    support: ReactiveSupport,
    grid: GridVariables,
    units: Sequence[Variable],
    loads: Sequence[Load],
) -> None:
    """Meet what the system operator asks for at the connection with the units' reactive power.

    ``sum(units) - loads + short - excess = required``, with what is required a number, a share of the active power or
    a curve over it.
    """
    name = support.id
    drawn = sum((expand(load.reactive_kvar, board.steps) for load in loads), np.zeros(board.steps))
    short = board.variable(name, "short_kvar", "reactive power asked for that nothing gives")
    excess = board.variable(name, "excess_kvar", "reactive power beyond what is asked for")
    for slack in (short, excess):
        board.cost("violations", slack.columns, support.shortfall_price_eur_per_kvarh * board.hours, penalty=True)
        board.soft_limit("reactive_support", slack, "kvar", "reactive power at the connection is not as asked for")
    terms: Terms = [(1.0, unit.columns) for unit in units]
    terms += [(1.0, short.columns), (-1.0, excess.columns)]
    required, by_power = _required(board, support, grid)
    terms += [(-np.asarray(coefficient), columns) for coefficient, columns in by_power]
    meaning = "reactive power at the connection is what the system operator asks for"
    board.constrain(name, "required", meaning, terms, lower=required + drawn, upper=required + drawn)
    # Among plans of the same cost, no more reactive power than needed.
    for unit in units:
        size = board.variable(unit.asset_id, "reactive_size_kvar", f"size of the reactive power of {unit.asset_id}")
        for sign, row in ((1.0, "reactive_size"), (-1.0, "reactive_size_back")):
            board.constrain(
                unit.asset_id, row, "size of reactive power", [(1.0, size.columns), (sign, unit.columns)], lower=0.0
            )
        board.prefer(size.columns, 1e-3)
    board.output(
        name,
        "delivered_kvar",
        lambda x: sum((x[unit.columns] for unit in units), np.zeros(board.steps)) - drawn,
    )


def _required(board: Board, support: ReactiveSupport, grid: GridVariables) -> tuple[FloatArray, Terms]:
    """What is asked for: a given part, and one that follows the active power at the connection."""
    if support.mode == "fixed":
        return expand(support.fixed_kvar, board.steps).copy(), []
    if support.mode == "cos_phi":
        share = float(np.tan(np.arccos(support.cos_phi))) * (1.0 if support.supplies else -1.0)
        return np.zeros(board.steps), [(share, flow.columns) for flow in (*grid.imports, *grid.exports)]
    points = [(point.at, point.reactive) for point in support.curve]
    if support.mode == "q_of_u":
        voltage = expand(support.voltage_pu, board.steps)
        return support.rated_kw * np.interp(voltage, [at for at, _ in points], [value for _, value in points]), []
    exported: Terms = [(1.0, flow.columns) for flow in grid.exports]
    exported += [(-1.0, flow.columns) for flow in grid.imports]
    lowest = -float(sum((flow.upper for flow in grid.imports), np.zeros(board.steps)).max())
    highest = float(sum((flow.upper for flow in grid.exports), np.zeros(board.steps)).max())
    curve = [(at * support.rated_kw, value * support.rated_kw) for at, value in points]
    # Flat beyond the ends, as far as power can go.
    curve = ([(lowest, curve[0][1])] if lowest < curve[0][0] else []) + curve
    curve += [(highest, curve[-1][1])] if highest > curve[-1][0] else []
    pieces = add_pieces(
        board,
        support.id,
        "power_piece",
        "active power at the connection",
        exported,
        widths=[high[0] - low[0] for low, high in pairwise(curve)],
        ordered=True,
        fixed=-curve[0][0],
    )
    return board.full(curve[0][1]), [
        (gradient, piece.columns) for gradient, piece in zip(slopes(curve), pieces, strict=True)
    ]
