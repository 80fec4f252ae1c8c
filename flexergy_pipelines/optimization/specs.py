"""What the planner needs to know of each asset: typed, in field terms, independent of the site file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import AssetId, NonNegative, negative
from flexergy_pipelines.optimization.specs_battery import Battery, Headroom, Investment
from flexergy_pipelines.optimization.specs_genset import FuelPoint, Genset
from flexergy_pipelines.optimization.specs_grid import DemandCharge, EnergyTier, GridConnection, TieredTariff
from flexergy_pipelines.optimization.specs_loads import ControllableLoad, Load, ShiftableLoad
from flexergy_pipelines.optimization.specs_reactive import Inverter


class Renewable(Spec):
    """A PV plant or wind turbine: power available, and whether it may be held back.

    Attributes
    ----------
    available_kw : series
        Power it could deliver (kW).
    rated_kw : float or None
        Limit to send where nothing is curtailed (kW), so that a forecast too low holds nothing back; for PV also the
        installed power that a feed-in limit is a share of.
    curtailable : bool
        Whether it may deliver less.
    curtailment_price_eur_per_kwh : float
        Price of energy not taken.
    inverter : Inverter or None
        What its inverter can give in active and reactive power together.
    """

    id: AssetId
    kind: Literal["pv", "wind"] = "pv"
    available_kw: Series
    rated_kw: NonNegative | None = None
    curtailable: bool = True
    curtailment_price_eur_per_kwh: NonNegative = 0.0
    inverter: Inverter | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problems := negative(self.id, "available_kw", self.available_kw):
            raise ProblemError(problems)
        return self


__all__ = [
    "Battery",
    "ControllableLoad",
    "DemandCharge",
    "EnergyTier",
    "FuelPoint",
    "Genset",
    "GridConnection",
    "Headroom",
    "Inverter",
    "Investment",
    "Load",
    "Renewable",
    "ShiftableLoad",
    "TieredTariff",
]
