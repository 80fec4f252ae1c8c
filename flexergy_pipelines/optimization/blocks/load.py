"""Consumption that can't be moved, and the last resort where nothing can supply it."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.board import Board
from flexergy_pipelines.optimization.series import expand
from flexergy_pipelines.optimization.specs import Load

UNSERVED_PRICE_EUR_PER_KWH = 1000.0
SURPLUS_PRICE_EUR_PER_KWH = 100.0
# Shedding load comes last: dearer than every other soft limit, also where these grow with the problem's prices.
UNSERVED_TO_OTHER_LIMITS = 10.0


def add_load(board: Board, load: Load) -> None:
    """Contribute one load."""
    power = np.array(expand(load.power_kw, board.steps))
    board.inject_fixed(-power, load.id)
    board.demand_max = board.demand_max + power
    board.output(load.id, "active_power_kw", lambda _: power)


def shed_price_eur_per_kwh(board: Board) -> float:
    """Price of a kilowatt-hour of load that is shed."""
    other = board.dominant(SURPLUS_PRICE_EUR_PER_KWH)
    return max(UNSERVED_PRICE_EUR_PER_KWH, UNSERVED_TO_OTHER_LIMITS * other)


def add_last_resort(board: Board) -> None:
    """Keep a site without a public grid solvable: load that can't be served, energy that can't go anywhere."""
    unserved = board.variable(
        "busbar", "unserved_kw", "load that nothing can supply", upper=np.maximum(board.demand_max, 0.0)
    )
    surplus = board.variable("busbar", "surplus_kw", "power that nothing can take", upper=board.supply_max)
    board.inject(unserved.columns, +1.0)
    board.inject(surplus.columns, -1.0)
    board.cost("violations", unserved.columns, shed_price_eur_per_kwh(board) * board.hours, penalty=True)
    board.cost("violations", surplus.columns, board.dominant(SURPLUS_PRICE_EUR_PER_KWH) * board.hours, penalty=True)
    board.soft_limit("unserved_load", unserved, "kW", "load is not served: nothing can supply it")
    board.soft_limit("surplus", surplus, "kW", "generation can neither be used, stored nor curtailed")
    board.output("busbar", "unserved_kw", lambda x: x[unserved.columns])
    board.output("busbar", "surplus_kw", lambda x: x[surplus.columns])
