"""The device's own time stamps: what they say of a value's age, and whether its clock can be believed.

A stamp counts when it is new, for a value that has not changed keeps its old one. The time of receipt stands beside it
and decides wherever the stamp cannot: a wrong clock must not make a good value unusable, nor an old value good.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol, runtime_checkable

from control_loop.image import PointKey

AHEAD_S = 5.0
"""A stamp may be so far in the future; more says that the clock is wrong."""

LATE_S = 15.0
"""A new stamp may be so old when it arrives; an older one tells of the past."""

STEADY_S = 20.0
"""Time over which all new stamps are equally old before that is put down to the device's clock."""

JUMP_S = 2.0
"""Wall clock and monotonic clock of this machine drift apart by less between two readings."""

STEADY_WITHIN_S = 3.0
"""How far such ages may differ. What was kept back and is told at once differs by more: it catches up."""


@runtime_checkable
class SourceTimes(Protocol):
    """A driver whose protocol carries the device's time stamps."""

    def source_times(self) -> Mapping[PointKey, datetime]:
        """The device's time of each value of the last reading, UTC; points without a stamp are not in it."""
        ...


@runtime_checkable
class OwnClocks(Protocol):
    """A driver that judges the clocks of several devices behind it by itself."""

    def clock_offsets(self) -> Mapping[str, float]:
        """How far each clock that is off is ahead of this machine's [s], by the device's name."""
        ...


class SourceClock:
    """Judges the time stamps of one device.

    Parameters
    ----------
    first_counts : bool
        Whether the first stamp of a point is judged, too: where each value is sent once (OCPP). Where a device answers
        with its present state (IEC 60870-5-104, IEC 61850), the stamp of a value that stands may be of any age.

    Attributes
    ----------
    offset_s : float
        How far the device's clock is ahead of this machine's (behind, when negative) where they differ, else 0 [s].

    Notes
    -----
    Nothing is called late just after this machine's own clock jumped: which of the two is right is not known then.
    """

    def __init__(self, *, first_counts: bool = False) -> None:
        self.offset_s = 0.0
        self._first_counts = first_counts
        self._stamps: dict[PointKey, datetime] = {}
        self._steady_since: float | None = None
        self._steady_lag_s = 0.0
        self._wall_s: float | None = None
        self._unsure_until = float("-inf")

    def judge(
        self, stamps: Mapping[PointKey, datetime], now: datetime, monotonic: float
    ) -> tuple[dict[PointKey, datetime], frozenset[PointKey]]:
        """Look at one reading.

        Parameters
        ----------
        stamps : mapping
            The device's time of each value, aware.
        now : datetime
            Time of receipt, aware.
        monotonic : float
            The same on the monotonic clock [s].

        Returns
        -------
        times : dict
            New stamps that can be believed.
        late : frozenset
            Points whose new value tells of the past, not of the present state.
        """
        self._watch_own(now.timestamp() - monotonic, monotonic)
        known = self._stamps
        fresh = {k: s for k, s in stamps.items() if (self._first_counts if k not in known else known[k] != s)}
        self._stamps = dict(stamps)
        if not fresh:
            return {}, frozenset()
        lags = {key: (now - stamp).total_seconds() for key, stamp in fresh.items()}
        self._watch(min(lags.values()), monotonic)
        if monotonic < self._unsure_until:
            return {}, frozenset()
        late = frozenset(key for key, lag in lags.items() if lag + self.offset_s > LATE_S)
        return {} if self.offset_s else {key: fresh[key] for key in lags if lags[key] >= -AHEAD_S}, late

    def lost(self) -> None:
        """The device was silent; what it answers next is its state anew."""
        self._stamps = {}

    def _watch_own(self, wall_s: float, monotonic: float) -> None:
        """Notice a jump of this machine's wall clock."""
        if self._wall_s is not None and abs(wall_s - self._wall_s) > JUMP_S:
            self._unsure_until = monotonic + 1.5 * STEADY_S
        self._wall_s = wall_s

    def _watch(self, lag_s: float, monotonic: float) -> None:
        """Learn from the youngest of the new stamps whether the clock is off."""
        if -AHEAD_S <= lag_s <= LATE_S:
            self.offset_s, self._steady_since = 0.0, None
        elif lag_s < -AHEAD_S:
            self.offset_s, self._steady_since = -lag_s, None
        elif self._steady_since is None or abs(lag_s - self._steady_lag_s) > STEADY_WITHIN_S:
            self._steady_since, self._steady_lag_s, self.offset_s = monotonic, lag_s, 0.0
        elif monotonic - self._steady_since >= STEADY_S:
            self.offset_s = -lag_s
