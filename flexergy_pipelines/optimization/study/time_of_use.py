"""Time-of-use series: a value by the hour and day of the local clock, written as periods instead of numbers."""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.problem import Horizon
from flexergy_pipelines.optimization.series import FloatArray

_CLOCK = re.compile(r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$")
_DAYS = {"all": range(7), "weekdays": range(5), "weekend": range(5, 7)}


class Period(Spec):
    """A value from one time of day to another, e.g. 22:00 to 06:00 over midnight.

    Attributes
    ----------
    start, end : str
        Local times, "HH:MM"; "24:00" ends the day.
    days : {"all", "weekdays", "weekend"}
        Days of the week on which the period starts.
    months : tuple of int
        Months in which it holds; empty for all.
    value : float
        Of the series in this period.
    """

    start: str
    end: str
    days: Literal["all", "weekdays", "weekend"] = "all"
    months: Annotated[tuple[Annotated[int, Field(ge=1, le=12)], ...], Field(strict=False)] = ()
    value: float

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            f"time_of_use: {name} {value!r} is not a time of day (write 06:00)"
            for name, value in (("start", self.start), ("end", self.end))
            if not _CLOCK.match(value)
        ]
        if not problems and self.start == self.end:
            problems.append(f"time_of_use: start and end are both {self.start}; for a whole day write 00:00 to 24:00")
        if problems:
            raise ProblemError(problems)
        return self

    def holds(self, local: datetime) -> bool:
        """Whether a local time lies in the period."""
        if self.months and local.month not in self.months:
            return False
        clock = local.hour * 60 + local.minute
        first, last = _minutes(self.start), _minutes(self.end)
        if first < last:
            return first <= clock < last and local.weekday() in _DAYS[self.days]
        if clock >= first:
            return local.weekday() in _DAYS[self.days]
        # After midnight the period belongs to the day before.
        return clock < last and (local.weekday() - 1) % 7 in _DAYS[self.days]


class TimeOfUse(Spec):
    """A series by the local clock.

    Attributes
    ----------
    time_zone : str
        IANA name, e.g. "Europe/Amsterdam"; daylight saving is followed.
    periods : tuple of Period
        The first that holds gives the value.
    otherwise : float
        Value where no period holds.
    """

    time_zone: str
    periods: Annotated[tuple[Period, ...], Field(strict=False)]
    otherwise: float

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ProblemError([f"time_of_use: time_zone {self.time_zone!r} is not an IANA time zone"]) from None
        return self

    def values(self, horizon: Horizon) -> FloatArray:
        """The series at the horizon's steps, by the local time at which each starts."""
        zone = ZoneInfo(self.time_zone)
        values = []
        for instant in horizon.times():
            local = instant.astimezone(zone)
            found = (period.value for period in self.periods if period.holds(local))
            values.append(next(found, self.otherwise))
        return np.array(values, dtype=np.float64)


def _minutes(clock: str) -> int:
    if clock == "24:00":
        return 24 * 60
    moment = time.fromisoformat(clock)
    return moment.hour * 60 + moment.minute
