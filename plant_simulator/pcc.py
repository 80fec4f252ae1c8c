"""The point of common coupling: what the site's balance leaves to the grid, and the grid's frequency and voltage."""

from __future__ import annotations

import random
from collections.abc import Sequence

from plant_simulator.noise import Wander
from plant_simulator.phases import PHASE_SHARES

NOMINAL_FREQUENCY_HZ = 50.0
LOW_VOLTAGE_V = 230.0
LARGEST_LOW_VOLTAGE_V = 600.0
VOLTAGE_DROP_AT_LIMIT = 0.03
"""Share of the nominal voltage lost over the feeder when the site imports its limit."""


class GridConnection:
    """Meter and feeder at the site's grid connection.

    Parameters
    ----------
    limit_kw : float
        Power at which the feeder drops 3 % of the voltage [kW].
    rng : random.Random
        Seeded generator for frequency and voltage.
    nominal_v : float
        Nominal voltage between phase and neutral [V].
    nominal_hz : float
        Nominal frequency [Hz].

    Attributes
    ----------
    phases_kw, phases_kvar : sequence of float
        Active and reactive power on each phase, positive for import [kW, kvar].
    """

    def __init__(
        self,
        limit_kw: float,
        rng: random.Random,
        nominal_v: float = LOW_VOLTAGE_V,
        nominal_hz: float = NOMINAL_FREQUENCY_HZ,
    ) -> None:
        self.limit_kw = limit_kw
        self.nominal_v = nominal_v
        self.nominal_hz = nominal_hz
        self.phases_kw: Sequence[float] = (0.0, 0.0, 0.0)
        self.phases_kvar: Sequence[float] = (0.0, 0.0, 0.0)
        self.power_kw = 0.0
        self.reactive_kvar = 0.0
        self.import_kwh = 0.0
        self.export_kwh = 0.0
        self._offset_hz = 0.0
        self._offsets_v = [0.0, 0.0, 0.0]
        self.frequency_hz = nominal_hz
        self.voltages_v = (nominal_v, nominal_v, nominal_v)
        # Long-run deviation and memory of the continental European system's frequency.
        self._frequency = Wander(rng, 0.020, 180.0)
        self._voltage = Wander(rng, 0.005 * nominal_v, 300.0)
        self._phases = tuple(Wander(rng, 0.0017 * nominal_v, 60.0) for _ in range(3))

    @property
    def low_voltage_ratio(self) -> float:
        """Voltage of the site's low-voltage side over that of the connection: 1, or a transformer's ratio."""
        return 1.0 if self.nominal_v <= LARGEST_LOW_VOLTAGE_V else LOW_VOLTAGE_V / self.nominal_v

    def disturb(self, frequency_offset_hz: float, voltage_offsets: Sequence[float]) -> None:
        """Shift the grid's frequency [Hz] and the voltage of each phase [share of nominal]; 0 is undisturbed."""
        self._offset_hz = frequency_offset_hz
        self._offsets_v = [offset * self.nominal_v for offset in voltage_offsets]

    def reset_counters(self) -> None:
        """Set the energy counters to zero, as an exchanged meter shows them."""
        self.import_kwh = self.export_kwh = 0.0

    def step(
        self,
        power_kw: float,
        reactive_kvar: float,
        dt_s: float,
        phases_kw: Sequence[float] | None = None,
        phases_kvar: Sequence[float] | None = None,
    ) -> None:
        """Let `dt_s` seconds pass.

        Parameters
        ----------
        power_kw : float
            Balance of the site, positive for import [kW].
        reactive_kvar : float
            Reactive balance, positive for import [kvar].
        dt_s : float
            Length of the step [s].
        phases_kw, phases_kvar : sequence of float, optional
            The same by phase; without, as loads usually spread.
        """
        hours = dt_s / 3600.0
        self.phases_kw = [share * power_kw for share in PHASE_SHARES] if phases_kw is None else phases_kw
        self.phases_kvar = [share * reactive_kvar for share in PHASE_SHARES] if phases_kvar is None else phases_kvar
        self.power_kw = power_kw
        self.reactive_kvar = reactive_kvar
        self.import_kwh += max(0.0, power_kw) * hours
        self.export_kwh += max(0.0, -power_kw) * hours
        self.frequency_hz = self.nominal_hz + self._frequency.step(dt_s) + self._offset_hz
        common = self.nominal_v + self._voltage.step(dt_s)
        # Each phase carries a third of the limit; what it carries itself makes its own drop.
        drop_v_per_kw = VOLTAGE_DROP_AT_LIMIT * self.nominal_v / (self.limit_kw / 3.0)
        phases = [
            max(0.0, common + offset - drop_v_per_kw * (active + 0.5 * reactive) + wander.step(dt_s))
            for active, reactive, offset, wander in zip(
                self.phases_kw, self.phases_kvar, self._offsets_v, self._phases, strict=True
            )
        ]
        self.voltages_v = (phases[0], phases[1], phases[2])
