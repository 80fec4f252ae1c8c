"""What is known of a series before it is cleansed: its kind, nameplate and step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SeriesKind = Literal["load", "pv", "wind", "ev", "storage", "exchange", "state", "counter", "meter"]

# Longest run of one identical value that is still normal [h]; None: standing still says nothing of this kind.
FROZEN_AFTER_H: dict[str, float | None] = {
    "load": 2.0,
    "pv": 1.5,
    "wind": 2.0,
    "ev": None,
    "storage": None,
    "exchange": 3.0,
    "state": None,
    "counter": None,
    "meter": 3.0,
}


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """What cleansing needs to know of one series.

    Attributes
    ----------
    kind : str
        "load", "pv", "wind", "ev", "storage" (a battery's power), "exchange" (a meter of both directions), "state"
        (a fraction, temperature or flag), "counter" (an energy register) or "meter" (a consumption meter).
    minimum, maximum : float or None
        Range that the nameplate allows [unit of the values].
    step_minutes : int
        Length of an interval.
    time_zone : str
        For days and hours.
    interpolate_hours, similar_day_hours : float
        Longest gaps that are interpolated and estimated; a longer one stays empty.
    """

    kind: SeriesKind
    minimum: float | None = None
    maximum: float | None = None
    step_minutes: int = 15
    time_zone: str = "UTC"
    interpolate_hours: float = 1.0
    similar_day_hours: float = 48.0

    @property
    def steps_per_day(self) -> int:
        return 1440 // self.step_minutes

    def steps(self, hours: float) -> int:
        """Number of intervals in `hours`, at least one."""
        return max(1, round(hours * 60 / self.step_minutes))
