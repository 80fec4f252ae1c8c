"""What is sold besides energy, and what was promised: services of the storage, and a declared profile."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import AssetId, Fraction, NonNegative, negative

ServiceKind = Literal["fcr", "afrr", "mfrr", "capacity", "congestion", "demand_response", "regulation"]


class Service(Spec):
    """A service that holds power of the batteries ready, up (more into the grid) or down.

    Attributes
    ----------
    kind : str
        Product; a name for reports, the numbers below say how it works.
    up_price_eur_per_kw_h, down_price_eur_per_kw_h : series
        Paid for a kilowatt held ready for an hour; 0 where a direction isn't offered.
    up, down : bool
        Directions that may be offered.
    symmetric : bool
        The same power must be offered in both directions.
    available : series
        1 where the service is bought, 0 where not.
    duration_hours : float
        For how long the whole power must be deliverable; the energy for it is held.
    activation_up, activation_down : float
        Share of the power held that is expected to be called, as energy.
    activation_price_eur_per_kwh : series or None
        Price at which called energy is settled: paid for up, taken for down; None settles nothing.
    activation_never_charges : bool
        Expected calls of a step, counted in the store and at the busbar together, take no energy in on balance; some
        market models ask for it, so that down bids are backed by up bids.
    block_steps : int
        Steps over which a bid is constant.
    block_offset : int
        Steps of the first block that lie before the horizon, where a plan begins inside a block.
    sold_up_kw, sold_down_kw : series
        Power that is already sold and has to be held; holding less is a named violation.
    closed : series
        1 where nothing more than what is sold may be bid (gate closed), 0 where bids are open.
    shortfall_price_eur_per_kwh : float
        Price of a sold kilowatt that is not held, for an hour.
    min_bid_kw, bid_step_kw : float
        Smallest bid, and the step in which bids rise; 0 for any.
    excludes : tuple of str
        Services that can't be offered in the same block.
    providers : tuple of str
        Batteries that may provide it; empty means all. A unit with a fault or a planned intervention has no power
        and provides nothing.
    """

    id: AssetId
    kind: ServiceKind = "regulation"
    up_price_eur_per_kw_h: Series = Field(default_factory=lambda: np.zeros(1))
    down_price_eur_per_kw_h: Series = Field(default_factory=lambda: np.zeros(1))
    up: bool = True
    down: bool = True
    symmetric: bool = False
    available: Series = Field(default_factory=lambda: np.ones(1))
    duration_hours: NonNegative = 1.0
    activation_up: Fraction = 0.0
    activation_down: Fraction = 0.0
    activation_price_eur_per_kwh: Series | None = None
    activation_never_charges: bool = False
    block_steps: Annotated[int, Field(ge=1)] = 1
    block_offset: Annotated[int, Field(ge=0)] = 0
    sold_up_kw: Series = Field(default_factory=lambda: np.zeros(1))
    sold_down_kw: Series = Field(default_factory=lambda: np.zeros(1))
    closed: Series = Field(default_factory=lambda: np.zeros(1))
    shortfall_price_eur_per_kwh: NonNegative = 10.0
    min_bid_kw: NonNegative = 0.0
    bid_step_kw: NonNegative = 0.0
    max_bid_kw: NonNegative | None = None
    excludes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    providers: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.up or self.down):
            raise ProblemError([f"{self.id}: offers neither up nor down; at least one must be true"])
        if self.symmetric and not (self.up and self.down):
            raise ProblemError([f"{self.id}: symmetric needs both up and down"])
        problems = [
            *negative(self.id, "sold_up_kw", self.sold_up_kw),
            *negative(self.id, "sold_down_kw", self.sold_down_kw),
        ]
        if self.block_offset >= self.block_steps:
            problems.append(f"{self.id}: block_offset {self.block_offset} must be below block_steps {self.block_steps}")
        if self.max_bid_kw is not None and self.min_bid_kw > self.max_bid_kw:
            problems.append(f"{self.id}: min_bid_kw {self.min_bid_kw:g} is above max_bid_kw {self.max_bid_kw:g}")
        if problems:
            raise ProblemError(problems)
        return self

    def blocks(self, steps: int) -> np.ndarray:
        """Number of the block that each of `steps` steps belongs to, from 0."""
        return (np.arange(steps) + self.block_offset) // self.block_steps


class Reserve(Spec):
    """Power that must stay available for what load and sources do otherwise than forecast.

    Attributes
    ----------
    up_kw, down_kw : series
        Power to be held in each step; see :func:`margin_from_quantiles`.
    duration_hours : float
        For how long it must last from the batteries' energy.
    with_gensets : bool
        Count what running gensets can still add or take off; otherwise batteries hold it alone.
    shortfall_price_eur_per_kwh : float
        Price of a kilowatt not held, for an hour; a shortfall is a named violation.
    """

    id: AssetId = "reserve"
    up_kw: Series = Field(default_factory=lambda: np.zeros(1))
    down_kw: Series = Field(default_factory=lambda: np.zeros(1))
    duration_hours: NonNegative = 0.25
    with_gensets: bool = True
    shortfall_price_eur_per_kwh: NonNegative = 20.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [*negative(self.id, "up_kw", self.up_kw), *negative(self.id, "down_kw", self.down_kw)]
        if problems:
            raise ProblemError(problems)
        return self


class DeclaredProfile(Spec):
    """What was declared to be delivered at the grid connection, and what deviating from it costs.

    Attributes
    ----------
    power_kw : series
        Declared power into the grid (kW, positive export).
    over_price_eur_per_kwh, under_price_eur_per_kwh : series
        Price of a kilowatt-hour delivered beyond, or short of, the profile and its band.
    free_band_kw : float
        Deviation that costs nothing, either way.
    """

    power_kw: Series
    over_price_eur_per_kwh: Series
    under_price_eur_per_kwh: Series
    free_band_kw: NonNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            *negative("profile", "over_price_eur_per_kwh", self.over_price_eur_per_kwh),
            *negative("profile", "under_price_eur_per_kwh", self.under_price_eur_per_kwh),
        ]
        if problems:
            raise ProblemError(problems)
        return self
