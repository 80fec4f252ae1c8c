"""Rows of a file on a regular axis of time: step, order, doubles, changes of the clock, stamps that cannot be right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Microseconds = NDArray[np.int64]
Mask = NDArray[np.bool_]

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
SUNDAY = 3  # 1970-01-01 was a Thursday, so day number 3 was the first Sunday


@dataclass(frozen=True, slots=True)
class Axis:
    """Where each row belongs.

    Attributes
    ----------
    place : ndarray of int64
        Slot of each row on the regular axis; -1 for a row that is not used.
    double : ndarray of bool
        Rows whose instant another row had before.
    bad : ndarray of bool
        Rows whose time could not be read or cannot be right.
    size : int
        Number of slots.
    step_minutes : float
    first_slot : int
        Slot of its day of the axis' first slot.
    start_us : int
        Time of the first slot [us since 1970].
    """

    place: NDArray[np.int64]
    double: Mask
    bad: Mask
    size: int
    step_minutes: float
    first_slot: int
    start_us: int


def make_axis(times: Microseconds, known: Mask, *, zoned: bool) -> Axis:
    """The regular axis that the rows of a file lie on.

    Parameters
    ----------
    times, known : ndarray
        Microseconds since 1970, and whether they could be read.
    zoned : bool
        False for a local clock: then an hour that is skipped or given twice on a Sunday night is a change of the clock,
        no gap and no double.
    """
    bad = ~known | _impossible(times, known)
    rows = np.flatnonzero(~bad)
    place = np.full(times.size, -1, dtype=np.int64)
    double = np.zeros(times.size, dtype=bool)
    if rows.size == 0:
        return Axis(place, double, bad, 0, 60.0, 0, 0)
    used = times[rows]
    step = _step(used)
    if not zoned:
        used = _without_clock_changes(used, step)
    start = int(used.min())
    slots = np.round((used - start) / step).astype(np.int64)
    order = np.lexsort((rows, slots))
    repeated = np.zeros(rows.size, dtype=bool)
    repeated[order[1:]] = slots[order[1:]] == slots[order[:-1]]
    same_instant = np.zeros(rows.size, dtype=bool)
    same_instant[order[1:]] = used[order[1:]] == used[order[:-1]]
    if (repeated & ~same_instant).sum() > 0.01 * rows.size or int(slots.max()) > 30 * rows.size + 1000:
        # No regular axis fits: the rows are taken as they follow each other in time.
        sequence = np.argsort(used, kind="stable")
        slots = np.empty(rows.size, dtype=np.int64)
        distinct = np.concatenate(([True], used[sequence][1:] != used[sequence][:-1]))
        slots[sequence] = np.cumsum(distinct) - 1
        repeated = same_instant
    place[rows] = slots
    double[rows[repeated]] = True
    per_day = max(1, round(DAY_US / step))
    first_slot = int((start % DAY_US) // step) % per_day
    return Axis(place, double, bad, int(slots.max()) + 1, step / 60e6, first_slot, start)


def _impossible(times: Microseconds, known: Mask) -> Mask:
    """Stamps far outside the stretch that nearly all others lie in (a clock at 1970, a typing error in the year)."""
    if known.sum() < 20:
        return np.zeros(times.size, dtype=bool)
    low, high = np.quantile(times[known], [0.02, 0.98])
    reach = max(2 * (high - low), 3 * 365 * DAY_US)
    return known & ((times < low - reach) | (times > high + reach))


def _step(times: Microseconds) -> int:
    """Most common distance of neighbours in time [us]."""
    gaps = np.diff(np.sort(times))
    gaps = gaps[gaps > 0]
    if gaps.size == 0:
        return HOUR_US
    values, counts = np.unique(gaps[:2_000_000], return_counts=True)
    best = int(values[np.argmax(counts)])
    # Stamps that jitter by seconds have no common distance, but a middle one.
    return best if counts.max() > 0.3 * min(gaps.size, 2_000_000) else max(1, int(np.median(gaps)))


def _without_clock_changes(times: Microseconds, step: int) -> Microseconds:
    """Local times as time that runs evenly: the hour that is skipped is closed, the one given twice is unfolded."""
    if step > HOUR_US or HOUR_US % step:
        return times
    even = times.copy()
    repeats = HOUR_US // step
    gap = np.diff(times)
    night = (times[1:] // DAY_US % 7 == SUNDAY) & (times[1:] % DAY_US <= 4 * HOUR_US)
    forward = np.flatnonzero((gap == step + HOUR_US) & night) + 1
    backward = np.flatnonzero((gap == step - HOUR_US) & night) + 1
    for change in backward.tolist():
        even[change:] += HOUR_US
    for change in forward.tolist():
        even[change:] -= HOUR_US
    # A sorted file gives the two passes of the hour side by side: the second of each pair is the later one.
    pairs = np.flatnonzero((gap == 0) & (times[1:] // DAY_US % 7 == SUNDAY) & (times[1:] % DAY_US < 4 * HOUR_US)) + 1
    for day in np.unique(times[pairs] // DAY_US).tolist():
        second = pairs[times[pairs] // DAY_US == day]
        if second.size == repeats and times[second[-1]] - times[second[0]] == HOUR_US - step:
            even[second] += HOUR_US
            even[second[-1] + 1 :] += HOUR_US
    return even
