"""What the planner needs to know of consumption: fixed, curtailable in steps, and free to move within a window."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import AssetId, NonNegative, Positive, negative


class Load(Spec):
    """Consumption that can't be moved; shedding it is the last resort and a named violation.

    Attributes
    ----------
    power_kw : series
        Active power it takes (kW).
    reactive_kvar : series
        Reactive power it takes (kvar), for a problem with reactive support.
    """

    id: AssetId
    power_kw: Series
    reactive_kvar: Series = Field(default_factory=lambda: np.zeros(1))

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
    priority : int
        1 is curtailed last, 9 first; it scales the price of curtailment, see :attr:`curtailment_price`.
    steps : tuple of float
        Shares of `power_kw` that can be switched off, ascending, each in (0, 1].
    curtailment_cost_eur_per_kwh : float
        Price of a kilowatt-hour not delivered, for priority 5.
    min_minutes_between : int
        Shortest time from the end of a curtailment to the start of the next.
    max_curtailed_minutes : int or None
        Longest total curtailment within the horizon, reduced by the caller by what was already used.
    minutes_since_last : int
        Time since the last curtailment ended, before the horizon.
    recovery_share : float
        Rebound: of each curtailed kilowatt-hour this share is drawn again, evenly over the `recovery_minutes` after it;
        above 1 where catching up takes more than was saved. What falls behind the horizon's end is priced at the mean
        import price.
    recovery_minutes : int
        Time over which the rebound is drawn.
    """

    id: AssetId
    power_kw: Series
    rated_kw: NonNegative | None = None
    priority: Annotated[int, Field(ge=1, le=9)] = 5
    steps: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(strict=False)] = (1.0,)
    curtailment_cost_eur_per_kwh: NonNegative = 0.0
    min_minutes_between: Annotated[int, Field(ge=0)] = 0
    max_curtailed_minutes: Annotated[int, Field(ge=0)] | None = None
    minutes_since_last: Annotated[int, Field(ge=0)] = 1_000_000
    recovery_share: Annotated[float, Field(ge=0, le=2)] = 0.0
    recovery_minutes: Annotated[int, Field(ge=1)] = 60

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = negative(self.id, "power_kw", self.power_kw)
        if list(self.steps) != sorted(set(self.steps)):
            problems.append(f"{self.id}: steps {list(self.steps)} must ascend, each once")
        if problems:
            raise ProblemError(problems)
        return self

    @property
    def curtailment_price(self) -> float:
        """Price of a kilowatt-hour not delivered (EUR/kWh): ``price * (1 + 0.2 * (5 - priority))``."""
        return self.curtailment_cost_eur_per_kwh * (1 + 0.2 * (5 - self.priority))


class ShiftableLoad(Spec):
    """A load that must get its energy, but not at a given time: a pump, a heater, a washing programme.

    Attributes
    ----------
    power_kw : float
        Power while it runs (kW); ignored with a profile.
    min_power_kw : float or None
        Smallest power while it runs; None for a load that runs at `power_kw` or not at all.
    energy_kwh : float
        Energy to be drawn within the window. A load of one power runs for the whole steps that cover it.
    profile_kw : tuple of float
        A programme in place of power and energy: the power of each step from a start on; it is started `runs` times.
    runs : int
        Runs of the programme.
    allowed : series
        1 in the steps of the window, 0 elsewhere.
    min_run_minutes : int
        Shortest run once started.
    max_starts : int or None
        Most starts in the horizon; 1 for a load that runs in one piece.
    unmet_price_eur_per_kwh : float or None
        Price of a kilowatt-hour not drawn by the end; None for one that no price of the problem outweighs. What is
        missing is named.
    """

    id: AssetId
    power_kw: NonNegative = 0.0
    min_power_kw: NonNegative | None = None
    energy_kwh: NonNegative = 0.0
    profile_kw: Annotated[tuple[NonNegative, ...], Field(strict=False)] = ()
    runs: Annotated[int, Field(ge=0)] = 1
    allowed: Series = Field(default_factory=lambda: np.ones(1))
    min_run_minutes: Annotated[int, Field(ge=0)] = 0
    max_starts: Annotated[int, Field(ge=0)] | None = None
    unmet_price_eur_per_kwh: Positive | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        if not self.profile_kw and self.energy_kwh > 0 and self.power_kw <= 0:
            problems.append(f"{self.id}: power_kw {self.power_kw:g} must be above 0, or give a profile_kw")
        if self.min_power_kw is not None and self.min_power_kw > self.power_kw:
            problems.append(f"{self.id}: min_power_kw {self.min_power_kw:g} is above power_kw {self.power_kw:g}")
        if self.profile_kw and (self.energy_kwh > 0 or self.power_kw > 0):
            problems.append(f"{self.id}: give profile_kw, or power_kw and energy_kwh, not both")
        if problems:
            raise ProblemError(problems)
        return self
