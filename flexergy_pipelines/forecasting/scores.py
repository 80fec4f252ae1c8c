"""How good forecasts were: errors, pinball loss, coverage, and whether a difference between two is more than chance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats


def mae(truth: Floats, forecast: Floats) -> float:
    """Mean absolute error over rows where both are there; NaN when there are none."""
    error = np.abs(truth - forecast)
    good = np.isfinite(error)
    return float(error[good].mean()) if good.any() else math.nan


def rmse(truth: Floats, forecast: Floats) -> float:
    """Root mean squared error over rows where both are there."""
    error = (truth - forecast) ** 2
    good = np.isfinite(error)
    return float(np.sqrt(error[good].mean())) if good.any() else math.nan


def pinball(truth: Floats, forecasts: Floats, quantiles: tuple[float, ...]) -> float:
    """Mean pinball loss over rows and quantiles.

    Parameters
    ----------
    truth : ndarray, shape (n,)
    forecasts : ndarray, shape (n, len(quantiles))
    quantiles : tuple of float
        Levels in (0, 1).
    """
    gap = truth[:, None] - forecasts
    level = np.asarray(quantiles)[None, :]
    loss = np.maximum(level * gap, (level - 1) * gap)
    good = np.isfinite(loss).all(axis=1)
    return float(loss[good].mean()) if good.any() else math.nan


def coverage(truth: Floats, low: Floats, high: Floats) -> float:
    """Share of truths within [low, high], over rows where there is anything to be unsure of (not PV at night)."""
    good = np.isfinite(truth) & (high > low)
    if not good.any():
        return math.nan
    inside = (truth[good] >= low[good]) & (truth[good] <= high[good])
    return float(inside.mean())


def diebold_mariano(loss_old: Floats, loss_new: Floats, lag: int) -> float:
    """One-sided p-value that the new forecast is better than the old one [1]_.

    Parameters
    ----------
    loss_old, loss_new : ndarray, shape (n,)
        Losses of the two on the same rows, in time order.
    lag : int
        Autocovariances counted in the long-run variance (horizon in steps less one).

    Returns
    -------
    float
        Small when the new one is better; 1.0 when nothing can be said.

    References
    ----------
    .. [1] F. Diebold, R. Mariano, "Comparing predictive accuracy", J. Business & Economic Statistics 13(3), 1995,
       with the small-sample factor of Harvey, Leybourne and Newbold (1997).
    """
    from scipy.stats import t as student

    gap = loss_old - loss_new
    gap = gap[np.isfinite(gap)]
    n = gap.size
    if n < 10 or np.allclose(gap, 0.0):
        return 1.0
    lag = min(lag, n // 3)
    centred = gap - gap.mean()
    # Bartlett weights keep the long-run variance positive
    variance = float((centred**2).mean()) + 2 * sum(
        (1 - k / (lag + 1)) * float((centred[k:] * centred[:-k]).sum()) / n for k in range(1, lag + 1)
    )
    if variance <= 0:
        return 1.0
    statistic = gap.mean() / math.sqrt(variance / n)
    factor = math.sqrt(max((n + 1 - 2 * (lag + 1) + (lag + 1) * lag / n) / n, 1e-9))
    return float(student.sf(statistic * factor, df=n - 1))
