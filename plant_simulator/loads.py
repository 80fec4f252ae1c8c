"""Consumers: plain loads, and controllable loads, which keep below an upper limit."""

from __future__ import annotations

import random

from plant_simulator.noise import Wander, ramp

FLICKER = 0.01
"""Standard deviation of a load within a quarter of an hour, as share of the load."""
LIMIT_RESPONSE_S = 3.0
"""Time in which a controlled block goes from rated to zero [s]."""


class Load:
    """A consumer that takes what its users want.

    Parameters
    ----------
    rng : random.Random
        Seeded generator for the flicker.
    """

    def __init__(self, rng: random.Random) -> None:
        self.power_kw = 0.0
        self.energy_kwh = 0.0
        self._flicker = Wander(rng, FLICKER, 30.0)

    def step(self, wanted_kw: float, dt_s: float) -> None:
        """Let `dt_s` seconds pass while users want `wanted_kw` [kW]."""
        self.power_kw = max(0.0, wanted_kw * (1.0 + self._flicker.step(dt_s)))
        self.energy_kwh += self.power_kw * dt_s / 3600.0

    def reset_counters(self) -> None:
        """Set the energy counter to zero, as an exchanged meter shows it."""
        self.energy_kwh = 0.0


class LimitedLoad:
    """A controllable load: takes what is wanted, but no more than its limit.

    Parameters
    ----------
    rated_kw : float
        Power of everything switched on [kW]; also the limit without any order.
    rng : random.Random
        Seeded generator for the flicker.
    """

    def __init__(self, rated_kw: float, rng: random.Random) -> None:
        self.rated_kw = rated_kw
        self.limit_kw = rated_kw
        self.wanted_kw = 0.0
        self.power_kw = 0.0
        self.energy_kwh = 0.0
        self.curtailed_kwh = 0.0
        self._flicker = Wander(rng, FLICKER, 30.0)
        self._ceiling_kw = rated_kw

    def step(self, wanted_kw: float, dt_s: float) -> None:
        """Let `dt_s` seconds pass while users want `wanted_kw` [kW]."""
        self.wanted_kw = min(self.rated_kw, max(0.0, wanted_kw * (1.0 + self._flicker.step(dt_s))))
        limit = min(self.rated_kw, max(0.0, self.limit_kw))
        self._ceiling_kw = ramp(self._ceiling_kw, limit, self.rated_kw / LIMIT_RESPONSE_S, dt_s)
        self.power_kw = min(self.wanted_kw, self._ceiling_kw)
        hours = dt_s / 3600.0
        self.energy_kwh += self.power_kw * hours
        self.curtailed_kwh += (self.wanted_kw - self.power_kw) * hours
