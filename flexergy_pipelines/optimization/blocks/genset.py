"""Gensets: off, or running between minimum and maximum power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flexergy_pipelines.optimization.blocks.commitment import add_min_down, add_min_up, add_starts, steps_of
from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import Genset


@dataclass(frozen=True, slots=True)
class GensetVariables:
    """A genset's variables that other blocks build on; `on` is None for one that needs no commitment."""

    genset: Genset
    power: Variable
    on: Variable | None


def add_genset(board: Board, genset: Genset, *, carbon_price_eur_per_kg: float) -> GensetVariables:
    """Contribute one genset.

    Parameters
    ----------
    carbon_price_eur_per_kg : float
        Price of its emission.
    """
    name = genset.id
    available = (expand(genset.available, board.steps) > 0.5).astype(np.float64)
    power = board.variable(name, "power_kw", f"power of {name}", upper=genset.max_kw * available)
    board.inject(power.columns, +1.0)
    board.supply_max = board.supply_max + genset.max_kw * available
    board.cost("fuel", power.columns, genset.fuel_cost_eur_per_kwh * board.hours)
    if genset.emission_kg_per_kwh * carbon_price_eur_per_kg > 0:
        emission = genset.emission_kg_per_kwh * carbon_price_eur_per_kg * board.hours
        board.cost("emission", power.columns, emission)
    board.output(name, "active_power_kw", lambda x: x[power.columns])
    board.output(name, "active_power_setpoint_kw", lambda x: x[power.columns])
    if not _needs_commitment(genset):
        return GensetVariables(genset, power, None)
    lower, upper = _state_bounds(board, genset, available)
    on = board.variable(name, "on", f"{name} runs", lower=lower, upper=upper, integer=True)
    board.constrain(
        name,
        "max_power",
        f"{name} delivers only while it runs, at most its maximum",
        [(1.0, power.columns), (-genset.max_kw, on.columns)],
        upper=0.0,
    )
    if genset.min_kw > 0:
        board.constrain(
            name,
            "min_power",
            f"lowest power of {name} while it runs",
            [(1.0, power.columns), (-genset.min_kw, on.columns)],
            lower=0.0,
        )
    if genset.running_cost_eur_per_h > 0:
        board.cost("genset_running", on.columns, genset.running_cost_eur_per_h * board.hours)
    start, stop = add_starts(board, on, on_before=genset.running_at_start)
    if genset.start_cost_eur > 0:
        board.cost("genset_start", start.columns, genset.start_cost_eur)
    add_min_up(board, on, start, genset.min_up_minutes)
    add_min_down(board, on, stop, genset.min_down_minutes)
    _add_ramp(board, genset, power, start, stop)
    board.output(name, "running", lambda x: np.round(x[on.columns]))
    return GensetVariables(genset, power, on)


def _needs_commitment(genset: Genset) -> bool:
    return bool(
        genset.min_kw > 0
        or genset.start_cost_eur > 0
        or genset.running_cost_eur_per_h > 0
        or genset.min_up_minutes
        or genset.min_down_minutes
    )


def _state_bounds(board: Board, genset: Genset, available: FloatArray) -> tuple[FloatArray, FloatArray]:
    """States that are still forced by what the genset did before the horizon; a fault overrides a forced run."""
    lower, upper = np.zeros(board.steps), available.copy()
    if genset.running_at_start:
        forced = steps_of(max(genset.min_up_minutes - genset.minutes_in_state, 0), board.hours)
        lower[:forced] = available[:forced]
        # A unit that fails can't be held on; nor, to keep the minimum run, be started just before it fails.
        lower = np.minimum(lower, np.minimum.accumulate(available))
    else:
        forced = steps_of(max(genset.min_down_minutes - genset.minutes_in_state, 0), board.hours)
        upper[:forced] = 0.0
    return lower, upper


def _add_ramp(board: Board, genset: Genset, power: Variable, start: Variable, stop: Variable) -> None:
    if genset.ramp_kw_per_minute is None:
        return
    ramp = genset.ramp_kw_per_minute * 60 * board.hours
    if ramp >= genset.max_kw:
        return
    inside = slice(1, None)
    change = [(1.0, power.columns[inside]), (-1.0, power.before()[inside])]
    jump = max(genset.max_kw - ramp, 0.0)
    board.constrain(
        genset.id,
        "ramp_up",
        f"fastest rise of {genset.id}",
        [*change, (-jump, start.columns[inside])],
        upper=ramp,
    )
    board.constrain(
        genset.id,
        "ramp_down",
        f"fastest fall of {genset.id}",
        [*change, (jump, stop.columns[inside])],
        lower=-ramp,
    )
