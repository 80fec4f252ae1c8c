"""What the planner needs to know of an energy storage system."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import (
    AssetId,
    Efficiency,
    EfficiencyPoint,
    Fraction,
    NonNegative,
    Positive,
    SharePoint,
    interpolated,
    negative,
    not_rising,
    outside_fraction,
)
from flexergy_pipelines.optimization.specs_reactive import Inverter
from flexergy_pipelines.optimization.specs_wear import CalendarWear, DepthWear


class Investment(Spec):
    """Capacity that may be bought beyond what there is; a sizing question answered in one solve.

    Attributes
    ----------
    cost_eur_per_kwh : float
        Cost of a kilowatt-hour of capacity over the horizon (annuity times the horizon's share of a year).
    min_kwh, max_kwh : float
        Bounds of what is bought; without `max_kwh` there is none.
    """

    cost_eur_per_kwh: NonNegative
    min_kwh: NonNegative = 0.0
    max_kwh: NonNegative | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_kwh is not None and self.min_kwh > self.max_kwh:
            raise ProblemError([f"investment: min_kwh {self.min_kwh:g} is above max_kwh {self.max_kwh:g}"])
        return self


class Headroom(Spec):
    """Power that a battery keeps free to answer the frequency (P(f), a droop), and the energy behind it.

    Attributes
    ----------
    up_kw, down_kw : series
        Power that can be given, and taken, beyond what is planned.
    hours : float
        For how long, from the start of each step.
    """

    up_kw: Series = Field(default_factory=lambda: np.zeros(1))
    down_kw: Series = Field(default_factory=lambda: np.zeros(1))
    hours: NonNegative = 0.25

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := [*negative("headroom", "up_kw", self.up_kw), *negative("headroom", "down_kw", self.down_kw)]:
            raise ProblemError(problems)
        return self


class Battery(Spec):
    """An energy storage system as the planner sees it; powers are at the busbar (AC side).

    Attributes
    ----------
    energy_capacity_kwh : float
        Usable energy between SoC 0 and 1 (nominal times SoH).
    max_charge_kw, max_discharge_kw : series
        Power limits (kW), 0 where the unit is out of operation.
    max_c_rate : float or None
        Largest power either way for a kilowatt-hour of capacity (1/h), beside the limits above.
    soh : float
        Measured state of health, for the curves over SoH; the capacity above already is what it left.
    max_charge_by_soh, max_discharge_by_soh : tuple of SharePoint
        Share of the power limit that is left at a SoH; straight between points, flat beyond the ends.
    max_charge_by_soc, max_discharge_by_soc : tuple of SharePoint
        The same over the SoC at the start of each step.
    charge_efficiency, discharge_efficiency : float
        Stored per charged, delivered per taken from store.
    charge_efficiency_curve, discharge_efficiency_curve : tuple of EfficiencyPoint
        In place of one number: efficiency at powers, rising, the last no lower than the power limit. Between the
        points the energy in the store is interpolated, from zero at no power.
    self_discharge_per_day : float
        Share of the stored energy lost in a day.
    auxiliary_kw : series
        Own consumption at the busbar, cooling and control, whatever it does (kW).
    ramp_kw_per_minute : float or None
        Fastest change of its power; soft, what goes beyond is named.
    power_start_kw : float or None
        Power before the horizon (positive discharge), from which the first ramp counts.
    max_cycles_per_day : float or None
        Cap on the energy discharged in a calendar day (in the offset of the horizon's start), in capacities; soft.
    cycles_today : float
        What of it was used before the horizon.
    soc_start : float
        SoC at the start of the horizon; may lie outside the window, the plan then returns into it.
    soc_floor, soc_ceiling : series or None
        Lowest and highest SoC at the end of each step, inside the window: targets on the way, seasonal reserves. Soft.
    inflow_kw : series
        Power put into the store past the converter, e.g. water into a reservoir; negative taken from it.
    charge_from : {"any", "renewables"}
        ``renewables``: charge no more than what the site's sources deliver.
    discharge_to : {"any", "site"}
        ``site``: nothing discharged is exported; exports come from what else delivers.
    terminal : {"free", "at_least", "equal", "priced", "cyclic"}
        What is asked of the SoC at the end. ``at_least`` and ``equal`` are soft; ``priced`` credits
        `terminal_value_eur_per_kwh` for what is stored beyond `terminal_soc`; ``cyclic`` lets the plan choose the SoC
        at the start, which is then that of the end.
    terminal_soc : float or None
        SoC asked for at the end; None means that of the start (drawn into the window).
    terminal_price_eur_per_kwh : float or None
        Price of a kilowatt-hour missing at the end; None for one that no price of the problem outweighs.
    terminal_value_eur_per_kwh : float
        Worth of a stored kilowatt-hour at the end, for ``priced``.
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
    inverter : Inverter or None
        What its inverter can give in active and reactive power together.
    investment : Investment or None
        Capacity that may be bought.
    headroom : Headroom or None
        Power kept free to answer the frequency; what can't be is a named violation.
    """

    id: AssetId
    energy_capacity_kwh: NonNegative
    max_charge_kw: Series
    max_discharge_kw: Series
    max_c_rate: Positive | None = None
    soh: Efficiency = 1.0
    max_charge_by_soh: Annotated[tuple[SharePoint, ...], Field(strict=False)] = ()
    max_discharge_by_soh: Annotated[tuple[SharePoint, ...], Field(strict=False)] = ()
    max_charge_by_soc: Annotated[tuple[SharePoint, ...], Field(strict=False)] = ()
    max_discharge_by_soc: Annotated[tuple[SharePoint, ...], Field(strict=False)] = ()
    soc_min: Fraction = 0.0
    soc_max: Fraction = 1.0
    charge_efficiency: Efficiency = 1.0
    discharge_efficiency: Efficiency = 1.0
    charge_efficiency_curve: Annotated[tuple[EfficiencyPoint, ...], Field(strict=False)] = ()
    discharge_efficiency_curve: Annotated[tuple[EfficiencyPoint, ...], Field(strict=False)] = ()
    self_discharge_per_day: Annotated[float, Field(ge=0, lt=1)] = 0.0
    auxiliary_kw: Series = Field(default_factory=lambda: np.zeros(1))
    ramp_kw_per_minute: Positive | None = None
    power_start_kw: float | None = None
    max_cycles_per_day: NonNegative | None = None
    cycles_today: NonNegative = 0.0
    soc_start: Annotated[float, Field(ge=0, le=1)] = 0.5
    soc_floor: Series | None = None
    soc_ceiling: Series | None = None
    inflow_kw: Series = Field(default_factory=lambda: np.zeros(1))
    charge_from: Literal["any", "renewables"] = "any"
    discharge_to: Literal["any", "site"] = "any"
    terminal: Literal["free", "at_least", "equal", "priced", "cyclic"] = "at_least"
    terminal_soc: Fraction | None = None
    terminal_price_eur_per_kwh: NonNegative | None = None
    terminal_value_eur_per_kwh: float = 0.0
    wear_cost_eur_per_kwh: NonNegative = 0.0
    depth_wear: DepthWear | None = None
    calendar_wear: CalendarWear | None = None
    charge_cost_eur_per_kwh: Series = Field(default_factory=lambda: np.zeros(1))
    discharge_cost_eur_per_kwh: Series = Field(default_factory=lambda: np.zeros(1))
    holding_cost_eur_per_kwh_h: float = 0.0
    fixed_power_kw: Series | None = None
    inverter: Inverter | None = None
    investment: Investment | None = None
    headroom: Headroom | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            *negative(self.id, "max_charge_kw", self.max_charge_kw),
            *negative(self.id, "max_discharge_kw", self.max_discharge_kw),
            *negative(self.id, "auxiliary_kw", self.auxiliary_kw),
            *outside_fraction(self.id, "soc_floor", self.soc_floor),
            *outside_fraction(self.id, "soc_ceiling", self.soc_ceiling),
            *self._curve_problems(),
        ]
        if self.soc_min > self.soc_max:
            problems.append(f"{self.id}: soc_min {self.soc_min:g} is above soc_max {self.soc_max:g}")
        if self.terminal_soc is not None and not self.soc_min <= self.terminal_soc <= self.soc_max:
            problems.append(
                f"{self.id}: terminal_soc {self.terminal_soc:g} must be between soc_min {self.soc_min:g} "
                f"and soc_max {self.soc_max:g}"
            )
        if self.investment is not None and (self.depth_wear is not None or self.calendar_wear is not None):
            problems.append(
                f"{self.id}: investment can't be combined with depth_wear or calendar_wear; use wear_cost_eur_per_kwh"
            )
        if self.investment is not None and (self.max_charge_by_soc or self.max_discharge_by_soc):
            problems.append(f"{self.id}: investment can't be combined with power limits by SoC")
        if problems:
            raise ProblemError(problems)
        return self

    def _curve_problems(self) -> list[str]:
        problems = []
        for field in ("max_charge_by_soh", "max_discharge_by_soh", "max_charge_by_soc", "max_discharge_by_soc"):
            points: tuple[SharePoint, ...] = getattr(self, field)
            problems += not_rising(self.id, f"{field}.at", [point.at for point in points])
        for field, limit in (
            ("charge_efficiency_curve", self.max_charge_kw),
            ("discharge_efficiency_curve", self.max_discharge_kw),
        ):
            curve: tuple[EfficiencyPoint, ...] = getattr(self, field)
            problems += not_rising(self.id, f"{field}.power_kw", [point.power_kw for point in curve])
            if curve and curve[-1].power_kw < float(np.max(limit)) - 1e-9:
                problems.append(
                    f"{self.id}: {field} ends at {curve[-1].power_kw:g} kW, "
                    f"below the power limit of {np.max(limit):g} kW"
                )
        return problems

    def limit_share(self, direction: Literal["charge", "discharge"]) -> float:
        """What of a power limit the state of health leaves."""
        points = self.max_charge_by_soh if direction == "charge" else self.max_discharge_by_soh
        return interpolated(points, self.soh)
