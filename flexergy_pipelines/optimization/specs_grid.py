"""What the planner needs to know of the point of connection: prices, tariffs, taxes, limits and charges."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import AssetId, Fraction, NonNegative, Positive, negative
from flexergy_pipelines.optimization.specs_market import DeclaredProfile


class DemandCharge(Spec):
    """A charge on the highest import (or export) of a billing period.

    Attributes
    ----------
    price_eur_per_kw : float
        Charge on a kilowatt of the period's peak.
    applies : series
        1 where the step counts for this period, 0 where not.
    direction : {"import", "export"}
        Which flow it is charged on.
    interval_minutes : int or None
        Length of the intervals whose mean counts, a multiple of the step, from the horizon's start; None for the step.
    peak_so_far_kw : float
        Peak already reached in this period; only what goes beyond it costs more.
    bill_peak_so_far : bool
        Count the charge for the peak so far, too; otherwise only what the plan adds to it.
    """

    id: AssetId
    price_eur_per_kw: NonNegative
    applies: Series = Field(default_factory=lambda: np.ones(1))
    direction: Literal["import", "export"] = "import"
    interval_minutes: Annotated[int, Field(ge=1)] | None = None
    peak_so_far_kw: NonNegative = 0.0
    bill_peak_so_far: bool = False


class EnergyTier(Spec):
    """A tier: up to `up_to_kwh` of a period's energy (None: all further) each kilowatt-hour costs this."""

    up_to_kwh: Positive | None = None
    price_eur_per_kwh: float


class TieredTariff(Spec):
    """A price of imported energy by how much was imported in the billing period, on top of the import price.

    Attributes
    ----------
    tiers : tuple of EnergyTier
        In the order in which they fill; the last without an end. Prices may rise or fall.
    applies : series
        1 where the step belongs to this period, 0 where not.
    used_so_far_kwh : float
        Energy imported in the period before the horizon.
    """

    id: AssetId
    tiers: Annotated[tuple[EnergyTier, ...], Field(strict=False, min_length=1)]
    applies: Series = Field(default_factory=lambda: np.ones(1))
    used_so_far_kwh: NonNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        for position, tier in enumerate(self.tiers):
            last = position == len(self.tiers) - 1
            if last and tier.up_to_kwh is not None:
                problems.append(f"{self.id}: tiers[{position}].up_to_kwh {tier.up_to_kwh:g}; the last tier has no end")
            if not last and tier.up_to_kwh is None:
                problems.append(f"{self.id}: tiers[{position}].up_to_kwh is missing; only the last tier has no end")
        ends = [tier.up_to_kwh for tier in self.tiers if tier.up_to_kwh is not None]
        problems += [
            f"{self.id}: tiers: up_to_kwh {high:g} follows {low:g}; the tiers must rise"
            for low, high in pairwise(ends)
            if high <= low
        ]
        if problems:
            raise ProblemError(problems)
        return self


class GridConnection(Spec):
    """The point of connection (PCC): what may flow, and at what price.

    Attributes
    ----------
    import_price_eur_per_kwh, export_price_eur_per_kwh : series
        Paid for a kilowatt-hour imported, earned for one exported; both may be negative.
    import_tax_eur_per_kwh, export_tax_eur_per_kwh : series
        Taxes and levies on a kilowatt-hour imported and exported.
    vat : float
        Value-added tax on what import costs: price, tax, tiers and demand charges; 0.21 for 21 %.
    tiers : tuple of TieredTariff
        Prices by the energy of a billing period.
    import_limit_kw, export_limit_kw : series or None
        Limits; soft at `breach_price_eur_per_kwh`, and a breach is a named violation.
    feed_in_limit_kw : series or None
        A further limit on export, as a fixed power.
    feed_in_limit_share : float or None
        A further limit on export, as a share of the installed power (``rated_kw``) of the site's PV plants.
    export_from : {"any", "renewables", "surplus"}
        ``renewables``: export no more than what the site's sources deliver. ``surplus``: no more than what they deliver
        beyond the loads that can't be moved.
    ramp_kw_per_minute : float or None
        Fastest change of the exchange; soft, what goes beyond is named.
    power_start_kw : float or None
        Exchange before the horizon (positive import), from which the first ramp counts.
    breach_price_eur_per_kwh : float or None
        Price of a kilowatt-hour beyond a limit; None for one that no price of the problem outweighs.
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
    import_tax_eur_per_kwh: Series = Field(default_factory=lambda: np.zeros(1))
    export_tax_eur_per_kwh: Series = Field(default_factory=lambda: np.zeros(1))
    vat: Fraction = 0.0
    tiers: Annotated[tuple[TieredTariff, ...], Field(strict=False)] = ()
    import_limit_kw: Series | None = None
    export_limit_kw: Series | None = None
    feed_in_limit_kw: Series | None = None
    feed_in_limit_share: Fraction | None = None
    export_from: Literal["any", "renewables", "surplus"] = "any"
    ramp_kw_per_minute: Positive | None = None
    power_start_kw: float | None = None
    breach_price_eur_per_kwh: NonNegative | None = None
    breach_peak_price_eur_per_kw: NonNegative = 0.0
    demand_charges: Annotated[tuple[DemandCharge, ...], Field(strict=False)] = ()
    emission_kg_per_kwh: Series = Field(default_factory=lambda: np.zeros(1))
    profile: DeclaredProfile | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            *negative(self.id, "import_limit_kw", self.import_limit_kw),
            *negative(self.id, "export_limit_kw", self.export_limit_kw),
            *negative(self.id, "feed_in_limit_kw", self.feed_in_limit_kw),
        ]
        names = [part.id for part in (*self.demand_charges, *self.tiers)]
        problems += [
            f"{self.id}: {name} appears more than once among demand_charges and tiers"
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        if problems:
            raise ProblemError(problems)
        return self
