"""Whether today's data still look like those the models learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.timegrid import DAY

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

RECENT_DAYS = 28
SEASON_DAYS = 45
BINS = 10
MIN_VALUES = 14 * 24
# keeps one empty class from deciding the index alone
SMALLEST_SHARE = 0.005


def stability_index(reference: Floats, recent: Floats, bins: int = BINS) -> float:
    """Population stability index of two samples [1]_: 0 for equal distributions, above 0.25 they are said to differ.

    The classes are the quantiles of the reference. NaN values don't count.

    Parameters
    ----------
    reference, recent : ndarray
        In the same unit.
    bins : int
        Classes.

    Returns
    -------
    float
        NaN when either sample is empty.

    References
    ----------
    .. [1] N. Siddiqi, "Credit Risk Scorecards", Wiley 2006, ch. 8.
    """
    reference, recent = reference[np.isfinite(reference)], recent[np.isfinite(recent)]
    if reference.size == 0 or recent.size == 0:
        return float("nan")
    inner = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    expected = _shares(reference, inner)
    found = _shares(recent, inner)
    return float(((found - expected) * np.log(found / expected)).sum())


def _shares(values: Floats, inner: Floats) -> Floats:
    # a value on an edge counts below it, so that a class of its own is left for the many zeros of PV
    counts = np.bincount(np.searchsorted(inner, values, side="left"), minlength=inner.size + 1)
    shares = np.maximum(counts / values.size, SMALLEST_SHARE)
    return shares / shares.sum()


def seasonal_index(minutes: Minutes, values: Floats, trained_until: int, now: int) -> float:
    """Stability index of the last four weeks against what training saw of the same season.

    Seasons alone would make every load and PV plant "drift" twice a year, so the reference is limited to the days
    within 45 days of the recent ones' date, in any earlier year, and to the 45 days before the training.

    Parameters
    ----------
    minutes : ndarray, shape (n,)
        Stamps [min since epoch].
    values : ndarray, shape (n,)
    trained_until : int
        End of the data that the serving model learned from [min since epoch].
    now : int
        End of the recent data [min since epoch].

    Returns
    -------
    float
        NaN when recent or reference data are too few.
    """
    start = now - RECENT_DAYS * DAY
    recent = (minutes >= start) & (minutes < now)
    middle = now - RECENT_DAYS * DAY // 2
    distance = np.abs((minutes - middle) / DAY % 365.2425)
    season = np.minimum(distance, 365.2425 - distance) <= SEASON_DAYS
    before = (minutes < trained_until) & (minutes < start)
    seen = before & (season | (minutes >= min(trained_until, start) - SEASON_DAYS * DAY))
    good = np.isfinite(values)
    if (recent & good).sum() < MIN_VALUES or (seen & good).sum() < MIN_VALUES:
        return float("nan")
    return stability_index(values[seen], values[recent])


def usual_index(minutes: Minutes, values: Floats, now: int) -> float:
    """The largest index of the year before, four weeks by four weeks, each as if trained just then.

    Wind wanders from month to month without anything having changed; what it always did is no drift.

    Parameters
    ----------
    minutes, values : ndarray
        As for `seasonal_index`.
    now : int
        End of the recent data, which is not looked at itself [min since epoch].

    Returns
    -------
    float
        NaN when the past is too short.
    """
    ends = range(now - RECENT_DAYS * DAY, now - 366 * DAY, -RECENT_DAYS * DAY)
    found = [seasonal_index(minutes, values, end - RECENT_DAYS * DAY, end) for end in ends]
    finite = [value for value in found if np.isfinite(value)]
    return max(finite, default=float("nan"))
