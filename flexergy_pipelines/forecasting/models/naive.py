"""Seasonal naive and persistence: the bar every model has to clear, and the last to fall back on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.features import lag_days
from flexergy_pipelines.forecasting.timegrid import wall_lag

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs, Rows
    from flexergy_pipelines.forecasting.models.base import Table
    from flexergy_pipelines.forecasting.timegrid import Floats

NAIVE_NAMES = ("naive_week", "naive_day", "persistence")


class Naive:
    """A forecast by an old value of the series itself.

    Parameters
    ----------
    name : str
        ``naive_week``: same clock time a week (or the fewest known weeks) ago; ``naive_day``: of the newest known day;
        ``persistence``: the newest known value.
    """

    def __init__(self, name: str) -> None:
        if name not in NAIVE_NAMES:
            raise ValueError(f"naive model {name!r} is not one of {', '.join(NAIVE_NAMES)}")
        self.name = name

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        """Nothing to learn."""

    def predict(self, table: Table, inputs: Inputs) -> Floats:
        return self.forecast(table.rows, inputs)

    def forecast(self, rows: Rows, inputs: Inputs) -> Floats:
        past = inputs.past
        if self.name == "persistence":
            return past.last_known(rows.issue)
        first = lag_days(rows, past)
        stride = 7 if self.name == "naive_week" else 1
        days = -(-first // stride) * stride
        out = np.full(len(rows), np.nan)
        for back in range(5):
            missing = np.isnan(out)
            if not missing.any():
                break
            lag = days + back * stride
            value = past.at(wall_lag(rows.valid, lag, past.target.time_zone), rows.issue)
            out[missing] = value[missing]
        return out
