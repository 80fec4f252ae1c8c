"""Which readings are kept: each point cyclically, and in between when it leaves a band around the kept value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from control_loop.image import GOOD, PointKey, ProcessImage

ReadingRow = tuple[str, str, datetime, float | None, int]
"""(asset id, quantity, time, value, quality)."""


SLACK, LARGEST_SLACK_S = 0.1, 0.4
"""By how much of its period, and by how many seconds at most, a reading may come early and count as the next one."""


@dataclass(frozen=True, slots=True)
class PointPolicy:
    """When a reading of one point is kept.

    Attributes
    ----------
    cyclic_s : float
        Period in which it is kept, changed or not.
    deadband : float or None
        Band [unit of the quantity] beyond which a change is kept at once; None means cyclically only.
    """

    cyclic_s: float = 60.0
    deadband: float | None = None


class TelemetryFilter:
    """Remembers what was kept last and picks what to keep now.

    Parameters
    ----------
    policy : callable
        Gives the policy of an asset's quantity.
    """

    def __init__(self, policy: Callable[[str, str], PointPolicy]) -> None:
        self._policy_of = policy
        self._policies: dict[PointKey, PointPolicy] = {}
        self._kept: dict[PointKey, tuple[float, float | None, int]] = {}
        self._seen: dict[PointKey, float] = {}

    def select(self, image: ProcessImage) -> list[ReadingRow]:
        """Rows to keep of what arrived since the last call.

        Parameters
        ----------
        image : ProcessImage
            The site's last samples; a sample that was already looked at is not kept again.
        """
        rows: list[ReadingRow] = []
        for key, sample in image.items():
            if self._seen.get(key) == sample.monotonic:
                continue
            self._seen[key] = sample.monotonic
            kept = self._kept.get(key)
            if kept is not None and not self._due(key, kept, sample.monotonic, sample.value, sample.quality):
                continue
            self._kept[key] = (sample.monotonic, sample.value, sample.quality)
            if sample.source_time is None:
                rows.append((*key, sample.time, sample.value, sample.quality))
            else:  # the device says since when it is so, be it late
                rows.append((*key, sample.source_time, sample.value, GOOD))
        return rows

    def _due(
        self,
        key: PointKey,
        kept: tuple[float, float | None, int],
        monotonic: float,
        value: float | None,
        quality: int,
    ) -> bool:
        policy = self._policies.get(key) or self._policies.setdefault(key, self._policy_of(*key))
        kept_at, kept_value, kept_quality = kept
        # A cycle is some milliseconds early or late: without slack every other period would be a cycle too long.
        slack_s = min(LARGEST_SLACK_S, SLACK * policy.cyclic_s)
        if quality != kept_quality or monotonic - kept_at >= policy.cyclic_s - slack_s:
            return True
        band = policy.deadband
        if band is None or value is None or kept_value is None:
            return False
        return abs(value - kept_value) > band
