"""How much the exchange with the grid moves between two cycles on its own: the margin that its limits need."""

from __future__ import annotations

import math

from control_loop.context import Context

MEMORY = 60
"""Cycles over which movements are averaged."""

FIRST = 10
"""Cycles before the average says anything."""


class ExchangeNoise:
    """Standard deviation of the change from cycle to cycle that no storage or genset made [kW]."""

    def __init__(self) -> None:
        self.deviation_kw = 0.0
        self._before: float | None = None
        self._square = 0.0
        self._count = 0

    def update(self, context: Context) -> float:
        """Look at one cycle; returns the deviation, 0 until enough was seen."""
        measured = context.fresh(context.model.pcc_id, "active_power_kw")
        steered = [context.fresh(a.asset_id, "active_power_kw") for a in context.model.actuators if a.steered]
        if measured is None or None in steered:
            self._before = None
            return self.deviation_kw
        uncontrolled = measured + sum(power for power in steered if power is not None)
        before, self._before = self._before, uncontrolled
        if before is None:
            return self.deviation_kw
        self._count += 1
        weight = 1.0 / min(self._count, MEMORY)
        self._square += weight * ((uncontrolled - before) ** 2 - self._square)
        if self._count >= FIRST:
            self.deviation_kw = math.sqrt(self._square)
        return self.deviation_kw
