"""A diesel or gas generator set: starts with a delay, runs between minimum and maximum, ramps."""

from __future__ import annotations

from typing import Literal

from plant_simulator.noise import ramp

START_DELAY_S = 10.0
"""Crank, run up and synchronize [s]."""
COOL_DOWN_S = 30.0
"""Time at no load before the engine stops [s]."""

State = Literal["off", "starting", "running", "cooling"]


class Genset:
    """A generator set that follows an active power setpoint; 0 means stop.

    Parameters
    ----------
    min_kw, max_kw : float
        Range in which it may run [kW].
    ramp_kw_per_s : float
        Fastest change of power [kW/s].
    start_delay_s : float
        Time from the command to the first kilowatt [s].

    Attributes
    ----------
    start_fails : bool
        Whether a start ends without the engine running; it is tried again and again while it is wanted.
    tripped : bool
        Whether the engine is stopped by its own protection, at once and without cooling down.
    """

    def __init__(
        self, min_kw: float, max_kw: float, ramp_kw_per_s: float, *, start_delay_s: float = START_DELAY_S
    ) -> None:
        self.min_kw = min_kw
        self.max_kw = max_kw
        self.ramp_kw_per_s = ramp_kw_per_s
        self.start_delay_s = start_delay_s
        self.setpoint_kw = 0.0
        self.power_kw = 0.0
        self.state: State = "off"
        self.start_fails = False
        self.tripped = False
        self.starts = 0
        self.running_hours = 0.0
        self.energy_kwh = 0.0
        self._since_s = 0.0

    @property
    def running(self) -> bool:
        """True while the breaker is closed."""
        return self.state == "running"

    def step(self, dt_s: float) -> None:
        """Let `dt_s` seconds pass at the present setpoint."""
        wanted = self.setpoint_kw > 0.0 and not self.tripped
        self._since_s += dt_s
        if self.tripped and self.state != "off":
            self._enter("off")
        if self.state == "off" and wanted:
            self._enter("starting")
            self.starts += 1
        elif self.state == "starting":
            if not wanted:
                self._enter("off")
            elif self._since_s >= self.start_delay_s:
                self._enter("off" if self.start_fails else "running")
        elif self.state == "cooling":
            if wanted:
                self._enter("running")
            elif self._since_s >= COOL_DOWN_S:
                self._enter("off")
        if self.state == "running":
            target = min(self.max_kw, max(self.min_kw, self.setpoint_kw)) if wanted else 0.0
            self.power_kw = ramp(self.power_kw, target, self.ramp_kw_per_s, dt_s)
            self.running_hours += dt_s / 3600.0
            self.energy_kwh += self.power_kw * dt_s / 3600.0
            if not wanted and self.power_kw <= 0.0:
                self._enter("cooling")
        else:
            self.power_kw = 0.0

    def _enter(self, state: State) -> None:
        self.state = state
        self._since_s = 0.0
