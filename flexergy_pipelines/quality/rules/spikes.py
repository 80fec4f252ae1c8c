"""Spikes: one to three values that leave their neighbours and come back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.profile import by_day
from flexergy_pipelines.quality.runs import runs_of
from flexergy_pipelines.quality.spec import SeriesSpec
from flexergy_pipelines.quality.tails import TINY, natural_limit, quantile, quantiles, stride, thin

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.int64]

WIDEST = 3
EXPECTED = 0.05  # spikes that chance may bring in the whole series
SHAPE = 0.1  # heaviest tail that is believed
LEAST_SHARE = 0.08  # of the usual range; smaller ones are noise, whatever the statistics say
PLAIN_SHARE = 0.35  # of the usual range; a smaller one must exceed the limit by as much as it is smaller
COMMON_SHARE = 0.012  # of the values (and one a day) rise above their neighbours by as much as the common excess
LARGE_SHARE = 0.7  # of the usual range; what rises this far and some times the common excess is a spike
LARGE_TIMES = 4.2  # real series reach 1.6 to 3.4 by themselves
GAP_SHARE = 0.6  # of the usual range; up to which PV may leap through a gap in the clouds
UNDER_THE_SKY = 1.1  # of what the brightest days gave at the hour; gaps in the clouds reach it
BEYOND = 1.25  # times the highest output of a bright day; edges of clouds give less
LEAST_OVER = 0.25  # of that output; by which a value beyond it leaves both its neighbours
FEW = 300.0  # values that tell so little of the tail that its limit is doubled
OWN_STEPS = 1.2  # times the steps right before and after: a ramp down and up again is no spike
RESTING = 0.01  # of the highest values; below it nothing is drawn
RESTS = {"load": 0.5, "meter": 0.5, "weather": 0.25}  # share of such values from which pulses are what a series does
BEYOND_ALL = 1.5  # times what a tenth of its pulses exceed
CALM_WINDOW = 24  # neighbours on either side whose steps tell how restless the series is there


def spikes(values: Values, spec: SeriesSpec, sky: Values | None = None) -> Mask:
    """Values that leave their neighbours by more than this series does by itself, and come back.

    The score of a value is by how much it exceeds (or falls below) *both* its neighbours, over the mean step of the
    hours around; the limit is what the tail of all scores leads to expect (see `tails`). So a series that jumps by
    itself, such as wind or a single household, is judged more mildly than a smooth one. PV may fall at any time, and is
    judged by what the sky allows; what is mostly at rest, such as a charge point, by the height of all its pulses; sums
    of days by their range, as a holiday or a dark day is no spike.
    """
    mask = np.zeros(values.size, dtype=bool)
    if spec.kind not in ("load", "meter", "pv", "wind", "weather"):
        return mask
    good = np.flatnonzero(np.isfinite(values))
    if good.size < 200:
        return mask
    known = values[good]
    low, high = quantiles(thin(known), 0.01, 0.99).tolist()
    size = float(high - low)
    if size < TINY:
        return mask
    days = known.size / spec.steps_per_day
    if spec.kind == "pv" and not spec.coarse:
        return _of_pv(values, good, spec, size, sky)
    if spec.coarse or _mostly_rests(known, spec):
        mask[good] = _beyond_range(known) if spec.coarse else _beyond_all(known)
        return mask
    restless = _restlessness(known, size)
    unsure = 1 + np.sqrt(FEW / known.size)
    jumps = _jumps(known, size)
    for width in (*range(1, WIDEST + 1), 1):  # once more at the end: a large spike hides a small one beside it
        beyond = _excess(known, jumps, width)
        above = beyond > LEAST_SHARE * size
        if not above.any():
            continue
        place, beyond = jumps[above], beyond[above]
        usual = _usual_excess(known, width)
        calm = restless[1 : known.size - width : stride(known.size)]
        limit = unsure * natural_limit(usual / calm, EXPECTED, SHAPE, positive=True, size=known.size)
        hit = beyond / restless[place] > limit * np.maximum(1.0, PLAIN_SHARE * size / beyond)
        hit |= _far(beyond, usual, count=known.size, size=size, days=days, width=width)
        hit &= beyond > OWN_STEPS * _steps_beside(known, place, width)
        if hit.any():
            for start in place[hit].tolist():
                mask[good[start : start + width]] = True
            keep = ~mask[good]
            good, known = good[keep], known[keep]
            restless = restless[keep]
            jumps = _jumps(known, size)
    return mask


def _jumps(known: Values, size: float) -> Index:
    """Places at which a spike may begin: the value before is far enough off."""
    return np.flatnonzero(np.abs(np.diff(known)) > LEAST_SHARE * size) + 1


def _of_pv(values: Values, good: Index, spec: SeriesSpec, size: float, sky: Values | None) -> Mask:
    mask = np.zeros(values.size, dtype=bool)
    known, days = values[good], good.size / spec.steps_per_day
    if sky is not None:
        _above_the_sky(values, sky, spec.steps_per_day, quantile(thin(known), 0.99), mask)
    jumps = _jumps(known, size)
    for width in range(1, WIDEST + 1):
        beyond = _excess(known, jumps, width, up_only=True)
        above = beyond > GAP_SHARE * size
        if sky is not None:
            # Through a gap in the clouds PV gives what the sky allows, and no more.
            above &= known[jumps] > UNDER_THE_SKY * sky[good[jumps]]
        if not above.any():
            continue
        usual = _usual_excess(known, width, up_only=True)
        far = _far(beyond[above], usual, count=known.size, size=size, days=days, width=width)
        for start in jumps[above][far].tolist():
            mask[good[start : start + width]] = True
    return mask


def _mostly_rests(known: Values, spec: SeriesSpec) -> bool:
    """Whether a series is at rest most of the time (a charge point, a pump), or the sun's, which clouds let through."""
    sample = np.abs(thin(known))
    at_rest = sample <= RESTING * quantile(sample, 0.995)
    return float(at_rest.mean()) > RESTS.get(spec.kind, 1.0)


def _beyond_range(known: Values) -> Mask:
    """Values of days (or nearly) that are as far beyond the usual ones as those are apart: neighbours tell nothing."""
    low, high = quantiles(known, 0.05, 0.95).tolist()
    mask = (known > high + (high - low)) | (known < low - (high - low))
    for start, stop in runs_of(mask):
        mask[start:stop] = stop - start <= WIDEST  # more is another unit
    return mask


def _beyond_all(known: Values) -> Mask:
    """Values far beyond all that the series gives while it is not at rest: its pulses are none."""
    active = known[known > RESTING * quantile(thin(known), 0.995)]
    if active.size < 20:
        return np.zeros(known.size, dtype=bool)
    limit = natural_limit(active, EXPECTED, SHAPE)
    least = BEYOND_ALL * quantile(active, 0.9)
    return known > max(least, limit if np.isfinite(limit) else 0.0)


def _far(beyond: Values, usual: Values, *, count: int, size: float, days: float, width: int) -> Mask:
    """Excesses that are large in the range of the series and beyond what it does every day.

    `usual` are the excesses of a sample of the `count` values.
    """
    share = beyond / size
    large = share > PLAIN_SHARE
    if not large.any():
        return large
    least = LARGE_TIMES * (1 + 0.12 * (width - 1))  # a machine that runs for a while is no spike
    rank = round(max(days, COMMON_SHARE * count) * usual.size / count) + 1
    ordered = usual[usual > 0]
    common = max(float(np.partition(ordered, -rank)[-rank]) if ordered.size > rank else 0.0, 1e-3 * size)
    times = beyond / common
    return large & (((share > LARGE_SHARE) & (times > least)) | (share * times > least))


def _steps_beside(known: Values, place: Index, width: int) -> Values:
    """The larger of the steps that lead to the value before and away from the value after each stretch."""
    last = known.size - 1
    before, after = place - 1, np.minimum(place + width, last)
    into = np.abs(known[before] - known[np.maximum(before - 1, 0)])
    away = np.abs(known[np.minimum(after + 1, last)] - known[after])
    return np.maximum(into, away)


def _restlessness(known: Values, size: float) -> Values:
    """Mean step around each value, single large steps cut off; never less than a small share of the usual."""
    step = np.zeros(known.size)
    np.abs(known[1:] - known[:-1], out=step[1:])
    np.minimum(step, quantile(thin(step), 0.98), out=step)
    window = min(2 * CALM_WINDOW + 1, known.size)
    total = np.zeros(known.size + 1)
    np.cumsum(step, out=total[1:])
    before, middle = (window - 1) // 2, known.size - window + 1
    mean = np.empty(known.size)
    np.subtract(total[window:], total[:-window], out=mean[before : before + middle])
    mean[:before], mean[before + middle :] = mean[before], mean[before + middle - 1]
    mean *= 1 / window
    mean += 0.3 * float(np.mean(thin(step))) + 1e-4 * size
    return mean


def _excess(known: Values, places: Index, width: int, *, up_only: bool = False) -> Values:
    """By how much `width` values from each place on lie beyond both neighbours of the stretch (0 when they do not)."""
    if known.size <= width + 1:
        return np.zeros(places.size)
    inner = (places > 0) & (places + width < known.size)
    start = np.where(inner, places, 1)
    columns = [known[start + i] for i in range(-1, width + 1)]
    return np.where(inner, _beyond_neighbours(columns, up_only=up_only), 0.0)


def _usual_excess(known: Values, width: int, *, up_only: bool = False) -> Values:
    """The same for a sample of the places: every n-th from the second on."""
    stop = known.size - width - 1
    if stop <= 0:
        return np.zeros(0)
    step = stride(known.size)
    return _beyond_neighbours([known[i : i + stop : step] for i in range(width + 2)], up_only=up_only)


def _beyond_neighbours(columns: list[Values], *, up_only: bool) -> Values:
    before, *inside, after = columns
    lowest = highest = inside[0]
    for value in inside[1:]:
        lowest, highest = np.minimum(lowest, value), np.maximum(highest, value)
    beyond = lowest - np.maximum(before, after)
    if not up_only:
        np.maximum(beyond, np.minimum(before, after) - highest, out=beyond)
    return np.maximum(beyond, 0.0, out=beyond)


def _bright_peak(values: Values, per_day: int) -> float:
    """Highest output of a bright day: what one day in four exceeds."""
    days = by_day(values, per_day, 0)
    peaks = np.fmax.reduce(days, axis=1)
    peaks = peaks[np.isfinite(peaks)]
    return quantile(peaks, 0.75) if peaks.size else np.inf


def _above_the_sky(values: Values, sky: Values, per_day: int, high: float, mask: Mask) -> None:
    """PV output beyond what the brightest days around gave at that hour."""
    top = _bright_peak(values, per_day)
    high_up = np.flatnonzero(values > BEYOND * top)
    for width in (1, 2):
        excess = _excess(np.nan_to_num(values), high_up, width, up_only=True)
        for start in high_up[excess > LEAST_OVER * top].tolist():
            mask[start : start + width] = True
    over = values - sky
    limit = natural_limit(np.where(over > 0, over, 0.0)[sky > 0.02 * high], expected=1.0)
    floor = np.maximum(0.25 * sky, 0.12 * high)
    mask |= (over > floor) & (over > min(limit, 0.5 * high))
