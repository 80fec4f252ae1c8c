"""On/off over time: starts, stops and the shortest time in each state. Shared by gensets and curtailments."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from flexergy_pipelines.optimization.board import Board, IndexArray, Variable
from flexergy_pipelines.optimization.series import FloatArray

ROUND_UP_FROM = 0.05
EDGE_MOVES = (-4, -2, -1, 1, 2, 4)
NEW_RUNS = 4


def add_starts(board: Board, on: Variable, *, on_before: bool) -> tuple[Variable, Variable]:
    """Variables for starts and stops: ``on[t] - on[t-1] = start[t] - stop[t]``.

    Parameters
    ----------
    on : Variable
        State of each step, 0 or 1.
    on_before : bool
        State before the horizon.
    """
    name = on.asset_id
    start = board.variable(name, "start", f"{name} starts", upper=1.0)
    stop = board.variable(name, "stop", f"{name} stops", upper=1.0)
    before = np.zeros(board.steps)
    before[0] = float(on_before)
    board.constrain(
        name,
        "switching",
        f"{name} changes its state by a start or a stop",
        [(1.0, on.columns), (-1.0, on.before()), (-1.0, start.columns), (1.0, stop.columns)],
        lower=before,
        upper=before,
    )
    return start, stop


def steps_of(minutes: int, hours: float) -> int:
    """Whole steps that cover `minutes`."""
    return int(np.ceil(round(minutes / (60 * hours), 9)))


def settled(wanted: FloatArray, *, on_before: bool, up_steps: int, down_steps: int) -> FloatArray:
    """States near those wanted whose runs and rests are long enough: rests too short are run through.

    Parameters
    ----------
    wanted : ndarray
        Share of each step that a relaxed solution runs, 0 to 1.
    on_before : bool
        State before the horizon.
    up_steps, down_steps : int
        Shortest run and rest.
    """
    on = wanted > ROUND_UP_FROM
    state, since, kept = on_before, max(up_steps, down_steps), np.zeros(on.size)
    for step in range(on.size):
        least = up_steps if state else down_steps
        # A rest is only worth beginning where it can be as long as it must.
        rests = not on[step : step + max(down_steps, 1)].any()
        turns = rests if state else bool(on[step])
        if turns and since >= least:
            state, since = not state, 0
        since += 1
        kept[step] = float(state)
    return kept


def other_states(
    current: FloatArray, price: FloatArray, *, on_before: bool, up_steps: int, down_steps: int
) -> Iterator[FloatArray]:
    """States that differ from `current` in one run: longer, shorter, moved, dropped, or one more; rests are kept.

    Parameters
    ----------
    current : ndarray
        State of each step, 0 or 1.
    price : ndarray
        What a step more costs, in the money of the objective; below zero where running would pay.
    """
    on = current > 0.5
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    runs = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
    made: list[FloatArray] = []
    for first, after in runs:
        bare = current.copy()
        bare[first:after] = 0.0
        made.append(bare)
        for begins, ends in {
            *((first + by, after) for by in EDGE_MOVES),
            *((first, after + by) for by in EDGE_MOVES),
            *((first + by, after + by) for by in EDGE_MOVES),
        }:
            if ends > begins:
                other = bare.copy()
                other[max(begins, 0) : max(ends, 0)] = 1.0
                made.append(other)
    for (_, ends), (begins, _) in pairwise(runs):
        joined = current.copy()
        joined[ends:begins] = 1.0
        made.append(joined)
    length = max(up_steps, 1)
    for size in {length, 2 * length, 4 * length}:
        total = np.convolve(np.where(on, 0.0, price), np.ones(size), mode="valid")
        for begins in np.argsort(total, kind="stable")[:NEW_RUNS].tolist():
            if total[begins] < 0:
                other = current.copy()
                other[begins : begins + size] = 1.0
                made.append(other)
    for other in made:
        if _long_enough(other > 0.5, on_before=on_before, up_steps=up_steps, down_steps=down_steps):
            yield other


def _long_enough(on: npt.NDArray[np.bool_], *, on_before: bool, up_steps: int, down_steps: int) -> bool:
    """Whether every run and rest that begins and ends inside lasts as long as it must."""
    changes = np.flatnonzero(np.diff(np.concatenate([[on_before], on])))
    lengths = np.diff(changes)
    least = np.where(on[changes[:-1]], up_steps, down_steps)
    return bool((lengths >= least).all())


def within(event: Variable, steps: int) -> list[tuple[float, IndexArray]]:
    """Terms that count the events of a step and the ``steps - 1`` before it."""
    return [(1.0, event.before(lag)) for lag in range(steps)]


def add_min_up(board: Board, on: Variable, start: Variable, minutes: int) -> None:
    """Once started, stay on for `minutes`; at least the step of the start, which tightens the relaxation.

    References
    ----------
    Rajan, Takriti, "Minimum up/down polytopes of the unit commitment problem with start-up costs", IBM Research
    Report RC23628 (2005): with these rows the relaxation of a unit's states is their convex hull.
    """
    steps = max(min(steps_of(minutes, board.hours), board.steps), 1)
    terms = [*within(start, steps), (-1.0, on.columns)]
    board.constrain(on.asset_id, "min_up", f"shortest run of {on.asset_id}", terms, upper=0.0)


def add_min_down(board: Board, on: Variable, stop: Variable, minutes: int) -> None:
    """Once stopped, stay off for `minutes`; at least the step of the stop. See :func:`add_min_up`."""
    steps = max(min(steps_of(minutes, board.hours), board.steps), 1)
    terms = [*within(stop, steps), (1.0, on.columns)]
    board.constrain(on.asset_id, "min_down", f"shortest rest of {on.asset_id}", terms, upper=1.0)
