"""Consistency between series: what one meter says against another, against its own register, phase or clock.

These rules do not change values; they say on which days something does not fit, and by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.profile import by_day, usual

Values = NDArray[np.float64]

ENERGY_TOLERANCE = 0.02  # share of a day's energy by which register and integrated power may differ
BALANCE_TOLERANCE = 0.03  # share of the flow by which sub-meters may differ from the main meter beyond losses
LEAST_KNOWN = 0.8  # share of a day that must be known for a verdict
SWAP_GAIN = 0.15  # logarithm by which an exchange must lessen each day's error
SWAP_SUM = 1.5  # the same summed over its days
SWAP_DAYS = 2  # days in a row on which phases must look exchanged
DRIFT_DAYS = 3  # days in a row on which a clock must be off
DRIFT_GAIN = 0.006  # by which a shift must better each day's correlation
DRIFT_SUM = 0.15  # the same summed over its days


@dataclass(frozen=True, slots=True)
class DayVerdict:
    """Verdict on one day.

    Attributes
    ----------
    day : int
        Number of the day in the series, from 0.
    expected, found : float
        The two quantities that should agree.
    deviation : float
        Their difference as a share of the larger one.
    fits : bool
    """

    day: int
    expected: float
    found: float
    deviation: float
    fits: bool


def _verdicts(expected: Values, found: Values, known: Values, tolerance: float, floor: float) -> list[DayVerdict]:
    result = []
    for day in np.flatnonzero(known >= LEAST_KNOWN).tolist():
        a, b = float(expected[day]), float(found[day])
        deviation = abs(a - b) / max(abs(a), abs(b), floor)
        result.append(DayVerdict(day, a, b, deviation, deviation <= tolerance))
    return result


def energy_against_power(
    register_kwh: Values,
    power_kw: Values,
    step_minutes: float,
    first_slot: int = 0,
    tolerance: float = ENERGY_TOLERANCE,
) -> list[DayVerdict]:
    """What a register counted in a day against the integral of the power.

    Parameters
    ----------
    register_kwh : ndarray
        Register at the start of each interval [kWh].
    power_kw : ndarray
        Mean power of each interval in the direction of the register [kW]; negative values count as nothing.

    Returns
    -------
    list of DayVerdict
        `expected` is the integrated power, `found` what the register counted [kWh]; days of which too little is known
        or in which the register began anew are left out.
    """
    per_day = max(1, round(1440 / step_minutes))
    counted = np.append(np.diff(register_kwh), np.nan)
    counted[counted < 0] = np.nan
    flow = np.maximum(power_kw, 0) * step_minutes / 60
    both = np.isfinite(counted) & np.isfinite(flow)
    days_counted = by_day(np.where(both, counted, np.nan), per_day, first_slot)
    days_flow = by_day(np.where(both, flow, np.nan), per_day, first_slot)
    known = np.isfinite(days_counted).mean(axis=1)
    size = float(np.nanmax(np.nansum(days_flow, axis=1))) if both.any() else 0.0
    return _verdicts(
        np.nansum(days_flow, axis=1), np.nansum(days_counted, axis=1), known, tolerance, max(0.05 * size, 1e-9)
    )


def sum_against_main(
    main_kw: Values,
    parts_kw: list[Values],
    step_minutes: float,
    first_slot: int = 0,
    tolerance: float = BALANCE_TOLERANCE,
) -> list[DayVerdict]:
    """Sub-meters (signed) against the main meter, day by day.

    `expected` is the day's mean absolute flow through the main meter, `found` that flow less the mean absolute
    difference of the sum of the parts [kW].
    """
    per_day = max(1, round(1440 / step_minutes))
    difference = main_kw - np.sum(parts_kw, axis=0)
    days = by_day(difference, per_day, first_slot)
    flow = by_day(np.where(np.isfinite(difference), np.abs(main_kw), np.nan), per_day, first_slot)
    known = np.isfinite(days).mean(axis=1)
    count = np.maximum(np.isfinite(days).sum(axis=1), 1)
    off = np.nansum(np.abs(days), axis=1) / count
    through = np.nansum(np.abs(flow), axis=1) / count
    size = float(np.max(through)) if through.size else 0.0
    return _verdicts(through, through - off, known, tolerance, max(0.05 * size, 1e-9))


@dataclass(frozen=True, slots=True)
class Swap:
    """Two phases that look exchanged from `first_day` to `last_day`, both included."""

    phases: tuple[str, str]
    first_day: int
    last_day: int


def swapped_phases(phases: dict[str, Values], step_minutes: float, first_slot: int = 0) -> list[Swap]:
    """Stretches of days on which two phases fit each other's usual course far better than their own."""
    per_day = max(1, round(1440 / step_minutes))
    courses = {name: usual(values, per_day, first_slot) for name, values in phases.items()}

    def misfit(values: str, course: str) -> Values:
        days = by_day(np.abs(phases[values] - courses[course]), per_day, first_slot)
        return np.nansum(days, axis=1) / np.maximum(np.isfinite(days).sum(axis=1), 1)

    swaps = []
    for one, other in combinations(phases, 2):
        straight = misfit(one, one) + misfit(other, other)
        crossed = misfit(one, other) + misfit(other, one)
        known = (straight > 0) & (crossed > 0)
        gain = np.log(np.divide(straight, crossed, out=np.ones(known.size), where=known))
        # One odd day must neither make an exchange nor end one.
        found = _best_stretches(np.clip(gain, -1.0, 1.0) - SWAP_GAIN, SWAP_DAYS, SWAP_SUM)
        swaps += [Swap((one, other), start, stop - 1) for start, stop in found]
    return sorted(swaps, key=lambda swap: swap.first_day)


@dataclass(frozen=True, slots=True)
class Drift:
    """A clock that is off: values come `minutes` late (negative: early) from `first_day` to `last_day`."""

    minutes: float
    first_day: int
    last_day: int


def clock_drift(values: Values, reference: Values, step_minutes: float, first_slot: int = 0) -> list[Drift]:
    """Stretches of days on which a series fits a reference better when it is shifted in time.

    Parameters
    ----------
    reference : ndarray
        A series with a trusted clock that moves with this one (the main meter, or this one's usual course).
    """
    per_day = max(1, round(1440 / step_minutes))
    reach = max(1, min(per_day // 8, 24))
    lags = np.arange(-reach, reach + 1)
    scores = np.stack([_similarity(np.roll(values, -lag), reference, per_day, first_slot) for lag in lags])
    gains = np.clip(scores - scores[reach], -0.3, 0.3) - DRIFT_GAIN
    gains[:, scores.max(axis=0) < 0.5] = -DRIFT_GAIN
    return sorted(_drifts(gains, lags, step_minutes, 0), key=lambda drift: drift.first_day)


def _drifts(gains: Values, lags: NDArray[np.int64], step_minutes: float, first: int) -> list[Drift]:
    """The stretch and shift with the largest gain, and those before and after it."""
    best: tuple[float, int, int, int] | None = None
    for number in range(lags.size):
        for start, stop in _best_stretches(gains[number], DRIFT_DAYS, DRIFT_SUM, most=1):
            total = float(gains[number, start:stop].sum())
            if lags[number] != 0 and (best is None or total > best[0]):
                best = (total, number, start, stop)
    if best is None:
        return []
    _, number, start, stop = best
    found = Drift(float(lags[number]) * step_minutes, first + start, first + stop - 1)
    before = _drifts(gains[:, :start], lags, step_minutes, first)
    return [*before, found, *_drifts(gains[:, stop:], lags, step_minutes, first + stop)]


def _best_stretches(worth: Values, least: int, total: float, most: int = 1000) -> list[tuple[int, int]]:
    """Stretches of days whose summed worth is largest, best first: at least `least` days and `total` in sum."""
    found: list[tuple[int, int]] = []
    open_parts = [(0, worth.size)]
    while open_parts and len(found) < most:
        low, high = open_parts.pop()
        running, start, best = 0.0, low, (0.0, low, low)
        for i in range(low, high):
            if running <= 0:
                running, start = 0.0, i
            running += float(worth[i])
            if running > best[0]:
                best = (running, start, i + 1)
        if best[0] >= total and best[2] - best[1] >= least:
            found.append((best[1], best[2]))
            open_parts += [(low, best[1]), (best[2], high)]
    return found


def _similarity(values: Values, reference: Values, per_day: int, first_slot: int) -> Values:
    """Correlation of each day; 0 where too little is known."""
    both = np.isfinite(values) & np.isfinite(reference)
    x = by_day(np.where(both, values, np.nan), per_day, first_slot)
    y = by_day(np.where(both, reference, np.nan), per_day, first_slot)
    known = np.isfinite(x)
    count = np.maximum(known.sum(axis=1), 1)
    x = np.where(known, x - (np.nansum(x, axis=1) / count)[:, None], 0.0)
    y = np.where(known, y - (np.nansum(y, axis=1) / count)[:, None], 0.0)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    correlation = np.divide((x * y).sum(axis=1), spread, out=np.zeros(x.shape[0]), where=spread > 0)
    return np.where(known.mean(axis=1) >= LEAST_KNOWN / 2, correlation, 0.0)
