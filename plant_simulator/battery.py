"""Physics of one battery system behind its inverter: state of charge, losses, limits, heat, voltage and ageing."""

from __future__ import annotations

from dataclasses import dataclass

from plant_simulator.bms import COLD_C, HOT_C, TOO_COLD_C, TOO_HOT_C, alarm_word
from plant_simulator.noise import ramp

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86_400.0
SECONDS_PER_YEAR = 365.25 * SECONDS_PER_DAY

TAPER_SPAN = 0.05
"""Share of the capacity next to full and to empty in which the battery management takes back power."""
FULL_POWER_RAMP_S = 1.0
"""Time of the inverter from zero to rated power [s]."""
HEAT_CAPACITY_KWH_PER_K_PER_KWH = 0.0028
"""10 kg of cells, racks and air per kWh at 1 kJ/(kg K)."""
THERMAL_TIME_CONSTANT_S = 2 * SECONDS_PER_HOUR
NOMINAL_VOLTAGE_V = 800.0
CALENDAR_AGEING_PER_YEAR = 0.015
END_OF_LIFE_LOSS = 0.2


@dataclass(frozen=True, slots=True)
class BatteryRating:
    """What a battery system can do when new.

    Attributes
    ----------
    energy_capacity_kwh : float
        Nominal capacity [kWh].
    max_charge_kw, max_discharge_kw : float
        Rated power at the AC side in each direction, both positive [kW].
    charge_efficiency, discharge_efficiency : float
        AC to cells and cells to AC, 0..1, separate numbers.
    self_discharge_per_day : float
        Share of the stored energy lost in a day at rest.
    soh : float
        State of health at the start, share of nominal capacity.
    cycles_to_end_of_life : float
        Equivalent full cycles after which 20 % of the capacity are gone.
    """

    energy_capacity_kwh: float
    max_charge_kw: float
    max_discharge_kw: float
    charge_efficiency: float = 0.95
    discharge_efficiency: float = 0.95
    self_discharge_per_day: float = 0.0
    soh: float = 1.0
    cycles_to_end_of_life: float = 6000.0


class Battery:
    """A battery system that follows an active power setpoint as far as physics and its own protection allow.

    Power is positive for discharge (into the busbar) and negative for charge. The state of charge is a fraction
    of the *usable* capacity, which shrinks with the state of health.

    Parameters
    ----------
    rating : BatteryRating
        Ratings.
    soc : float
        State of charge at the start, 0..1.
    ambient_c : float
        Temperature of the container's air [°C].
    """

    def __init__(self, rating: BatteryRating, *, soc: float = 0.5, ambient_c: float = 20.0) -> None:
        if not 0.0 <= soc <= 1.0:
            raise ValueError(f"soc {soc} is outside 0..1")
        self.rating = rating
        self.soh = rating.soh
        self.energy_kwh = soc * self.usable_capacity_kwh
        self.ambient_c = ambient_c
        self.extra_heat_c = 0.0
        self._mean_temperature_c = ambient_c
        self.setpoint_kw = 0.0
        self.power_kw = 0.0
        self.tripped = False
        self.raised_events: frozenset[int] = frozenset()
        self.charged_kwh = 0.0
        self.discharged_kwh = 0.0
        self.self_discharged_kwh = 0.0

    @property
    def usable_capacity_kwh(self) -> float:
        """Capacity left at today's state of health [kWh]."""
        return self.rating.energy_capacity_kwh * self.soh

    @property
    def soc(self) -> float:
        """State of charge, fraction of usable capacity."""
        return min(1.0, self.energy_kwh / self.usable_capacity_kwh)

    @property
    def temperature_c(self) -> float:
        """Temperature of the hottest cells [°C]; `extra_heat_c` is what a failed cooling adds to the mean."""
        return self._mean_temperature_c + self.extra_heat_c

    @temperature_c.setter
    def temperature_c(self, value: float) -> None:
        self._mean_temperature_c = value - self.extra_heat_c

    @property
    def available(self) -> bool:
        """False while the battery management keeps the contactors open: after a trip, and while cells are too hot."""
        return not self.tripped and self.temperature_c < TOO_HOT_C

    @property
    def alarm_word(self) -> int:
        """Alarms and warnings of the battery management as bits; `raised_events` come on top."""
        return alarm_word(self.temperature_c, self.soc, tripped=self.tripped, raised=self.raised_events)

    @property
    def equivalent_full_cycles(self) -> float:
        """Energy drawn from the cells over nominal capacity, since the start."""
        return self.discharged_kwh / self.rating.discharge_efficiency / self.rating.energy_capacity_kwh

    @property
    def max_charge_kw(self) -> float:
        """Power the battery accepts now, tapering to zero at full; cold cells must not be charged [kW, positive]."""
        warm = min(1.0, max(0.0, (self.temperature_c - TOO_COLD_C) / (COLD_C - TOO_COLD_C)))
        room = min(1.0, max(0.0, 1.0 - self.soc) / TAPER_SPAN)
        return self.rating.max_charge_kw * self._derating() * warm * room

    @property
    def max_discharge_kw(self) -> float:
        """Power the battery can give now, tapering to zero at empty [kW, positive]."""
        return self.rating.max_discharge_kw * self._derating() * min(1.0, max(0.0, self.soc) / TAPER_SPAN)

    @property
    def voltage_v(self) -> float:
        """Terminal voltage of the DC link: open-circuit curve over SoC plus resistive drop [V]."""
        open_circuit = NOMINAL_VOLTAGE_V * (0.92 + 0.12 * self.soc + 0.04 * (self.soc - 0.5) ** 3)
        rated = max(self.rating.max_charge_kw, self.rating.max_discharge_kw)
        return open_circuit - 0.03 * NOMINAL_VOLTAGE_V * self.power_kw / rated

    def step(self, dt_s: float) -> None:
        """Let `dt_s` seconds pass at the present setpoint."""
        rated = max(self.rating.max_charge_kw, self.rating.max_discharge_kw)
        ramped = ramp(self.power_kw, self.setpoint_kw, rated / FULL_POWER_RAMP_S, dt_s)
        allowed = min(self.max_discharge_kw, max(-self.max_charge_kw, ramped))
        self.power_kw = self._pass_energy(allowed, dt_s)
        self._age(dt_s)
        self._heat(dt_s)

    def _derating(self) -> float:
        if self.tripped:
            return 0.0
        return min(1.0, max(0.0, (TOO_HOT_C - self.temperature_c) / (TOO_HOT_C - HOT_C)))

    def _pass_energy(self, power_kw: float, dt_s: float) -> float:
        """Move energy through the inverter; returns the power that physics allowed over the whole step."""
        hours = dt_s / SECONDS_PER_HOUR
        if hours <= 0:
            return self.power_kw
        if power_kw >= 0:
            drawn = min(power_kw * hours / self.rating.discharge_efficiency, self.energy_kwh)
            self.energy_kwh -= drawn
            given = drawn * self.rating.discharge_efficiency
            self.discharged_kwh += given
            passed = given / hours
        else:
            stored = min(
                -power_kw * hours * self.rating.charge_efficiency, max(0.0, self.usable_capacity_kwh - self.energy_kwh)
            )
            self.energy_kwh += stored
            taken = stored / self.rating.charge_efficiency
            self.charged_kwh += taken
            passed = -taken / hours
        lost = min(self.energy_kwh, self.energy_kwh * self.rating.self_discharge_per_day * dt_s / SECONDS_PER_DAY)
        self.energy_kwh -= lost
        self.self_discharged_kwh += lost
        return passed

    def _age(self, dt_s: float) -> None:
        """Linear fade: throughput over cycle life, plus calendar time. Capacity goes, stored energy stays."""
        cells_kwh = abs(self.power_kw) * dt_s / SECONDS_PER_HOUR
        cycles = cells_kwh / 2.0 / self.rating.energy_capacity_kwh
        fade = END_OF_LIFE_LOSS * cycles / self.rating.cycles_to_end_of_life
        fade += CALENDAR_AGEING_PER_YEAR * dt_s / SECONDS_PER_YEAR
        self.soh = max(0.1, self.soh - fade)

    def _heat(self, dt_s: float) -> None:
        """First-order thermal model: conversion losses heat, the ventilation cools towards ambient."""
        loss_kw = (
            self.power_kw * (1.0 / self.rating.discharge_efficiency - 1.0)
            if self.power_kw >= 0
            else -self.power_kw * (1.0 - self.rating.charge_efficiency)
        )
        # Half of the losses arise in the inverter, which stands outside the cells' air.
        heating_k = (
            0.5 * loss_kw * (dt_s / SECONDS_PER_HOUR)
            / (HEAT_CAPACITY_KWH_PER_K_PER_KWH * self.rating.energy_capacity_kwh)
        )  # fmt: skip
        cooling_k = (self._mean_temperature_c - self.ambient_c) * min(1.0, dt_s / THERMAL_TIME_CONSTANT_S)
        self._mean_temperature_c += heating_k - cooling_k
