"""Reactive power of inverters: what is left of the apparent power, ramped."""

from __future__ import annotations

import math

from plant_simulator.noise import ramp

FULL_POWER_RAMP_S = 2.0


class ReactivePower:
    """The reactive side of an inverter; active power goes first.

    Positive into the busbar, as active power of a source is.

    Parameters
    ----------
    apparent_kva : float
        Apparent rating [kVA].
    """

    def __init__(self, apparent_kva: float) -> None:
        self.apparent_kva = apparent_kva
        self.setpoint_kvar = 0.0
        self.power_kvar = 0.0

    def step(self, active_kw: float, dt_s: float) -> None:
        """Let `dt_s` seconds pass while the inverter carries `active_kw` [kW]."""
        wanted = ramp(self.power_kvar, self.setpoint_kvar, self.apparent_kva / FULL_POWER_RAMP_S, dt_s)
        reach = math.sqrt(max(0.0, self.apparent_kva**2 - active_kw**2))
        self.power_kvar = min(reach, max(-reach, wanted))
