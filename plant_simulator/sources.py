"""PV plants and wind turbines: what nature offers, held back by a curtailment limit."""

from __future__ import annotations

import random
from typing import Literal

from plant_simulator.noise import Wander, ramp

FULL_POWER_RAMP_S = {"pv": 5.0, "wind": 20.0}
"""Time to go from zero to rated power when a limit is lifted or set [s]."""
GUSTINESS = {"pv": 0.01, "wind": 0.02}
"""Standard deviation of the power within a quarter of an hour, as share of the power."""


class Source:
    """A PV plant or wind turbine that gives what is available, but no more than its limit.

    Parameters
    ----------
    kind : {"pv", "wind"}
        What it is; decides ramp and gustiness.
    rated_kw : float
        Peak or rated power [kW].
    rng : random.Random
        Seeded generator for the gusts.
    curtailable : bool
        False: the limit is accepted and without effect.
    """

    def __init__(
        self, kind: Literal["pv", "wind"], rated_kw: float, rng: random.Random, *, curtailable: bool = True
    ) -> None:
        self.kind = kind
        self.rated_kw = rated_kw
        self.curtailable = curtailable
        self.limit_kw = rated_kw
        self.available_kw = 0.0
        self.power_kw = 0.0
        self.curtailed_kwh = 0.0
        self._gusts = Wander(rng, GUSTINESS[kind], 20.0)
        self._ceiling_kw = rated_kw

    def step(self, offered_kw: float, dt_s: float) -> None:
        """Let `dt_s` seconds pass with `offered_kw` offered by sun or wind [kW]."""
        self.available_kw = min(self.rated_kw, max(0.0, offered_kw * (1.0 + self._gusts.step(dt_s))))
        limit = min(self.rated_kw, max(0.0, self.limit_kw)) if self.curtailable else self.rated_kw
        self._ceiling_kw = ramp(self._ceiling_kw, limit, self.rated_kw / FULL_POWER_RAMP_S[self.kind], dt_s)
        self.power_kw = min(self.available_kw, self._ceiling_kw)
        self.curtailed_kwh += (self.available_kw - self.power_kw) * dt_s / 3600.0
