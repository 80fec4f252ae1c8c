"""Whose public holidays a load or price keeps, told from the days on which it is low."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.calendars import holiday_flags
from flexergy_pipelines.forecasting.timegrid import DAY, local_offset

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes, Series

COUNTRIES = (
    "AT", "AU", "BE", "BG", "BR", "CA", "CH", "CL", "CN", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR",
    "HU", "IE", "IN", "IT", "JP", "KR", "LT", "LU", "LV", "MX", "NL", "NO", "NZ", "PL", "PT", "RO", "RS", "SE", "SI",
    "SK", "TR", "US", "ZA",
)  # fmt: skip
MIN_DAYS = 300
# standard deviations that the mean of the holidays lies below other days of the same weekday
SIGNIFICANT = 5.0


def inferred_country(series: Series, zone: str) -> str | None:
    """The country whose holidays explain best the working days that are low among their neighbours.

    A day is compared with the same weekday one and two weeks before and after. The score of a country is Student's t of
    its holidays, so that a holiday which is none here counts against it.

    Parameters
    ----------
    series : Series
    zone : str
        IANA name of local days.

    Returns
    -------
    str or None
        ISO code; None where a year is not at hand or no country stands out.
    """
    days, mean = daily_means(series, zone)
    if days.size < MIN_DAYS:
        return None
    around = np.column_stack([_at(days, mean, shift) for shift in (-14, -7, 7, 14)])
    known = np.isfinite(around).sum(axis=1) >= 3
    low = np.full(mean.shape, np.nan)
    low[known] = mean[known] - np.nanmedian(around[known], axis=1)
    working = (days + 3) % 7 < 5
    usable = np.isfinite(low) & working
    if usable.sum() < MIN_DAYS // 2:
        return None
    days, low = days[usable], low[usable]
    scale = 1.4826 * float(np.median(np.abs(low - np.median(low))))
    if scale <= 0:
        return None
    depth = np.clip((low - np.median(low)) / scale, -6.0, 6.0)
    best, score = None, -SIGNIFICANT
    for country in COUNTRIES:
        free = holiday_flags(days, country) > 0
        if free.sum() < 4:
            continue
        found = float(depth[free].sum() / np.sqrt(free.sum()))
        if found < score:
            best, score = country, found
    return best


def daily_means(series: Series, zone: str) -> tuple[Minutes, Floats]:
    """Local days since the epoch that are nearly whole, and their means."""
    minutes, values = series.minutes, series.values
    good = np.isfinite(values)
    day = ((minutes + local_offset(minutes, zone)) // DAY)[good]
    if day.size == 0:
        return np.empty(0, np.int64), np.empty(0)
    first = int(day.min())
    count = np.bincount(day - first)
    total = np.bincount(day - first, values[good])
    whole = np.flatnonzero(count * series.step >= 0.75 * DAY)
    return whole + first, total[whole] / count[whole]


def _at(days: Minutes, mean: Floats, shift: int) -> Floats:
    position = np.clip(np.searchsorted(days, days + shift), 0, days.size - 1)
    return np.where(days[position] == days + shift, mean[position], np.nan)
