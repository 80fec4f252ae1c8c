"""A declared delivery, and the price of deviating from it."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.series import expand
from flexergy_pipelines.optimization.specs_market import DeclaredProfile


def add_profile(
    board: Board, grid_id: str, profile: DeclaredProfile, imports: list[Variable], exports: list[Variable]
) -> tuple[Variable, Variable]:
    """Price what the grid connection delivers beyond and short of the profile.

    ``export - import = profile + over - under + within``, with ``|within| <= free_band_kw``.
    Returns the variables of both deviations.
    """
    declared = expand(profile.power_kw, board.steps)
    over = board.variable(grid_id, "over_profile_kw", "delivery beyond the declared profile")
    under = board.variable(grid_id, "under_profile_kw", "delivery short of the declared profile")
    terms = [
        *((1.0, flow.columns) for flow in exports),
        *((-1.0, flow.columns) for flow in imports),
        (-1.0, over.columns),
        (1.0, under.columns),
    ]
    if profile.free_band_kw > 0:
        within = board.variable(
            grid_id,
            "within_band_kw",
            "deviation from the declared profile that costs nothing",
            lower=-profile.free_band_kw,
            upper=profile.free_band_kw,
        )
        terms.append((-1.0, within.columns))
    board.constrain(grid_id, "profile", "delivery follows the declared profile", terms, lower=declared, upper=declared)
    board.cost("deviation", over.columns, expand(profile.over_price_eur_per_kwh, board.steps) * board.hours)
    board.cost("deviation", under.columns, expand(profile.under_price_eur_per_kwh, board.steps) * board.hours)
    board.output(grid_id, "deviation_kw", lambda x: x[over.columns] - x[under.columns])
    board.output(grid_id, "declared_kw", lambda _: np.array(declared))
    return over, under
