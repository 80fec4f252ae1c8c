"""Battery indicators: cycles, damage, health, availability, and what a cycle earned."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flexergy_pipelines.kpis.flows import Array

HOURS_A_YEAR = 8766.0


@dataclass(frozen=True, slots=True)
class Wear:
    """What a stretch of use did to a battery.

    Attributes
    ----------
    full_cycles : float
        Equivalent full cycles by rainflow (sum of depth times count).
    damage : float
        Share of the life used up by cycling (Miner's rule).
    cycles_to_failure : float
        Equivalent full cycles from new to the end of life at this use; infinite when nothing was used.
    years_left : float
        Years until the damage sums to one at this use, counted from a new battery; infinite when nothing was used.
    """

    full_cycles: float
    damage: float
    cycles_to_failure: float
    years_left: float


def count_cycles(series: Sequence[float] | Array) -> list[tuple[float, float]]:
    """Rainflow counting by ASTM E1049-85, section 5.4.4.

    Parameters
    ----------
    series : sequence of float
        Any turning series, such as SoC; NaN is left out.

    Returns
    -------
    list of (range, count)
        Ranges in rising order with their counts (halves for half cycles).
    """
    import rainflow

    values = [float(value) for value in series if not math.isnan(value)]
    # The library sees no turn at the end of two points; the last one twice changes nothing else.
    return [(float(depth), float(count)) for depth, count in rainflow.count_cycles([*values, *values[-1:]])]


def cycle_damage(soc: Sequence[float] | Array, cycles_at: Callable[[float], float], hours: float) -> Wear:
    """Damage by cycling: Miner's rule ``D = sum(count_i / N(depth_i))`` over the rainflow cycles of SoC.

    Parameters
    ----------
    soc : sequence of float
        State of charge over the stretch (0..1).
    cycles_at : callable
        Cycles survived at a depth, N(depth).
    hours : float
        Length of the stretch [h].

    Notes
    -----
    Miner, M. A. (1945): Cumulative damage in fatigue. Journal of Applied Mechanics 12, A159-A164.
    """
    cycles = [(depth, count) for depth, count in count_cycles(soc) if depth > 1e-9]
    full = sum(depth * count for depth, count in cycles)
    damage = sum(count / cycles_at(min(depth, 1.0)) for depth, count in cycles)
    if damage == 0:
        return Wear(0.0, 0.0, math.inf, math.inf)
    return Wear(full, damage, full / damage, hours / HOURS_A_YEAR / damage)


def equivalent_full_cycles(discharged_kwh: float, capacity_kwh: float) -> float:
    """Equivalent full cycles: energy discharged / nominal capacity."""
    return discharged_kwh / capacity_kwh


def useful_energy(
    capacity_kwh: float, soh: float, soc_window: tuple[float, float], discharge_efficiency: float
) -> float:
    """Useful available energy: ``nominal * SoH * (soc_max - soc_min) * eta_discharge`` [kWh]."""
    low, high = soc_window
    return capacity_kwh * soh * (high - low) * discharge_efficiency


def availability(available: Array, could_charge_kw: Array | None = None, rated_kw: float | None = None) -> float | None:
    """Availability index: share of known intervals in which the ESS could follow a setpoint, weighted by power.

    Parameters
    ----------
    available : array
        1 where it could, 0 where not, NaN where unknown.
    could_charge_kw : array, optional
        Power it could give or take [kW]; with `rated_kw` the weight of each interval.
    rated_kw : float, optional
        Its rated power [kW].
    """
    weight = np.ones(len(available)) if could_charge_kw is None or not rated_kw else could_charge_kw / rated_kw
    usable = np.where(np.isnan(weight), 1.0, np.clip(weight, 0, 1)) * available
    known = usable[~np.isnan(usable)]
    return float(np.mean(known)) if known.size else None


def round_trip_efficiency(
    charged_kwh: float, discharged_kwh: float, stored_at_start_kwh: float, stored_at_end_kwh: float
) -> float | None:
    """AC round trip: energy out / energy in, each corrected for what the store held more or less at the end.

    With one unknown efficiency for both ways, ``eta`` solves ``charged * eta - discharged / eta = end - start``
    and the round trip is ``eta^2``. None where too little was moved to tell.
    """
    change = stored_at_end_kwh - stored_at_start_kwh
    if charged_kwh <= 0 or charged_kwh + discharged_kwh < 1e-6:
        return None
    eta = (change + math.sqrt(change**2 + 4 * charged_kwh * discharged_kwh)) / (2 * charged_kwh)
    return eta**2 if 0 < eta <= 1.05 else None


@dataclass(frozen=True, slots=True)
class MeasuredCapacity:
    """Capacity found from use [kWh], and its standard error [kWh]."""

    capacity_kwh: float
    error_kwh: float


def measured_capacity(
    power_kw: Array, soc: Array, step_hours: float, *, charge_efficiency: float, discharge_efficiency: float
) -> MeasuredCapacity | None:
    """Capacity from how far SoC moves for the energy that went in and out.

    Over runs of one direction the energy into the store is compared with the change of SoC, and the capacity is the
    slope of the regression through the origin, ``C = sum(dE dSoC) / sum(dSoC^2)``. None when SoC moved by less than 0.2
    in fewer than three runs.

    Parameters
    ----------
    power_kw : array
        Mean AC power of each interval, positive when discharging [kW].
    soc : array
        State of charge at the start of each interval.
    step_hours : float
        Length of an interval [h].
    charge_efficiency, discharge_efficiency : float
        One-way efficiencies; an error in them is an error in the capacity.
    """
    into = np.where(power_kw > 0, -power_kw / discharge_efficiency, -power_kw * charge_efficiency) * step_hours
    direction = np.sign(power_kw)
    turns = np.flatnonzero(direction[1:] != direction[:-1]) + 1
    bounds = np.unique(np.concatenate([[0], turns, [max(len(power_kw) - 1, 0)]]))
    stored = np.concatenate([[0.0], np.cumsum(np.nan_to_num(into))])
    unknown = np.concatenate([[0], np.cumsum(np.isnan(into))])
    energy_kwh, change = np.diff(stored[bounds]), np.diff(soc[bounds])
    usable = (np.diff(unknown[bounds]) == 0) & (np.abs(np.nan_to_num(change)) > 0.01)
    energy_kwh, change = energy_kwh[usable], change[usable]
    if len(change) < 3 or np.sum(np.abs(change)) < 0.2:
        return None
    weight = float(np.sum(change**2))
    capacity = float(np.sum(energy_kwh * change) / weight)
    residual = energy_kwh - capacity * change
    return MeasuredCapacity(capacity, math.sqrt(float(np.sum(residual**2)) / (len(change) - 1) / weight))
