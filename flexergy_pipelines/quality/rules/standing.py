"""Values that stand still, and zeros where the series is never zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.spec import SeriesSpec
from flexergy_pipelines.quality.tails import quantile, robust_size, thin

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

SHORTEST = 3  # identical neighbours; two may meet by chance in any meter of limited resolution
SHORTEST_HOURS = 2.2  # for that long a machine may well draw the same
CHANCE = 0.02  # runs of this length that chance may bring in the whole series
RATED = 0.97  # of the nameplate, or of the highest values: full power
NEVER_RESTS = 0.03  # share of steps without counting in a register that always counts
CATCH_UP = 3.0  # times the steps before and after: what was not counted meanwhile
OFTEN_ZERO = 0.08  # share of zeros in several stretches from which on a load is taken for one that is off at times
RETURNS = 3  # times that a series stands still at exactly the same value
MOSTLY_ZERO = 0.5  # share from which on a few stretches are as good
HEADROOM = 1.1  # times the nameplate is the largest value that is possible
# Shortest time of standing still that is told, for kinds that may rest for a while [h].
LEAST_HOURS = {"exchange": 3.0, "weather": 8.0}
FEW_LEVELS = 120  # different values; weather in steps this coarse stands still by itself
NEVER = frozenset({"ev", "storage", "state", "counter"})


def _runs(values: Values) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of the runs of identical values (NaN equals nothing)."""
    change = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate(([0], change))
    return starts, np.diff(np.concatenate((starts, [values.size])))


def frozen(values: Values, spec: SeriesSpec) -> Mask:
    """Values that stood still for longer than this series does by itself.

    How long that is follows from the series: the share of neighbours that are equal by chance gives the longest run to
    expect, and a series that often rests gets a longer limit. Zero is left to `dead`; full power of a turbine or an
    inverter, which is the same number every time, is normal. The first value of a run was still measured and stays.
    """
    mask = np.zeros(values.size, dtype=bool)
    if spec.kind in NEVER or values.size < 2 * SHORTEST:
        return mask
    if spec.kind == "weather" and np.unique(thin(values)).size < FEW_LEVELS:
        return mask
    starts, lengths = _runs(values)
    level = values[starts]
    size = robust_size(values)
    floor = 0.02 * size if spec.kind == "pv" else 0.002 * size
    candidate = np.isfinite(level) & (np.abs(level) > floor)
    limit = _longest_natural(lengths[candidate], values.size, spec)
    hit = candidate & (lengths >= limit)
    if spec.kind in ("wind", "pv") and hit.any():
        hit &= ~_is_plateau(level, lengths, size, spec)
    if hit.any():
        hit &= ~_is_setting(level, lengths, hit)
    for start, length in zip(starts[hit].tolist(), lengths[hit].tolist(), strict=True):
        if length >= _natural_here(values, start, length, limit, spec):
            mask[start + 1 : start + length] = True
    return mask


def _is_setting(level: Values, lengths: NDArray[np.int64], hit: Mask) -> Mask:
    """Runs at a value to which the series returns to stand still: the least or the usual output of a machine.

    A meter freezes at any value, so it rarely freezes at the same one more often than the series takes that value.
    """
    held, count = np.unique(level[hit], return_counts=True)
    setting, returns = held[count >= RETURNS], count[count >= RETURNS]
    if setting.size == 0:
        return np.zeros(level.size, dtype=bool)
    moving = np.where(hit | ~np.isfinite(level), 0, lengths)
    share = np.array([moving[level == value].sum() for value in setting]) / max(1, moving.sum())
    return np.isin(level, setting[returns >= RETURNS + 3 * share * hit.sum()])


def _natural_here(values: Values, start: int, length: int, limit: int, spec: SeriesSpec) -> float:
    """Longest run to expect where neighbours repeat as often as in the days around: a standby in coarse steps."""
    day = spec.steps_per_day
    around = np.concatenate((values[max(0, start - day) : start], values[start + length : start + length + day]))
    known = around[np.isfinite(around)]
    lengths = _runs(known)[1] if known.size > 1 else np.zeros(0, dtype=np.int64)
    short = lengths[lengths < limit]
    if short.sum() < day // 4:
        return 0.0
    repeat = float(np.clip((short - 1).sum() / short.sum(), 1e-3, 0.9))
    return np.log(values.size / CHANCE) / np.log(1 / repeat) + 1


def stuck(values: Values, spec: SeriesSpec) -> Mask:
    """Readings of a register that stood still though there was something to count.

    A register may rest as long as nothing flows. It was stuck where it catches up afterwards, or where this register
    never rests otherwise. The first reading of such a stretch was still right and stays.
    """
    mask = np.zeros(values.size, dtype=bool)
    if values.size < 50:
        return mask
    step = np.diff(values)
    rate = float(np.mean(np.maximum(thin(step), 0.0))) if np.isfinite(step).any() else 0.0
    largest = quantile(thin(step), 0.99) if np.isfinite(step).any() else 0.0
    starts, lengths = _runs(values)
    inside = np.isfinite(values[starts]) & (starts > 0) & (starts + lengths + 1 < values.size)
    long = np.flatnonzero(inside & (lengths > max(spec.steps(SHORTEST_HOURS), SHORTEST)))
    rests = float((lengths[lengths > 1] - 1).sum()) / values.size
    never = rests < NEVER_RESTS and long.size <= max(10, 0.2 * values.size / spec.steps_per_day)
    for start, length in zip(starts[long].tolist(), lengths[long].tolist(), strict=True):
        before, caught_up, after = step[start - 1], step[start + length - 1], step[start + length]
        leaps = caught_up > max(CATCH_UP * before, CATCH_UP * after, largest)
        if leaps or (never and min(before, caught_up) > 0.5 * rate):
            mask[start + 1 : start + length] = True
    return mask


def _longest_natural(lengths: NDArray[np.int64], size: int, spec: SeriesSpec) -> int:
    if lengths.size == 0:
        return SHORTEST
    # Chance that a neighbour repeats a value, from the short runs only.
    short = lengths[lengths < 3 * SHORTEST]
    repeat = float(np.clip((short - 1).sum() / max(short.sum(), 1), 1e-3, 0.97))
    limit = int(np.ceil(np.log(size / CHANCE) / np.log(1 / repeat))) + 1
    limit = max(limit, SHORTEST, spec.steps(LEAST_HOURS.get(spec.kind, SHORTEST_HOURS)))
    days = size / spec.steps_per_day
    # A series that rests this often does so by itself (a fridge, a standby): only rarer, longer rests are told.
    while (lengths >= limit).sum() > max(10, 0.2 * days):
        limit = int(np.ceil(limit * 1.25))
    return limit


def _is_plateau(level: Values, lengths: NDArray[np.int64], size: float, spec: SeriesSpec) -> Mask:
    nameplate = np.inf if spec.maximum is None else RATED * spec.maximum / HEADROOM
    # An inverter that clips gives the same highest value on many days.
    top = (level >= RATED * size) & (lengths > 2)
    values, count = np.unique(level[top], return_counts=True)
    return (level >= nameplate) | (top & np.isin(level, values[count > 1]))


def dead(values: Values, spec: SeriesSpec, sky: Values | None = None) -> Mask:
    """Zeros where the series is never zero by itself: a load that is always on, PV under a bright sky for hours."""
    mask = np.zeros(values.size, dtype=bool)
    zero = values == 0
    known = int(np.isfinite(values).sum())
    if not 0 < zero.sum() < known:
        return mask  # a series that is nothing but zero is switched off
    if spec.kind in ("load", "meter"):
        low = quantile(np.abs(thin(values[~zero])), 0.01)
        size = robust_size(values)
        starts, lengths = _runs(values)
        zero_runs = int((values[starts] == 0).sum())
        days = max(1.0, values.size / spec.steps_per_day)
        often = zero_runs > max(12, 0.3 * days) or zero.sum() > MOSTLY_ZERO * known
        often |= zero_runs > 2 and zero.sum() > OFTEN_ZERO * known
        natural = often or low < 0.1 * size
        return mask if natural else zero
    if spec.kind == "pv" and sky is not None:
        starts, lengths = _runs(values)
        size = robust_size(values)
        bright = zero & (sky > 0.35 * size)
        least = max(3, spec.steps(1.5))
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            if length >= least and values[start] == 0:
                part = slice(start, start + length)
                if bright[part].sum() >= least and _breaks_off(values, start, start + length, size):
                    mask[part] = zero[part] & (sky[part] > 0.05 * size)
    return mask


def _breaks_off(values: Values, start: int, stop: int, size: float) -> bool:
    """Whether output ends or begins with a jump, as at a fault; under snow it stays away from dawn to dusk."""
    before = values[start - 1] if start else 0.0
    after = values[stop] if stop < values.size else 0.0
    return bool(max(before, after) > 0.35 * size)
