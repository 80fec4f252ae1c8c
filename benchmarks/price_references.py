"""The two reference models of day-ahead prices in their plain form, to compare ours with; written apart from ours.

After J. Lago, G. Marcjasz, B. De Schutter, R. Weron, "Forecasting day-ahead electricity prices", Applied Energy 293,
2021: LEAR is one lasso an hour (penalty by Akaike's criterion along the LARS path) on prices of 1, 2, 3 and 7 days
before, the exogenous forecasts of the day, the day before and the week before, and weekdays, averaged over windows of
56, 84, 1092 and 1456 days; the deep network takes the same inputs, has two hidden layers and is averaged over four
runs.
Prices pass through an area hyperbolic sine.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WINDOWS = (56, 84, 1092, 1456)


def daily_design(price: Floats, exogenous: Floats) -> tuple[Floats, Floats]:
    """Inputs and outputs of whole days.

    Parameters
    ----------
    price : ndarray, shape (days, 24)
    exogenous : ndarray, shape (k, days, 24)

    Returns
    -------
    X : ndarray, shape (days, features)
        NaN in the first week.
    Y : ndarray, shape (days, 24)
    """

    def back(values: Floats, days: int) -> Floats:
        out = np.full(values.shape, np.nan)
        out[days:] = values[: values.shape[0] - days]
        return out

    days = np.arange(price.shape[0])
    parts = [back(price, lag) for lag in (1, 2, 3, 7)]
    parts += [back(values, lag) for values in exogenous for lag in (1, 7)]
    parts += list(exogenous)
    parts.append((days[:, None] % 7 == np.arange(7)[None, :]).astype(np.float64))
    return np.hstack(parts), price


def _scaled(train: Floats) -> tuple[Floats, Floats]:
    centre = np.median(train, axis=0)
    spread = np.median(np.abs(train - centre), axis=0) * 1.4826
    return centre, np.where(spread > 1e-9, spread, 1.0)


def lear(price: Floats, exogenous: Floats, first: int, every: int = 7) -> Floats:
    """Forecasts of the days from `first` on, estimated anew every `every` days; shape (days, 24)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LassoLarsIC

    X, Y = daily_design(price, exogenous)
    out = np.zeros((price.shape[0] - first, 24))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for begin in range(first, price.shape[0], every):
            days = np.arange(begin, min(begin + every, price.shape[0]))
            windows = [w for w in WINDOWS if begin - w >= 7] or [begin - 7]
            for window in windows:
                train = np.arange(begin - window, begin)
                (cx, sx), (cy, sy) = _scaled(X[train, :-7]), _scaled(Y[train])
                squashed = np.arcsinh((X[:, :-7] - cx) / sx)
                inputs = np.hstack([squashed, X[:, -7:]])
                for hour in range(24):
                    y = np.arcsinh((Y[train, hour] - cy[hour]) / sy[hour])
                    variance = float(y.var()) if window <= inputs.shape[1] + 1 else None
                    model = LassoLarsIC("aic", max_iter=250, noise_variance=variance).fit(inputs[train], y)
                    said = np.sinh(np.clip(model.predict(inputs[days]), -6, 6)) * sy[hour] + cy[hour]
                    out[days - first, hour] += said / len(windows)
    return out


def network(price: Floats, exogenous: Floats, first: int, every: int = 28, runs: int = 4) -> Floats:
    """Forecasts of a network with hidden layers of 240 and 160, early stopped; shape (days, 24)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    stopping: dict[str, Any] = {"early_stopping": True, "validation_fraction": 0.15, "n_iter_no_change": 12}
    options: dict[str, Any] = {**stopping, "batch_size": 64, "max_iter": 150}
    X, Y = daily_design(price, exogenous)
    out = np.zeros((price.shape[0] - first, 24))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for begin in range(first, price.shape[0], every):
            days = np.arange(begin, min(begin + every, price.shape[0]))
            train = np.arange(max(7, begin - 1456), begin)
            (cx, sx), (cy, sy) = _scaled(X[train, :-7]), _scaled(Y[train])
            inputs = np.hstack([np.arcsinh((X[:, :-7] - cx) / sx), X[:, -7:]])
            y = np.arcsinh((Y[train] - cy) / sy)
            for run in range(runs):
                net = MLPRegressor(hidden_layer_sizes=(240, 160), alpha=1.0, random_state=run, **options)
                said = np.asarray(net.fit(inputs[train], y).predict(inputs[days]))
                out[days - first] += (np.sinh(np.clip(said, -6, 6)) * sy + cy) / runs
    return out
