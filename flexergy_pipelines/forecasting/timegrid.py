"""Regular series on whole minutes since the epoch, and the only door through which features see the past.

All times inside the forecasting core are int64 minutes since 1970-01-01 UTC; a value covers the interval that starts at
its stamp. `GatedSeries` gives out nothing that was not known at the issue time, whatever it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flexergy_pipelines.forecasting.targets import Target

    Minutes = NDArray[np.int64]
    Floats = NDArray[np.float64]

DAY = 1440
WEEK = 7 * DAY
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_minute(moment: datetime) -> int:
    """Minutes since the epoch of an aware `moment`, rounded down."""
    if moment.tzinfo is None:
        raise ValueError(f"time {moment!r} has no time zone; give an aware datetime")
    return int((moment - EPOCH).total_seconds() // 60)


def to_datetimes(minutes: Minutes) -> pl.Series:
    """Minutes since the epoch as aware UTC stamps."""
    return pl.Series("time", minutes * 60_000_000, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


def frame_minutes(times: pl.Series) -> Minutes:
    """Minutes since the epoch of a column of stamps; naive stamps are taken as UTC."""
    return np.asarray(times.dt.epoch("us").to_numpy(), dtype=np.int64) // 60_000_000


def local_offset(minutes: Minutes, zone: str) -> Minutes:
    """Offset of local time from UTC at each instant [min], daylight saving included."""
    if zone == "UTC" or minutes.size == 0:
        return np.zeros(minutes.shape, dtype=np.int64)
    changes, offsets = _offset_changes(zone)
    return offsets[np.maximum(np.searchsorted(changes, minutes, side="right") - 1, 0)]


@lru_cache(maxsize=32)
def _offset_changes(zone: str) -> tuple[Minutes, Minutes]:
    """Instants at which the offset of a zone changed from 1990 to 2060, and the offsets from then on [min]."""
    first, last = 20 * 525_960, 90 * 525_960
    halves = np.arange(first, last, 30, dtype=np.int64)
    stamps = to_datetimes(halves).dt.convert_time_zone(zone)
    offset = (stamps.dt.base_utc_offset() + stamps.dt.dst_offset()).dt.total_minutes().to_numpy().astype(np.int64)
    change = np.flatnonzero(np.diff(offset, prepend=offset[0] - 1))
    return halves[change], offset[change]


def wall_lag(minutes: Minutes, days: Minutes | int, zone: str) -> Minutes:
    """The instants that showed the same local clock time `days` days earlier [min since epoch].

    A clock time that did not exist on that day (spring) gives the hour after it; of a repeated one (autumn) the
    occurrence with the offset of the start of the shift is taken.
    """
    back = minutes - np.asarray(days, dtype=np.int64) * DAY
    return back + local_offset(minutes, zone) - local_offset(back, zone)


def known_until(issue: Minutes, target: Target) -> Minutes:
    """End of what is known of the target at each issue time [min since epoch].

    Measured series are known up to `known_delay_minutes` before the issue. Day-ahead prices are known to the end of the
    local day, and from the hour of publication to the end of the next one.
    """
    if target.kind != "price":
        return issue - target.known_delay_minutes
    offset = local_offset(issue, target.time_zone)
    local = issue + offset
    published = (local % DAY) >= target.publication_minute
    end_local = (local // DAY + 1 + published) * DAY
    guess = end_local - offset
    return end_local - local_offset(guess, target.time_zone)


@dataclass(frozen=True)
class Series:
    """Values on a regular grid; NaN where nothing was measured.

    Attributes
    ----------
    start : int
        First stamp [min since epoch].
    step : int
        Grid step [min].
    values : ndarray, shape (n,)
        In the unit of the target.
    """

    start: int
    step: int
    values: Floats

    @property
    def minutes(self) -> Minutes:
        return self.start + np.arange(self.values.size, dtype=np.int64) * self.step

    @property
    def end(self) -> int:
        """End of the last interval [min since epoch]."""
        return self.start + self.values.size * self.step

    def until(self, minute: int) -> Series:
        """The part whose intervals had ended by `minute`."""
        size = int(np.clip((minute - self.start) // self.step, 0, self.values.size))
        return Series(self.start, self.step, self.values[:size])

    def since(self, minute: int) -> Series:
        """The part that starts at or after `minute`."""
        skip = int(np.clip(-((self.start - minute) // self.step), 0, self.values.size))
        return Series(self.start + skip * self.step, self.step, self.values[skip:])

    def at(self, minutes: Minutes) -> Floats:
        """Values at stamps of the grid, NaN elsewhere."""
        index = (minutes - self.start) // self.step
        inside = (index >= 0) & (index < self.values.size)
        out = np.full(minutes.shape, np.nan)
        out[inside] = self.values[index[inside]]
        return out

    def trimmed(self) -> Series:
        """Without missing values at either end."""
        good = np.flatnonzero(np.isfinite(self.values))
        if good.size == 0:
            return Series(self.start, self.step, self.values[:0])
        first, last = int(good[0]), int(good[-1])
        return Series(self.start + first * self.step, self.step, self.values[first : last + 1])


def series_from_frame(frame: pl.DataFrame, step_minutes: int, column: str = "value") -> Series:
    """Bring a frame of stamped values onto a regular grid.

    Repeated stamps and finer steps are averaged, coarser steps are held over their interval, gaps stay NaN, and
    infinities become NaN. The order of rows does not matter.

    Parameters
    ----------
    frame : polars.DataFrame
        Columns ``time`` and `column`.
    step_minutes : int
        Grid step [min].
    column : str
        Column of values.
    """
    values = np.asarray(frame[column].cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float64)
    minutes = frame_minutes(frame["time"])
    keep = np.isfinite(values)
    if not keep.any():
        return Series(0, step_minutes, np.empty(0))
    minutes, values = minutes[keep], values[keep]
    order = np.argsort(minutes, kind="stable")
    minutes, values = minutes[order], values[order]
    slots = minutes // step_minutes
    first, size = int(slots[0]), int(slots[-1] - slots[0] + 1)
    if size > 60_000_000 // step_minutes:
        raise ValueError(f"history spans {size * step_minutes // DAY} days; check its time stamps (limit 114 years)")
    index = slots - first
    total = np.bincount(index, values, size)
    count = np.bincount(index, minlength=size)
    with np.errstate(invalid="ignore"):
        grid = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    gaps = np.diff(np.unique(minutes))
    coarse = int(np.median(gaps)) if gaps.size else step_minutes
    if coarse > step_minutes and coarse <= 60:
        hold = coarse // step_minutes
        base = np.concatenate([grid, np.full(hold - 1, np.nan)])
        padded = base.copy()
        for shift in range(1, hold):
            empty = np.isnan(padded[shift:])
            padded[shift:][empty] = base[:-shift][empty]
        grid = padded
    return Series(first * step_minutes, step_minutes, grid)


class GatedSeries:
    """The past of one target as it was known at each issue time.

    Parameters
    ----------
    series : Series
        All data at hand, later values included.
    target : Target
        Its rule of knowledge (`known_until`) is applied to every question.
    """

    def __init__(self, series: Series, target: Target) -> None:
        self._series = series
        self.target = target

    @property
    def step(self) -> int:
        return self._series.step

    @property
    def start(self) -> int:
        return self._series.start

    def known_end(self, issue: Minutes) -> Minutes:
        return known_until(issue, self.target)

    def at(self, minutes: Minutes, issue: Minutes) -> Floats:
        """Values at `minutes` where their interval had ended and was known at `issue`, else NaN."""
        values = self._series.at(minutes)
        values[minutes + self.step > self.known_end(issue)] = np.nan
        return values

    def slice(self, begin: int, end: int, issue: int) -> Floats:
        """Values of the grid in [begin, end) as known at `issue`."""
        minutes = np.arange(begin, end, self.step, dtype=np.int64)
        return self.at(minutes, np.full(minutes.shape, issue, dtype=np.int64))

    @cached_property
    def _sums(self) -> tuple[Floats, Minutes]:
        values = self._series.values
        good = np.isfinite(values)
        total = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
        return total, np.concatenate([[0], np.cumsum(good)]).astype(np.int64)

    def mean_before(self, issue: Minutes, hours: float, back_hours: float = 0.0) -> Floats:
        """Mean of the last `hours` known at `issue`, or of the window that ended `back_hours` earlier.

        NaN where fewer than a third of the window's values are there.
        """
        total, count = self._sums
        size = self._series.values.size
        stop = np.clip((self.known_end(issue) - int(back_hours * 60) - self.start) // self.step, 0, size)
        width = max(1, int(hours * 60) // self.step)
        begin = np.clip(stop - width, 0, size)
        n = count[stop] - count[begin]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(n * 3 >= width, (total[stop] - total[begin]) / np.maximum(n, 1), np.nan)

    def last_known(self, issue: Minutes) -> Floats:
        """The newest value known at `issue`, looking back at most three days."""
        size = self._series.values.size
        if size == 0:
            return np.full(issue.shape, np.nan)
        stop = np.clip((self.known_end(issue) - self.start) // self.step, 0, size)
        newest = self._newest_index[np.maximum(stop - 1, 0)]
        found = (stop > 0) & (newest >= 0) & (stop - newest <= 3 * DAY // self.step)
        return np.where(found, self._series.values[np.maximum(newest, 0)], np.nan)

    @cached_property
    def _newest_index(self) -> Minutes:
        good = np.isfinite(self._series.values)
        return np.maximum.accumulate(np.where(good, np.arange(good.size), -1))
