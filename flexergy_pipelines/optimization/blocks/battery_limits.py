"""What holds a battery's power back besides its rating: SoC, C-rate of bought capacity, ramps and a cap on cycles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np

from flexergy_pipelines.optimization.blocks.pieces import Terms, limit_by_curve
from flexergy_pipelines.optimization.blocks.ramp import add_ramp
from flexergy_pipelines.optimization.board import Board, Variable
from flexergy_pipelines.optimization.series import expand
from flexergy_pipelines.optimization.specs import Battery
from flexergy_pipelines.optimization.specs_base import interpolated

CYCLE_CAP_PRICE_EUR_PER_KWH = 20.0


@dataclass(frozen=True, slots=True)
class PowerLimits:
    """What bounds the power of a step, beside its upper bound, where the SoC does; None where it doesn't.

    Attributes
    ----------
    charge, discharge : Variable or None
        Largest power that the SoC allows (kW), for others that hold power beside the battery's own operation.
    """

    charge: Variable | None = None
    discharge: Variable | None = None


def add_limits(
    board: Board,
    battery: Battery,
    charge: Variable,
    discharge: Variable,
    energy: Variable,
    *,
    bought: Variable | None,
    holds: bool,
) -> PowerLimits:
    """Contribute the limits that a battery has, if any; a given operation is not limited by SoC.

    Parameters
    ----------
    holds : bool
        Whether others hold power ready in it, which the SoC must allow, too.
    """
    limits = PowerLimits()
    if battery.fixed_power_kw is None:
        limits = PowerLimits(
            _limit_by_soc(board, battery, charge, energy, "charge", holds=holds),
            _limit_by_soc(board, battery, discharge, energy, "discharge", holds=holds),
        )
        if bought is not None and battery.max_c_rate is not None:
            _limit_by_capacity(board, battery, (charge, discharge), bought, battery.max_c_rate)
    if battery.ramp_kw_per_minute is not None:
        add_ramp(
            board,
            battery.id,
            [(1.0, discharge.columns), (-1.0, charge.columns)],
            ramp_kw_per_minute=battery.ramp_kw_per_minute,
            start_kw=battery.power_start_kw,
        )
    if battery.max_cycles_per_day is not None:
        _cap_cycles(board, battery, discharge, battery.max_cycles_per_day, bought)
    return limits


def _limit_by_soc(
    board: Board,
    battery: Battery,
    power: Variable,
    energy: Variable,
    direction: Literal["charge", "discharge"],
    *,
    holds: bool,
) -> Variable | None:
    """A power limit that depends on the SoC at the start of the step; a variable of its own where power is held."""
    charging = direction == "charge"
    points = battery.max_charge_by_soc if charging else battery.max_discharge_by_soc
    if not points or battery.energy_capacity_kwh == 0:
        return None
    curve = [(point.at, point.share) for point in points]
    # Flat beyond the ends, over the whole range of the SoC.
    curve = ([(0.0, curve[0][1])] if curve[0][0] > 0 else []) + curve
    curve += [(1.0, curve[-1][1])] if curve[-1][0] < 1 else []
    capacity = battery.energy_capacity_kwh
    series = battery.max_charge_kw if charging else battery.max_discharge_kw
    limit = expand(series, board.steps) * battery.limit_share(direction)
    state = energy.before()
    if battery.terminal == "cyclic":
        state[0] = energy.columns[-1]
    else:
        power.upper[0] = min(power.upper[0], limit[0] * interpolated(points, battery.soc_start))
    meaning = f"{direction} power that the SoC of {battery.id} allows"
    possible = None
    if holds:
        possible = board.variable(battery.id, f"{direction}_possible_kw", meaning, upper=power.upper)
        terms: Terms = [(1.0, power.columns), (-1.0, possible.columns)]
        board.constrain(battery.id, f"{direction}_possible", meaning, terms, upper=0.0)
    limit_by_curve(
        board,
        f"{direction}_by_soc",
        meaning,
        power if possible is None else possible,
        state,
        curve=[(at * capacity, value) for at, value in curve],
        limit=limit,
    )
    return possible


def _limit_by_capacity(
    board: Board, battery: Battery, powers: tuple[Variable, Variable], bought: Variable, rate: float
) -> None:
    """Power by C-rate where capacity is bought."""
    repeated = np.repeat(bought.columns, board.steps)
    for power, direction in zip(powers, ("charge", "discharge"), strict=True):
        board.constrain(
            battery.id,
            f"{direction}_by_capacity",
            f"{direction} power that the capacity of {battery.id} allows",
            [(1.0, power.columns), (-rate, repeated)],
            upper=rate * battery.energy_capacity_kwh,
        )


def _cap_cycles(board: Board, battery: Battery, discharge: Variable, cycles: float, bought: Variable | None) -> None:
    """Energy discharged in a calendar day stays within so many capacities; what goes beyond is named."""
    name, capacity = battery.id, battery.energy_capacity_kwh
    day = day_of_steps(board)
    days = int(day[-1]) + 1
    over = board.variable(name, "cycles_excess_kwh", f"energy that {name} discharges beyond its cap", size=days)
    board.cost("violations", over.columns, board.dominant(CYCLE_CAP_PRICE_EUR_PER_KWH), penalty=True)
    board.soft_limit("cycle_cap", over, "kWh", f"{name} discharges more in a day than its cap on cycles allows")
    most = np.full(days, cycles * capacity)
    most[0] -= min(battery.cycles_today, cycles) * capacity
    entries = [(day, discharge.columns, board.hours), (np.arange(days), over.columns, -1.0)]
    if bought is not None:
        entries.append((np.arange(days), np.repeat(bought.columns, days), -cycles))
    board.constrain_sparse(
        name,
        "cycle_cap",
        f"cap on the cycles of {name} in a day",
        entries,
        lower=np.full(days, -np.inf),
        upper=most,
    )


def day_of_steps(board: Board) -> np.ndarray:
    """Number of the calendar day of each step, the first is 0, in the offset of the horizon's start."""
    midnight = board.start.replace(hour=0, minute=0, second=0, microsecond=0)
    since = (board.start - midnight) / timedelta(hours=1)
    return ((since + board.hours * np.arange(board.steps) + 1e-9) // 24).astype(np.int64)
