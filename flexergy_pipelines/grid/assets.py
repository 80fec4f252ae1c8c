"""Assets: what generates, stores or consumes at a site, with nameplate, limits, efficiencies and cost data.

Signs follow the platform: sources, storage and the PCC are positive into the busbar, loads positive when they consume.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from flexergy_pipelines.grid.base import (
    Efficiency,
    Fraction,
    Investment,
    Many,
    Model,
    Name,
    NonNegative,
    Papers,
    Positive,
    Slug,
)

# Apparent over active power of an inverter whose nameplate does not say: enough for a power factor of 0.91.
USUAL_OVERSIZE = 1.1

PhaseConnection = Literal["L1", "L2", "L3", "three_phase"]


class AssetBase(Papers):
    """Attributes that every asset carries.

    Attributes
    ----------
    bus : str or None
        Bus of the site's network that the asset hangs on; None when no network is modelled.
    """

    id: Slug
    name: Name
    bus: Slug | None = None
    phase_connection: PhaseConnection = "three_phase"
    in_service: bool = True


class CycleLifePoint(Model):
    """Full cycles that the cells survive at one depth of discharge."""

    depth: Fraction
    cycles: Positive


class ESS(AssetBase, Investment):
    """Energy storage system behind one storage controller.

    Attributes
    ----------
    energy_capacity_kwh : float
        Nominal capacity [kWh]; `soc` is a fraction of it.
    charge_efficiency, discharge_efficiency : float
        One-way AC/DC efficiencies; never one number for both directions.
    self_discharge_per_day : float
        Fraction of the stored energy that is lost in a day.
    cycle_life : tuple of CycleLifePoint
        Manufacturer's curve, at least one point.
    """

    kind: Literal["ess"] = "ess"
    energy_capacity_kwh: Positive
    max_charge_kw: Positive
    max_discharge_kw: Positive
    soc_min: Fraction = 0.05
    soc_max: Fraction = 0.95
    charge_efficiency: Efficiency = 0.95
    discharge_efficiency: Efficiency = 0.95
    self_discharge_per_day: Fraction = 0.001
    soh: Fraction = 1.0
    chemistry: Literal["LFP", "NMC", "NCA", "LTO", "LMO", "lead_acid", "vanadium_flow", "sodium_ion"] = "LFP"
    apparent_power_kva: Positive | None = None
    replacement_cost_eur_per_kwh: NonNegative = 180.0
    cycle_life: Many[CycleLifePoint] = Field(
        default=(CycleLifePoint(depth=0.8, cycles=6000.0), CycleLifePoint(depth=1.0, cycles=4500.0)), min_length=1
    )
    calendar_life_years: Positive = 15.0
    min_temperature_c: float = -10.0
    max_temperature_c: float = 50.0

    @model_validator(mode="after")
    def _consistent(self) -> ESS:
        if self.soc_min > self.soc_max:
            raise ValueError(f"soc_min {self.soc_min} is above soc_max {self.soc_max}")
        if self.min_temperature_c >= self.max_temperature_c:
            raise ValueError(
                f"min_temperature_c {self.min_temperature_c} is not below max_temperature_c {self.max_temperature_c}"
            )
        for shallow, deep in pairwise(sorted(self.cycle_life, key=lambda p: p.depth)):
            if shallow.depth == deep.depth:
                raise ValueError(f"cycle_life gives depth {deep.depth} twice")
            if shallow.cycles < deep.cycles:
                raise ValueError(
                    f"cycle_life: {deep.cycles} cycles at depth {deep.depth} are more than "
                    f"{shallow.cycles} at the shallower depth {shallow.depth}"
                )
        if any(point.depth == 0 for point in self.cycle_life):
            raise ValueError("cycle_life: depth 0 is no cycle, give depths above 0 up to 1")
        return self

    @property
    def rated_kva(self) -> float:
        """Apparent power of the inverter [kVA]; without a nameplate a tenth above the active power."""
        return self.apparent_power_kva or USUAL_OVERSIZE * max(self.max_charge_kw, self.max_discharge_kw)

    @property
    def usable_kwh(self) -> float:
        """Energy between the SoC limits at the present health [kWh]."""
        return self.energy_capacity_kwh * self.soh * (self.soc_max - self.soc_min)

    def cycles_at(self, depth: float) -> float:
        """Cycles survived at `depth`: log-log interpolation of the manufacturer's curve, flat beyond its ends."""
        points = sorted(self.cycle_life, key=lambda p: p.depth)
        if depth <= points[0].depth:
            return points[0].cycles
        for low, high in pairwise(points):
            if depth <= high.depth:
                share = (math.log(depth) - math.log(low.depth)) / (math.log(high.depth) - math.log(low.depth))
                return math.exp(math.log(low.cycles) + share * (math.log(high.cycles) - math.log(low.cycles)))
        return points[-1].cycles

    @property
    def wear_cost_eur_per_kwh(self) -> float:
        """Price of wear per kWh *discharged* [EUR/kWh].

        Replacement cost over the energy that the pack discharges in its life when it cycles the whole allowed
        window of SoC: ``replacement_cost / (cycles(depth) * depth)``.
        """
        depth = max(self.soc_max - self.soc_min, 0.01)
        return self.replacement_cost_eur_per_kwh / (self.cycles_at(depth) * depth)


class PVPlant(AssetBase, Investment):
    """Photovoltaic plant (azimuth 180 is south, tilt 0 is flat)."""

    kind: Literal["pv"] = "pv"
    peak_kw: Positive
    inverter_kw: Positive | None = None
    apparent_power_kva: Positive | None = None
    tilt_deg: float = Field(default=30.0, ge=0, le=90)
    azimuth_deg: float = Field(default=180.0, ge=0, lt=360)
    curtailable: bool = True

    @property
    def rated_kw(self) -> float:
        """Largest AC power [kW]."""
        return min(self.peak_kw, self.inverter_kw) if self.inverter_kw else self.peak_kw

    @property
    def rated_kva(self) -> float:
        """Apparent power of the inverter [kVA]; without a nameplate a tenth above the active power."""
        return self.apparent_power_kva or USUAL_OVERSIZE * self.rated_kw


class PowerCurvePoint(Model):
    wind_speed_ms: NonNegative
    power_kw: NonNegative


class WindTurbine(AssetBase, Investment):
    """Wind turbine."""

    kind: Literal["wind"] = "wind"
    rated_kw: Positive
    hub_height_m: Positive = 80.0
    power_curve: Many[PowerCurvePoint] = ()
    curtailable: bool = True

    @model_validator(mode="after")
    def _curve_rises_in_speed(self) -> WindTurbine:
        for low, high in pairwise(self.power_curve):
            if high.wind_speed_ms <= low.wind_speed_ms:
                raise ValueError(f"power_curve: wind_speed_ms {high.wind_speed_ms} does not rise")
        for point in self.power_curve:
            if point.power_kw > 1.1 * self.rated_kw:
                raise ValueError(f"power_curve: power_kw {point.power_kw} is above 1.1 x rated_kw {self.rated_kw}")
        return self


class Genset(AssetBase, Investment):
    """Generating set. When it runs, it runs between `min_kw` and `max_kw`."""

    kind: Literal["genset"] = "genset"
    min_kw: NonNegative
    max_kw: Positive
    fuel: Literal["diesel", "gas", "biogas", "hvo"] = "diesel"
    fuel_cost_eur_per_kwh: NonNegative
    start_cost_eur: NonNegative = 0.0
    min_up_minutes: NonNegative = 0.0
    min_down_minutes: NonNegative = 0.0
    ramp_kw_per_s: Positive = 10.0
    emissions_kg_per_kwh: NonNegative = 0.75

    @model_validator(mode="after")
    def _range(self) -> Genset:
        if self.min_kw > self.max_kw:
            raise ValueError(f"min_kw {self.min_kw} is above max_kw {self.max_kw}")
        return self


class ControllableLoad(AssetBase):
    """Load that may be curtailed in steps.

    Attributes
    ----------
    priority : int
        1 is curtailed last, 9 first.
    curtail_steps : tuple of float
        Allowed fractions of the uncurtailed power, falling; 1.0 (no curtailment) is always allowed.
    """

    kind: Literal["controllable_load"] = "controllable_load"
    rated_kw: Positive
    priority: int = Field(default=5, ge=1, le=9)
    curtail_steps: Many[Fraction] = (0.75, 0.5, 0.25, 0.0)
    min_minutes_between_curtailments: NonNegative = 60.0
    max_curtailed_minutes: Positive = 120.0
    curtailment_cost_eur_per_kwh: NonNegative = 0.3

    @model_validator(mode="after")
    def _steps_fall(self) -> ControllableLoad:
        for high, low in pairwise(self.curtail_steps):
            if low >= high:
                raise ValueError(f"curtail_steps: {low} does not fall below {high}")
        return self


class NonControllableLoad(AssetBase):
    """Load that is only measured, by the meter named here."""

    kind: Literal["load"] = "load"
    meter: Slug
    rated_kw: Positive
    priority: int = Field(default=1, ge=1, le=9)


class EVBlock(AssetBase):
    """All charge points of one EV charging manager taken as one load; its id is the manager's."""

    kind: Literal["ev"] = "ev"
    rated_kw: Positive
    min_limit_kw: NonNegative = 0.0
    curtailment_cost_eur_per_kwh: NonNegative = 0.5


class GridConnection(AssetBase):
    """Point of common coupling with the public grid, positive when importing.

    Attributes
    ----------
    grid_type : str
        Kind of the public network at the connection.
    """

    id: Slug = "pcc"
    name: Name = "Grid connection"
    kind: Literal["pcc"] = "pcc"
    import_limit_kw: NonNegative
    export_limit_kw: NonNegative
    grid_type: Literal["low_voltage", "medium_voltage", "high_voltage"] = "low_voltage"
    nominal_voltage_v: Positive = 400.0
    nominal_frequency_hz: float = Field(default=50.0, ge=45, le=65)
    ean: str | None = Field(default=None, pattern=r"^\d{13,18}$", description="Metering point code")


Source = PVPlant | WindTurbine
Asset = ESS | PVPlant | WindTurbine | Genset | ControllableLoad | NonControllableLoad | EVBlock | GridConnection
AssetKind = Literal["ess", "pv", "wind", "genset", "controllable_load", "load", "ev", "pcc"]
