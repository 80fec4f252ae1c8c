"""What using a battery costs in life: by throughput, by the depth of its cycles, and by time at a SoC."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.blocks.pieces import Terms
from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.specs import Battery
from flexergy_pipelines.optimization.specs_wear import CalendarWear, DepthWear

TANGENTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def add_wear(
    board: Board,
    battery: Battery,
    charge: Variable,
    discharge: Variable,
    energy: Variable,
    *,
    stored: Terms,
    taken: Terms,
    weight: float,
) -> None:
    """Price the battery's life.

    Parameters
    ----------
    stored, taken : list of (coefficient, columns)
        What charging puts into the store and discharging takes out of it (kW).
    weight : float
        The operator's weight of battery life: 0 ignores it, 1 charges the full replacement cost.
    """
    if weight <= 0 or battery.energy_capacity_kwh == 0:
        return
    if battery.depth_wear is not None:
        _add_depth(board, battery, battery.depth_wear, stored, taken, weight=weight)
    else:
        _add_throughput(board, battery, charge, discharge, weight)
    if battery.calendar_wear is not None:
        _add_calendar(board, battery, battery.calendar_wear, energy, weight)


def _add_throughput(board: Board, battery: Battery, charge: Variable, discharge: Variable, weight: float) -> None:
    """Price throughput, half on either way, so that a closed cycle costs the price of its discharged energy.

    ``cost = weight * wear_cost_eur_per_kwh * (eta_charge * eta_discharge * charged + discharged) / 2``
    """
    price = weight * battery.wear_cost_eur_per_kwh / 2 * board.hours
    if price > 0:
        round_trip = battery.charge_efficiency * battery.discharge_efficiency
        board.cost("battery_wear", charge.columns, price * round_trip)
        board.cost("battery_wear", discharge.columns, price)


def _add_depth(
    board: Board,
    battery: Battery,
    wear: DepthWear,
    stored: Terms,
    taken: Terms,
    *,
    weight: float,
) -> None:
    """Price cycles by their depth with segments of rising cost.

    The store is thought as segments of equal size. Discharging takes the cheapest that still holds energy, so the
    n-th segment is reached only by a discharge deeper than n - 1 segments since the last peak: the cost is that of
    rainflow counting, with each cycle's damage charged to its discharging half.

    References
    ----------
    Xu, Zhao, Zheng, Litvinov, Kirschen, "Factoring the cycle aging cost of batteries participating in electricity
    markets", IEEE Trans. Power Systems 33 (2018), doi 10.1109/TPWRS.2017.2733339.
    """
    name, capacity, hours = battery.id, battery.energy_capacity_kwh, board.hours
    size = capacity / wear.segments
    left = battery.soc_start * capacity
    retention = (1 - battery.self_discharge_per_day) ** (hours / 24)
    parts: list[tuple[Variable, Variable, Variable]] = []
    for number, slope in enumerate(wear.marginal_damage()):
        depth = f"cycles of {name} {number / wear.segments:.0%} to {(number + 1) / wear.segments:.0%} deep"
        held = board.variable(name, f"segment_{number}_kwh", f"energy for {depth}", upper=size)
        into = board.variable(name, f"segment_{number}_charge_kw", f"charging for {depth}")
        out = board.variable(name, f"segment_{number}_discharge_kw", f"discharging in {depth}")
        # At the start the cheap segments hold what is stored: a first discharge is as shallow as it is.
        start = min(left, size)
        left -= start
        carried = np.zeros(board.steps)
        carried[0] = retention * start
        board.constrain(
            name,
            f"segment_{number}",
            f"energy for {depth}",
            [
                (1.0, held.columns),
                (-retention, held.before()),
                (-retention * hours, into.columns),
                (retention * hours, out.columns),
            ],
            lower=carried,
            upper=carried,
        )
        # Share of life per depth, times the cost of all of it, over the energy that this depth is.
        price = weight * wear.replacement_cost_eur_per_kwh * slope
        board.cost("battery_wear", out.columns, price * hours)
        parts.append((held, into, out))
    for quantity, whole, place in (("charge", stored, 1), ("discharge", taken, 2)):
        board.constrain(
            name,
            f"segments_{quantity}",
            f"what cycles of {name} of all depths share in its {quantity}",
            [*whole, *((-1.0, part[place].columns) for part in parts)],
            lower=0.0,
            upper=0.0,
        )


def _add_calendar(board: Board, battery: Battery, wear: CalendarWear, energy: Variable, weight: float) -> None:
    """Price time by SoC: an exponential, from below by tangents (at most 1.2 % too low between them)."""
    name = battery.id
    rate = board.variable(name, "calendar_eur_per_h", f"cost of time at the SoC of {name}")
    for number, soc in enumerate(TANGENTS):
        value = wear.rate_eur_per_h(soc)
        slope = value * wear.soc_sensitivity
        board.constrain(
            name,
            f"calendar_{number}",
            f"time costs {name} more the fuller it is",
            [(1.0, rate.columns), (-slope / battery.energy_capacity_kwh, energy.columns)],
            lower=value - slope * soc,
        )
    board.cost("battery_calendar", rate.columns, weight * board.hours)
