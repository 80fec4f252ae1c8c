"""Spinning reserve: power kept free in batteries and running gensets for what turns out otherwise than forecast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flexergy_pipelines.optimization.blocks.battery import BatteryVariables
from flexergy_pipelines.optimization.blocks.genset import GensetVariables
from flexergy_pipelines.optimization.board import Board, IndexArray, Numbers, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs_market import Reserve

Terms = list[tuple[Numbers, IndexArray]]


def margin_from_quantiles(
    load: Sequence[tuple[FloatArray, FloatArray, FloatArray]],
    sources: Sequence[tuple[FloatArray, FloatArray, FloatArray]],
) -> tuple[FloatArray, FloatArray]:
    """Reserve up and down (kW) that covers the forecasts' errors, taken as independent.

    Parameters
    ----------
    load, sources : sequence of (low, expected, high)
        Quantiles of each forecast in each step (kW), e.g. P10, mean and P90.

    Returns
    -------
    up, down : ndarray
        ``sqrt(sum of squared errors)`` towards scarcity and towards surplus.
    """
    scarce = [high - mean for _, mean, high in load] + [mean - low for low, mean, _ in sources]
    plenty = [mean - low for low, mean, _ in load] + [high - mean for _, mean, high in sources]
    up = np.sqrt(sum((np.maximum(error, 0.0) ** 2 for error in scarce), np.zeros(1)))
    down = np.sqrt(sum((np.maximum(error, 0.0) ** 2 for error in plenty), np.zeros(1)))
    return up, down


def add_reserve(
    board: Board, reserve: Reserve, stores: Sequence[BatteryVariables], gensets: Sequence[GensetVariables]
) -> None:
    """Hold reserve in both directions; what can't be held is priced and named."""
    for direction, required in (("up", reserve.up_kw), ("down", reserve.down_kw)):
        needed = expand(required, board.steps)
        if needed.any():
            _add_direction(board, reserve, direction, needed, stores=stores, gensets=gensets)


def _add_direction(
    board: Board,
    reserve: Reserve,
    direction: str,
    needed: FloatArray,
    *,
    stores: Sequence[BatteryVariables],
    gensets: Sequence[GensetVariables],
) -> None:
    name = reserve.id
    short = board.variable(name, f"{direction}_short_kw", f"reserve {direction} that nothing holds", upper=needed)
    board.cost("violations", short.columns, reserve.shortfall_price_eur_per_kwh * board.hours, penalty=True)
    board.soft_limit(f"reserve_{direction}", short, "kW", f"less reserve {direction} is held than asked for")
    parts: list[Variable] = [_hold_in_battery(board, reserve, direction, store) for store in stores]
    if reserve.with_gensets:
        parts += [_hold_in_genset(board, reserve, direction, genset) for genset in gensets]
    board.constrain(
        name,
        f"{direction}_held",
        f"reserve {direction} asked for is held",
        [(1.0, short.columns), *((1.0, part.columns) for part in parts)],
        lower=needed,
    )
    columns = [part.columns for part in parts]
    board.output(name, f"{direction}_held_kw", lambda x: sum((x[part] for part in columns), np.zeros(board.steps)))


def _hold_in_battery(board: Board, reserve: Reserve, direction: str, store: BatteryVariables) -> Variable:
    """A battery gives up as far as power and energy at the end of the step allow, beside its own operation."""
    battery, up = store.battery, direction == "up"
    held = board.variable(f"{reserve.id}@{battery.id}", f"{direction}_kw", f"reserve {direction} in {battery.id}")
    own: Terms = [(1.0, store.discharge.columns), (-1.0, store.charge.columns)]
    sign = 1.0 if up else -1.0
    possible, most = store.most("discharge" if up else "charge")
    board.constrain(
        f"{reserve.id}@{battery.id}",
        f"{direction}_power",
        f"reserve {direction} in {battery.id} fits beside its operation",
        [(1.0, held.columns), *possible, *((sign * float(coefficient), columns) for coefficient, columns in own)],
        upper=most,
    )
    capacity, hours = battery.energy_capacity_kwh, reserve.duration_hours
    per_kw = hours / battery.discharge_efficiency if up else hours * battery.charge_efficiency
    terms: Terms = [(per_kw, held.columns), (-sign, store.energy.columns)]
    outside = store.below if up else store.above
    if outside is not None:
        terms.append((-1.0, outside.columns))
    kept, kwh = store.kept_energy("discharge" if up else "charge")
    edge = -battery.soc_min * capacity if up else battery.soc_max * capacity
    board.constrain(
        f"{reserve.id}@{battery.id}",
        f"{direction}_energy",
        f"energy behind the reserve {direction} in {battery.id}",
        [*terms, *kept],
        upper=edge - kwh,
    )
    return held


def _hold_in_genset(board: Board, reserve: Reserve, direction: str, unit: GensetVariables) -> Variable:
    """A running genset gives up to its maximum, or down to its minimum; one at rest gives nothing."""
    genset = unit.genset
    held = board.variable(f"{reserve.id}@{genset.id}", f"{direction}_kw", f"reserve {direction} in {genset.id}")
    sign, edge = (1.0, genset.max_kw) if direction == "up" else (-1.0, -genset.min_kw)
    terms: Terms = [(1.0, held.columns), (sign, unit.power.columns)]
    if unit.on is not None:
        terms.append((-edge, unit.on.columns))
    board.constrain(
        f"{reserve.id}@{genset.id}",
        f"{direction}_power",
        f"reserve {direction} in {genset.id} while it runs",
        terms,
        upper=0.0 if unit.on is not None else np.where(unit.power.upper > 0, edge, 0.0).astype(np.float64),
    )
    return held
