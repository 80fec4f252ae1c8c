"""Dead time of the plant, measured in operation: how many cycles pass until a setpoint shows in the measurement.

What was told and what was measured are two series of the same shape, one later than the other; the delay at which they
fit best is the dead time. It needs no test signal: any plan change or correction will do.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from math import ceil

WINDOW = 90
"""Cycles looked at."""

LONGEST, LONGEST_S, MOST = 15, 6.0, 30
"""Longest dead time looked for [cycles]; of short cycles as many as make up that time [s], up to the most."""

RENEW = 10
"""Cycles between two estimates."""

CAREFUL = 3
"""Dead time assumed until it is known [cycles, of short ones: s]; too long a guess is slow, too short a one swings."""

CLEARER = 0.5
"""A delay is believed when its squared misfit is below this share of that of the others' mean."""


class DeadTime:
    """Estimates the dead time between a setpoint and the power that answers it.

    Attributes
    ----------
    cycles : int
        Cycles after the one that sent a setpoint in which its answer is measured; 1 is the least there can be.
    measured : bool
        Whether `cycles` was found in the measurements.

    Parameters
    ----------
    span_kw : float
        Setpoints have to have moved by 5 % of this for an estimate [kW].
    phase : int
        Cycles already counted, so that many do not all estimate in the same cycle.
    cycle_s : float
        Length of a cycle.
    """

    def __init__(self, span_kw: float, phase: int = 0, cycle_s: float = 1.0) -> None:
        self._longest = min(max(LONGEST, ceil(LONGEST_S / cycle_s)), MOST)
        self.cycles = min(max(CAREFUL, ceil(CAREFUL / cycle_s)), self._longest)
        self.measured = False
        self._least_kw = max(0.05 * span_kw, 0.1)
        self._told: deque[float] = deque(maxlen=WINDOW + self._longest)
        self._shown: deque[float] = deque(maxlen=WINDOW)
        self._count = phase

    def note(self, told_kw: float, shown_kw: float | None) -> None:
        """Take one cycle's measurement [kW] and the setpoint in force when it was taken; None starts anew."""
        if shown_kw is None:
            self._told.clear()
            self._shown.clear()
            return
        self._told.append(told_kw)
        self._shown.append(shown_kw)
        self._count += 1
        if self._count % RENEW == 0:
            self._estimate()

    def told_before(self, cycles: int) -> float:
        """Setpoint in force `cycles` before the newest [kW]; the oldest known when that is too long ago."""
        if not self._told:
            return 0.0
        return self._told[max(len(self._told) - 1 - cycles, 0)]

    def _estimate(self) -> None:
        told, shown = list(self._told), list(self._shown)
        count = len(told) - self._longest
        if count < RENEW:
            return
        # Levels are left out by comparing changes only: a device's own consumption must not look like delay.
        steps = [b - a for a, b in pairwise(told)]
        answers = [b - a for a, b in pairwise(shown[-count:])]
        if sum(abs(step) for step in steps[self._longest :]) < self._least_kw:
            return
        misfits = [
            sum((answer - steps[self._longest + i - delay]) ** 2 for i, answer in enumerate(answers))
            for delay in range(self._longest)
        ]
        best = min(range(self._longest), key=lambda delay: misfits[delay])
        others = [misfit for delay, misfit in enumerate(misfits) if delay != best]
        if misfits[best] < CLEARER * sum(others) / len(others):
            self.cycles, self.measured = best + 1, True
