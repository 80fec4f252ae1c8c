"""What the planner needs to know of each asset: typed, in field terms, independent of the site file."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import AssetId, Efficiency, Fraction, NonNegative, negative
from flexergy_pipelines.optimization.specs_market import DeclaredProfile
from flexergy_pipelines.optimization.specs_wear import CalendarWear, DepthWear


class Battery(Spec):
    """An energy storage system as the planner sees it; powers are at the busbar (AC side).

    Attributes
    ----------
    energy_capacity_kwh : float
        Usable energy between SoC 0 and 1 (nominal times SoH).
    max_charge_kw, max_discharge_kw : series
        Power limits (kW), 0 where the unit is out of operation.
    charge_efficiency, discharge_efficiency : float
        Stored per charged, delivered per taken from store.
    self_discharge_per_day : float
        Share of the stored energy lost in a day.
    soc_start : float
        SoC at the start of the horizon; may lie outside the window, the plan then returns into it.
    terminal : {"free", "at_least", "equal"}
        What is asked of the SoC at the end; both demands are soft and priced with `terminal_price_eur_per_kwh`.
    terminal_soc : float or None
        SoC asked for at the end; None means that of the start (drawn into the window).
    wear_cost_eur_per_kwh : float
        Price of wear for a kilowatt-hour discharged, before the operator's weight.
    depth_wear : DepthWear or None
        Price of cycles by their depth, in place of the throughput price.
    calendar_wear : CalendarWear or None
        Price of time by SoC and temperature.
    charge_cost_eur_per_kwh, discharge_cost_eur_per_kwh : series
        Further costs of energy charged and discharged at the busbar, e.g. variable operating cost.
    holding_cost_eur_per_kwh_h : float
        Cost of keeping a kilowatt-hour stored for an hour.
    fixed_power_kw : series or None
        A given operation (positive discharge) instead of a planned one.
    """

    id: AssetId
    energy_capacity_kwh: NonNegative
    max_charge_kw: Series
    max_discharge_kw: Series
    soc_min: Fraction = 0.0
    soc_max: Fraction = 1.0
    charge_efficiency: Efficiency = 1.0
    discharge_efficiency: Efficiency = 1.0
    self_discharge_per_day: Annotated[float, Field(ge=0, lt=1)] = 0.0
    soc_start: Annotated[float, Field(ge=0, le=1)] = 0.5
    terminal: Literal["free", "at_least", "equal"] = "at_least"
    terminal_soc: Fraction | None = None
    terminal_price_eur_per_kwh: NonNegative = 10.0
    wear_cost_eur_per_kwh: NonNegative = 0.0
    depth_wear: DepthWear | None = None
    calendar_wear: CalendarWear | None = None
    charge_cost_eur_per_kwh: Series = Field(default_factory=lambda: np.zeros(1))
    discharge_cost_eur_per_kwh: Series = Field(default_factory=lambda: np.zeros(1))
    holding_cost_eur_per_kwh_h: float = 0.0
    fixed_power_kw: Series | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            *negative(self.id, "max_charge_kw", self.max_charge_kw),
            *negative(self.id, "max_discharge_kw", self.max_discharge_kw),
        ]
        if self.soc_min > self.soc_max:
            problems.append(f"{self.id}: soc_min {self.soc_min:g} is above soc_max {self.soc_max:g}")
        if self.terminal_soc is not None and not self.soc_min <= self.terminal_soc <= self.soc_max:
            problems.append(
                f"{self.id}: terminal_soc {self.terminal_soc:g} must be between soc_min {self.soc_min:g} "
                f"and soc_max {self.soc_max:g}"
            )
        if problems:
            raise ProblemError(problems)
        return self


class Renewable(Spec):
    """A PV plant or wind turbine: power available, and whether it may be held back.

    Attributes
    ----------
    available_kw : series
        Power it could deliver (kW).
    rated_kw : float or None
        Limit to send where nothing is curtailed (kW), so that a forecast too low holds nothing back.
    curtailable : bool
        Whether it may deliver less.
    curtailment_price_eur_per_kwh : float
        Price of energy not taken.
    """

    id: AssetId
    kind: Literal["pv", "wind"] = "pv"
    available_kw: Series
    rated_kw: NonNegative | None = None
    curtailable: bool = True
    curtailment_price_eur_per_kwh: NonNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := negative(self.id, "available_kw", self.available_kw):
            raise ProblemError(problems)
        return self


class Genset(Spec):
    """A genset: off, or running between its minimum and maximum power.

    Attributes
    ----------
    min_kw, max_kw : float
        Power when running (kW).
    available : series
        1 where it may run, 0 where not.
    fuel_cost_eur_per_kwh : float
        Cost of a kilowatt-hour delivered.
    running_cost_eur_per_h : float
        Cost of an hour of running at any power (no-load fuel, maintenance).
    start_cost_eur : float
        Cost of a start.
    min_up_minutes, min_down_minutes : int
        Shortest run and shortest rest.
    running_at_start : bool
        State before the horizon.
    minutes_in_state : int
        For how long it has been in that state; a large number frees it.
    ramp_kw_per_minute : float or None
        Fastest change of power while running.
    emission_kg_per_kwh : float
        CO2 of a kilowatt-hour delivered.
    """

    id: AssetId
    min_kw: NonNegative
    max_kw: NonNegative
    available: Series = Field(default_factory=lambda: np.ones(1))
    fuel_cost_eur_per_kwh: NonNegative
    running_cost_eur_per_h: NonNegative = 0.0
    start_cost_eur: NonNegative = 0.0
    min_up_minutes: Annotated[int, Field(ge=0)] = 0
    min_down_minutes: Annotated[int, Field(ge=0)] = 0
    running_at_start: bool = False
    minutes_in_state: Annotated[int, Field(ge=0)] = 1_000_000
    ramp_kw_per_minute: Annotated[float, Field(gt=0)] | None = None
    emission_kg_per_kwh: NonNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_kw > self.max_kw:
            raise ProblemError([f"{self.id}: min_kw {self.min_kw:g} is above max_kw {self.max_kw:g}"])
        return self


class Load(Spec):
    """Consumption that can't be moved; shedding it is the last resort and a named violation."""

    id: AssetId
    power_kw: Series

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := negative(self.id, "power_kw", self.power_kw):
            raise ProblemError(problems)
        return self


class ControllableLoad(Spec):
    """A load that may be curtailed in steps.

    Attributes
    ----------
    power_kw : series
        What it would consume (kW).
    rated_kw : float or None
        Limit to send where nothing is curtailed (kW).
    steps : tuple of float
        Shares of `power_kw` that can be switched off, ascending, each in (0, 1].
    curtailment_cost_eur_per_kwh : float
        Price of a kilowatt-hour not delivered.
    min_minutes_between : int
        Shortest time from the end of a curtailment to the start of the next.
    max_curtailed_minutes : int or None
        Longest total curtailment within the horizon, reduced by the caller by what was already used.
    minutes_since_last : int
        Time since the last curtailment ended, before the horizon.
    """

    id: AssetId
    power_kw: Series
    rated_kw: NonNegative | None = None
    steps: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False)] = (1.0,)
    curtailment_cost_eur_per_kwh: NonNegative = 0.0
    min_minutes_between: Annotated[int, Field(ge=0)] = 0
    max_curtailed_minutes: Annotated[int, Field(ge=0)] | None = None
    minutes_since_last: Annotated[int, Field(ge=0)] = 1_000_000

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = negative(self.id, "power_kw", self.power_kw)
        if list(self.steps) != sorted(set(self.steps)):
            problems.append(f"{self.id}: steps {list(self.steps)} must ascend, each once")
        if problems:
            raise ProblemError(problems)
        return self


class DemandCharge(Spec):
    """A charge on the highest import of a billing period.

    Attributes
    ----------
    price_eur_per_kw : float
        Charge on a kilowatt of the period's peak.
    applies : series
        1 where the step counts for this period, 0 where not.
    peak_so_far_kw : float
        Peak already reached in this period; only what goes beyond it costs more.
    bill_peak_so_far : bool
        Count the charge for the peak so far, too; otherwise only what the plan adds to it.
    """

    id: AssetId
    price_eur_per_kw: NonNegative
    applies: Series = Field(default_factory=lambda: np.ones(1))
    peak_so_far_kw: NonNegative = 0.0
    bill_peak_so_far: bool = False


class GridConnection(Spec):
    """The point of connection (PCC): what may flow, and at what price.

    Attributes
    ----------
    import_price_eur_per_kwh, export_price_eur_per_kwh : series
        Paid for a kilowatt-hour imported, earned for one exported; both may be negative.
    import_limit_kw, export_limit_kw : series or None
        Limits; soft at `breach_price_eur_per_kwh`, and a breach is a named violation.
    breach_price_eur_per_kwh : float
        Price of a kilowatt-hour beyond a limit.
    breach_peak_price_eur_per_kw : float
        Price of the largest kilowatt beyond a limit.
    demand_charges : tuple of DemandCharge
        Charges on the peak.
    emission_kg_per_kwh : series
        CO2 of imported energy; exported energy is credited the same.
    profile : DeclaredProfile or None
        Delivery that was declared, and the price of deviating from it.
    """

    id: AssetId = "pcc"
    import_price_eur_per_kwh: Series
    export_price_eur_per_kwh: Series
    import_limit_kw: Series | None = None
    export_limit_kw: Series | None = None
    breach_price_eur_per_kwh: NonNegative = 100.0
    breach_peak_price_eur_per_kw: NonNegative = 0.0
    demand_charges: Annotated[tuple[DemandCharge, ...], Field(strict=False)] = ()
    emission_kg_per_kwh: Series = Field(default_factory=lambda: np.zeros(1))
    profile: DeclaredProfile | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            *negative(self.id, "import_limit_kw", self.import_limit_kw),
            *negative(self.id, "export_limit_kw", self.export_limit_kw),
        ]
        if problems:
            raise ProblemError(problems)
        return self
