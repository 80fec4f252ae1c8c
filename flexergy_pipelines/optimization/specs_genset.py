"""What the planner needs to know of a genset."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import AssetId, NonNegative, Positive, not_rising


class FuelPoint(Spec):
    """A point of a fuel curve: running at `power_kw` takes `litres_per_h`."""

    power_kw: NonNegative
    litres_per_h: NonNegative


class Genset(Spec):
    """A genset: off, or running between its minimum and maximum power.

    Attributes
    ----------
    min_kw, max_kw : float
        Power when running (kW).
    available : series
        1 where it may run, 0 where not.
    fuel_cost_eur_per_kwh : float
        Cost of a kilowatt-hour delivered; with a fuel curve, of what comes beside the fuel.
    fuel_curve : tuple of FuelPoint
        Fuel taken at powers from `min_kw` to `max_kw`, straight between the points.
    fuel_price_eur_per_l : float
        Price of a litre, for the fuel curve.
    tank_l : float or None
        Fuel that may be used in the horizon, for the fuel curve.
    running_cost_eur_per_h : float
        Cost of an hour of running at any power (no-load fuel, maintenance).
    start_cost_eur, stop_cost_eur : float
        Cost of a start and of a stop.
    max_starts : int or None
        Most starts in the horizon.
    min_up_minutes, min_down_minutes : int
        Shortest run and shortest rest.
    running_at_start : bool
        State before the horizon.
    minutes_in_state : int
        For how long it has been in that state; a large number frees it.
    ramp_kw_per_minute : float or None
        Fastest change of power while running; a start and a stop may jump.
    start_kw, stop_kw : float or None
        Largest power in the first step after a start, and in the last before a stop; with a ramp, None lets it jump
        to `max_kw`.
    power_start_kw : float or None
        Power before the horizon, from which the first ramp counts.
    max_energy_kwh : float or None
        Most energy delivered in the horizon.
    emission_kg_per_kwh, emission_kg_per_l : float
        CO2 of a kilowatt-hour delivered and of a litre burnt; give the one that is known.
    """

    id: AssetId
    min_kw: NonNegative
    max_kw: NonNegative
    available: Series = Field(default_factory=lambda: np.ones(1))
    fuel_cost_eur_per_kwh: NonNegative = 0.0
    fuel_curve: Annotated[tuple[FuelPoint, ...], Field(strict=False)] = ()
    fuel_price_eur_per_l: NonNegative = 0.0
    tank_l: NonNegative | None = None
    running_cost_eur_per_h: NonNegative = 0.0
    start_cost_eur: NonNegative = 0.0
    stop_cost_eur: NonNegative = 0.0
    max_starts: Annotated[int, Field(ge=0)] | None = None
    min_up_minutes: Annotated[int, Field(ge=0)] = 0
    min_down_minutes: Annotated[int, Field(ge=0)] = 0
    running_at_start: bool = False
    minutes_in_state: Annotated[int, Field(ge=0)] = 1_000_000
    ramp_kw_per_minute: Positive | None = None
    start_kw: NonNegative | None = None
    stop_kw: NonNegative | None = None
    power_start_kw: NonNegative | None = None
    max_energy_kwh: NonNegative | None = None
    emission_kg_per_kwh: NonNegative = 0.0
    emission_kg_per_l: NonNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        if self.min_kw > self.max_kw:
            problems.append(f"{self.id}: min_kw {self.min_kw:g} is above max_kw {self.max_kw:g}")
        if not self.fuel_curve and "fuel_cost_eur_per_kwh" not in self.model_fields_set:
            problems.append(f"{self.id}: fuel_cost_eur_per_kwh is missing (or give a fuel_curve)")
        for field in ("start_kw", "stop_kw"):
            value = getattr(self, field)
            if value is not None and value < self.min_kw:
                problems.append(f"{self.id}: {field} {value:g} is below min_kw {self.min_kw:g}")
        problems += self._curve_problems()
        if problems:
            raise ProblemError(problems)
        return self

    def _curve_problems(self) -> list[str]:
        if not self.fuel_curve:
            return [f"{self.id}: tank_l needs a fuel_curve"] if self.tank_l is not None else []
        places = [point.power_kw for point in self.fuel_curve]
        problems = not_rising(self.id, "fuel_curve.power_kw", places)
        if len(places) < 2 or places[0] > self.min_kw + 1e-9 or places[-1] < self.max_kw - 1e-9:
            problems.append(
                f"{self.id}: fuel_curve reaches from {places[0]:g} to {places[-1]:g} kW with {len(places)} points; "
                f"it must cover min_kw {self.min_kw:g} to max_kw {self.max_kw:g} with at least 2"
            )
        return problems
