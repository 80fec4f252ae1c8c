"""What one window leaves to the next: energy stored, units running, and what was used of every allowance."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import Battery, ControllableLoad, Genset, GridConnection, ShiftableLoad
from flexergy_pipelines.optimization.specs_ev import EvSession
from flexergy_pipelines.optimization.specs_market import Service


def carried(problem: Problem, kept: Plan) -> Problem:
    """The problem with the state that the kept part of a window's plan left behind."""
    grid = problem.grid
    return problem.model_copy(
        update={
            "batteries": tuple(_battery(battery, kept) for battery in problem.batteries),
            "gensets": tuple(_genset(genset, kept) for genset in problem.gensets),
            "controllable_loads": tuple(_controllable(load, kept) for load in problem.controllable_loads),
            "shiftable_loads": tuple(_shiftable(load, kept) for load in problem.shiftable_loads),
            "ev_sessions": tuple(_vehicle(session, kept) for session in problem.ev_sessions),
            "services": tuple(_service(service, problem, kept) for service in problem.services),
            "grid": None if grid is None else _grid(grid, problem, kept),
        }
    )


def _battery(battery: Battery, kept: Plan) -> Battery:
    changed: dict[str, Any] = {
        "soc_start": min(max(kept.final_state.get(f"{battery.id}.soc", battery.soc_start), 0.0), 1.0),
        "terminal_soc": battery.terminal_soc if battery.terminal_soc is not None else battery.soc_start,
    }
    power = kept.column(battery.id, "active_power_kw")
    if battery.ramp_kw_per_minute is not None:
        changed["power_start_kw"] = float(power[-1])
    if battery.max_cycles_per_day is not None and battery.energy_capacity_kwh > 0:
        changed["cycles_today"] = _cycles_today(battery, kept, power)
    return battery.model_copy(update=changed)


def _cycles_today(battery: Battery, kept: Plan, power: FloatArray) -> float:
    """Cycles of the calendar day in which the next window begins (0 when it begins with a day)."""
    offset = kept.horizon.start.tzinfo
    midnight = kept.horizon.end.astimezone(offset).replace(hour=0, minute=0, second=0, microsecond=0)
    hours = kept.horizon.hours
    today = round((kept.horizon.end - midnight) / timedelta(hours=hours))
    discharged = float(np.maximum(power[power.size - min(today, power.size) :], 0.0).sum()) * hours
    before = battery.cycles_today if today > power.size else 0.0
    return before + discharged / battery.energy_capacity_kwh


def _genset(genset: Genset, kept: Plan) -> Genset:
    power = kept.column(genset.id, "active_power_kw")
    hours = kept.horizon.hours
    changed: dict[str, Any] = {}
    if genset.ramp_kw_per_minute is not None or genset.stop_kw is not None:
        changed["power_start_kw"] = float(power[-1])
    if genset.max_energy_kwh is not None:
        changed["max_energy_kwh"] = max(genset.max_energy_kwh - float(power.sum()) * hours, 0.0)
    if genset.tank_l is not None:
        litres = float(kept.column(genset.id, "fuel_l_per_h").sum()) * hours
        changed["tank_l"] = max(genset.tank_l - litres, 0.0)
    if f"{genset.id}.running" in kept.schedule.columns:
        running = kept.column(genset.id, "running") > 0.5
        same = np.flatnonzero(running != running[-1])
        steps = running.size - (int(same[-1]) + 1 if same.size else 0)
        minutes = steps * kept.horizon.step_minutes
        if not same.size and bool(running[-1]) == genset.running_at_start:
            minutes += genset.minutes_in_state
        changed |= {"running_at_start": bool(running[-1]), "minutes_in_state": minutes}
        if genset.max_starts is not None:
            was = np.concatenate([[genset.running_at_start], running[:-1]])
            changed["max_starts"] = max(genset.max_starts - int((running & ~was).sum()), 0)
    return genset.model_copy(update=changed)


def _controllable(load: ControllableLoad, kept: Plan) -> ControllableLoad:
    name = f"{load.id}.curtailed_share"
    if name not in kept.schedule.columns:
        return load
    off = kept.schedule[name].to_numpy() > 1e-6
    minutes = kept.horizon.step_minutes
    changed: dict[str, Any] = {}
    if load.max_curtailed_minutes is not None:
        changed["max_curtailed_minutes"] = max(load.max_curtailed_minutes - int(off.sum()) * minutes, 0)
    last = np.flatnonzero(off)
    since = load.minutes_since_last + off.size * minutes if not last.size else (off.size - 1 - int(last[-1])) * minutes
    changed["minutes_since_last"] = since
    return load.model_copy(update=changed)


def _shiftable(load: ShiftableLoad, kept: Plan) -> ShiftableLoad:
    drawn = float(kept.column(load.id, "active_power_kw").sum()) * kept.horizon.hours
    if load.profile_kw:
        done = round(drawn / max(sum(load.profile_kw) * kept.horizon.hours, 1e-12))
        return load.model_copy(update={"runs": max(load.runs - done, 0)})
    return load.model_copy(update={"energy_kwh": max(load.energy_kwh - drawn, 0.0)})


def _vehicle(session: EvSession, kept: Plan) -> EvSession:
    soc = kept.final_state.get(f"{session.id}.soc")
    return session if soc is None else session.model_copy(update={"soc_start": min(max(soc, 0.0), 1.0)})


def _service(service: Service, problem: Problem, kept: Plan) -> Service:
    """A block that the window before began is sold: its bid holds to the block's end."""
    step, steps = timedelta(minutes=problem.horizon.step_minutes), problem.horizon.steps
    done = round((kept.horizon.end - problem.horizon.start) / step)
    into = (service.block_offset + done) % service.block_steps
    if into == 0 or done >= steps:
        return service
    begun = slice(done, min(done + service.block_steps - into, steps))
    closed = np.array(expand(service.closed, steps))
    closed[begun] = 1.0
    changed: dict[str, Any] = {"closed": closed}
    for direction in bid_directions(service):
        sold = np.array(expand(getattr(service, f"sold_{direction}_kw"), steps))
        sold[begun] = float(kept.column(service.id, f"{direction}_bid_kw")[-1])
        changed[f"sold_{direction}_kw"] = sold
    return service.model_copy(update=changed)


def bid_directions(service: Service) -> tuple[str, ...]:
    """Directions in which a service is offered."""
    return tuple(direction for direction in ("up", "down") if getattr(service, direction))


def _grid(grid: GridConnection, problem: Problem, kept: Plan) -> GridConnection:
    exchange = kept.column(grid.id, "active_power_kw")
    first = round((kept.horizon.start - problem.horizon.start) / timedelta(minutes=problem.horizon.step_minutes))
    steps = slice(first, first + exchange.size)

    def counted(applies: FloatArray) -> FloatArray:
        chosen = applies[steps] if applies.size > 1 else np.full(exchange.size, applies[0])
        return (chosen > 0.5).astype(np.float64)

    charges = []
    for charge in grid.demand_charges:
        flow = np.maximum(exchange if charge.direction == "import" else -exchange, 0.0) * counted(charge.applies)
        length = 1 if charge.interval_minutes is None else round(charge.interval_minutes / kept.horizon.step_minutes)
        means = [float(flow[k : k + length].mean()) for k in range(0, flow.size, max(length, 1))]
        charges.append(charge.model_copy(update={"peak_so_far_kw": max(charge.peak_so_far_kw, *means)}))
    tiers = []
    for tariff in grid.tiers:
        used = float((np.maximum(exchange, 0.0) * counted(tariff.applies)).sum()) * kept.horizon.hours
        tiers.append(tariff.model_copy(update={"used_so_far_kwh": tariff.used_so_far_kwh + used}))
    changed: dict[str, Any] = {"demand_charges": tuple(charges), "tiers": tuple(tiers)}
    if grid.ramp_kw_per_minute is not None:
        changed["power_start_kw"] = float(exchange[-1])
    return grid.model_copy(update=changed)
