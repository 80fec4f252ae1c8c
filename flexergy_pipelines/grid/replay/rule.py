"""The rule that re-dates a sample year to now.

A local wall-clock time `t` of the site is replayed from the source's local wall-clock time

    source(t) = window_start + (t - shift - window_start) mod 364 days

where the window is the first 364 days (52 weeks) of the source year and `shift` is a whole number of weeks, chosen at
the anchor so that the anchor falls on the same weekday and hour, at most 4 days away from its season. As 364 days are
whole weeks too, weekday and hour stay right for ever; the season drifts by 1.25 days a year. The computation is done in
wall time, so a load keeps its hour across the change of clocks: on the 23-hour day the skipped hour is not replayed, on
the 25-hour day one hour is replayed twice. Public holidays of the source year stay where they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

PERIOD_DAYS = 364
PERIOD_S = PERIOD_DAYS * 86400


def _season_distance(day: date, other: date) -> int:
    """Days between two dates, the year not minded."""
    distances = []
    for year in (other.year - 1, other.year, other.year + 1):
        # 29 February is taken as the 28th in a year without it.
        moved = date(year, 2, 28) if (day.month, day.day) == (2, 29) else day.replace(year=year)
        distances.append(abs((moved - other).days))
    return min(distances)


@dataclass(frozen=True, slots=True)
class ReplayRule:
    """Re-dating for one installation.

    Attributes
    ----------
    anchor : datetime
        Instant of installation; source and present are in the same season around it.
    zone : ZoneInfo
        Time zone of the site.
    """

    anchor: datetime
    zone: ZoneInfo

    @classmethod
    def for_now(cls, now: datetime, zone: ZoneInfo | str) -> ReplayRule:
        """The rule of an installation made `now`.

        Raises
        ------
        ValueError
            `now` has no time zone.
        """
        if now.tzinfo is None:
            raise ValueError(f"now {now!r} has no time zone; give an aware datetime")
        return cls(now.astimezone(UTC), ZoneInfo(zone) if isinstance(zone, str) else zone)

    def shift_days(self, source_year: int) -> int:
        """Days from the source date to the anchor's date, a multiple of 7."""
        day = self.anchor.astimezone(self.zone).date()
        first = date(source_year, 1, 1)
        candidates = (first + timedelta(days=i) for i in range(PERIOD_DAYS))
        same_weekday = [c for c in candidates if c.weekday() == day.weekday()]
        best = min(same_weekday, key=lambda c: (_season_distance(day, c), c))
        return (day - best).days

    def source_time(self, time: datetime, source_year: int) -> datetime:
        """Local wall-clock time (naive) of the source year that `time` is replayed from."""
        window_start = datetime(source_year, 1, 1)  # noqa: DTZ001 - wall time of the source
        wall = time.astimezone(self.zone).replace(tzinfo=None, fold=0)
        elapsed = wall - timedelta(days=self.shift_days(source_year)) - window_start
        return window_start + elapsed % timedelta(days=PERIOD_DAYS)

    def offset_s(self, source_year: int) -> int:
        """Seconds to subtract from a wall-clock epoch, modulo the period, to get seconds into the window."""
        window_start = datetime(source_year, 1, 1, tzinfo=UTC)
        return int(window_start.timestamp()) + self.shift_days(source_year) * 86400

    def wall_seconds(self, times: pl.Series) -> np.ndarray:
        """Wall-clock epochs of UTC times [s], as if the local clock were UTC."""
        wall = times.dt.convert_time_zone(self.zone.key).dt.replace_time_zone(None)
        return wall.dt.epoch("us").to_numpy() / 1e6

    def source_seconds(self, times: pl.Series, source_year: int) -> np.ndarray:
        """Seconds into the source window for many UTC times at once (float64, 0 <= s < 364 days)."""
        return np.mod(self.wall_seconds(times) - self.offset_s(source_year), PERIOD_S)
