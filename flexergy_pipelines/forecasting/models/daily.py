"""Whole local days as one row: the 24 prices of past days, what is known in advance of the day, and its weekday.

The form in which day-ahead prices are modelled best [1]_: all hours of a day are set at one instant, from the same
knowledge.

References
----------
.. [1] J. Lago, G. Marcjasz, B. De Schutter, R. Weron, "Forecasting day-ahead electricity prices: a review of
   state-of-the-art algorithms, best practices and an open-access benchmark", Applied Energy 293, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.calendars import holiday_flags
from flexergy_pipelines.forecasting.timegrid import DAY, local_offset

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

MAX_COLUMNS = 4
PRICE_LAGS = (0, 1, 2)


@dataclass(frozen=True)
class Days:
    """Local days as rows.

    Attributes
    ----------
    X : ndarray, shape (days, features)
        Hourly values of past days, hourly values known in advance (that day, the day before and a week before) and
        dummies of weekday and holiday. NaN where not known.
    Y : ndarray, shape (days, 24)
        The day's own hourly values; NaN where not known.
    """

    X: Floats
    Y: Floats


def hour_starts(days: Minutes, zone: str) -> Minutes:
    """UTC starts of the 24 clock hours of local days, shape (days, 24).

    The hour that a spring day lacks is the one after it; of the two of an autumn day the one is taken that the offset
    at the same clock time in UTC gives.
    """
    local = days[:, None] * DAY + np.arange(24, dtype=np.int64)[None, :] * 60
    guess = local - local_offset(local, zone)
    return local - local_offset(guess, zone)


def hourly_means(inputs: Inputs, starts: Minutes) -> Floats:
    """Mean of the target over the hours that begin at `starts`; NaN where not known."""
    step = inputs.series.step
    parts = [inputs.series.at(starts + k * step) for k in range(60 // step)]
    stacked = np.stack(parts)
    good = np.isfinite(stacked)
    count = good.sum(axis=0)
    return np.where(count > 0, np.where(good, stacked, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def plain_columns(inputs: Inputs) -> list[int]:
    """The first few weather columns that are not derived from others."""
    names = inputs.weather.columns
    derived = ("speed(", "sin(", "cos(")
    return [i for i, name in enumerate(names) if "|" not in name and not name.startswith(derived)][:MAX_COLUMNS]


def day_rows(inputs: Inputs, days: Minutes, lag: int, lead: int) -> Days:
    """Features and values of local days.

    Parameters
    ----------
    inputs : Inputs
        Cut to what is known; nothing here looks past it.
    days : ndarray
        Local days since the epoch.
    lag : int
        Days back to the newest day whose values are known in full.
    lead : int
        Minutes from the issue of the forecast to the start of the day; weather issued later is not used.
    """
    zone = inputs.target.time_zone
    blocks: list[Floats] = [
        hourly_means(inputs, hour_starts(days - back, zone)) for back in (*(lag + k for k in PRICE_LAGS), _week(lag))
    ]
    columns = plain_columns(inputs)
    if columns:
        begin = hour_starts(days, zone)[:, 0]
        issue = np.repeat(begin - lead, 24)
        for back in (0, 1, 7):
            starts = hour_starts(days - back, zone)
            values = inputs.weather.lookup(starts.reshape(-1), issue)[:, columns]
            blocks += [values[:, k].reshape(days.size, 24) for k in range(len(columns))]
    weekday = (days + 3) % 7
    dummies = (weekday[:, None] == np.arange(7)[None, :]).astype(np.float64)
    free = holiday_flags(days, inputs.target.country)[:, None]
    return Days(np.hstack([*blocks, dummies, free]), hourly_means(inputs, hour_starts(days, zone)))


def _week(lag: int) -> int:
    return 7 * -(-lag // 7)


@dataclass(frozen=True)
class Squash:
    """Area hyperbolic sine around the median: spikes count, but do not rule.

    Attributes
    ----------
    centre, scale : float
        Median, and median absolute deviation over 0.6745.
    """

    centre: float
    scale: float

    @classmethod
    def of(cls, values: Floats) -> Squash:
        good = values[np.isfinite(values)]
        centre = float(np.median(good))
        scale = float(np.median(np.abs(good - centre))) / 0.6745
        return cls(centre, scale if scale > 1e-12 else 1.0)

    def forward(self, values: Floats) -> Floats:
        return np.arcsinh((values - self.centre) / self.scale)

    def back(self, values: Floats) -> Floats:
        return np.sinh(np.clip(values, -8.0, 8.0)) * self.scale + self.centre
