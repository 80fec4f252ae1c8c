"""Consistency between series: what one meter says against another, against its own register, phase or clock.

These rules do not change values; they say on which days something does not fit, and by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.profile import by_day, usual
from flexergy_pipelines.quality.runs import runs_of

Values = NDArray[np.float64]

ENERGY_TOLERANCE = 0.02  # share of a day's energy by which register and integrated power may differ
BALANCE_TOLERANCE = 0.03  # share of the flow by which sub-meters may differ from the main meter beyond losses
LEAST_KNOWN = 0.8  # share of a day that must be known for a verdict
SWAP_GAIN = 0.35  # an exchange must leave at most this share of the error
SWAP_DAYS = 2  # days in a row on which phases must look exchanged
DRIFT_DAYS = 3  # days in a row on which a clock must be off


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
        days = by_day((phases[values] - courses[course]) ** 2, per_day, first_slot)
        return np.nansum(days, axis=1) / np.maximum(np.isfinite(days).sum(axis=1), 1)

    swaps = []
    for one, other in combinations(phases, 2):
        straight = misfit(one, one) + misfit(other, other)
        crossed = misfit(one, other) + misfit(other, one)
        exchanged = (straight > 0) & (crossed < SWAP_GAIN * straight)
        swaps += [
            Swap((one, other), start, stop - 1) for start, stop in runs_of(exchanged) if stop - start >= SWAP_DAYS
        ]
    return sorted(swaps, key=lambda swap: swap.first_day)


@dataclass(frozen=True, slots=True)
class Drift:
    """A clock that is off: values come `minutes` late (negative: early) from `first_day` to `last_day`, on average."""

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
    best = lags[np.argmax(scores, axis=0)]
    gain = scores.max(axis=0) - scores[reach]
    off = (best != 0) & (gain > 0.02) & (scores.max(axis=0) > 0.5)
    return [
        Drift(float(np.mean(best[start:stop])) * step_minutes, start, stop - 1)
        for start, stop in runs_of(off)
        if stop - start >= DRIFT_DAYS
    ]


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
