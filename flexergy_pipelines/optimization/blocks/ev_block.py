"""A charging manager's EVs as one load that can be held below what they ask for."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.board import Board, limit_to_send
from flexergy_pipelines.optimization.series import expand
from flexergy_pipelines.optimization.specs_ev import EvBlock


def add_ev_block(board: Board, block: EvBlock) -> None:
    """Contribute one EV block: ``power = asked - unmet``; unmet energy is priced and named."""
    name = block.id
    asked = np.array(expand(block.power_kw, board.steps))
    board.inject_fixed(-asked, name)
    board.demand_max = board.demand_max + asked
    served = np.maximum(asked * block.min_fraction, np.minimum(asked, block.min_kw))
    unmet = board.variable(
        name, "unmet_kw", f"power that the EVs at {name} ask for and don't get", upper=asked - served
    )
    board.inject(unmet.columns, +1.0)
    board.cost("ev_unmet", unmet.columns, block.unmet_price_eur_per_kwh * board.hours, penalty=True)
    board.soft_limit("ev_unmet", unmet, "kW", f"EVs at {name} get less than they ask for")
    board.output(name, "active_power_kw", lambda x: asked - x[unmet.columns])
    board.output(name, "active_power_limit_kw", lambda x: limit_to_send(asked, x[unmet.columns], block.rated_kw))
    board.output(name, "unmet_kw", lambda x: x[unmet.columns])
