"""Imputation of gaps in a regular series, by their length, always with an uncertainty.

Short gaps are interpolated. Longer ones take the shape of the same hours one week (or one day) before and after, moved
so that it meets both edges of the gap. Longer outages stay empty: nothing is made up silently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality import flags
from flexergy_pipelines.quality.runs import runs_of
from flexergy_pipelines.quality.spec import SeriesSpec

Values = NDArray[np.float64]
Texts = NDArray[np.object_]

# What a battery, a state or the whole exchange did follows from control, not from the day of the week.
SIMILAR_DAY_KINDS = frozenset({"load", "pv", "wind", "ev", "meter"})


def impute(values: Values, spec: SeriesSpec) -> tuple[Values, Texts, Values]:
    """Fill the gaps (NaN) of a regular series.

    Returns
    -------
    values : ndarray
        With estimates where they could be made.
    reason : ndarray of str or None
        How each gap was treated; None where there was a value.
    uncertainty : ndarray
        Standard deviation of each estimate [unit of the values]; NaN where there was a value or none was made.
    """
    filled = values.copy()
    reason = np.full(values.size, None, dtype=object)
    uncertainty = np.full(values.size, np.nan)
    gaps = runs_of(~np.isfinite(values))
    if not gaps:
        return filled, reason, uncertainty
    if not np.isfinite(values).any() or spec.kind in ("counter",):
        reason[~np.isfinite(values)] = flags.OUTAGE
        return filled, reason, uncertainty
    step_sigma = _step_sigma(values)
    similar = _SimilarDays(values, spec)
    for start, stop in gaps:
        length = stop - start
        inner = start > 0 and stop < values.size
        if length <= spec.steps(spec.interpolate_hours) and inner:
            filled[start:stop] = np.interp(np.arange(start, stop), [start - 1, stop], [values[start - 1], values[stop]])
            share = (np.arange(length) + 1) / (length + 1)
            uncertainty[start:stop] = step_sigma * np.sqrt((length + 1) * share * (1 - share))
            reason[start:stop] = flags.INTERPOLATED
        elif spec.kind in SIMILAR_DAY_KINDS and length <= spec.steps(spec.similar_day_hours):
            estimate, sigma = similar.estimate(start, stop)
            known = np.isfinite(estimate)
            filled[start:stop] = estimate
            uncertainty[start:stop] = np.where(known, sigma, np.nan)
            reason[start:stop] = np.where(known, flags.SIMILAR_DAY, flags.OUTAGE)
        else:
            reason[start:stop] = flags.OUTAGE
    return _within(filled, reason, spec), reason, uncertainty


def _within(filled: Values, reason: Texts, spec: SeriesSpec) -> Values:
    """Estimates never leave the nameplate's range; measured values are not touched."""
    limited = (
        np.clip(filled, spec.minimum, spec.maximum) if spec.minimum is not None or spec.maximum is not None else filled
    )
    return np.where(reason != None, limited, filled)  # noqa: E711 - elementwise


def _step_sigma(values: Values) -> float:
    steps = np.diff(values)
    steps = steps[np.isfinite(steps)]
    return float(np.std(steps)) if steps.size else float("nan")


class _SimilarDays:
    """Same hours of weeks (else days) around a gap, moved to meet its edges."""

    def __init__(self, values: Values, spec: SeriesSpec) -> None:
        self._values = values
        self._day = spec.steps_per_day
        weekly = [7 * self._day * k for k in (1, -1, 2, -2)]
        daily = [self._day * k for k in (1, -1, 2, -2, 3, -3)]
        # Sun and wind know no weekdays: for them the nearest days are the similar ones.
        self._families = [daily, weekly] if spec.kind in ("pv", "wind") else [weekly, daily]

    def _lagged(self, start: int, stop: int, lags: list[int]) -> Values:
        index = np.arange(start, stop)
        rows = []
        for lag in lags:
            moved = index - lag
            inside = (moved >= 0) & (moved < self._values.size)
            rows.append(np.where(inside, self._values[np.clip(moved, 0, self._values.size - 1)], np.nan))
        return np.array(rows)

    def estimate(self, start: int, stop: int) -> tuple[Values, Values]:
        """Estimates for [start, stop) and their standard deviation; NaN where no similar day is known."""
        edge = 4
        low, high = max(0, start - edge), min(self._values.size, stop + edge)
        shape = np.full(high - low, np.nan)
        spread = np.full(high - low, np.nan)
        for lags in self._families:
            rows = self._lagged(low, high, lags)
            count = np.isfinite(rows).sum(axis=0)
            total = np.where(np.isfinite(rows), rows, 0).sum(axis=0)
            mean = np.divide(total, count, out=np.full(total.size, np.nan), where=count > 0)
            square = np.where(np.isfinite(rows), (rows - mean) ** 2, 0).sum(axis=0)
            deviation = np.sqrt(np.divide(square, count - 1, out=np.full(total.size, np.nan), where=count > 1))
            use = ~np.isfinite(shape)
            shape = np.where(use, mean, shape)
            spread = np.where(use, deviation, spread)
        residual = self._values[low:high] - shape
        left = residual[: start - low]
        right = residual[stop - low :]
        left_move = float(np.nanmean(left)) if np.isfinite(left).any() else None
        right_move = float(np.nanmean(right)) if np.isfinite(right).any() else None
        if left_move is None and right_move is None:
            move = np.zeros(stop - start)
        else:
            share = (np.arange(stop - start) + 1) / (stop - start + 1)
            a = left_move if left_move is not None else float(right_move or 0.0)
            b = right_move if right_move is not None else a
            move = (1 - share) * a + share * b
        inner = slice(start - low, stop - low)
        sigma = spread[inner]
        fallback = float(np.nanmean(sigma)) if np.isfinite(sigma).any() else float(np.nanstd(self._values))
        return shape[inner] + move, np.where(np.isfinite(sigma), sigma, fallback)
