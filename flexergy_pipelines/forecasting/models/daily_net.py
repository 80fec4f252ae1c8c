"""A small neural network that sets all 24 hours of a day at once from the same inputs as LEAR."""

# ruff: noqa: ARG002 - one interface for all models; not every model needs all that it is given
from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flexergy_pipelines.forecasting.models.daily import Days, Squash, day_rows
from flexergy_pipelines.forecasting.models.lear import (
    day_shapes,
    hourly_columns,
    lag_and_lead,
    prepared,
    training_days,
)
from flexergy_pipelines.forecasting.timegrid import DAY, local_offset

if TYPE_CHECKING:
    from sklearn.neural_network import MLPRegressor

    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.models.base import Table
    from flexergy_pipelines.forecasting.timegrid import Floats

MIN_DAYS = 180
MOST_DAYS = 1460
NETS = 3
EPOCHS = 40


@dataclass
class _Ensemble:
    """Nets that differ by their seed only, and the scaling of their inputs and outputs."""

    squash: Squash
    mean: Floats
    scale: Floats
    fill: Floats
    nets: list[MLPRegressor]

    def predict(self, X: Floats) -> Floats:
        filled = prepared(X, self.squash, self.fill, hourly_columns())
        standard = np.clip((filled - self.mean) / self.scale, -4.0, 4.0)
        return self.squash.back(np.mean([np.asarray(net.predict(standard)) for net in self.nets], axis=0))


class DailyNet:
    """Perceptron with two hidden layers, averaged over a few seeds: the deep network of Lago and others [1]_ in small.

    References
    ----------
    .. [1] J. Lago, F. De Ridder, B. De Schutter, "Forecasting spot electricity prices: deep learning approaches and
       empirical comparison of traditional algorithms", Applied Energy 221, 2018.
    """

    name = "daily_net"

    def __init__(self) -> None:
        self.sets: dict[int, _Ensemble] = {}

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        self.sets = {}
        for lag, lead in day_shapes(table, inputs):
            days = training_days(inputs, lag, lead, MOST_DAYS)
            if days.Y.shape[0] < MIN_DAYS:
                raise ValueError(f"{inputs.target.name}: {days.Y.shape[0]} whole days, {MIN_DAYS} needed for the net")
            self.sets[lag] = _fit(days, seed)

    def predict(self, table: Table, inputs: Inputs) -> Floats:
        out = np.full(len(table), np.nan)
        rows, zone = table.rows, inputs.target.time_zone
        local = rows.valid + local_offset(rows.valid, zone)
        day, hour = local // DAY, local % DAY // 60
        lags, leads = lag_and_lead(rows.issue, day, inputs)
        keys = np.stack([rows.issue, day, lags, leads], axis=1)
        unique, inverse = np.unique(keys, axis=0, return_inverse=True)
        for k, (issue, local_day, lag, lead) in enumerate(unique):
            ensemble = self.sets.get(int(lag))
            if ensemble is None:
                continue
            known = inputs.known_at(int(issue))
            days = day_rows(known, np.array([local_day], dtype=np.int64), int(lag), int(lead))
            chosen = inverse.reshape(-1) == k
            out[chosen] = ensemble.predict(days.X)[0][hour[chosen]]
        return out


def _fit(days: Days, seed: int) -> _Ensemble:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    squash = Squash.of(days.Y)
    squashed = days.X.copy()
    squashed[:, : hourly_columns()] = squash.forward(days.X[:, : hourly_columns()])
    good = np.isfinite(squashed)
    fill = np.where(good, squashed, 0.0).sum(axis=0) / np.maximum(good.sum(axis=0), 1)
    X = np.where(good, squashed, fill)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    Y = squash.forward(days.Y)
    hour_mean = np.where(np.isfinite(Y), Y, 0.0).sum(axis=0) / np.maximum(np.isfinite(Y).sum(axis=0), 1)
    Y = np.where(np.isfinite(Y), Y, hour_mean)
    standard = np.clip((X - mean) / scale, -4.0, 4.0)
    nets: list[MLPRegressor] = []
    with warnings.catch_warnings():
        # so few epochs are on purpose: more of them overfit a few years of days
        warnings.simplefilter("ignore", ConvergenceWarning)
        for k in range(NETS):
            options: dict[str, Any] = {"batch_size": 32, "max_iter": EPOCHS, "random_state": seed + k}
            net = MLPRegressor(hidden_layer_sizes=(160, 80), alpha=3.0, **options)
            nets.append(net.fit(standard, Y))
    return _Ensemble(squash, mean, scale, fill, nets)
