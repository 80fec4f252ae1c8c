"""Coherent trajectories from quantile forecasts: dependence in time and between targets, exact margins, fewer of them.

A Gaussian copula [1]_ carries the dependence, the quantiles of the forecasts the margins. The copula's draws are turned
into ranks, so that of N trajectories exactly one lies in each of the N equally probable slices at every instant, as in
the Schaake shuffle [2]_. Forward selection [3]_ then keeps the few that stand best for all of them.

References
----------
.. [1] P. Pinson et al., "From probabilistic forecasts to statistical scenarios of short-term wind power production",
   Wind Energy 12(1), 2009.
.. [2] M. Clark et al., "The Schaake shuffle", J. Hydrometeorology 5(1), 2004.
.. [3] H. Heitsch, W. Römisch, "Scenario reduction algorithms in stochastic programming", Computational Optimization and
   Applications 24, 2003.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats

LEVELS = np.arange(1, 10) / 10
Z_LIMIT = 2.6
TAIL_LEVEL = 0.005


@dataclass(frozen=True)
class Dependence:
    """How errors hang together.

    Attributes
    ----------
    memory_h : ndarray, shape (k,)
        Time in which the correlation of a target's errors falls to 1/e [h].
    correlation : ndarray, shape (k, k)
        Between the errors of the targets at one instant.
    days : float
        Days of past errors behind it; 0 when it is assumed.
    """

    memory_h: Floats
    correlation: Floats
    days: float


def normal_scores(truth: Floats, bands: Floats) -> Floats:
    """Where each truth lay in its forecast's distribution, as a standard normal score; NaN where that says nothing.

    Parameters
    ----------
    truth : ndarray, shape (n,)
    bands : ndarray, shape (n, 9)
        P10 to P90, not decreasing.
    """
    from scipy.stats import norm

    knots = np.asarray(norm.ppf(LEVELS))
    width = bands[:, -1] - bands[:, 0]
    usable = np.isfinite(truth) & np.isfinite(bands).all(axis=1) & (width > 1e-9)
    out = np.full(truth.size, np.nan)
    rows = np.flatnonzero(usable)
    inside = bands[rows]
    place = np.clip((inside < truth[rows, None]).sum(axis=1) - 1, 0, knots.size - 2)
    low, high = inside[np.arange(rows.size), place], inside[np.arange(rows.size), place + 1]
    # beyond the outer quantiles the slope of the whole band is steadier than that of its last slice
    slope = np.where(
        (truth[rows] < inside[:, 0]) | (truth[rows] > inside[:, -1]),
        (knots[-1] - knots[0]) / width[rows],
        (knots[place + 1] - knots[place]) / np.maximum(high - low, 1e-9 * width[rows]),
    )
    base = np.where(truth[rows] > inside[:, -1], inside[:, -1], low)
    start = np.where(truth[rows] > inside[:, -1], knots[-1], knots[place])
    out[rows] = np.clip(start + slope * (truth[rows] - base), -Z_LIMIT, Z_LIMIT)
    return out


def latent_draws(dependence: Dependence, steps: int, step_h: float, count: int, seed: int) -> Floats:
    """Standard normal trajectories with the given dependence, shape (count, k, steps).

    Each target's own noise is a first-order autoregression with its memory; the correlation mixes them.
    """
    rng = np.random.default_rng(seed)
    k = dependence.memory_h.size
    phi = np.exp(-step_h / np.maximum(dependence.memory_h, 1e-3))[None, :]
    noise = rng.standard_normal((steps, count, k))
    out = np.empty((steps, count, k))
    out[0] = noise[0]
    for t in range(1, steps):
        out[t] = phi * out[t - 1] + np.sqrt(1 - phi**2) * noise[t]
    return np.moveaxis(out @ _factor(dependence.correlation).T, 0, 2)


def _factor(correlation: Floats) -> Floats:
    """Cholesky factor of the nearest usable correlation matrix."""
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    repaired = vectors @ np.diag(np.maximum(values, 1e-6)) @ vectors.T
    scale = np.sqrt(np.diag(repaired))
    return np.asarray(np.linalg.cholesky(repaired / np.outer(scale, scale)), dtype=np.float64)


def on_quantiles(latent: Floats, bands: Floats, lower: Floats, upper: Floats) -> Floats:
    """Trajectories of one target whose values at each instant have exactly the forecast's distribution.

    Parameters
    ----------
    latent : ndarray, shape (count, steps)
        Standard normal trajectories; only their ranks at each instant are used.
    bands : ndarray, shape (steps, 9)
        P10 to P90.
    lower, upper : ndarray, shape (steps,)
        Physical bounds at each instant; may be infinite.
    """
    from scipy.stats import norm

    count = latent.shape[0]
    ranks = np.argsort(np.argsort(latent, axis=0, kind="stable"), axis=0)
    z = np.asarray(norm.ppf((np.arange(count) + 0.5) / count))[ranks]
    knots = np.asarray(norm.ppf(LEVELS))
    bands = np.sort(bands, axis=1)
    tail = float(-norm.ppf(TAIL_LEVEL))
    # the outer slices widen as those between P10 and P50, and P50 and P90, do on average
    reach = (tail - knots[-1]) / knots[-1]
    low = bands[:, 0] - reach * (bands[:, 4] - bands[:, 0])
    high = bands[:, -1] + reach * (bands[:, -1] - bands[:, 4])
    levels = np.concatenate([[-tail], knots, [tail]])
    values = np.column_stack([low, bands, high])
    out = np.empty(latent.shape)
    for t in range(bands.shape[0]):
        out[:, t] = np.interp(z[:, t], levels, values[t])
    return np.clip(out, lower[None, :], upper[None, :])


def reduced(values: Floats, count: int) -> tuple[np.ndarray, Floats]:
    """The few trajectories that stand best for all, each with the weight of those it stands for.

    Parameters
    ----------
    values : ndarray, shape (n, m)
        Trajectories, all dimensions in comparable units.
    count : int
        How many to keep.

    Returns
    -------
    kept : ndarray of int, shape (min(count, n),)
    weights : ndarray
        Sum to 1.
    """
    n = values.shape[0]
    count = min(count, n)
    squares = (values**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * values @ values.T, 0.0))
    nearest = np.full(n, np.inf)
    kept: list[int] = []
    for _ in range(count):
        # distance of all to their nearest kept one, were this one kept too
        total = np.minimum(nearest[:, None], distance).sum(axis=0)
        total[kept] = np.inf
        best = int(np.argmin(total))
        kept.append(best)
        nearest = np.minimum(nearest, distance[:, best])
    chosen = np.asarray(kept)
    owner = np.argmin(distance[:, chosen], axis=1)
    return chosen, np.bincount(owner, minlength=count) / n
