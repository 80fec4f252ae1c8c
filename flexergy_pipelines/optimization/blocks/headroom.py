"""Power and energy that a battery keeps free to answer the frequency, beside which everything else is planned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flexergy_pipelines.optimization.blocks.battery import BatteryVariables, Direction, Kept
from flexergy_pipelines.optimization.blocks.pieces import Terms
from flexergy_pipelines.optimization.board import Board
from flexergy_pipelines.optimization.series import FloatArray, expand

# Above what a reserve or a service that is sold costs: both can be bought back, the answer to the frequency is owed.
HEADROOM_PRICE_EUR_PER_KW_H = 50.0


def add_headroom(board: Board, store: BatteryVariables) -> BatteryVariables:
    """Keep what the battery owes the frequency; what can't be kept is priced and named.

    Whatever it does, ``up_kw`` more can be given and ``down_kw`` more be taken in each step, for ``hours`` from its
    start on, within the SoC window.
    """
    battery, headroom = store.battery, store.battery.headroom
    if headroom is None:
        return store
    name = battery.id
    sides: tuple[tuple[str, Direction, float, FloatArray, float], ...] = (
        ("up", "discharge", 1.0, headroom.up_kw, headroom.hours / battery.discharge_efficiency),
        ("down", "charge", -1.0, headroom.down_kw, headroom.hours * battery.charge_efficiency),
    )
    kept: dict[str, Kept] = {}
    for side, direction, sign, series, kwh_per_kw in sides:
        wanted = np.array(expand(series, board.steps))
        short = board.variable(name, f"headroom_{side}_short_kw", f"headroom {side} that {name} lacks", upper=wanted)
        price = board.dominant(HEADROOM_PRICE_EUR_PER_KW_H)
        board.cost("violations", short.columns, price * board.hours, penalty=True)
        text = f"{name} keeps less power free {side} for the frequency than it owes"
        board.soft_limit(f"headroom_{side}", short, "kW", text)
        kept[direction] = Kept(wanted, short, kwh_per_kw)
        possible, most = store.most(direction)
        meaning = f"power that {name} keeps free {side} for the frequency"
        power: Terms = [(sign, store.discharge.columns), (-sign, store.charge.columns), (-1.0, short.columns)]
        board.constrain(name, f"headroom_{side}_power", meaning, [*power, *possible], upper=most - wanted)
        _keep_energy(board, replace(store, kept=kept), side, direction, sign)
    board.output(name, "headroom_up_kw", lambda x: _left(kept["discharge"], x))
    board.output(name, "headroom_down_kw", lambda x: _left(kept["charge"], x))
    return replace(store, kept=kept)


def _keep_energy(board: Board, store: BatteryVariables, side: str, direction: Direction, sign: float) -> None:
    """At the start of each step the store holds the energy, or the room, behind what is kept free."""
    battery = store.battery
    edge = (battery.soc_min if side == "up" else battery.soc_max) * battery.energy_capacity_kwh
    outside = store.below if side == "up" else store.above
    terms: Terms = [(-sign, store.energy.before())]
    # A store outside its window has nothing to keep, but must not make the plan impossible.
    terms += [] if outside is None else [(-1.0, outside.before())]
    own, kwh = store.kept_energy(direction)
    limit = board.full(-sign * edge)
    limit[0] = max(sign * (battery.soc_start * battery.energy_capacity_kwh - edge), 0.0)
    meaning = f"energy that {battery.id} keeps {side} for the frequency"
    board.constrain(battery.id, f"headroom_{side}_energy", meaning, [*terms, *own], upper=limit - kwh)


def _left(kept: Kept, values: FloatArray) -> FloatArray:
    return kept.kw - values[kept.short.columns]
