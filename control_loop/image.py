"""The process image: the last known value of every point, with its quality and age.

Ages are measured on the monotonic clock, so that a jump of the wall clock makes nothing fresh or stale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

PointKey = tuple[str, str]
"""(asset id, quantity)."""

GOOD = 0
SUSPECT = 1
MISSING = 3
_NO_TIMES: Mapping[PointKey, datetime] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sample:
    """One value as it was read.

    Attributes
    ----------
    value : float or None
        None when the device gave no number.
    quality : int
        0 good, 1 suspect (it tells of the past), 3 missing.
    monotonic : float
        When it arrived [s, monotonic].
    time : datetime
        When it arrived, wall clock, UTC.
    source_time : datetime or None
        When the device says it became so, UTC, where its stamp is new and can be believed.
    """

    value: float | None
    quality: int
    monotonic: float
    time: datetime
    source_time: datetime | None = None


class ProcessImage:
    """Last sample of every point of one site."""

    def __init__(self) -> None:
        self._samples: dict[PointKey, Sample] = {}
        self._distrusted: frozenset[str] = frozenset()

    def update(
        self,
        values: Mapping[PointKey, float | None],
        time: datetime,
        monotonic: float,
        *,
        source_times: Mapping[PointKey, datetime] = _NO_TIMES,
        late: Set[PointKey] = frozenset(),
    ) -> None:
        """Take over what a device answered.

        Parameters
        ----------
        values : mapping
            Value of each point; None or a number that is not finite counts as missing.
        time : datetime
            Wall-clock time of arrival, UTC.
        monotonic : float
            Monotonic time of arrival [s].
        source_times : mapping
            The device's own time of values where it is to be believed.
        late : set
            Points whose value tells of the past: it is kept, and nothing is controlled by it.
        """
        for key, value in values.items():
            if value is None or not math.isfinite(value):
                self._samples[key] = Sample(None, MISSING, monotonic, time)
            else:
                quality = SUSPECT if key in late else GOOD
                self._samples[key] = Sample(value, quality, monotonic, time, source_times.get(key))

    def distrust(self, assets: Iterable[str]) -> None:
        """Let no value of these assets count from now on, fresh as it may look; of all others they do."""
        self._distrusted = frozenset(assets)

    @property
    def distrusted(self) -> frozenset[str]:
        """Assets whose values do not count."""
        return self._distrusted

    def sample(self, asset_id: str, quantity: str) -> Sample | None:
        """The last sample of a point, however old, or None when it was never read."""
        return self._samples.get((asset_id, quantity))

    def age(self, asset_id: str, quantity: str, monotonic: float) -> float:
        """Seconds since a point last answered; infinite when it never did."""
        sample = self._samples.get((asset_id, quantity))
        return math.inf if sample is None else monotonic - sample.monotonic

    def value(self, asset_id: str, quantity: str, monotonic: float, max_age_s: float) -> float | None:
        """A point's value if it is good, trusted and at most `max_age_s` old, else None: missing is not zero."""
        sample = self._samples.get((asset_id, quantity))
        if asset_id in self._distrusted or sample is None or sample.quality != GOOD:
            return None
        if monotonic - sample.monotonic > max_age_s:
            return None
        return sample.value

    def items(self) -> Iterator[tuple[PointKey, Sample]]:
        """All samples."""
        return iter(list(self._samples.items()))
