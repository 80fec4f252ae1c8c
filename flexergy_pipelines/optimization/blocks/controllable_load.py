"""Loads that may be curtailed in steps, not too often and not for too long."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flexergy_pipelines.optimization.blocks.commitment import add_starts, steps_of, within
from flexergy_pipelines.optimization.blocks.pieces import Terms
from flexergy_pipelines.optimization.board import Board, Variable, limit_to_send
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import ControllableLoad


def add_controllable_load(board: Board, load: ControllableLoad, *, late_price_eur_per_kwh: float = 0.0) -> None:
    """Contribute one controllable load: in each step at most one of its curtailment steps is switched.

    Parameters
    ----------
    late_price_eur_per_kwh : float
        Price of rebound energy that is drawn after the horizon's end.
    """
    name = load.id
    wanted = np.array(expand(load.power_kw, board.steps))
    board.inject_fixed(-wanted, load.id)
    board.demand_max = board.demand_max + wanted
    if not load.steps or load.max_curtailed_minutes == 0:
        board.output(name, "active_power_kw", lambda _: wanted)
        board.output(name, "curtailed_share", lambda _: np.zeros(board.steps))
        return
    levels = [
        board.variable(name, f"curtail_{position}", f"{share:.0%} of {name} switched off", upper=1.0, integer=True)
        for position, share in enumerate(load.steps)
    ]
    for share, level in zip(load.steps, levels, strict=True):
        board.inject(level.columns, share * wanted)
        board.cost("load_curtailment", level.columns, load.curtailment_price * share * wanted * board.hours)
    _limit_use(board, load, levels)
    rebound = _add_recovery(board, load, levels, wanted, late_price_eur_per_kwh)
    steps = load.steps

    def off(x: np.ndarray) -> np.ndarray:
        return sum(
            (share * np.round(x[level.columns]) for share, level in zip(steps, levels, strict=True)),
            np.zeros(board.steps),
        )

    def power(x: np.ndarray) -> np.ndarray:
        return wanted * (1 - off(x)) + rebound(wanted * off(x))

    board.output(name, "active_power_kw", power)
    board.output(name, "curtailed_share", off)
    if load.recovery_share > 0:
        board.output(name, "rebound_kw", lambda x: rebound(wanted * off(x)))
    # Drawing its rebound, a load may exceed what it would have drawn: only what is switched off is a limit.
    board.output(
        name,
        "active_power_limit_kw",
        lambda x: limit_to_send(power(x) + wanted * off(x), wanted * off(x), load.rated_kw),
    )


def _add_recovery(
    board: Board, load: ControllableLoad, levels: list[Variable], wanted: FloatArray, late_price_eur_per_kwh: float
) -> Callable[[FloatArray], FloatArray]:
    """Let what was switched off be drawn again, evenly over the time after it; returns it from the power off."""
    if load.recovery_share == 0:
        return np.zeros_like
    lags = max(steps_of(load.recovery_minutes, board.hours), 1)
    each = load.recovery_share / lags
    switched = [share * wanted for share in load.steps]
    drawn = board.variable(load.id, "rebound_kw", f"rebound of {load.id} after curtailment")
    terms: Terms = [(1.0, drawn.columns)]
    for level, power in zip(levels, switched, strict=True):
        terms += [(-each * _shifted(power, lag), level.before(lag)) for lag in range(1, lags + 1)]
        # What is drawn after the end of the horizon still has to be paid.
        remaining = np.clip(lags - (board.steps - 1 - np.arange(board.steps)), 0, lags)
        late = each * power * remaining * board.hours * late_price_eur_per_kwh
        if late.any():
            board.cost("load_rebound_late", level.columns, late)
    board.constrain(load.id, "rebound", f"{load.id} draws again what was switched off", terms, lower=0.0, upper=0.0)
    board.inject(drawn.columns, -1.0)
    most = load.recovery_share * max(load.steps) * float(wanted.max(initial=0.0))
    board.demand_max = board.demand_max + most
    return lambda off_kw: sum((each * _shifted(off_kw, lag) for lag in range(1, lags + 1)), np.zeros(board.steps))


def _shifted(values: FloatArray, lag: int) -> FloatArray:
    """The values `lag` steps earlier, zero before the horizon."""
    moved = np.zeros_like(values)
    moved[lag:] = values[: values.size - lag] if lag < values.size else 0.0
    return moved


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
