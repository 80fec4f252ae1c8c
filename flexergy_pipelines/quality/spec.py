"""What is known of a series before it is cleansed: its kind, nameplate and step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SeriesKind = Literal["load", "pv", "wind", "ev", "storage", "exchange", "state", "counter", "meter", "weather"]

COARSE_MINUTES: Final = 180.0


@dataclass(frozen=True, slots=True)
class SeriesSpec:
    """What cleansing needs to know of one series.

    Attributes
    ----------
    kind : str
        "load", "pv", "wind", "ev", "storage" (a battery's power), "exchange" (a meter of both directions), "state"
        (a fraction, a price, an angle or a flag, taken as it is), "weather" (temperature, wind speed, irradiance: jumps
        and standstill are told, units and signs are not), "counter" (an energy register) or "meter" (a consumption
        meter).
    minimum, maximum : float or None
        Range that the nameplate allows [unit of the values].
    step_minutes : float
        Length of an interval.
    first_slot : int
        Which interval of its day (counted from midnight) the first value belongs to.
    interpolate_hours, similar_day_hours : float
        Longest gaps that are interpolated and estimated; a longer one stays empty.
    """

    kind: SeriesKind
    minimum: float | None = None
    maximum: float | None = None
    step_minutes: float = 15
    first_slot: int = 0
    interpolate_hours: float = 1.0
    similar_day_hours: float = 48.0

    @property
    def steps_per_day(self) -> int:
        return max(1, round(1440 / self.step_minutes))

    @property
    def coarse(self) -> bool:
        """Whether an interval is so long that neighbours tell little of each other (3 h and more)."""
        return self.step_minutes >= COARSE_MINUTES

    def steps(self, hours: float) -> int:
        """Number of intervals in `hours`, at least one."""
        return max(1, round(hours * 60 / self.step_minutes))
