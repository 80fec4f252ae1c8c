"""A clock that runs faster than the world's, for plants watched alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class AcceleratedClock:
    """The machine's clock, from now on at another speed.

    Parameters
    ----------
    speed : float
        Simulated seconds in a second, above 0.
    """

    def __init__(self, speed: float) -> None:
        if not speed > 0:
            raise ValueError(f"speed {speed} is not above 0")
        self.speed = speed
        self._start = datetime.now(UTC)
        self._start_s = time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return (time.monotonic() - self._start_s) * self.speed
