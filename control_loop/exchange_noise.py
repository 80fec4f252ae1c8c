"""How the exchange with the grid moves between two cycles on its own: the margin and the foresight its limits need."""

from __future__ import annotations

from collections import deque
from math import inf
from statistics import median

from control_loop.context import Context

MEMORY = 60
"""Cycles that are looked at."""

FIRST = 10
"""Cycles before they say anything."""

TREND = 3
"""Changes that have to go the same way to be a trend (a cloud that passes)."""

NORMAL = 1.4826
"""Standard deviation of a normal distribution over the median of its absolute values."""


class ExchangeNoise:
    """Standard deviation of the change from cycle to cycle that no storage or genset made [kW].

    It is taken from the median, so that a step (a load that is switched) counts once and not for a minute.
    """

    def __init__(self) -> None:
        self.deviation_kw = inf
        self._last: deque[float] = deque(maxlen=TREND)
        self._before: float | None = None
        self._changes: deque[float] = deque(maxlen=MEMORY)

    def update(self, context: Context) -> float:
        """Look at one cycle; returns the deviation, infinite (the widest margin) until enough was seen."""
        measured = context.fresh(context.model.pcc_id, "active_power_kw")
        steered = [context.power_at_meter(a.asset_id) for a in context.model.actuators if a.steered]
        if measured is None or None in steered:
            self._before = None
            self._last.clear()
            return self.deviation_kw
        uncontrolled = measured + sum(power for power in steered if power is not None)
        before, self._before = self._before, uncontrolled
        if before is None:
            return self.deviation_kw
        self._last.append(uncontrolled - before)
        self._changes.append(abs(uncontrolled - before))
        if len(self._changes) >= FIRST:
            self.deviation_kw = NORMAL * median(self._changes)
        return self.deviation_kw

    @property
    def trend_kw(self) -> float:
        """Change to be expected in the next cycle: the least of the last ones where all went the same way, else 0."""
        if len(self._last) < TREND:
            return 0.0
        least = min(self._last, key=abs)
        return least if all(change * least > 0 for change in self._last) else 0.0
