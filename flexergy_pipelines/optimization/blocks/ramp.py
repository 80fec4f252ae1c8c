"""Fastest change of a power from step to step; soft, with the excess named."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.board import Board, IndexArray, earlier

RAMP_PRICE_EUR_PER_KW_H = 30.0


def add_ramp(
    board: Board,
    asset_id: str,
    power: list[tuple[float, IndexArray]],
    *,
    ramp_kw_per_minute: float,
    start_kw: float | None,
) -> None:
    """Keep the sum of `power` from changing faster than its ramp.

    Parameters
    ----------
    power : list of (coefficient, columns)
        What makes up the power (kW).
    ramp_kw_per_minute : float
        Fastest change; over a step it is the change of the mean power that counts.
    start_kw : float or None
        Power before the horizon; None leaves the first step free.
    """
    ramp = ramp_kw_per_minute * 60 * board.hours
    over = board.variable(asset_id, "ramp_excess_kw", f"change of {asset_id} beyond its ramp")
    board.cost("violations", over.columns, board.dominant(RAMP_PRICE_EUR_PER_KW_H) * board.hours, penalty=True)
    board.soft_limit("ramp", over, "kW", f"{asset_id} changes its power faster than its ramp allows")
    change = [*power, *((-coefficient, earlier(columns)) for coefficient, columns in power)]
    upper, lower = board.full(ramp), board.full(-ramp)
    if start_kw is None:
        upper[0], lower[0] = np.inf, -np.inf
    else:
        upper[0], lower[0] = start_kw + ramp, start_kw - ramp
    board.constrain(asset_id, "ramp_up", f"fastest rise of {asset_id}", [*change, (-1.0, over.columns)], upper=upper)
    board.constrain(asset_id, "ramp_down", f"fastest fall of {asset_id}", [*change, (1.0, over.columns)], lower=lower)
