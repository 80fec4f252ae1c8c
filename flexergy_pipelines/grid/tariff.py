"""Prices at the connection, and emissions of what is bought."""

from __future__ import annotations

from pydantic import Field

from flexergy_pipelines.grid.base import Model, NonNegative


class Tariff(Model):
    """What energy costs on top of the market price.

    Attributes
    ----------
    market_area : str
        Bidding zone of the day-ahead market.
    import_adder_eur_per_kwh : float
        Grid fees, taxes and margin on top of the spot price of energy bought [EUR/kWh].
    export_deduction_eur_per_kwh : float
        Margin that the buyer keeps of energy sold [EUR/kWh].
    demand_charge_eur_per_kw_month : float
        Price of the month's highest 15-min mean import [EUR/kW].
    billing_day : int
        Day of the month on which a billing period begins.
    """

    market_area: str = Field(min_length=2, max_length=12)
    import_adder_eur_per_kwh: float = 0.0
    export_deduction_eur_per_kwh: float = 0.0
    demand_charge_eur_per_kw_month: NonNegative = 0.0
    standing_charge_eur_per_day: NonNegative = 0.0
    billing_day: int = Field(default=1, ge=1, le=28)

    def import_price(self, spot_eur_per_kwh: float) -> float:
        """Price of a kWh bought when the market is at `spot_eur_per_kwh` [EUR/kWh]."""
        return spot_eur_per_kwh + self.import_adder_eur_per_kwh

    def export_price(self, spot_eur_per_kwh: float) -> float:
        """Price of a kWh sold when the market is at `spot_eur_per_kwh` [EUR/kWh]."""
        return spot_eur_per_kwh - self.export_deduction_eur_per_kwh


class Emissions(Model):
    """Carbon dioxide of a kWh bought from the public grid [kg/kWh]."""

    grid_kg_per_kwh: NonNegative = 0.3
