"""PV and wind: what is available, and what of it is held back."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.board import Board, limit_to_send
from flexergy_pipelines.optimization.series import expand
from flexergy_pipelines.optimization.specs import Renewable


def add_renewable(board: Board, source: Renewable, *, keep_energy: bool) -> None:
    """Contribute one PV plant or wind turbine.

    Parameters
    ----------
    keep_energy : bool
        Count curtailed energy in the plan's dominating goal (self-consumption).
    """
    name = source.id
    available = np.array(expand(source.available_kw, board.steps))
    board.inject_fixed(available)
    board.supply_max = board.supply_max + available
    if not source.curtailable:
        board.output(name, "active_power_kw", lambda _: available)
        return
    curtailed = board.variable(name, "curtailed_kw", f"power of {name} held back", upper=available)
    board.inject(curtailed.columns, -1.0)
    if source.curtailment_price_eur_per_kwh > 0:
        board.cost("curtailment", curtailed.columns, source.curtailment_price_eur_per_kwh * board.hours)
    if keep_energy:
        board.goal.append((curtailed.columns, board.full(board.hours)))
    board.output(name, "active_power_kw", lambda x: available - x[curtailed.columns])
    board.output(
        name, "active_power_limit_kw", lambda x: limit_to_send(available, x[curtailed.columns], source.rated_kw)
    )
    board.output(name, "curtailed_kw", lambda x: x[curtailed.columns])
