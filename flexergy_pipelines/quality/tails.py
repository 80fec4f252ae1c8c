"""Thresholds that calibrate themselves: how large a score may naturally get in a series of this length.

The upper tail of the scores is described by a generalized Pareto distribution whose shape follows from three quantiles
(Pickands 1975). They lie between the 10 % and the 2.5 % largest scores, so a per cent of faults does not move them
much, and the tail is extrapolated to the score that chance would exceed `expected` times in the whole series.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE = 10_000  # quantiles of a sample are as good as those of the whole


def thin(values: NDArray[np.float64], size: int = SAMPLE) -> NDArray[np.float64]:
    """Every n-th finite value, at most about `size`; n is odd, so that no slot of the day is preferred."""
    step = max(1, values.size // size)
    sample = values[:: step + 1 - step % 2]
    return sample[np.isfinite(sample)]


def natural_limit(scores: NDArray[np.float64], expected: float = 0.2, largest_shape: float = 0.35) -> float:
    """Score that chance exceeds only `expected` times in the whole series; infinite when too little is known."""
    sample = thin(scores)
    if sample.size < 100:
        return float("inf")
    q90, q95, q975 = np.quantile(sample, [0.90, 0.95, 0.975])
    if q975 <= q95 or q95 <= q90:
        spread = max(q975 - q90, 0.0)
        return float(q975 + 5 * spread) if spread > 0 else float("inf")
    shape = float(np.clip(np.log2((q975 - q95) / (q95 - q90)), 0.02, largest_shape))
    ratio = 0.05 * scores.size / expected
    return float(q95 + (q975 - q95) * (ratio**shape - 1) / (2**shape - 1))


def robust_size(values: NDArray[np.float64]) -> float:
    """99th percentile of the absolute values, at most five times the 90th: a few per cent of faults don't count."""
    sample = np.abs(thin(values))
    if sample.size == 0:
        return 0.0
    high, usual = np.quantile(sample, [0.99, 0.90])
    return float(min(high, 5 * usual)) if usual > 0 else float(high)
