"""Unusual days, by a learned model: days whose level, shape or restlessness is like no other day of the series.

An isolation forest (Liu, Ting, Zhou 2008) looks at features of each day against the usual course of its
weekday; what it isolates far more easily than the bulk is told. Nothing is changed: an unusual day may be a
holiday, and is for people to judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.profile import by_day, usual
from flexergy_pipelines.quality.spec import SeriesSpec

Values = NDArray[np.float64]

LEAST_DAYS = 30
LEAST_KNOWN = 0.9  # share of a day's values
FAR = 9.5  # robust standard deviations of the forest's score: real heat waves and holidays reach eight to eleven
FEATURES = ("level", "lowest", "highest", "shape", "restlessness")
CLEAR = 4.0  # robust standard deviations that a feature must be off, too, to be given as the reason


@dataclass(frozen=True, slots=True)
class UnusualDay:
    """A day that is like no other.

    Attributes
    ----------
    day : int
        Number of the day in the series, from 0.
    distance : float
        Robust standard deviations of the forest's score from the bulk.
    reason : str
        The feature that is furthest from its usual value.
    """

    day: int
    distance: float
    reason: str


def unusual_days(values: Values, spec: SeriesSpec) -> list[UnusualDay]:
    """Days of a regular series that are like no other, most unusual first; empty when less than a month is known."""
    from sklearn.ensemble import IsolationForest

    features, days = _features(values, spec)
    if days.size < LEAST_DAYS:
        return []
    middle = np.median(features, axis=0)
    spread = 1.4826 * np.median(np.abs(features - middle), axis=0)
    scaled = (features - middle) / np.where(spread > 0, spread, 1.0)
    # Far is far: without the cut one wild day would leave no room between the others.
    cut = np.clip(scaled, -15, 15)
    forest = IsolationForest(n_estimators=100, random_state=0, n_jobs=1).fit(cut)
    score = -forest.score_samples(cut)
    bulk = np.median(score)
    distance = (score - bulk) / max(1.4826 * float(np.median(np.abs(score - bulk))), 1e-9)
    found = []
    for i in np.flatnonzero(distance > FAR).tolist():
        feature = int(np.argmax(np.abs(scaled[i])))
        if abs(scaled[i, feature]) > CLEAR:
            found.append(UnusualDay(int(days[i]), float(distance[i]), FEATURES[feature]))
    return sorted(found, key=lambda day: -day.distance)


def _features(values: Values, spec: SeriesSpec) -> tuple[Values, NDArray[np.int64]]:
    per_day, phase = spec.steps_per_day, spec.first_slot
    found = by_day(values, per_day, phase)
    expected = by_day(usual(values, per_day, phase), per_day, phase)
    known = np.isfinite(found) & np.isfinite(expected)
    days = np.flatnonzero(known.mean(axis=1) >= LEAST_KNOWN)
    x, y = np.where(known, found, np.nan)[days], np.where(known, expected, np.nan)[days]
    size = np.maximum(np.nanmean(np.abs(y), axis=1), 1e-9)
    difference = x - y
    level = np.nanmean(difference, axis=1) / size
    centred = difference - np.nanmean(difference, axis=1)[:, None]
    shape = np.log1p(np.nanstd(centred, axis=1) / size)
    restless = np.log1p(np.nanmean(np.abs(np.diff(x, axis=1)), axis=1) / size)
    lowest, highest = np.nanmin(difference, axis=1) / size, np.nanmax(difference, axis=1) / size
    return np.column_stack((level, lowest, highest, shape, restless)), days
