"""From single models to what is served: gate against the naives, weights, choice, and calibrated quantiles.

Everything here works on errors that were known at the time: a rolling window that ends at the issue time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.models.naive import NAIVE_NAMES

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats

ENSEMBLE = "ensemble"
WINDOW_DAYS = 90
MIN_ERRORS = 72
# a model has to beat the incumbent by this share before it takes over
CHURN = 0.01
# and so much better than the ensemble before it serves alone: the lead of a single model rarely lasts
ALONE = 0.02
# a member with so many times the error of the best one only adds noise
POOR = 1.6
# weights by the inverse of this power of the error: the square of Bates and Granger lets poor members in too far
STEEP = 8
# share of the weights that minimise the error of the combination; alone they follow the last season
STACKED = 0.25


@dataclass(frozen=True)
class Mix:
    """How members are combined at one issue time.

    Attributes
    ----------
    weights : dict
        Weight of each member in the ensemble, summing to 1.
    champion : str
        Name of what is served: a member, a naive, or the ensemble.
    best_naive : str
        The naive with the smallest recent error.
    errors : dict
        Recent error of each candidate, in the unit of the target.
    """

    weights: dict[str, float]
    champion: str
    best_naive: str
    errors: dict[str, float] = field(default_factory=dict)

    def combine(self, forecasts: dict[str, Floats]) -> Floats:
        """Weighted mean of the members that have an answer, row by row."""
        return weighted(forecasts, self.weights)

    def served(self, forecasts: dict[str, Floats]) -> Floats:
        """What is served; rows the champion cannot answer are filled by the ensemble, then by the best naive."""
        chosen = self.combine(forecasts) if self.champion == ENSEMBLE else forecasts[self.champion].copy()
        for stand_in in (self.combine(forecasts), forecasts.get(self.best_naive), forecasts.get("naive_day")):
            if stand_in is not None:
                chosen = np.where(np.isfinite(chosen), chosen, stand_in)
        return chosen


def weighted(forecasts: dict[str, Floats], weights: dict[str, float]) -> Floats:
    """Weighted mean over models; a model without an answer for a row leaves its weight to the others."""
    size = next(iter(forecasts.values())).size
    total, share = np.zeros(size), np.zeros(size)
    for name, weight in weights.items():
        value = forecasts[name]
        good = np.isfinite(value)
        total[good] += weight * value[good]
        share[good] += weight
    return np.where(share > 0, total / np.maximum(share, 1e-12), np.nan)


def loss(truth: Floats, forecast: Floats, squared: bool) -> float:
    """Mean squared or absolute error, infinite when there is no common row."""
    error = truth - forecast
    good = np.isfinite(error)
    if not good.any():
        return np.inf
    return float(np.sqrt((error[good] ** 2).mean())) if squared else float(np.abs(error[good]).mean())


def mix_of(truth: Floats, forecasts: dict[str, Floats], *, squared: bool, incumbent: str | None = None) -> Mix:
    """Weights and champion from recent forecasts and their truths.

    Members that lose to the best naive get no weight. The weights are inverse powers of the recent errors, after Bates
    and Granger [1]_, drawn a quarter of the way towards those that minimise the error of the combination (least squares
    without negative weights).

    Parameters
    ----------
    truth : ndarray, shape (n,)
    forecasts : dict of ndarray
        Forecasts of every member and naive for the same rows.
    squared : bool
        Judge by squared error (wind, PV) or absolute error (loads, prices).
    incumbent : str or None
        The champion so far, which keeps its place within a margin.

    References
    ----------
    .. [1] J. Bates, C. Granger, "The combination of forecasts", Operational Research Quarterly 20(4), 1969.
    """
    naives = {name: loss(truth, f, squared) for name, f in forecasts.items() if name in NAIVE_NAMES}
    members = {name: loss(truth, f, squared) for name, f in forecasts.items() if name not in NAIVE_NAMES}
    best_naive = min(naives, key=lambda name: naives[name])
    known = sum(np.isfinite(truth))
    if known < MIN_ERRORS:
        equal = {name: 1.0 / len(members) for name in members} if members else {best_naive: 1.0}
        return Mix(equal, ENSEMBLE if members else best_naive, best_naive)
    passed = [name for name, error in members.items() if error < naives[best_naive]]
    if not passed:
        return Mix({best_naive: 1.0}, best_naive, best_naive, naives | members)
    best = min(members[name] for name in passed)
    passed = [name for name in passed if members[name] <= best * POOR]
    weights = _weights(truth, {name: forecasts[name] for name in passed}, {name: members[name] for name in passed})
    errors = naives | members | {ENSEMBLE: loss(truth, weighted(forecasts, weights), squared)}
    eligible = [*passed, ENSEMBLE]
    champion = min(passed, key=lambda name: errors[name])
    if errors[champion] > errors[ENSEMBLE] * (1 - ALONE):
        champion = ENSEMBLE
    if incumbent in eligible and errors[incumbent] <= errors[champion] * (1 + CHURN):
        champion = incumbent
    return Mix(weights, champion, best_naive, errors)


def _weights(truth: Floats, forecasts: dict[str, Floats], errors: dict[str, float]) -> dict[str, float]:
    from scipy.optimize import nnls

    names = list(forecasts)
    lowest = max(min(errors.values()), 1e-12)
    inverse = np.array([(lowest / max(errors[name], 1e-12)) ** STEEP for name in names])
    granger = inverse / inverse.sum()
    if len(names) == 1:
        return {names[0]: 1.0}
    matrix = np.column_stack([forecasts[name] for name in names])
    good = np.isfinite(matrix).all(axis=1) & np.isfinite(truth)
    if good.sum() < MIN_ERRORS:
        return dict(zip(names, granger.tolist(), strict=True))
    # centred on the truth, the sum-to-one constraint becomes a strong extra row
    gaps = matrix[good] - truth[good][:, None]
    scale = float(np.sqrt((gaps**2).mean())) or 1.0
    heavy = 1e3 * np.sqrt(good.sum())
    stacked, _ = nnls(
        np.vstack([gaps / scale, np.full((1, len(names)), heavy)]), np.append(np.zeros(good.sum()), heavy)
    )
    if stacked.sum() <= 0:
        stacked = granger
    final = (1 - STACKED) * granger + STACKED * stacked / stacked.sum()
    return dict(zip(names, final.tolist(), strict=True))
