"""Values that cannot be: sentinels, out of the nameplate's range, negative, with the wrong sign, or PV at night."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.profile import clear_sky
from flexergy_pipelines.quality.runs import runs_of
from flexergy_pipelines.quality.spec import SeriesSpec
from flexergy_pipelines.quality.tails import quantile, robust_size, thin

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Numbers that devices and exports write for "no value".
SENTINELS = np.array(
    [-999, -9999, -99999, -999999, -1e6, -9999999, 9999, 99999, 999999, 9999999, -32768, 32767, 65535, 2147483647,
     -2147483648, 4294967295, 1e10, -1e10, 1e20, -1e20, 1e30, 1e36, -1e36]
)  # fmt: skip
NIGHT_SHARE = 0.01  # of the peak: below this an inverter is only awake
DAWN_HOURS = 0.5  # dawn moves within the weeks of which the sky is told
NEGATIVE_IS_NATURAL = 0.0005  # share of negative values from which on a meter is taken for one of both directions
OFTEN_NEGATIVE = 0.05  # share above which it certainly is
NATURAL_DEPTH = 3.0  # times the depth that one in five of the negative values of a meter exceeds
MIRRORED = 0.35  # how well a value whose sign was turned must continue its neighbour, as a share of it


def sentinels(values: Values) -> Mask:
    """Numbers that stand for "no value": from the list, and far beyond the rest of the series."""
    size = robust_size(values)
    suspects = np.flatnonzero(np.abs(values) > max(2 * size, 1.0)) if size > 0 else np.array([], dtype=np.int64)
    mask = np.zeros(values.size, dtype=bool)
    if suspects.size:
        mask[suspects] = np.isin(values[suspects], SENTINELS)
    # In a series that is all positive -1 is as impossible as -999, but that is told as negative.
    return mask


def out_of_range(values: Values, spec: SeriesSpec) -> Mask:
    """Values outside the nameplate's range."""
    mask = np.zeros(values.size, dtype=bool)
    if spec.minimum is not None:
        mask |= values < spec.minimum
    if spec.maximum is not None:
        mask |= values > spec.maximum
    return mask


def negative(values: Values, spec: SeriesSpec) -> Mask:
    """Negative values where only one direction is possible and they are rare."""
    mask = np.zeros(values.size, dtype=bool)
    if spec.kind not in ("load", "meter", "pv", "wind", "ev"):
        return mask
    size = robust_size(values)
    # Inverters and turbines draw a little themselves, and zero wanders in any meter.
    allowed = -0.02 * size if spec.kind in ("pv", "wind") else -0.002 * size
    mask = values < allowed
    known = np.isfinite(values).sum()
    if known == 0:
        return np.zeros(values.size, dtype=bool)
    if spec.minimum is None and spec.kind == "meter" and goes_both_ways(values, mask):
        # A turbine draws a little at every calm; a few values far below that are as wrong as in any other meter.
        usual = quantile(-values[mask], 0.8)
        deep = mask & (-values > max(NATURAL_DEPTH * usual, 0.1 * size))
        few = deep.sum() <= NEGATIVE_IS_NATURAL * known + 5
        return deep if few and usual < 0.05 * size else np.zeros(values.size, dtype=bool)
    return mask


def goes_both_ways(values: Values, below: Mask) -> bool:
    """Whether a meter is negative by itself: often, or by passing through zero without a leap."""
    known = int(np.isfinite(values).sum())
    if below.sum() <= NEGATIVE_IS_NATURAL * known:
        return False
    if below.sum() > OFTEN_NEGATIVE * known:
        return True
    edges = np.array(runs_of(below))
    inside, last = values[edges - np.array([0, 1])], values.size - 1
    outside = values[np.clip(edges + np.array([-1, 0]), 0, last)]
    leaps = np.nan_to_num(np.abs(inside - outside)).min(axis=1)
    return float(np.median(leaps)) <= quantile(thin(np.abs(np.diff(values))), 0.95)


def turned(values: Values, spec: SeriesSpec) -> Mask:
    """Stretches of a one-way series whose sign was turned: with the other sign they continue their neighbours."""
    mask = np.zeros(values.size, dtype=bool)
    if spec.kind not in ("load", "meter", "pv", "wind", "ev"):
        return mask
    below = values < -0.02 * robust_size(values)
    # What passes through zero by itself has two signs: temperatures, the exchange of a site with PV.
    if spec.kind == "meter" and goes_both_ways(values, below):
        return mask
    for start, stop in runs_of(below):
        if stop - start < 2:
            continue  # a single negative value is as likely a spike
        edges = [(values[start - 1], -values[start])] if start else []
        edges += [(values[stop], -values[stop - 1])] if stop < values.size else []
        known = [(a, b) for a, b in edges if np.isfinite(a) and a > 0]
        if known and all(abs(a - b) <= MIRRORED * max(a, b) for a, b in known):
            mask[start:stop] = True
    return mask


def night_output(values: Values, spec: SeriesSpec, ceiling: Values | None = None) -> Mask:
    """PV output at an hour at which there is none within weeks."""
    if spec.kind != "pv":
        return np.zeros(values.size, dtype=bool)
    size = robust_size(values)
    sky = clear_sky(values, spec.steps_per_day, spec.first_slot) if ceiling is None else ceiling
    light = np.flatnonzero(sky > 0.2 * NIGHT_SHARE * size)
    night = np.ones(values.size, dtype=bool)
    for shift in range(-spec.steps(DAWN_HOURS), spec.steps(DAWN_HOURS) + 1):
        night[np.clip(light + shift, 0, values.size - 1)] = False
    return night & (values > NIGHT_SHARE * size)
