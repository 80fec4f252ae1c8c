"""Energy storage: charge and discharge apart, each with its efficiency, and the stored energy between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from flexergy_pipelines.optimization.blocks.battery_limits import PowerLimits, add_limits
from flexergy_pipelines.optimization.blocks.pieces import Terms, add_pieces, slopes
from flexergy_pipelines.optimization.blocks.wear import add_wear
from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import Battery
from flexergy_pipelines.optimization.specs_base import EfficiencyPoint

# For each step outside: staying there is never worth what another limit costs.
SOC_WINDOW_PRICE_EUR_PER_KWH = 150.0
TERMINAL_PRICE_EUR_PER_KWH = 10.0

Direction = Literal["charge", "discharge"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Power that is kept free in one direction (kW), what of it can't be, and the energy behind a kilowatt (kWh)."""

    kw: FloatArray
    short: Variable
    kwh_per_kw: float


@dataclass(frozen=True, slots=True)
class BatteryVariables:
    """A battery's variables that other blocks build on.

    Attributes
    ----------
    below, above : Variable or None
        Energy outside the SoC window (kWh), where that can occur.
    activated : Variable or None
        Energy that services are expected to put into the store in a step (kWh, negative taken out).
    possible : PowerLimits
        Largest power that the SoC allows, where it limits power.
    largest_kw : mapping
        Largest charging and discharging power of each step, also where the operation is given.
    kept : mapping
        What is kept free of discharging and charging, beside what is planned.
    """

    battery: Battery
    charge: Variable
    discharge: Variable
    energy: Variable
    below: Variable | None
    above: Variable | None
    activated: Variable | None
    possible: PowerLimits
    largest_kw: Mapping[str, FloatArray]
    kept: Mapping[str, Kept] = field(default_factory=dict)

    def most(self, direction: Direction) -> tuple[Terms, FloatArray]:
        """Largest power of each step, as terms to subtract and a number: what is held and done has to fit below."""
        possible = getattr(self.possible, direction)
        upper = self.largest_kw[direction]
        terms: Terms = [] if possible is None else [(-1.0, possible.columns)]
        most = upper if possible is None else np.zeros(upper.size)
        if direction in self.kept:
            kept = self.kept[direction]
            return [*terms, (-1.0, kept.short.columns)], most - kept.kw
        return terms, most

    def kept_energy(self, direction: Direction) -> tuple[Terms, FloatArray]:
        """Energy or room behind what is kept free (kWh), as a number and the terms of what of it isn't."""
        if direction not in self.kept:
            return [], np.zeros(self.charge.upper.size)
        kept = self.kept[direction]
        return [(-kept.kwh_per_kw, kept.short.columns)], kept.kw * kept.kwh_per_kw


@dataclass(frozen=True, slots=True)
class _Size:
    """Capacity, and what may be bought beyond it."""

    capacity_kwh: float
    bought: Variable | None

    def total(self, values: FloatArray) -> float:
        extra = 0.0 if self.bought is None else float(values[self.bought.columns[0]])
        return self.capacity_kwh + extra


def add_battery(
    board: Board, battery: Battery, *, wear_weight: float, serves: bool = False, holds: bool = False
) -> BatteryVariables:
    """Contribute one battery.

    Stored energy at the end of step t (kWh), with ``r`` the share that is left after a step of self-discharge:
    ``e[t] = r * (e[t-1] + dt * (eta_charge * charge[t] - discharge[t] / eta_discharge + inflow[t]))``.

    Parameters
    ----------
    wear_weight : float
        Operator's weight of battery life, see :func:`~flexergy_pipelines.optimization.blocks.wear.add_wear`.
    serves : bool
        Whether services may call energy from it.
    holds : bool
        Whether services or a reserve hold power ready in it.
    """
    name = battery.id
    size = _add_size(board, battery)
    charge_max, charge_min, discharge_max, discharge_min = _power_limits(board, battery)
    charge = board.variable(name, "charge_kw", f"charging of {name}", lower=charge_min, upper=charge_max)
    discharge = board.variable(name, "discharge_kw", f"discharging of {name}", lower=discharge_min, upper=discharge_max)
    retention = (1 - battery.self_discharge_per_day) ** (board.hours / 24)
    energy, below, above = _stored_energy(board, battery, retention, size)
    stored = _through(
        board, charge, "charge", efficiency=battery.charge_efficiency, curve=battery.charge_efficiency_curve
    )
    taken = _through(
        board,
        discharge,
        "discharge",
        efficiency=battery.discharge_efficiency,
        curve=battery.discharge_efficiency_curve,
    )
    flows: Terms = [(1.0, energy.columns), (-retention, energy.before())]
    flows += [(-retention * board.hours * share, columns) for share, columns in stored]
    flows += [(retention * board.hours * share, columns) for share, columns in taken]
    activated = None
    if serves:
        activated = board.variable(
            name, "activated_kwh", f"energy that services are expected to put into {name}", lower=-np.inf
        )
        flows.append((-retention, activated.columns))
    start = _add_balance(board, battery, energy, flows, retention=retention, size=size)
    board.inject(charge.columns, -1.0)
    board.inject(discharge.columns, +1.0)
    board.demand_max = board.demand_max + charge_max
    board.supply_max = board.supply_max + discharge_max
    own = expand(battery.auxiliary_kw, board.steps)
    if own.any():
        board.inject_fixed(-own, name)
        board.demand_max = board.demand_max + own
        board.output(name, "auxiliary_kw", lambda _: np.array(own))
    if battery.fixed_power_kw is None:
        board.exclude(charge, discharge, charge_max, discharge_max, f"{name} never charges and discharges at once")
    possible = add_limits(board, battery, charge, discharge, energy, bought=size.bought, holds=holds)
    _add_terminal(board, battery, energy, size)
    _add_costs(board, battery, charge, discharge, energy)
    add_wear(board, battery, charge, discharge, energy, stored=stored, taken=taken, weight=wear_weight)
    board.output(name, "active_power_kw", lambda x: x[discharge.columns] - x[charge.columns])
    if size.capacity_kwh > 0 or size.bought is not None:
        board.output(name, "soc", lambda x: _soc(x, start, energy, size))
    return BatteryVariables(
        battery,
        charge,
        discharge,
        energy,
        below,
        above,
        activated,
        possible,
        _largest(board, battery, charge, discharge),
    )


@dataclass(frozen=True, slots=True)
class _Start:
    """Energy at the start: a number, and a multiple of a decision (bought capacity, or the energy at the end)."""

    kwh: float
    share: float = 0.0
    of: Variable | None = None

    def value(self, values: FloatArray) -> float:
        return self.kwh + (0.0 if self.of is None else self.share * float(values[self.of.columns[-1]]))


def _soc(values: FloatArray, start: _Start, energy: Variable, size: _Size) -> FloatArray:
    total = size.total(values)
    stored = np.concatenate([[start.value(values)], values[energy.columns]])
    return stored / total if total > 0 else np.zeros(stored.size)


def _add_size(board: Board, battery: Battery) -> _Size:
    investment = battery.investment
    if investment is None:
        return _Size(battery.energy_capacity_kwh, None)
    name = battery.id
    most = np.inf if investment.max_kwh is None else investment.max_kwh
    bought = board.variable(
        name, "invested_kwh", f"capacity bought for {name}", size=1, lower=investment.min_kwh, upper=most
    )
    board.cost("investment", bought.columns, investment.cost_eur_per_kwh)
    board.output(name, "invested_kwh", lambda x: np.full(board.steps, x[bought.columns[0]]))
    return _Size(battery.energy_capacity_kwh, bought)


def _power_limits(board: Board, battery: Battery) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Upper and lower bounds of charge and discharge power (kW)."""
    if battery.fixed_power_kw is None:
        zero = np.zeros(board.steps)
        return _rating(board, battery, "charge"), zero, _rating(board, battery, "discharge"), zero
    given = expand(battery.fixed_power_kw, board.steps)
    charge, discharge = np.maximum(-given, 0.0), np.maximum(given, 0.0)
    return charge, charge, discharge, discharge


def _rating(board: Board, battery: Battery, direction: Direction) -> FloatArray:
    """Largest power by rating, SoH and C-rate (kW)."""
    series = battery.max_charge_kw if direction == "charge" else battery.max_discharge_kw
    rating = expand(series, board.steps) * battery.limit_share(direction)
    if battery.max_c_rate is not None and battery.investment is None:
        rating = np.minimum(rating, battery.max_c_rate * battery.energy_capacity_kwh)
    return rating


def _largest(board: Board, battery: Battery, charge: Variable, discharge: Variable) -> dict[str, FloatArray]:
    """What others may hold beside the battery's own operation; where that is given, its bounds say nothing of it."""
    own: tuple[tuple[Direction, Variable], ...] = (("charge", charge), ("discharge", discharge))
    if battery.fixed_power_kw is None:
        return {direction: variable.upper for direction, variable in own}
    return {direction: np.maximum(_rating(board, battery, direction), variable.upper) for direction, variable in own}


def _through(
    board: Board, power: Variable, direction: str, *, efficiency: float, curve: tuple[EfficiencyPoint, ...]
) -> Terms:
    """What `power` at the busbar is in the store (kW), by one efficiency or piece by piece along a curve."""
    name, charging = power.asset_id, direction == "charge"
    if not curve:
        return [(efficiency if charging else 1.0 / efficiency, power.columns)]
    points = [(0.0, 0.0)]
    points += [(p.power_kw, p.power_kw * p.efficiency if charging else p.power_kw / p.efficiency) for p in curve]
    widths = [high[0] - low[0] for low, high in pairwise(points)]
    what = f"{direction} power of {name}"
    pieces = add_pieces(board, name, f"{direction}_piece", what, [(1.0, power.columns)], widths=widths, ordered=True)
    return [(slope, piece.columns) for slope, piece in zip(slopes(points), pieces, strict=True)]


def _add_balance(
    board: Board, battery: Battery, energy: Variable, flows: Terms, *, retention: float, size: _Size
) -> _Start:
    """The balance of the store; returns what it begins with."""
    start = _Start(battery.soc_start * size.capacity_kwh)
    if battery.terminal == "cyclic":
        start = _Start(0.0, 1.0, energy)
    elif size.bought is not None:
        start = _Start(start.kwh, battery.soc_start, size.bought)
    carried = retention * board.hours * expand(battery.inflow_kw, board.steps)
    carried[0] += retention * start.kwh
    if start.of is not None:
        first = np.full(board.steps, -1, dtype=np.int64)
        first[0] = start.of.columns[-1]
        flows = [*flows, (-retention * start.share, first)]
    meaning = f"energy stored in {battery.id} follows from what is charged and discharged"
    board.constrain(battery.id, "stored_energy", meaning, flows, lower=carried, upper=carried)
    return start


def _stored_energy(
    board: Board, battery: Battery, retention: float, size: _Size
) -> tuple[Variable, Variable | None, Variable | None]:
    """Stored energy at the end of each step, and what of it lies below or above the SoC window where that may be."""
    name, capacity = battery.id, size.capacity_kwh
    low, high = _window(board, battery)
    inside = low.max() <= battery.soc_start <= high.min() or battery.terminal == "cyclic"
    moving = battery.soc_floor is not None or battery.soc_ceiling is not None or battery.inflow_kw.any()
    hard = inside and not moving and retention == 1.0 and battery.fixed_power_kw is None and size.bought is None
    if hard:
        return (
            board.variable(name, "energy_kwh", f"energy stored in {name}", lower=low * capacity, upper=high * capacity),
            None,
            None,
        )
    energy = board.variable(name, "energy_kwh", f"energy stored in {name}", lower=-np.inf)
    below = board.variable(name, "below_window_kwh", f"energy that {name} lacks to its lowest allowed SoC")
    above = board.variable(name, "above_window_kwh", f"energy that {name} holds above its highest allowed SoC")
    bottom: Terms = [(1.0, energy.columns), (1.0, below.columns)]
    top: Terms = [(1.0, energy.columns), (-1.0, above.columns)]
    if size.bought is not None:
        repeated = np.repeat(size.bought.columns, board.steps)
        bottom.append((-low, repeated))
        top.append((-high, repeated))
    board.constrain(name, "soc_min", f"lowest SoC of {name}", bottom, lower=low * capacity)
    board.constrain(name, "soc_max", f"highest SoC of {name}", top, upper=high * capacity)
    price = board.dominant(SOC_WINDOW_PRICE_EUR_PER_KWH)
    for slack, code in ((below, "soc_below_minimum"), (above, "soc_above_maximum")):
        board.cost("violations", slack.columns, price, penalty=True)
        board.soft_limit(code, slack, "kWh", f"{name} outside its SoC window; the plan returns into it")
    return energy, below, above


def _window(board: Board, battery: Battery) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest SoC at the end of each step."""
    low, high = board.full(battery.soc_min), board.full(battery.soc_max)
    if battery.soc_floor is not None:
        low = np.maximum(low, expand(battery.soc_floor, board.steps))
    if battery.soc_ceiling is not None:
        high = np.minimum(high, expand(battery.soc_ceiling, board.steps))
    return low, high


def _add_terminal(board: Board, battery: Battery, energy: Variable, size: _Size) -> None:
    """Ask for a SoC at the end, softly, or credit what is stored then."""
    if battery.terminal in {"free", "cyclic"} or (size.capacity_kwh == 0 and size.bought is None):
        return
    name = battery.id
    asked = battery.soc_start if battery.terminal_soc is None else battery.terminal_soc
    share = min(max(asked, battery.soc_min), battery.soc_max)
    target = share * size.capacity_kwh
    last: Terms = [(1.0, energy.columns[-1:])]
    if size.bought is not None:
        last.append((-share, size.bought.columns))
    if battery.terminal == "priced":
        for coefficient, columns in last:
            board.cost("terminal_soc", columns, -battery.terminal_value_eur_per_kwh * coefficient)
        board.constant_cost("terminal_soc", battery.terminal_value_eur_per_kwh * target)
        return
    price = battery.terminal_price_eur_per_kwh
    price = board.dominant(TERMINAL_PRICE_EUR_PER_KWH) if price is None else price
    short = board.variable(name, "terminal_short_kwh", f"energy missing in {name} at the end", size=1)
    board.cost("terminal_soc", short.columns, price, penalty=True)
    board.soft_limit("terminal_soc", short, "kWh", f"{name} ends with less energy than asked for")
    meaning = f"SoC asked of {name} at the end of the plan"
    if battery.terminal == "at_least":
        board.constrain(name, "terminal_soc", meaning, [*last, (1.0, short.columns)], lower=target)
        return
    excess = board.variable(name, "terminal_excess_kwh", f"energy in {name} at the end beyond what was asked", size=1)
    board.cost("terminal_soc", excess.columns, price, penalty=True)
    board.soft_limit("terminal_soc", excess, "kWh", f"{name} ends with more energy than asked for")
    terms = [*last, (1.0, short.columns), (-1.0, excess.columns)]
    board.constrain(name, "terminal_soc", meaning, terms, lower=target, upper=target)


def _add_costs(board: Board, battery: Battery, charge: Variable, discharge: Variable, energy: Variable) -> None:
    charge_cost = expand(battery.charge_cost_eur_per_kwh, board.steps)
    discharge_cost = expand(battery.discharge_cost_eur_per_kwh, board.steps)
    if charge_cost.any():
        board.cost("battery_operation", charge.columns, charge_cost * board.hours)
    if discharge_cost.any():
        board.cost("battery_operation", discharge.columns, discharge_cost * board.hours)
    if battery.holding_cost_eur_per_kwh_h:
        board.cost("battery_holding", energy.columns, battery.holding_cost_eur_per_kwh_h * board.hours)
