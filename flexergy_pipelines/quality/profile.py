"""What is usual at an hour of the day: medians by slot, and the best output that the sky allows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

BLOCK_WEEKS = 16
BLOCK_DAYS = 28


def by_day(values: Values, per_day: int, phase: int) -> Values:
    """The series as days x slots, NaN where it does not reach; `phase` is the slot of the first value."""
    days = -(-(phase + values.size) // per_day)
    padded = np.full(days * per_day, np.nan)
    padded[phase : phase + values.size] = values
    return padded.reshape(days, per_day)


def nan_quantile_rows(matrix: Values, share: float) -> Values:
    """Quantile down each column, NaNs left out (nearest rank); NaN where a column has no value."""
    ordered = np.sort(matrix, axis=0)  # NaNs come last
    count = np.isfinite(matrix).sum(axis=0)
    rank = np.minimum((share * count).astype(np.int64), np.maximum(count - 1, 0))
    return np.where(count > 0, ordered[rank, np.arange(matrix.shape[1])], np.nan)


def usual(values: Values, per_day: int, phase: int) -> Values:
    """Median of the same slot of the week within about four months, for each value (of the day in short series)."""
    week = 7 * per_day
    period, block = (week, BLOCK_WEEKS) if values.size >= 8 * week else (per_day, BLOCK_DAYS)
    rows = by_day(values, period, phase)
    result = np.empty_like(rows)
    if values.size == 0:
        return values.copy()
    for part in np.array_split(np.arange(rows.shape[0]), max(1, round(rows.shape[0] / block))):
        result[part[0] : part[-1] + 1] = nan_quantile_rows(rows[part[0] : part[-1] + 1], 0.5)
    return result.ravel()[phase : phase + values.size]


def clear_sky(values: Values, per_day: int, phase: int, share: float = 0.94) -> Values:
    """Nearly the best (quantile `share`) of the same slot and its neighbours within four weeks, for each value."""
    days = by_day(values, per_day, phase)
    result = np.empty_like(days)
    if values.size == 0:
        return values.copy()
    blocks = max(1, round(days.shape[0] / 21))
    for rows in np.array_split(np.arange(days.shape[0]), blocks):
        low, high = max(0, rows[0] - 3), min(days.shape[0], rows[-1] + 4)
        # One wrong value must not lift the sky: the second best of about four weeks.
        best = base = nan_quantile_rows(days[low:high], share)
        # Dawn moves within the three weeks, so half an hour on either side counts too.
        reach = per_day // 48
        for shift in range(-reach, reach + 1):
            best = np.fmax(best, np.roll(base, shift))
        result[rows[0] : rows[-1] + 1] = best
    return result.ravel()[phase : phase + values.size]
