"""Electric vehicles: all of a manager's charge points as one load, or each charging session for itself."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import AssetId, Efficiency, Fraction, NonNegative, negative


class EvBlock(Spec):
    """All charge points of one charging manager as one load that can be held below what the EVs ask for.

    Attributes
    ----------
    power_kw : series
        What the EVs would draw (kW).
    rated_kw : float or None
        Limit to send where nothing is held back (kW).
    min_fraction : float
        Share of it that is always served.
    min_kw : float
        Power that is always served as far as it is asked for (kW).
    unmet_price_eur_per_kwh : float
        Price of a kilowatt-hour that an EV asked for and didn't get.
    """

    id: AssetId
    power_kw: Series
    rated_kw: NonNegative | None = None
    min_fraction: Fraction = 0.0
    min_kw: NonNegative = 0.0
    unmet_price_eur_per_kwh: NonNegative = 5.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := negative(self.id, "power_kw", self.power_kw):
            raise ProblemError(problems)
        return self


class EvSession(Spec):
    """One vehicle at one charge point.

    Attributes
    ----------
    connected : series
        1 in steps in which it is plugged in for the whole step, 0 elsewhere; the target holds for the last.
    capacity_kwh : float
        Its battery.
    soc_start, soc_target : float
        SoC on arrival and SoC asked for at departure.
    max_kw : float or None
        Largest charging power of vehicle and charge point (kW); None where `max_current_a` says it.
    min_kw : float
        Smallest charging power other than none (kW), e.g. 6 A times the phases.
    phases : int
        Phases it charges on.
    max_current_a, min_current_a : float or None
        The limits as currents; power is ``phases * voltage_v * current / 1000``. With both given, the tighter holds.
    voltage_v : float
        Phase voltage.
    soc_reserve : float
        SoC below which nothing is taken from the vehicle (V2G); one that arrives emptier is left alone.
    max_discharge_kw : float
        Largest power back to the site (V2G, kW); 0 for a vehicle that only charges.
    efficiency : float
        Stored per charged, and delivered per taken from store.
    discharge_efficiency : float or None
        Delivered per taken from store, where it differs.
    priority : int
        1 is served first, 9 last. Where priorities tie, the vehicle with the lower SoC goes first.
    unmet_price_eur_per_kwh : float
        Price of a kilowatt-hour missing at departure, for priority 5; see :attr:`unmet_price`.
    wear_cost_eur_per_kwh : float
        Price of a kilowatt-hour discharged, owed to the vehicle's owner.
    """

    id: AssetId
    connected: Series
    capacity_kwh: Annotated[float, Field(gt=0)]
    soc_start: Fraction = 0.0
    soc_target: Fraction = 1.0
    max_kw: NonNegative | None = None
    min_kw: NonNegative = 0.0
    phases: Literal[1, 2, 3] = 3
    max_current_a: NonNegative | None = None
    min_current_a: NonNegative | None = None
    voltage_v: Annotated[float, Field(gt=0)] = 230.0
    soc_reserve: Fraction = 0.0
    max_discharge_kw: NonNegative = 0.0
    efficiency: Efficiency = 1.0
    discharge_efficiency: Efficiency | None = None
    priority: Annotated[int, Field(ge=1, le=9)] = 5
    unmet_price_eur_per_kwh: NonNegative = 5.0
    wear_cost_eur_per_kwh: NonNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        if self.max_kw is None and self.max_current_a is None:
            problems.append(f"{self.id}: max_kw is missing (or give max_current_a)")
        elif self.smallest_kw > self.largest_kw + 1e-9:
            problems.append(f"{self.id}: min_kw {self.smallest_kw:g} is above max_kw {self.largest_kw:g}")
        if problems:
            raise ProblemError(problems)
        return self

    @property
    def largest_kw(self) -> float:
        """Largest charging power (kW), from power and current."""
        by_current = self._power_kw(self.max_current_a)
        return min(limit for limit in (self.max_kw, by_current, math.inf) if limit is not None)

    @property
    def smallest_kw(self) -> float:
        """Smallest charging power other than none (kW), from power and current."""
        return max(self.min_kw, self._power_kw(self.min_current_a) or 0.0)

    @property
    def unmet_price(self) -> float:
        """Price of a kilowatt-hour missing at departure (EUR/kWh): a higher priority costs more."""
        return self.unmet_price_eur_per_kwh * (1 + 0.2 * (5 - self.priority))

    def _power_kw(self, current_a: float | None) -> float | None:
        return None if current_a is None else self.phases * self.voltage_v * current_a / 1000


class EvGroup(Spec):
    """Sessions that share something: a feeder with a rating, or fewer chargers than vehicles.

    Attributes
    ----------
    sessions : tuple of str
        Ids of the sessions.
    max_kw : series or None
        Largest power that they draw together (kW).
    max_active : int or None
        Most vehicles that charge or discharge in a step.
    """

    id: AssetId
    sessions: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    max_kw: Series | None = None
    max_active: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := negative(self.id, "max_kw", self.max_kw):
            raise ProblemError(problems)
        return self
