"""Conformal calibration: stretch the raw spread until the recent past was covered as often as promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats

MIN_SCORES = 96
# errors of half a day go together: so many scores of a day count as independent
SCORES_PER_DAY = 2.0
# of the logarithm of the width a day, at first and in the long run: while little is known of a model the share it holds
# counts more than a steady width, which gives up to 1 % of the pinball loss later
FIRST_RATE, LATER_RATE = 0.45, 0.2
FIRST_DAYS = 45


@dataclass(frozen=True)
class Calibration:
    """Factor on the distance from centre to each quantile.

    Attributes
    ----------
    quantiles : tuple of float
        Levels.
    factors : tuple of float
        One per level; 1 leaves the raw spread as it is.
    """

    quantiles: tuple[float, ...]
    factors: tuple[float, ...]

    def widened(self, factor: float) -> Calibration:
        """The same with all distances times `factor`."""
        return Calibration(self.quantiles, tuple(f * factor for f in self.factors))

    def apply(self, centre: Floats, raw: Floats) -> Floats:
        """Calibrated quantiles, sorted, shape (n, len(quantiles)).

        Parameters
        ----------
        centre : ndarray, shape (n,)
            Forecast around which the quantiles lie.
        raw : ndarray, shape (n, len(quantiles))
            Raw offsets from the centre.
        """
        return np.sort(centre[:, None] + raw * np.asarray(self.factors)[None, :], axis=1)


def adapted_width(width: float, nominal: float, covered: float, day: int) -> float:
    """The next width factor after a day on which a share `covered` of the truths lay within the nominal band.

    Adaptive conformal inference on the logarithm of the width [1]_: whatever drifts, the long-run coverage can miss the
    nominal one only by the range of the logarithm over the rate and the number of days. The rate falls with the days,
    which keeps that promise and settles where nothing drifts [2]_.

    Parameters
    ----------
    width : float
        Factor of the day before.
    nominal, covered : float
        Shares of the truths within the band, promised and found.
    day : int
        How many days, with this one, have been judged; from 1.

    References
    ----------
    .. [1] I. Gibbs, E. Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021.
    .. [2] A. Angelopoulos, R. Barber, S. Bates, "Online conformal prediction with decaying step sizes", ICML 2024.
    """
    rate = max(LATER_RATE, FIRST_RATE * min(1.0, FIRST_DAYS / max(day, 1)))
    return float(np.clip(width * np.exp(rate * (nominal - covered)), 0.3, 4.0))


def uncalibrated(quantiles: tuple[float, ...]) -> Calibration:
    """Leaves the spread alone."""
    return Calibration(quantiles, (1.0,) * len(quantiles))


def calibrate(
    truth: Floats, centre: Floats, raw: Floats, quantiles: tuple[float, ...], days: int | None = None
) -> Calibration:
    """Conformalised quantile regression with multiplicative scores [1]_, one factor for each level.

    The score of a row is how many times the raw offset had to be taken to reach the truth; the factor of level q is the
    empirical quantile of the scores that makes a share q of the truths lie below.

    Parameters
    ----------
    truth, centre : ndarray, shape (n,)
    raw : ndarray, shape (n, len(quantiles))
        Raw offsets of the same rows, out of sample.
    quantiles : tuple of float
    days : int or None
        Days that the rows come from: their errors go together, so that the correction of the level for a finite sample
        counts them instead of the rows. None counts rows.

    References
    ----------
    .. [1] Y. Romano, E. Patterson, E. Candès, "Conformalized quantile regression", NeurIPS 2019.
    """
    gap = truth - centre
    factors: list[float] = []
    for j, level in enumerate(quantiles):
        offset = raw[:, j]
        some = np.abs(offset[np.isfinite(offset) & (offset != 0)])
        typical = float(np.median(some)) if some.size else 0.0
        usable = np.isfinite(gap) & np.isfinite(offset) & (np.abs(offset) > max(1e-9, 0.02 * typical))
        if usable.sum() < MIN_SCORES or abs(level - 0.5) < 0.02:
            factors.append(1.0)
            continue
        score = gap[usable] / offset[usable]
        n = score.size if days is None else min(float(score.size), max(1.0, SCORES_PER_DAY * days))
        # below the median the offset is negative, so a truth below the quantile has a score above the factor
        share = level if level > 0.5 else 1.0 - level
        rank = min(1.0, share * (n + 1) / n)
        factors.append(float(np.clip(np.quantile(score, rank), 0.0, 20.0)))
    return Calibration(quantiles, tuple(factors))
