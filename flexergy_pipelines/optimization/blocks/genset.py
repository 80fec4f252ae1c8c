"""Gensets: off, or running between minimum and maximum power."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from flexergy_pipelines.optimization.blocks.commitment import (
    add_min_down,
    add_min_up,
    add_starts,
    other_states,
    settled,
    steps_of,
)
from flexergy_pipelines.optimization.blocks.load import shed_price_eur_per_kwh
from flexergy_pipelines.optimization.blocks.pieces import Terms, add_pieces, rising, slopes
from flexergy_pipelines.optimization.board import Board, IndexArray, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import Genset

SUPPLY_LIMIT_PRICE_EUR_PER_KWH = 100.0
FUEL_TO_SHEDDING = 1.2


@dataclass(frozen=True, slots=True)
class GensetVariables:
    """A genset's variables that other blocks build on; `on` is None for one that needs no commitment."""

    genset: Genset
    power: Variable
    on: Variable | None


@dataclass(frozen=True, slots=True)
class _State:
    """On/off and its changes."""

    on: Variable
    start: Variable
    stop: Variable


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
    if genset.max_energy_kwh is not None:
        energy: Terms = [(board.hours, power.columns)]
        limit = (genset.max_energy_kwh, "kWh", board.dominant(SUPPLY_LIMIT_PRICE_EUR_PER_KWH))
        _limit_sum(board, name, "max_energy", f"most energy of {name}", used=energy, limit=limit)
    board.output(name, "active_power_kw", lambda x: x[power.columns])
    board.output(name, "active_power_setpoint_kw", lambda x: x[power.columns])
    if not _needs_commitment(genset):
        _add_free_ramp(board, genset, power)
        return GensetVariables(genset, power, None)
    lower, upper = _state_bounds(board, genset, available)
    on = _add_state(board, genset, available, lower, upper)
    if genset.running_cost_eur_per_h > 0:
        board.cost("genset_running", on.columns, genset.running_cost_eur_per_h * board.hours)
    start, stop = add_starts(board, on, on_before=genset.running_at_start)
    if genset.start_cost_eur > 0:
        board.cost("genset_start", start.columns, genset.start_cost_eur)
    if genset.stop_cost_eur > 0:
        board.cost("genset_stop", stop.columns, genset.stop_cost_eur)
    if genset.max_starts is not None:
        meaning = f"most starts of {name} in the plan"
        board.constrain_sum(name, "max_starts", meaning, [(1.0, start.columns)], upper=float(genset.max_starts))
    state = _State(on, start, stop)
    _limit_power(board, genset, power, state)
    add_min_up(board, on, start, genset.min_up_minutes)
    add_min_down(board, on, stop, genset.min_down_minutes)
    _add_ramp(board, genset, power, state)
    if genset.fuel_curve:
        _add_fuel(board, genset, power, on, carbon_price_eur_per_kg)
    board.output(name, "running", lambda x: np.round(x[on.columns]))
    return GensetVariables(genset, power, on)


def _add_state(board: Board, genset: Genset, available: FloatArray, lower: FloatArray, upper: FloatArray) -> Variable:
    """On or off; staying as it is until it fails is possible whatever the rest does."""
    stays = np.minimum.accumulate(available) if genset.running_at_start else np.zeros(board.steps)
    up, down = (steps_of(minutes, board.hours) for minutes in (genset.min_up_minutes, genset.min_down_minutes))

    own = slice(board.column_count, board.column_count + board.steps)

    def rounded(x: FloatArray) -> FloatArray:
        wanted = np.clip(x[own], lower, upper)
        return settled(wanted, on_before=genset.running_at_start, up_steps=up, down_steps=down)

    on = board.variable(
        genset.id, "on", f"{genset.id} runs", lower=lower, upper=upper, integer=True, safe=stays, rounded=rounded
    )

    def moves(x: FloatArray, price: FloatArray) -> Iterator[tuple[IndexArray, FloatArray]]:
        others = other_states(
            x[on.columns], price[on.columns], on_before=genset.running_at_start, up_steps=up, down_steps=down
        )
        for other in others:
            if (other >= lower).all() and (other <= upper).all():
                yield on.columns, other

    board.suggest(moves)
    return on


def _needs_commitment(genset: Genset) -> bool:
    return bool(
        genset.min_kw > 0
        or genset.start_cost_eur > 0
        or genset.stop_cost_eur > 0
        or genset.running_cost_eur_per_h > 0
        or genset.min_up_minutes
        or genset.min_down_minutes
        or genset.max_starts is not None
        or genset.start_kw is not None
        or genset.stop_kw is not None
        or genset.fuel_curve
    )


def _limit_sum(
    board: Board, name: str, code: str, meaning: str, *, used: Terms, limit: tuple[float, str, float]
) -> None:
    """A limit on a sum over the horizon (most, its unit, price of a unit more in EUR).

    It is soft, because a run that is forced from before may exceed it.
    """
    most, unit, price_eur = limit
    over = board.variable(name, f"{code}_excess", f"{meaning}, exceeded", size=1)
    board.cost("violations", over.columns, price_eur, penalty=True)
    board.soft_limit(code, over, unit, f"{meaning} is exceeded")
    board.constrain_sum(name, code, meaning, [*used, (-1.0, over.columns)], upper=most)


def _state_bounds(board: Board, genset: Genset, available: FloatArray) -> tuple[FloatArray, FloatArray]:
    """States that are still forced by what the genset did before the horizon; a fault overrides a forced run."""
    lower, upper = np.zeros(board.steps), available.copy()
    if genset.running_at_start:
        forced = steps_of(max(genset.min_up_minutes - genset.minutes_in_state, 0), board.hours)
        before = genset.power_start_kw
        if genset.stop_kw is not None and before is not None and before > genset.stop_kw + 1e-9:
            forced = max(forced, 1)  # it has to come down before it may stop
        lower[:forced] = available[:forced]
        # A unit that fails can't be held on; nor, to keep the minimum run, be started just before it fails.
        lower = np.minimum(lower, np.minimum.accumulate(available))
    else:
        forced = steps_of(max(genset.min_down_minutes - genset.minutes_in_state, 0), board.hours)
        upper[:forced] = 0.0
    return lower, upper


def _limit_power(board: Board, genset: Genset, power: Variable, state: _State) -> None:
    """Between minimum and maximum while it runs, and no more than a start or a stop allows beside it."""
    name, on, start, stop = genset.id, state.on, state.start, state.stop
    highest: Terms = [(1.0, power.columns), (-genset.max_kw, on.columns)]
    if genset.start_kw is not None and genset.start_kw < genset.max_kw:
        highest.append((genset.max_kw - genset.start_kw, start.columns))
    board.constrain(name, "max_power", f"{name} delivers only while it runs, at most its maximum", highest, upper=0.0)
    if genset.stop_kw is not None and genset.stop_kw < genset.max_kw:
        following = np.append(stop.columns[1:], -1)
        terms: Terms = [
            (1.0, power.columns),
            (-genset.max_kw, on.columns),
            (genset.max_kw - genset.stop_kw, following),
        ]
        board.constrain(name, "stop_power", f"highest power of {name} just before a stop", terms, upper=0.0)
    if genset.min_kw > 0:
        terms = [(1.0, power.columns), (-genset.min_kw, on.columns)]
        board.constrain(name, "min_power", f"lowest power of {name} while it runs", terms, lower=0.0)


def _ramp_kw(board: Board, genset: Genset) -> float | None:
    """Largest change in a step, or None where it limits nothing."""
    if genset.ramp_kw_per_minute is None:
        return None
    ramp = genset.ramp_kw_per_minute * 60 * board.hours
    return None if ramp >= genset.max_kw else ramp


def _add_ramp(board: Board, genset: Genset, power: Variable, state: _State) -> None:
    """While it runs the power changes within the ramp; a start and a stop may jump as far as they are allowed to."""
    ramp = _ramp_kw(board, genset)
    if ramp is None:
        return
    on, start, stop = state.on, state.start, state.stop
    up = genset.max_kw if genset.start_kw is None else genset.start_kw
    down = board.full(genset.max_kw if genset.stop_kw is None else genset.stop_kw)
    down[on.upper < 0.5] = genset.max_kw  # a unit that is lost falls at once
    was_on = float(genset.running_at_start)
    before = genset.power_start_kw
    change: Terms = [(1.0, power.columns), (-1.0, power.before())]
    rise, fall = np.zeros(board.steps), np.zeros(board.steps)
    if before is None:
        rise[0], fall[0] = np.inf, -np.inf
    else:
        rise[0], fall[0] = max(before + ramp * was_on, genset.min_kw), before
    # p[t] - p[t-1] <= ramp * on[t-1] + up * start[t];  p[t-1] - p[t] <= ramp * on[t] + down * stop[t]
    board.constrain(
        genset.id,
        "ramp_up",
        f"fastest rise of {genset.id}",
        [*change, (-ramp, on.before()), (-up, start.columns)],
        upper=rise,
    )
    board.constrain(
        genset.id,
        "ramp_down",
        f"fastest fall of {genset.id}",
        [*change, (ramp, on.columns), (down, stop.columns)],
        lower=fall,
    )


def _add_free_ramp(board: Board, genset: Genset, power: Variable) -> None:
    """The ramp of a genset that needs no commitment."""
    ramp = _ramp_kw(board, genset)
    if ramp is None:
        return
    change: Terms = [(1.0, power.columns), (-1.0, power.before())]
    rise, fall = board.full(ramp), board.full(-ramp)
    before = genset.power_start_kw
    rise[0], fall[0] = (np.inf, -np.inf) if before is None else (before + ramp, before - ramp)
    # A unit that is lost falls at once, and one that comes back starts from nothing.
    lost = power.upper < np.append(0.0, power.upper[:-1])
    fall[lost] = -np.inf
    board.constrain(genset.id, "ramp_up", f"fastest rise of {genset.id}", change, upper=rise)
    board.constrain(genset.id, "ramp_down", f"fastest fall of {genset.id}", change, lower=fall)


def _add_fuel(board: Board, genset: Genset, power: Variable, on: Variable, carbon_price_eur_per_kg: float) -> None:
    """Fuel along its curve: what running at the minimum takes, and a piece for each straight stretch above it."""
    name, minimum = genset.id, genset.min_kw
    places, litres = zip(*((p.power_kw, p.litres_per_h) for p in genset.fuel_curve), strict=True)
    inside = [place for place in places if minimum < place < genset.max_kw]
    points = [(place, float(np.interp(place, places, litres))) for place in (minimum, *inside, genset.max_kw)]
    at_minimum = points[0][1]
    fuel: Terms = [(at_minimum, on.columns)]
    if genset.max_kw > minimum:
        gradients = slopes(points)
        pieces = add_pieces(
            board,
            name,
            "fuel_piece",
            f"power of {name}",
            [(1.0, power.columns), (-minimum, on.columns)],
            widths=[high[0] - low[0] for low, high in pairwise(points)],
            ordered=not rising(gradients),
        )
        fuel += [(gradient, piece.columns) for gradient, piece in zip(gradients, pieces, strict=True)]
    price = genset.fuel_price_eur_per_l
    for rate, columns in fuel:
        board.cost("fuel", columns, price * rate * board.hours)
        if genset.emission_kg_per_l * carbon_price_eur_per_kg > 0:
            board.cost("emission", columns, genset.emission_kg_per_l * carbon_price_eur_per_kg * rate * board.hours)
    if genset.tank_l is not None:
        used: Terms = [(rate * board.hours, columns) for rate, columns in fuel]
        # What isn't in the tank can't be burnt: dearer than all load that a litre could serve.
        price_eur_per_l = FUEL_TO_SHEDDING * shed_price_eur_per_kwh(board) * _best_kwh_per_l(points)
        limit = (genset.tank_l, "l", price_eur_per_l)
        _limit_sum(board, name, "tank", f"fuel in the tank of {name}", used=used, limit=limit)
    board.output(
        name, "fuel_l_per_h", lambda x: sum((rate * x[columns] for rate, columns in fuel), np.zeros(board.steps))
    )


def _best_kwh_per_l(points: list[tuple[float, float]]) -> float:
    """Most energy that a litre can give: all of it at one power, or as the litre that raises the power."""
    each = [power / litres for power, litres in points if litres > 0]
    more = [(high[0] - low[0]) / (high[1] - low[1]) for low, high in pairwise(points) if high[1] > low[1]]
    return max([*each, *more], default=1.0)
