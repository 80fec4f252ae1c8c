"""Loads that must get their energy within a window: on and off, modulating, or by a programme."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.blocks.commitment import add_min_up, add_starts, steps_of
from flexergy_pipelines.optimization.blocks.pieces import Terms
from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import ShiftableLoad

UNMET_PRICE_EUR_PER_KWH = 10.0


def add_shiftable_load(board: Board, load: ShiftableLoad) -> None:
    """Contribute one shiftable load; energy not drawn by the end is priced and named."""
    allowed = (expand(load.allowed, board.steps) > 0.5).astype(np.float64)
    if load.profile_kw:
        _add_programme(board, load, allowed)
        return
    name = load.id
    power = board.variable(name, "power_kw", f"power of {name}", upper=load.power_kw * allowed)
    board.inject(power.columns, -1.0)
    board.demand_max = board.demand_max + load.power_kw * allowed
    smallest = load.power_kw if load.min_power_kw is None else load.min_power_kw
    if smallest > 0 or load.min_run_minutes > 0 or load.max_starts is not None:
        _add_states(board, load, power, allowed, smallest)
    unmet = _add_unmet(board, load)
    # A load of one power draws whole steps: as many as cover its energy.
    most = load.energy_kwh
    if smallest == load.power_kw and load.power_kw > 0:
        most = np.ceil(round(load.energy_kwh / (load.power_kw * board.hours), 9)) * load.power_kw * board.hours
    drawn: Terms = [(board.hours, power.columns)]
    board.constrain_sum(
        name, "energy", f"energy that {name} asks for", [*drawn, (1.0, unmet.columns)], lower=load.energy_kwh
    )
    board.constrain_sum(name, "energy_most", f"energy that {name} can use", drawn, upper=float(most))
    board.output(name, "active_power_kw", lambda x: x[power.columns])


def _add_states(board: Board, load: ShiftableLoad, power: Variable, allowed: FloatArray, smallest: float) -> None:
    name = load.id
    safe = _first_run(load, allowed, smallest, board.hours)
    on = board.variable(name, "on", f"{name} runs", upper=allowed, integer=True, safe=safe)
    if smallest == load.power_kw:
        meaning = f"{name} runs at its power or not at all"
        terms: Terms = [(1.0, power.columns), (-load.power_kw, on.columns)]
        board.constrain(name, "power_while_on", meaning, terms, lower=0.0, upper=0.0)
    else:
        meaning = f"{name} draws power only while it runs"
        board.constrain(name, "max_power", meaning, [(1.0, power.columns), (-load.power_kw, on.columns)], upper=0.0)
        board.constrain(name, "min_power", meaning, [(1.0, power.columns), (-smallest, on.columns)], lower=0.0)
    if load.min_run_minutes > 0 or load.max_starts is not None:
        start, _ = add_starts(board, on, on_before=False)
        add_min_up(board, on, start, load.min_run_minutes)
        if load.max_starts is not None:
            meaning = f"most starts of {name} in the plan"
            board.constrain_sum(name, "max_starts", meaning, [(1.0, start.columns)], upper=float(load.max_starts))


def _first_run(load: ShiftableLoad, allowed: FloatArray, smallest: float, hours: float) -> FloatArray:
    """States of the earliest single run that covers the energy; all off where no stretch is long enough."""
    chosen = np.zeros(allowed.size)
    if load.power_kw <= 0 or load.energy_kwh <= 0 or load.max_starts == 0:
        return chosen
    least = int(np.ceil(round(load.energy_kwh / (load.power_kw * hours), 9)))
    length = max(least, steps_of(load.min_run_minutes, hours), 1)
    if length > least and length * smallest * hours > load.energy_kwh + 1e-9:
        return chosen
    for first in range(allowed.size - length + 1):
        if allowed[first : first + length].all():
            chosen[first : first + length] = 1.0
            return chosen
    return chosen


def _first_starts(fits: FloatArray, length: int, runs: int) -> FloatArray:
    """Starts of a programme at the earliest times, one run after the other."""
    chosen = np.zeros(fits.size)
    free = 0
    for step in np.flatnonzero(fits):
        if step >= free and chosen.sum() < runs:
            chosen[step], free = 1.0, step + length
    return chosen


def _add_unmet(board: Board, load: ShiftableLoad) -> Variable:
    name = load.id
    unmet = board.variable(name, "unmet_kwh", f"energy that {name} asks for and doesn't get", size=1)
    price = load.unmet_price_eur_per_kwh
    price = board.dominant(UNMET_PRICE_EUR_PER_KWH) if price is None else price
    board.cost("load_unmet", unmet.columns, price, penalty=True)
    board.soft_limit("load_unmet", unmet, "kWh", f"{name} gets less energy than it asks for")
    return unmet


def _add_programme(board: Board, load: ShiftableLoad, allowed: FloatArray) -> None:
    """A programme of given powers, started as often as asked, wholly within the window, one run after the other."""
    name, length = load.id, len(load.profile_kw)
    profile = np.array(load.profile_kw)
    fits = np.array(
        [t + length <= board.steps and bool(allowed[t : t + length].all()) for t in range(board.steps)],
        dtype=np.float64,
    )
    safe = _first_starts(fits, length, load.runs)
    start = board.variable(name, "start", f"{name} starts its programme", upper=fits, integer=True, safe=safe)
    running: Terms = [(1.0, start.before(lag)) for lag in range(length)]
    board.constrain(name, "one_run", f"{name} runs one programme at a time", running, upper=1.0)
    power = board.variable(name, "power_kw", f"power of {name}", upper=profile.max() * allowed)
    terms: Terms = [(1.0, power.columns)]
    terms += [(-float(profile[lag]), start.before(lag)) for lag in range(length)]
    meaning = f"power of {name} follows its programme"
    board.constrain(name, "programme", meaning, terms, lower=0.0, upper=0.0)
    unmet = _add_unmet(board, load)
    energy = float(profile.sum()) * board.hours
    asked = load.runs * energy
    runs: Terms = [(energy, start.columns)]
    board.constrain_sum(name, "energy", f"runs that {name} asks for", [*runs, (1.0, unmet.columns)], lower=asked)
    board.constrain_sum(name, "energy_most", f"runs that {name} can use", runs, upper=asked)
    board.inject(power.columns, -1.0)
    board.demand_max = board.demand_max + profile.max() * allowed
    board.output(name, "active_power_kw", lambda x: x[power.columns])
