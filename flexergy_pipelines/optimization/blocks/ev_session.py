"""A vehicle's stay: energy from arrival to departure, within what vehicle and charge point can do."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.series import expand
from flexergy_pipelines.optimization.specs_ev import EvSession


def add_ev_session(board: Board, session: EvSession) -> None:
    """Contribute one charging session; energy missing at departure is priced by priority and SoC, and named."""
    name = session.id
    plugged = (expand(session.connected, board.steps) > 0.5).astype(np.float64)
    stay = np.flatnonzero(plugged)
    if stay.size == 0:
        board.output(name, "active_power_kw", lambda _: np.zeros(board.steps))
        return
    charge = board.variable(name, "charge_kw", f"charging of {name}", upper=session.max_kw * plugged)
    start_kwh = session.soc_start * session.capacity_kwh
    energy = board.variable(
        name, "energy_kwh", f"energy in the vehicle at {name}", upper=max(session.capacity_kwh, start_kwh)
    )
    flows = [
        (1.0, energy.columns),
        (-1.0, energy.before()),
        (-board.hours * session.efficiency, charge.columns),
    ]
    discharge = _add_discharge(board, session, charge, plugged)
    if discharge is not None:
        flows.append((board.hours / session.efficiency, discharge.columns))
    carried = np.zeros(board.steps)
    carried[0] = start_kwh
    board.constrain(
        name, "stored_energy", f"energy of {name} follows from charging", flows, lower=carried, upper=carried
    )
    _add_target(board, session, energy.columns[stay[-1] : stay[-1] + 1])
    if session.min_kw > 0:
        on = board.variable(name, "on", f"{name} charges", upper=plugged, integer=True)
        meaning = f"{name} charges at no less than its smallest power, or not at all"
        board.constrain(name, "min_power", meaning, [(1.0, charge.columns), (-session.min_kw, on.columns)], lower=0.0)
        board.constrain(name, "max_power", meaning, [(1.0, charge.columns), (-session.max_kw, on.columns)], upper=0.0)
    board.inject(charge.columns, -1.0)
    board.demand_max = board.demand_max + session.max_kw * plugged

    def power(x: np.ndarray) -> np.ndarray:
        back = 0.0 if discharge is None else x[discharge.columns]
        return x[charge.columns] - back

    board.output(name, "active_power_kw", power)
    board.output(name, "soc", lambda x: np.concatenate([[start_kwh], x[energy.columns]]) / session.capacity_kwh)


def _add_discharge(board: Board, session: EvSession, charge: Variable, plugged: np.ndarray) -> Variable | None:
    if session.max_discharge_kw == 0:
        return None
    name = session.id
    largest = session.max_discharge_kw * plugged
    discharge = board.variable(name, "discharge_kw", f"{name} gives power back", upper=largest)
    board.inject(discharge.columns, +1.0)
    board.supply_max = board.supply_max + largest
    board.exclude(charge, discharge, charge.upper, discharge.upper, f"{name} never charges and discharges at once")
    if session.wear_cost_eur_per_kwh > 0:
        board.cost("ev_wear", discharge.columns, session.wear_cost_eur_per_kwh * board.hours)
    return discharge


def _add_target(board: Board, session: EvSession, last: np.ndarray) -> None:
    name = session.id
    target = max(session.soc_target * session.capacity_kwh, 0.0)
    unmet = board.variable(name, "unmet_kwh", f"energy that {name} lacks at departure", size=1)
    board.cost("ev_unmet", unmet.columns, session.unmet_price, penalty=True)
    board.soft_limit("ev_unmet", unmet, "kWh", f"{name} leaves with less energy than asked for")
    meaning = f"energy that {name} asks for by its departure"
    board.constrain(name, "target", meaning, [(1.0, last), (1.0, unmet.columns)], lower=target)
