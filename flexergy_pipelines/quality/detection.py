"""Detection on a regular series: what is out of range, frozen, or a spike. One function a rule; each returns a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.runs import repeat_lengths
from flexergy_pipelines.quality.spec import FROZEN_AFTER_H, SeriesSpec

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A spike must leave by this many robust standard deviations of the usual step, and by this share of the usual range.
SPIKE_SIGMAS = 8.0
SPIKE_RANGE_SHARE = 0.25
LONGEST_SPIKE = 2


def out_of_range(values: Values, spec: SeriesSpec) -> Mask:
    """Values outside the nameplate's range."""
    mask = np.zeros(values.size, dtype=bool)
    if spec.minimum is not None:
        mask |= values < spec.minimum
    if spec.maximum is not None:
        mask |= values > spec.maximum
    return mask


def frozen(values: Values, spec: SeriesSpec) -> Mask:
    """Values that stood still for longer than their kind does.

    A standing zero is normal for PV (night), wind (calm) and a meter of a load that is switched off; so is full power
    of a wind turbine.
    """
    hours = FROZEN_AFTER_H[spec.kind]
    if hours is None:
        return np.zeros(values.size, dtype=bool)
    mask = repeat_lengths(values) > spec.steps(hours)
    mask &= values != 0
    if spec.kind == "wind" and spec.maximum is not None:
        mask &= values < 0.85 * spec.maximum
    return mask


def spikes(values: Values, spec: SeriesSpec) -> Mask:
    """Values that leave their neighbours by far and come back within two intervals.

    Generation and charging really do jump, so only loads and exchanges are judged.
    """
    mask = np.zeros(values.size, dtype=bool)
    good = np.flatnonzero(np.isfinite(values))
    if spec.kind not in ("load", "meter", "exchange") or good.size < 10:
        return mask
    known = values[good]
    low, high = np.quantile(known, [0.005, 0.995])
    step = np.abs(np.diff(known))
    scale = 1.4826 * float(np.median(step))
    threshold = max(SPIKE_SIGMAS * scale, SPIKE_RANGE_SHARE * float(high - low))
    if threshold <= 0:
        return mask
    for length in range(1, LONGEST_SPIKE + 1):
        before, after = known[: -length - 1], known[length + 1 :]
        base_low, base_high = np.minimum(before, after), np.maximum(before, after)
        inside = np.stack([known[1 + i : known.size - length + i] for i in range(length)])
        away = np.minimum(inside.min(axis=0) - base_high, np.inf) > threshold
        away |= base_low - inside.max(axis=0) > threshold
        for start in np.flatnonzero(away):
            mask[good[start + 1 : start + 1 + length]] = True
    return mask
