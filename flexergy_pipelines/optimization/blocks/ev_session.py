"""A vehicle's stay: energy from arrival to departure, within what vehicle and charge point can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flexergy_pipelines.optimization.blocks.pieces import Terms
from flexergy_pipelines.optimization.board import Board, IndexArray, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs_ev import EvGroup, EvSession


@dataclass(frozen=True, slots=True)
class EvVariables:
    """A session's variables that other blocks build on; `on` is None where the session has no smallest power."""

    session: EvSession
    plugged: FloatArray
    charge: Variable
    discharge: Variable | None
    on: Variable | None


def add_ev_session(board: Board, session: EvSession) -> EvVariables | None:
    """Contribute one charging session; energy missing at departure is priced by priority, and named."""
    name, largest = session.id, session.largest_kw
    plugged = (expand(session.connected, board.steps) > 0.5).astype(np.float64)
    stay = np.flatnonzero(plugged)
    if stay.size == 0:
        board.output(name, "active_power_kw", lambda _: np.zeros(board.steps))
        board.output(name, "soc", lambda _: np.full(board.steps + 1, session.soc_start))
        return None
    charge = board.variable(name, "charge_kw", f"charging of {name}", upper=largest * plugged)
    discharge = _add_discharge(board, session, charge, plugged)
    start_kwh = session.soc_start * session.capacity_kwh
    if discharge is None:
        _add_sum(board, session, charge)
        gained = session.efficiency * board.hours

        def energy(x: np.ndarray) -> np.ndarray:
            return start_kwh + np.concatenate([[0.0], np.cumsum(x[charge.columns])]) * gained
    else:
        stored = _add_energy(board, session, charge, discharge, last=int(stay[-1]))

        def energy(x: np.ndarray) -> np.ndarray:
            return np.concatenate([[start_kwh], x[stored.columns]])

    on = None
    if session.smallest_kw > 0:
        on = board.variable(
            name,
            "on",
            f"{name} charges",
            upper=plugged,
            integer=True,
            safe=_at_once(session, plugged, largest, board.hours),
            rounded=lambda x: _charged(session, plugged, x[charge.columns], board.hours),
        )
        _suggest_steps(board, on, plugged)
        meaning = f"{name} charges at no less than its smallest power, or not at all"
        least: Terms = [(1.0, charge.columns), (-session.smallest_kw, on.columns)]
        board.constrain(name, "min_power", meaning, least, lower=0.0)
        board.constrain(name, "max_power", meaning, [(1.0, charge.columns), (-largest, on.columns)], upper=0.0)
    board.inject(charge.columns, -1.0)
    board.demand_max = board.demand_max + largest * plugged

    def power(x: np.ndarray) -> np.ndarray:
        back = 0.0 if discharge is None else x[discharge.columns]
        return x[charge.columns] - back

    board.output(name, "active_power_kw", power)
    board.output(name, "soc", lambda x: energy(x) / session.capacity_kwh)
    return EvVariables(session, plugged, charge, discharge, on)


def _at_once(session: EvSession, plugged: FloatArray, largest_kw: FloatArray | float, hours: float) -> FloatArray:
    """The steps in which a vehicle charges that is charged as soon as it is there, as fast as it can."""
    missing = max(session.soc_target - session.soc_start, 0.0) * session.capacity_kwh
    room = max(1.0 - session.soc_start, 0.0) * session.capacity_kwh
    gained = session.efficiency * hours
    fastest = float(np.max(largest_kw)) * gained
    steps = int(np.ceil(round(missing / fastest, 9))) if fastest > 0 else 0
    if session.smallest_kw > 0:
        steps = min(steps, int(room / (session.smallest_kw * gained) + 1e-9))
    chosen = np.zeros(plugged.size)
    chosen[np.flatnonzero(plugged)[:steps]] = 1.0
    return chosen


def _charged(session: EvSession, plugged: FloatArray, wanted_kw: FloatArray, hours: float) -> FloatArray:
    """The steps in which a vehicle charges that is to get the energy of `wanted_kw` at no less than its smallest power.

    Those with the most power come first; as many as can hold the energy, and no more than the smallest power allows.
    """
    energy, gained = float(wanted_kw.sum()), session.efficiency * hours
    room = max(1.0 - session.soc_start, 0.0) * session.capacity_kwh / gained
    least = int(np.ceil(round(energy / session.largest_kw, 6))) if session.largest_kw > 0 else 0
    most = int(room / session.smallest_kw + 1e-9)
    count = int((wanted_kw >= session.smallest_kw / 2).sum())
    count = min(max(count, least), most, int(plugged.sum()))
    chosen = np.zeros(plugged.size)
    chosen[np.argsort(-(wanted_kw + plugged), kind="stable")[:count]] = 1.0
    return chosen * plugged


def _suggest_steps(board: Board, on: Variable, plugged: FloatArray) -> None:
    """A vehicle may charge in one step more, one fewer, or one for another."""

    def moves(x: FloatArray, price: FloatArray) -> Iterator[tuple[IndexArray, FloatArray]]:
        charging = x[on.columns] > 0.5
        ends, begins = np.flatnonzero(charging), np.flatnonzero(~charging & (plugged > 0.5))
        dearest = ends[np.argsort(-price[on.columns[ends]], kind="stable")][:1]
        cheapest = begins[np.argsort(price[on.columns[begins]], kind="stable")][:1]
        for stopped, started in ((dearest, cheapest), (dearest, cheapest[:0]), (dearest[:0], cheapest)):
            changed = np.concatenate([stopped, started])
            if changed.size:
                yield on.columns[changed], np.repeat([0.0, 1.0], [stopped.size, started.size])

    board.suggest(moves)


def _add_sum(board: Board, session: EvSession, charge: Variable) -> None:
    """The energy of a vehicle that only charges: it rises all the time, so that its sum says everything."""
    name = session.id
    room = max(session.capacity_kwh * (1 - session.soc_start), 0.0)
    gained: Terms = [(session.efficiency * board.hours, charge.columns)]
    board.constrain_sum(name, "room", f"room in the vehicle at {name}", gained, upper=room)
    missing = (session.soc_target - session.soc_start) * session.capacity_kwh
    unmet = _add_unmet(board, session)
    meaning = f"energy that {name} asks for by its departure"
    board.constrain_sum(name, "target", meaning, [*gained, (1.0, unmet.columns)], lower=missing)


def _add_energy(board: Board, session: EvSession, charge: Variable, discharge: Variable, *, last: int) -> Variable:
    """The energy of a vehicle that also gives back, step by step."""
    name = session.id
    start_kwh = session.soc_start * session.capacity_kwh
    reserve = min(session.soc_reserve, session.soc_start) * session.capacity_kwh
    energy = board.variable(
        name,
        "energy_kwh",
        f"energy in the vehicle at {name}",
        lower=reserve,
        upper=max(session.capacity_kwh, start_kwh),
    )
    back = session.efficiency if session.discharge_efficiency is None else session.discharge_efficiency
    flows: Terms = [
        (1.0, energy.columns),
        (-1.0, energy.before()),
        (-board.hours * session.efficiency, charge.columns),
        (board.hours / back, discharge.columns),
    ]
    carried = np.zeros(board.steps)
    carried[0] = start_kwh
    meaning = f"energy of {name} follows from charging"
    board.constrain(name, "stored_energy", meaning, flows, lower=carried, upper=carried)
    unmet = _add_unmet(board, session)
    target = session.soc_target * session.capacity_kwh
    meaning = f"energy that {name} asks for by its departure"
    asked: Terms = [(1.0, energy.columns[last : last + 1]), (1.0, unmet.columns)]
    board.constrain(name, "target", meaning, asked, lower=target)
    return energy


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


def _add_unmet(board: Board, session: EvSession) -> Variable:
    """Energy missing at departure, priced by priority and named."""
    name = session.id
    unmet = board.variable(name, "unmet_kwh", f"energy that {name} lacks at departure", size=1)
    board.cost("ev_unmet", unmet.columns, session.unmet_price, penalty=True)
    # Where cost leaves the choice, the vehicle with the lower SoC goes first.
    board.prefer(unmet.columns, 2.0 - session.soc_start)
    board.soft_limit("ev_unmet", unmet, "kWh", f"{name} leaves with less energy than asked for")
    return unmet


def add_ev_group(board: Board, group: EvGroup, sessions: Sequence[EvVariables]) -> None:
    """Contribute what sessions share: the power of a feeder, and the number of chargers."""
    members = [member for member in sessions if member.session.id in set(group.sessions)]
    if not members:
        return
    if group.max_kw is not None:
        drawn: Terms = [(1.0, member.charge.columns) for member in members]
        drawn += [(-1.0, member.discharge.columns) for member in members if member.discharge is not None]
        meaning = f"power that the vehicles of {group.id} draw together"
        board.constrain(group.id, "max_power", meaning, drawn, upper=expand(group.max_kw, board.steps))
    if group.max_active is None or group.max_active >= len(members):
        return
    active = []
    taken = np.zeros(board.steps)
    for member in members:
        name = member.session.id
        chosen = _among(board, member, taken, group.max_active)
        taken = taken + chosen
        used = board.variable(
            f"{group.id}@{name}", "active", f"{name} uses a charger", upper=member.plugged, integer=True, safe=chosen
        )
        active.append(used)
        meaning = f"{name} charges only at a charger of {group.id}"
        largest = -member.session.largest_kw
        charging: Terms = [(1.0, member.charge.columns), (largest, used.columns)]
        board.constrain(f"{group.id}@{name}", "charge", meaning, charging, upper=0.0)
        if member.discharge is not None:
            back: Terms = [(1.0, member.discharge.columns), (-member.session.max_discharge_kw, used.columns)]
            board.constrain(f"{group.id}@{name}", "discharge", meaning, back, upper=0.0)
    board.constrain(
        group.id,
        "max_active",
        f"vehicles of {group.id} that charge at once",
        [(1.0, used.columns) for used in active],
        upper=float(group.max_active),
    )


def _among(board: Board, member: EvVariables, taken: FloatArray, most: int) -> FloatArray:
    """Steps in which a vehicle finds a charger when those before it in the group go first."""
    session = member.session
    if member.on is None:
        wanted = _at_once(session, member.plugged, session.largest_kw, board.hours)
        return np.where(taken < most, wanted, 0.0)
    # Which of the members are active is one decision for all: none rounds for itself.
    place = next(k for k, variable in enumerate(board.variables) if variable.name == member.on.name)
    known = board.variables[place]
    chosen = np.where(taken < most, member.on.lower if known.safe is None else known.safe, 0.0)
    board.variables[place] = replace(known, safe=chosen, rounded=None)
    return chosen
