"""Thresholds that calibrate themselves: how large a score may naturally get in a series of this length.

The upper tail of the scores is described by a generalized Pareto distribution whose shape follows from three quantiles
(Pickands 1975). They lie between the 10 % and the 2.5 % largest scores, so a per cent of faults does not move them
much, and the tail is extrapolated to the score that chance would exceed `expected` times in the whole series.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TINY = 1e-100  # smaller than any measurement; ratios of such numbers overflow
ORDERED_FROM = 0.75  # of a sample; a first limit leaves out far less than what is between this and nine tenths
FEW_SHARES = 5  # quantiles for which a sample need not be sorted as a whole
SIZE_SAMPLE = 5_000  # tells how large a series is
SAMPLE = 10_000  # quantiles of a sample are as good as those of the whole


def thin(values: NDArray[np.float64], size: int = SAMPLE) -> NDArray[np.float64]:
    """Every n-th finite value, at most about `size`; n is odd, so that no slot of the day is preferred."""
    sample = values[:: stride(values.size, size)]
    return sample[np.isfinite(sample)]


def stride(count: int, size: int = SAMPLE) -> int:
    """Odd distance at which about `size` of `count` values are taken."""
    step = max(1, count // size)
    return step + 1 - step % 2


def quantiles(sample: NDArray[np.float64], *shares: float) -> NDArray[np.float64]:
    """Quantiles of finite values, linear between neighbours (NaN of none).

    Several times faster than numpy's own for the few thousand values of a sample.
    """
    if sample.size == 0:
        return np.full(len(shares), np.nan)
    place = np.array(shares) * (sample.size - 1)
    low = place.astype(np.int64)
    high = np.minimum(low + 1, sample.size - 1)
    few = len(shares) <= FEW_SHARES
    ordered = np.partition(sample, sorted({*low.tolist(), *high.tolist()})) if few else np.sort(sample)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def quantile(sample: NDArray[np.float64], share: float) -> float:
    """One quantile of finite values."""
    return float(quantiles(sample, share)[0])


def natural_limit(
    scores: NDArray[np.float64],
    expected: float = 0.2,
    largest_shape: float = 0.35,
    *,
    positive: bool = False,
    size: int | None = None,
) -> float:
    """Score that chance exceeds only `expected` times in the whole series; infinite when too little is known.

    What exceeds a first limit, from the largest fifth of the scores, is left out when the limit is made from the
    largest tenth: so even many faults don't raise the limit that they are to be found by. With `positive` only scores
    above zero count. `size` is the number of scores in the series where only a sample of them is given.
    """
    sample = thin(scores) if size is None else scores
    size = size or scores.size
    if positive:
        above = sample[sample > 0]
        size, sample = round(size * above.size / max(sample.size, 1)), above
    if sample.size < 100:
        return float("inf")
    # Only the upper part is looked at, so only that is put in order.
    low = int(ORDERED_FROM * sample.size)
    sample = np.partition(sample, low)
    sample[low:].sort()
    first = _extrapolated(_nearest(sample, (0.80, 0.90, 0.95)), 0.10, size / expected, largest_shape)
    rest = low + int(np.searchsorted(sample[low:], first, side="right"))
    if rest < 100 or 0.90 * (rest - 1) < low:
        return first
    return _extrapolated(_nearest(sample[:rest], (0.90, 0.95, 0.975)), 0.05, size / expected, largest_shape)


def _nearest(ordered: NDArray[np.float64], shares: tuple[float, float, float]) -> NDArray[np.float64]:
    return ordered[[int(share * (ordered.size - 1)) for share in shares]]


def _extrapolated(quantiles: NDArray[np.float64], share: float, times: float, largest_shape: float) -> float:
    """Score exceeded once in `times`, from the quantiles that the shares 2 s, s and s / 2 exceed."""
    low, middle, high = quantiles.tolist()
    if high <= middle or middle <= low:
        return high + 5 * (high - low) if high > low else float("inf")
    shape = float(np.clip(np.log2((high - middle) / (middle - low)), 0.02, largest_shape))
    return middle + (high - middle) * ((share * times) ** shape - 1) / (2**shape - 1)


def robust_size(values: NDArray[np.float64]) -> float:
    """99th percentile of the absolute values, at most five times the 90th: a few per cent of faults don't count."""
    sample = np.abs(thin(values, SIZE_SAMPLE))
    if sample.size == 0:
        return 0.0
    high, usual = quantiles(sample, 0.99, 0.90).tolist()
    return min(high, 5 * usual) if usual > 0 else high
