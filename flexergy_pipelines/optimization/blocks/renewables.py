"""PV and wind: what is available, and what of it is held back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flexergy_pipelines.optimization.board import Board, Variable, limit_to_send
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import Renewable


@dataclass(frozen=True, slots=True)
class RenewableVariables:
    """What other blocks build on: power available, and what of it is held back (None where that isn't allowed)."""

    source: Renewable
    available_kw: FloatArray
    curtailed: Variable | None


def add_renewable(board: Board, source: Renewable, *, keep_energy: bool) -> RenewableVariables:
    """Contribute one PV plant or wind turbine.

    Parameters
    ----------
    keep_energy : bool
        Count curtailed energy in the plan's dominating goal (self-consumption).
    """
    name = source.id
    available = np.array(expand(source.available_kw, board.steps))
    board.inject_fixed(available, name)
    board.supply_max = board.supply_max + available
    if not source.curtailable:
        board.output(name, "active_power_kw", lambda _: available)
        return RenewableVariables(source, available, None)
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
    return RenewableVariables(source, available, curtailed)
