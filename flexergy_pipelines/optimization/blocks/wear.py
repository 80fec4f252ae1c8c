"""What using a battery costs in life."""

from __future__ import annotations

from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.specs import Battery


def add_wear(board: Board, battery: Battery, charge: Variable, discharge: Variable, weight: float) -> None:
    """Price throughput, half on either way, so that a closed cycle costs the price of its discharged energy.

    ``cost = weight * wear_cost_eur_per_kwh * (eta_charge * eta_discharge * charged + discharged) / 2``

    Parameters
    ----------
    weight : float
        The operator's weight of battery life: 0 ignores it, 1 charges the full replacement cost.
    """
    price = weight * battery.wear_cost_eur_per_kwh / 2 * board.hours
    if price > 0:
        round_trip = battery.charge_efficiency * battery.discharge_efficiency
        board.cost("battery_wear", charge.columns, price * round_trip)
        board.cost("battery_wear", discharge.columns, price)
