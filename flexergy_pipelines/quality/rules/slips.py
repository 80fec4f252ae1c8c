"""Unit slips: stretches reported in W instead of kW, or ten, a hundred or a thousand times too large or small."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.profile import usual
from flexergy_pipelines.quality.rules.pv_slips import pv_slips
from flexergy_pipelines.quality.runs import runs_of
from flexergy_pipelines.quality.spec import SeriesSpec
from flexergy_pipelines.quality.tails import natural_limit, robust_size, thin

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

LONGEST_DAYS = 21  # stretch that is still looked for by its edges
EDGE_TOLERANCE = 0.12  # log10; how exactly a jump must be a power of ten (doubled)
LEVEL_TOLERANCE = 0.35  # log10; how well the middle of a stretch must fit the usual course once scaled back
NATURAL_SPREAD = 0.42  # log10; a series that keeps within this factor of its usual course is judged by its level


def unit_slips(values: Values, spec: SeriesSpec) -> tuple[Mask, Values]:
    """Stretches in another unit.

    Returns
    -------
    mask : ndarray of bool
    factor : ndarray
        What to divide the values by; 1 where nothing is wrong.
    """
    factor = np.ones(values.size)
    if spec.kind not in ("load", "meter", "pv", "wind"):
        return factor != 1, factor
    if spec.kind == "pv":
        pv_slips(values, spec, factor)
        return factor != 1, factor
    ratio = _against_usual(values, spec) if spec.kind in ("load", "meter") else None
    if ratio is None or not _by_level(ratio, factor):
        _by_edges(values, ratio, spec, factor)
    return factor != 1, factor


def _against_usual(values: Values, spec: SeriesSpec) -> Values:
    """Decimal logarithm of each value over the usual one of its hour."""
    expected = usual(values, spec.steps_per_day, spec.first_slot)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(np.abs(values)) - np.log10(np.abs(expected))


def _by_level(ratio: Values, factor: Values) -> bool:
    """Judge each value by its distance from the usual; False when the series strays too much for that."""
    sample = thin(ratio, 40_000)
    if sample.size < 200:
        return False
    spread = 3.3 * float(np.max(np.abs(np.quantile(sample, [0.2, 0.8]))))
    if spread > NATURAL_SPREAD:
        return False
    power = np.clip(np.round(ratio), -3, 3)
    away = np.abs(ratio - power)
    odd = np.isfinite(ratio) & (power != 0) & (away < 0.12 + spread)
    # A stretch tells a factor by its middle and by how it begins and ends; one or two values must hit it well, else
    # they are spikes. What drifts to a tenth by and by is no slip.
    for start, stop in _joined(runs_of(odd)):
        whole = power[start:stop][odd[start:stop]]
        usual_power = float(np.median(whole))
        exact = float(away[start:stop][odd[start:stop]].max()) < 0.1 + 0.3 * spread
        if (stop - start > 3 or exact) and _jumps(ratio, start, stop, usual_power):
            factor[start:stop][odd[start:stop]] = 10.0**whole
    return True


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs with holes of a few values between them taken as one."""
    joined: list[tuple[int, int]] = []
    for start, stop in runs:
        if joined and start - joined[-1][1] <= 3:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _jumps(ratio: Values, start: int, stop: int, power: float) -> bool:
    """Whether the stretch begins and ends with a step of the size of its factor (or at an edge of what is known)."""
    ends = [ratio[start] - ratio[start - 1] if start else np.nan]
    ends.append(ratio[stop - 1] - ratio[stop] if stop < ratio.size else np.nan)
    return all(not np.isfinite(step) or step * np.sign(power) > 0.6 * abs(power) for step in ends)


def _by_edges(values: Values, ratio: Values | None, spec: SeriesSpec, factor: Values) -> None:
    """Stretches that begin and end with a jump by the same power of ten and continue their neighbours otherwise."""
    good = np.flatnonzero(np.isfinite(values) & (values > 0))
    if good.size < 100:
        return
    known = values[good]
    size = robust_size(known)
    logs = np.log10(known)
    jump, step = np.abs(np.diff(known)), np.diff(logs)
    limit = min(natural_limit(jump, expected=20.0), 0.3 * size)
    power = np.clip(np.round(step), -3, 3).astype(np.int64)
    # A factor of a thousand is told from weather even if the series moved on meanwhile; a factor of ten is not.
    tolerance = np.where(np.abs(power) >= 2, 0.5, 2 * EDGE_TOLERANCE)
    edges = np.flatnonzero((jump > limit) & (power != 0) & (np.abs(step - power) < tolerance))
    longest = LONGEST_DAYS * spec.steps_per_day
    taken = -1
    for place, edge in enumerate(edges.tolist()):
        if edge <= taken:
            continue
        for other in edges[place + 1 : place + 12].tolist():
            if good[other] - good[edge] > longest:
                break
            if power[other] != -power[edge]:
                continue
            stretch = slice(edge + 1, other + 1)
            if ratio is not None:
                likely = abs(float(np.median(ratio[good[stretch]])) - power[edge]) < LEVEL_TOLERANCE
            else:
                likely = _stands_out(known, edge, other, int(power[edge]), 1.3 * size)
            if likely:
                factor[good[stretch]] = 10.0 ** power[edge]
                taken = other
                break


def _stands_out(known: Values, edge: int, other: int, power: int, ceiling: float) -> bool:
    """Whether most of a stretch is impossible as it stands, or far below both its edges all along."""
    stretch = known[edge + 1 : other + 1]
    outside = np.concatenate((known[max(0, edge - 1) : edge + 1], known[other + 1 : other + 3]))
    scaled = stretch / 10.0**power
    if scaled.max() > ceiling or scaled.max() < 0.05 * outside.min():
        return False
    if power > 0:
        # Two spikes may bound a stretch, too; but what lies between them is quite possible.
        return bool((stretch > ceiling).mean() > 0.4)
    return bool(stretch.max() < 0.25 * outside.min()) and (power <= -2 or stretch.size <= 6)
