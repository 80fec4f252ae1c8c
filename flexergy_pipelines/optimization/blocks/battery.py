"""Energy storage: charge and discharge apart, each with its efficiency, and the stored energy between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flexergy_pipelines.optimization.blocks.wear import add_wear
from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import Battery

SOC_WINDOW_PRICE_EUR_PER_KWH_H = 50.0


@dataclass(frozen=True, slots=True)
class BatteryVariables:
    """A battery's variables that other blocks build on.

    Attributes
    ----------
    below, above : Variable or None
        Energy outside the SoC window (kWh), where that can occur.
    activated : Variable or None
        Energy that services are expected to put into the store in a step (kWh, negative taken out).
    """

    battery: Battery
    charge: Variable
    discharge: Variable
    energy: Variable
    below: Variable | None
    above: Variable | None
    activated: Variable | None


def add_battery(board: Board, battery: Battery, *, wear_weight: float, serves: bool = False) -> BatteryVariables:
    """Contribute one battery.

    Stored energy at the end of step t (kWh), with ``r`` the share that is left after a step of self-discharge:
    ``e[t] = r * (e[t-1] + dt * (eta_charge * charge[t] - discharge[t] / eta_discharge))``.

    Parameters
    ----------
    wear_weight : float
        Operator's weight of battery life, see :func:`~flexergy_pipelines.optimization.blocks.wear.add_wear`.
    serves : bool
        Whether services may call energy from it.
    """
    name, capacity = battery.id, battery.energy_capacity_kwh
    charge_max, charge_min, discharge_max, discharge_min = _power_limits(board, battery)
    charge = board.variable(name, "charge_kw", f"charging of {name}", lower=charge_min, upper=charge_max)
    discharge = board.variable(name, "discharge_kw", f"discharging of {name}", lower=discharge_min, upper=discharge_max)
    retention = (1 - battery.self_discharge_per_day) ** (board.hours / 24)
    energy, below, above = _stored_energy(board, battery, retention)
    start_kwh = battery.soc_start * capacity
    carried = np.zeros(board.steps)
    carried[0] = retention * start_kwh
    flows = [
        (1.0, energy.columns),
        (-retention, energy.before()),
        (-retention * board.hours * battery.charge_efficiency, charge.columns),
        (retention * board.hours / battery.discharge_efficiency, discharge.columns),
    ]
    activated = None
    if serves:
        activated = board.variable(
            name, "activated_kwh", f"energy that services are expected to put into {name}", lower=-np.inf
        )
        flows.append((-retention, activated.columns))
    board.constrain(
        name,
        "stored_energy",
        f"energy stored in {name} follows from what is charged and discharged",
        flows,
        lower=carried,
        upper=carried,
    )
    board.inject(charge.columns, -1.0)
    board.inject(discharge.columns, +1.0)
    board.demand_max = board.demand_max + charge_max
    board.supply_max = board.supply_max + discharge_max
    if battery.fixed_power_kw is None:
        board.exclude(charge, discharge, charge_max, discharge_max, f"{name} never charges and discharges at once")
    _add_terminal(board, battery, energy)
    _add_costs(board, battery, charge, discharge, energy)
    add_wear(board, battery, charge, discharge, energy, weight=wear_weight)
    board.output(name, "active_power_kw", lambda x: x[discharge.columns] - x[charge.columns])
    if capacity > 0:
        board.output(name, "soc", lambda x: np.concatenate([[start_kwh], x[energy.columns]]) / capacity)
    return BatteryVariables(battery, charge, discharge, energy, below, above, activated)


def _power_limits(board: Board, battery: Battery) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Upper and lower bounds of charge and discharge power (kW)."""
    if battery.fixed_power_kw is None:
        zero = np.zeros(board.steps)
        charge_max = np.array(expand(battery.max_charge_kw, board.steps))
        discharge_max = np.array(expand(battery.max_discharge_kw, board.steps))
        return charge_max, zero, discharge_max, zero
    given = expand(battery.fixed_power_kw, board.steps)
    charge, discharge = np.maximum(-given, 0.0), np.maximum(given, 0.0)
    return charge, charge, discharge, discharge


def _stored_energy(
    board: Board, battery: Battery, retention: float
) -> tuple[Variable, Variable | None, Variable | None]:
    """Stored energy at the end of each step, and what of it lies below or above the SoC window where that may be."""
    name, capacity = battery.id, battery.energy_capacity_kwh
    low, high = battery.soc_min * capacity, battery.soc_max * capacity
    inside = battery.soc_min <= battery.soc_start <= battery.soc_max
    if inside and retention == 1.0 and battery.fixed_power_kw is None:
        return board.variable(name, "energy_kwh", f"energy stored in {name}", lower=low, upper=high), None, None
    energy = board.variable(name, "energy_kwh", f"energy stored in {name}", lower=-np.inf)
    below = board.variable(name, "below_window_kwh", f"energy that {name} lacks to its lowest allowed SoC")
    above = board.variable(name, "above_window_kwh", f"energy that {name} holds above its highest allowed SoC")
    board.constrain(name, "soc_min", f"lowest SoC of {name}", [(1.0, energy.columns), (1.0, below.columns)], lower=low)
    board.constrain(
        name, "soc_max", f"highest SoC of {name}", [(1.0, energy.columns), (-1.0, above.columns)], upper=high
    )
    for slack, code in ((below, "soc_below_minimum"), (above, "soc_above_maximum")):
        board.cost("violations", slack.columns, SOC_WINDOW_PRICE_EUR_PER_KWH_H * board.hours, penalty=True)
        board.soft_limit(code, slack, "kWh", f"{name} outside its SoC window; the plan returns into it")
    return energy, below, above


def _add_terminal(board: Board, battery: Battery, energy: Variable) -> None:
    """Ask for a SoC at the end, softly."""
    if battery.terminal == "free" or battery.energy_capacity_kwh == 0:
        return
    name = battery.id
    asked = battery.soc_start if battery.terminal_soc is None else battery.terminal_soc
    target = min(max(asked, battery.soc_min), battery.soc_max) * battery.energy_capacity_kwh
    last = energy.columns[-1:]
    short = board.variable(name, "terminal_short_kwh", f"energy missing in {name} at the end", size=1)
    board.cost("terminal_soc", short.columns, battery.terminal_price_eur_per_kwh, penalty=True)
    board.soft_limit("terminal_soc", short, "kWh", f"{name} ends with less energy than asked for")
    meaning = f"SoC asked of {name} at the end of the plan"
    if battery.terminal == "at_least":
        board.constrain(name, "terminal_soc", meaning, [(1.0, last), (1.0, short.columns)], lower=target)
        return
    excess = board.variable(name, "terminal_excess_kwh", f"energy in {name} at the end beyond what was asked", size=1)
    board.cost("terminal_soc", excess.columns, battery.terminal_price_eur_per_kwh, penalty=True)
    board.soft_limit("terminal_soc", excess, "kWh", f"{name} ends with more energy than asked for")
    terms = [(1.0, last), (1.0, short.columns), (-1.0, excess.columns)]
    board.constrain(name, "terminal_soc", meaning, terms, lower=target, upper=target)


def _add_costs(board: Board, battery: Battery, charge: Variable, discharge: Variable, energy: Variable) -> None:
    charge_cost = expand(battery.charge_cost_eur_per_kwh, board.steps)
    discharge_cost = expand(battery.discharge_cost_eur_per_kwh, board.steps)
    if charge_cost.any():
        board.cost("battery_operation", charge.columns, charge_cost * board.hours)
    if discharge_cost.any():
        board.cost("battery_operation", discharge.columns, discharge_cost * board.hours)
    if battery.holding_cost_eur_per_kwh_h:
        board.cost("battery_holding", energy.columns, battery.holding_cost_eur_per_kwh_h * board.hours)
