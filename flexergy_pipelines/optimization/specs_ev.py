"""Electric vehicles: all of a manager's charge points as one load, or each charging session for itself."""

from __future__ import annotations

from typing import Annotated, Self

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
    max_kw : float
        Largest charging power of vehicle and charge point (kW).
    min_kw : float
        Smallest charging power other than none (kW), e.g. 6 A times the phases.
    max_discharge_kw : float
        Largest power back to the site (V2G, kW); 0 for a vehicle that only charges.
    efficiency : float
        Stored per charged, and delivered per taken from store.
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
    max_kw: NonNegative
    min_kw: NonNegative = 0.0
    max_discharge_kw: NonNegative = 0.0
    efficiency: Efficiency = 1.0
    priority: Annotated[int, Field(ge=1, le=9)] = 5
    unmet_price_eur_per_kwh: NonNegative = 5.0
    wear_cost_eur_per_kwh: NonNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_kw > self.max_kw:
            raise ProblemError([f"{self.id}: min_kw {self.min_kw:g} is above max_kw {self.max_kw:g}"])
        return self

    @property
    def unmet_price(self) -> float:
        """Price of a kilowatt-hour missing at departure (EUR/kWh): a higher priority and a lower SoC cost more."""
        return self.unmet_price_eur_per_kwh * (1 + 0.2 * (5 - self.priority)) * (1 + 0.05 * (1 - self.soc_start))
