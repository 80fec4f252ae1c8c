"""What kind of series a channel is, by its name and by how it looks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.axis import Axis
from flexergy_pipelines.quality.names import kind_by_name
from flexergy_pipelines.quality.profile import by_day, nan_quantile_rows
from flexergy_pipelines.quality.spec import SeriesKind
from flexergy_pipelines.quality.tails import quantile

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEAST_DAYS = 3  # from which the course of a day is told
LEAST_DAYS_OF_WIND = 7
DARK = 0.02  # of the size; meters show some noise at night
NIGHT = 0.2  # share of a day's slots at which PV gives nothing
BRIGHT = 0.14  # share of a day's slots at which it gives something on most days
DARK_DAYS, BRIGHT_DAYS = 0.8, 0.6  # share of the days that must be dark, or bright, at a slot: some may be wrong
HUMP_EDGE = 0.5  # of the usual noon; PV begins and ends its day below it
SAMPLE = 20_000  # values of which the memory of a series is told
# Wind is calm by itself for hours, comes back to any height, remembers the hour before and hardly the day before. Real
# series, whole and by months: wind 0 to 0.024, 0.85 to 0.99, and 0.57 and 0.39 at most; loads that are as low as that
# remember the day before (0.6 and more) or not even the hour (0.5).
CALM = 0.025  # tenth percentile over the usual peak of a day
DYING = 0.15  # of the usual peak: how far above the limit of calm the value beside it may be
ONE_WAY = 0.15  # share of negative values; more is the business of a meter of both directions
WRONG = (0.004, 3.5)  # times the usual peak of a day; what lies outside tells nothing
CIRCLE, CIRCLE_HIGH = 360.0, 345.0  # degrees; every direction comes within a few days
LEAST_OF_CIRCLE = 100  # values
CROSSINGS = 0.001  # share of the steps that pass north
HOUR_BEFORE = 0.78
DAY_BEFORE = 0.62
TWO_DAYS_BEFORE = 0.45


def infer_kind(name: str, values: Values, axis: Axis) -> SeriesKind:
    """Kind of a channel, by its name or by its looks: "wind", "pv", "weather", "state", else "meter".

    Parameters
    ----------
    name : str
        Header of the channel.
    values : ndarray
        The channel on a regular axis, NaN where nothing was measured.
    axis : Axis
        Step and first slot of the values.
    """
    named = kind_by_name(name)
    if named is not None:
        return named
    if is_direction(values):
        return "state"
    per_day = max(1, round(1440 / axis.step_minutes))
    if per_day < 8 or values.size < LEAST_DAYS * per_day:
        return "meter"
    days = by_day(np.abs(values), per_day, axis.first_slot)
    peaks = np.fmax.reduce(days, axis=1)
    peaks = peaks[np.isfinite(peaks) & (peaks > 0)]
    if peaks.size == 0:
        return "meter"
    size = float(np.median(peaks))
    night, bright = _dark_and_bright(days, size)
    if night.mean() > NIGHT and bright.mean() > BRIGHT and _is_hump(days, night):
        return "pv"
    long = values.size >= LEAST_DAYS_OF_WIND * per_day
    return "wind" if long and night.mean() < NIGHT / 2 and _blows(values, per_day, size) else "meter"


def is_direction(values: Values) -> bool:
    """Whether values are degrees of a circle: from 0 to 360, with leaps across north that are small turns."""
    known = values[np.isfinite(values)]
    if known.size < LEAST_OF_CIRCLE or known.min() < 0 or not CIRCLE_HIGH < known.max() <= CIRCLE:
        return False
    step = np.abs(np.diff(known))
    leaps = step > CIRCLE / 2
    # A power leaps to any height; across north the turn is as small as it is elsewhere.
    turn = np.minimum(step, CIRCLE - step)
    across = turn[leaps & ((np.minimum(known[1:], known[:-1]) < 60) & (np.maximum(known[1:], known[:-1]) > 300))]
    return bool(leaps.mean() > CROSSINGS and across.size > 0.6 * leaps.sum() and known.std() > CIRCLE / 8)


def _dark_and_bright(days: Values, size: float) -> tuple[Mask, Mask]:
    """Slots at which nothing is given (or measured) on nearly all days, and those at which there is on most."""
    known = np.isfinite(days)
    dark = known & (days <= DARK * size)
    seen = known.sum(axis=0)
    share = np.where(seen > 0.05 * seen.max(), dark.sum(axis=0) / np.maximum(seen, 1), 1.0)
    return share > DARK_DAYS, share < 1 - BRIGHT_DAYS


def _is_hump(days: Values, night: Mask) -> bool:
    """Whether output rises and sets; a machine that is switched on in the morning is no sunrise."""
    course = np.nan_to_num(nan_quantile_rows(days, 0.6))
    hump = np.flatnonzero(~night)
    first = hump[np.argmax(np.diff(hump, prepend=hump[-1] - night.size))]
    inside = np.roll(course, -int(first))[: hump.size]
    edge = max(1, inside.size // 10)
    return bool(max(inside[:edge].mean(), inside[-edge:].mean()) < HUMP_EDGE * inside.max())


def _blows(values: Values, per_day: int, size: float) -> bool:
    part = values[-SAMPLE:]
    known = part[np.isfinite(part)]
    if known.size < LEAST_DAYS_OF_WIND * per_day // 2 or float((known < -CALM * size).mean()) > ONE_WAY:
        return False
    part = np.abs(part)
    right = (part > WRONG[0] * size) & (part < WRONG[1] * size)
    if not right.any() or quantile(np.abs(known), 0.1) > CALM * size:
        return False
    # Wind dies down and rises; what leaps from its usual height below the limit and back is in another unit.
    low = part < CALM * size
    crossing = np.flatnonzero(low[1:] != low[:-1])
    above = np.fmax(part[crossing], part[crossing + 1])
    if crossing.size < 3 or float(np.median(above)) > DYING * size:
        return False
    ranks = np.where(right, np.argsort(np.argsort(part)).astype(np.float64), np.nan)
    hour = max(1, per_day // 24)
    remembered = [_correlation(ranks, lag) for lag in (hour, per_day, 2 * per_day)]
    return remembered[0] > HOUR_BEFORE and remembered[1] < DAY_BEFORE and remembered[2] < TWO_DAYS_BEFORE


def _correlation(values: Values, lag: int) -> float:
    before, after = values[:-lag], values[lag:]
    known = np.isfinite(before) & np.isfinite(after)
    before, after = before[known], after[known]
    if before.size < 50 or np.std(before) == 0 or np.std(after) == 0:
        return 1.0
    return float(np.corrcoef(before, after)[0, 1])
