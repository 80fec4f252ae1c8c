"""The wall clock of an instance, with a second opinion: a jump of this machine's clock must not move plan and readings.

Three clocks know what time it is: this machine's wall clock, its monotonic clock counted on from when the two last
agreed, and the store's clock. Where they differ, the one goes that two of them hold.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from flexergy_pipelines.grid.clock import Clock

JUMP_S = 2.0
"""Wall clock and monotonic clock drift apart by less between two looks; more is a jump."""

AGREE_S = 5.0
"""The store's time arrives by a slow way now and then; within this it agrees."""

HELD_S = 120.0
"""How long a jump is not followed while the store says nothing; then the wall clock is believed."""


class TrustedClock:
    """See `Clock`; to be asked from any thread.

    Parameters
    ----------
    own : Clock
        This machine's clocks.
    """

    def __init__(self, own: Clock) -> None:
        self._own = own
        self._lock = threading.Lock()
        self._anchor = own.now(), own.monotonic()
        self._doubted_since: float | None = None
        self._off = timedelta()

    @property
    def off_s(self) -> float:
        """How far this machine's clock is ahead of the time that is used [s]; 0 where they are the same."""
        self.now()
        return self._off.total_seconds()

    def monotonic(self) -> float:
        return self._own.monotonic()

    def now(self) -> datetime:
        with self._lock:
            wall, monotonic = self._own.now(), self._own.monotonic()
            counted = self._counted(monotonic)
            if abs(wall - counted) <= timedelta(seconds=JUMP_S):
                return self._believe(wall, monotonic)
            if self._doubted_since is None:
                self._doubted_since = monotonic
            if monotonic - self._doubted_since > HELD_S:
                return self._believe(wall, monotonic)
            self._off = wall - counted
            return counted

    def heard(self, store_time: datetime) -> None:
        """Take note of what the store's clock says now."""
        self.now()
        with self._lock:
            if self._doubted_since is None:
                return
            wall, monotonic = self._own.now(), self._own.monotonic()
            near = timedelta(seconds=AGREE_S)
            if abs(store_time - wall) <= near:
                self._believe(wall, monotonic)
            elif abs(store_time - self._counted(monotonic)) <= near:
                self._doubted_since = monotonic

    def _counted(self, monotonic: float) -> datetime:
        return self._anchor[0] + timedelta(seconds=monotonic - self._anchor[1])

    def _believe(self, wall: datetime, monotonic: float) -> datetime:
        self._anchor, self._doubted_since, self._off = (wall, monotonic), None, timedelta()
        return wall
