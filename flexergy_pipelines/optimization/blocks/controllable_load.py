"""Loads that may be curtailed in steps, not too often and not for too long."""

from __future__ import annotations

import numpy as np

from flexergy_pipelines.optimization.blocks.commitment import add_starts, steps_of, within
from flexergy_pipelines.optimization.board import Board, Variable, limit_to_send
from flexergy_pipelines.optimization.series import expand
from flexergy_pipelines.optimization.specs import ControllableLoad


def add_controllable_load(board: Board, load: ControllableLoad) -> None:
    """Contribute one controllable load: in each step at most one of its curtailment steps is switched."""
    name = load.id
    wanted = np.array(expand(load.power_kw, board.steps))
    board.inject_fixed(-wanted)
    board.demand_max = board.demand_max + wanted
    if not load.steps or load.max_curtailed_minutes == 0:
        board.output(name, "active_power_kw", lambda _: wanted)
        return
    levels = [
        board.variable(name, f"curtail_{position}", f"{share:.0%} of {name} switched off", upper=1.0, integer=True)
        for position, share in enumerate(load.steps)
    ]
    for share, level in zip(load.steps, levels, strict=True):
        board.inject_scaled(level.columns, share * wanted)
        board.cost("load_curtailment", level.columns, load.curtailment_cost_eur_per_kwh * share * wanted * board.hours)
    _limit_use(board, load, levels)
    steps = load.steps

    def power(x: np.ndarray) -> np.ndarray:
        off = sum((share * np.round(x[level.columns]) for share, level in zip(steps, levels, strict=True)), 0.0)
        return wanted * (1 - off)

    board.output(name, "active_power_kw", power)
    board.output(name, "active_power_limit_kw", lambda x: limit_to_send(wanted, wanted - power(x), load.rated_kw))


def _limit_use(board: Board, load: ControllableLoad, levels: list[Variable]) -> None:
    name = load.id
    if len(levels) > 1:
        board.constrain(
            name,
            "one_step",
            f"one curtailment step of {name} at a time",
            [(1.0, level.columns) for level in levels],
            upper=1.0,
        )
    if load.max_curtailed_minutes is not None:
        board.constrain_sum(
            name,
            "longest_curtailment",
            f"longest time that {name} may be curtailed",
            [(board.hours * 60, level.columns) for level in levels],
            upper=float(load.max_curtailed_minutes),
        )
    gap = steps_of(load.min_minutes_between, board.hours)
    if gap < 1:
        return
    active = board.variable(name, "curtailed", f"{name} is curtailed", upper=1.0)
    board.constrain(
        name,
        "curtailed",
        f"{name} is curtailed while one of its steps is off",
        [(1.0, active.columns), *((-1.0, level.columns) for level in levels)],
        lower=0.0,
        upper=0.0,
    )
    start, stop = add_starts(board, active, on_before=load.minutes_since_last == 0)
    still = steps_of(max(load.min_minutes_between - load.minutes_since_last, 0), board.hours)
    if load.minutes_since_last > 0 and still:
        start.upper[:still] = 0.0
    gap = min(gap, board.steps)
    board.constrain(
        name,
        "time_between",
        f"shortest time between two curtailments of {name}",
        [(1.0, start.columns), *within(stop, gap)],
        upper=1.0,
    )
