"""Calendar features in the local time of the target: clock, weekday, season, public holidays and days around them."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.timegrid import DAY, local_offset

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

CALENDAR_FEATURES = (
    "hour", "weekday", "day_of_year", "year_sin", "year_cos", "week_hour",
    "holiday", "holiday_before", "holiday_after", "bridge_day", "day_type",
)  # fmt: skip


@lru_cache(maxsize=64)
def _holiday_days(country: str, year: int) -> frozenset[int]:
    import holidays

    try:
        found = holidays.country_holidays(country, years=year)
    except NotImplementedError:
        return frozenset()
    epoch = dt.date(1970, 1, 1)
    return frozenset((day - epoch).days for day in found)


def known_country(code: str) -> bool:
    """Whether the public holidays of an ISO country code are known."""
    import holidays

    return code in holidays.list_supported_countries()


def holiday_flags(days: Minutes, country: str | None) -> Floats:
    """1 where the local day (days since the epoch) is a public holiday of `country`, else 0."""
    if country is None or days.size == 0:
        return np.zeros(days.shape)
    unique, inverse = np.unique(days, return_inverse=True)
    epoch = dt.date(1970, 1, 1)
    flags: list[float] = [
        float(day in _holiday_days(country, (epoch + dt.timedelta(days=int(day))).year)) for day in unique
    ]
    out: Floats = np.array(flags)[inverse].reshape(days.shape)
    return out


def day_types(days: Minutes, country: str | None) -> Floats:
    """0 working day, 1 Saturday, 2 Sunday or holiday; Monday of 1970-01-05 anchors the weekdays."""
    weekday = (days + 3) % 7
    free = (weekday == 6) | (holiday_flags(days, country) > 0)
    out: Floats = np.array([0.0, 1.0, 2.0])[np.where(free, 2, (weekday == 5).astype(int))]
    return out


def calendar_matrix(minutes: Minutes, zone: str, country: str | None) -> Floats:
    """Features of `CALENDAR_FEATURES`, one row per instant."""
    local = minutes + local_offset(minutes, zone)
    days = local // DAY
    hour = (local % DAY) / 60.0
    weekday = ((days + 3) % 7).astype(np.float64)
    year_share = (days % 365.2425) / 365.2425
    holiday = holiday_flags(days, country)
    before, after = holiday_flags(days + 1, country), holiday_flags(days - 1, country)
    bridge = ((holiday == 0) & (weekday < 5)) & (((weekday == 4) & (after > 0)) | ((weekday == 0) & (before > 0)))
    columns = [
        hour, weekday, year_share * 365.2425, np.sin(2 * np.pi * year_share), np.cos(2 * np.pi * year_share),
        weekday * 24 + hour, holiday, before, after, bridge.astype(np.float64), day_types(days, country),
    ]  # fmt: skip
    return np.stack(columns, axis=1).astype(np.float64)
