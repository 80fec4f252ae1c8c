"""Charging planned car by car: cars that are there, cars that are expected, and the limit that goes to the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Horizon, Problem
from flexergy_pipelines.optimization.series import FloatArray
from flexergy_pipelines.optimization.settings import PlanningSettings
from flexergy_pipelines.optimization.specs_ev import EvGroup, EvSession

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.ev_statistics import SessionStatistics
    from flexergy_pipelines.grid import EvChargingManager, Site
    from flexergy_pipelines.store.engine import TenantStore

EFFICIENCY = 0.92
CAR_KWH = 60.0
KNOWN_FOR = timedelta(days=28)
"""Sessions of this past make charging be planned car by car where nothing is set."""

LONGEST_STAY = timedelta(days=2)
LEAST_STAY_H = 0.5
LEAST_PROBABILITY = 0.5
MOVES_KW = 0.05


@dataclass(frozen=True, slots=True)
class Car:
    """A car that is at a charge point, or is expected there.

    Attributes
    ----------
    charge_point : str
    arrival, departure : datetime
        Aware.
    energy_kwh : float
        What it still wants at the plug at `arrival`.
    max_kw : float
        Of the charge point (kW).
    priority : int
        Of the charge point.
    source : str
        ``now`` for one that is there; ``history``, ``blend`` or ``prior`` for one that is expected.
    soc : float or None
        State of charge where the car told it.
    """

    id: str
    charge_point: str
    arrival: datetime
    departure: datetime
    energy_kwh: float
    max_kw: float
    priority: int
    source: str
    soc: float | None = None


def cars_of(
    db: TenantStore, site: Site, settings: PlanningSettings, horizon: Horizon, now: datetime
) -> dict[str, list[Car]]:
    """The cars of each charging manager that is planned car by car; a manager that is left out is planned as one load.

    Parameters
    ----------
    settings : PlanningSettings
        ``ev`` says whether; None where sessions are known.
    now : datetime
        Nothing that became known later is used.
    """
    from flexergy_pipelines.forecasting.ev_sessions import expected_sessions, session_statistics
    from flexergy_pipelines.grid import EvChargingManager
    from flexergy_pipelines.store.ev_sessions import read_sessions

    found: dict[str, list[Car]] = {}
    if settings.ev == "block":
        return found
    for manager in (c for c in site.controllers if isinstance(c, EvChargingManager)):
        known = read_sessions(db, site.id, now - KNOWN_FOR, now, manager.id)
        if settings.ev is None and known.is_empty():
            continue
        there = cars_there(manager, known, session_statistics(db, site, manager.id, now), site, now)
        expected = [
            Car(
                id=f"{manager.id}@{one.arrival:%m%dT%H%M}-{number}",
                charge_point=one.charge_point,
                arrival=one.arrival,
                departure=one.departure,
                energy_kwh=one.energy_kwh,
                max_kw=one.max_kw,
                priority=5,
                source=one.source,
            )
            for number, one in enumerate(expected_sessions(db, site.id, manager.id, now, horizon.end, known_at=now))
            if one.probability >= LEAST_PROBABILITY
        ]
        found[manager.id] = [*there, *seated(manager, there, expected)]
    return found


def cars_there(
    manager: EvChargingManager, known: pl.DataFrame, statistics: SessionStatistics, site: Site, now: datetime
) -> list[Car]:
    """The cars at the charge points now, with what sessions that lasted at least as long still took and stayed.

    Parameters
    ----------
    known : polars.DataFrame
        Sessions as stored; those whose departure lies ahead go on.
    """
    from flexergy_pipelines.forecasting.ev_statistics import pairs_at
    from flexergy_pipelines.store.ev_sessions import STILL_THERE

    points = {point.id: point for point in manager.charge_points}
    cars = []
    going = known.filter((pl.col("departure") > now) & (pl.col("arrival") > now - LONGEST_STAY))
    for row in going.iter_rows(named=True):
        point = points.get(row["charge_point"])
        if point is None:
            continue
        local = row["arrival"].astimezone(site.zone)
        pairs = pairs_at(statistics, local.hour * 4 + local.minute // 15)
        stayed_h = (now - row["arrival"]).total_seconds() / 3600
        stays, energies = statistics.stay_h[pairs], statistics.energy_kwh[pairs]
        longer = (stays > stayed_h) & (energies > row["energy_kwh"])
        stay_h = float(np.median(stays[longer])) if longer.any() else stayed_h + LEAST_STAY_H
        energy = float(np.mean(energies[longer])) - row["energy_kwh"] if longer.any() else 0.0
        told = row["departure"] > now + 2 * STILL_THERE
        leaves = row["departure"] if told else row["arrival"] + timedelta(hours=max(stay_h, stayed_h + LEAST_STAY_H))
        power = min(point.max_kw, row["max_power_kw"] or point.max_kw)
        cars.append(
            Car(
                id=f"{manager.id}@{point.id}@{row['session_id'].replace('.', '-')[:40]}",
                charge_point=point.id,
                arrival=now,
                departure=leaves,
                energy_kwh=energy,
                max_kw=power,
                priority=point.priority,
                source="now",
                soc=row["soc_end"],
            )
        )
    return cars


def seated(manager: EvChargingManager, there: Sequence[Car], expected: Sequence[Car]) -> list[Car]:
    """The expected cars at charge points that are free by then; one that finds none is left out."""
    free = {point.id: datetime.min.replace(tzinfo=UTC) for point in manager.charge_points}
    for car in there:
        free[car.charge_point] = max(free[car.charge_point], car.departure)
    points = {point.id: point for point in manager.charge_points}
    found = []
    for car in sorted(expected, key=lambda one: one.arrival):
        open_points = [name for name, since in free.items() if since <= car.arrival]
        if not open_points:
            continue
        name = car.charge_point if car.charge_point in open_points else min(open_points)
        free[name] = car.departure
        most = points[name].max_kw
        hours = (car.departure - car.arrival).total_seconds() / 3600
        energy = min(car.energy_kwh, most * hours)
        priority = points[name].priority
        found.append(replace(car, charge_point=name, max_kw=most, energy_kwh=energy, priority=priority))
    return found


def with_cars(problem: Problem, cars: Mapping[str, Sequence[Car]]) -> Problem:
    """The problem with its EV blocks taken apart into cars that share the feeder of their charging manager.

    What is asked for never exceeds what a car can take in the steps it is there. A car that comes before the horizon
    begins has charged as fast as it can until then. A block to which nobody comes stays, and asks for nothing.
    """
    blocks, sessions, groups = [], list(problem.ev_sessions), list(problem.ev_groups)
    bus_of = {} if problem.network is None else dict(problem.network.bus_of)
    for block in problem.ev_blocks:
        if block.id not in cars:
            blocks.append(block)
            continue
        price = block.unmet_price_eur_per_kwh
        own = [made for car in cars[block.id] if (made := _session(car, problem.horizon, price)) is not None]
        if not own:
            blocks.append(block.model_copy(update={"power_kw": np.zeros(problem.horizon.steps)}))
            continue
        names = tuple(session.id for session in own)
        sessions += own
        groups.append(EvGroup(id=block.id, sessions=names, max_kw=block.rated_kw))
        if block.id in bus_of:
            bus_of |= dict.fromkeys(names, bus_of[block.id])
    update: dict[str, Any] = {
        "ev_blocks": tuple(blocks),
        "ev_sessions": tuple(sessions),
        "ev_groups": tuple(groups),
    }
    if problem.network is not None:
        update["network"] = problem.network.model_copy(update={"bus_of": bus_of})
    return problem.model_copy(update=update)


def _session(car: Car, horizon: Horizon, unmet_price_eur_per_kwh: float) -> EvSession | None:
    """A car as the optimizer takes it; None where it wants nothing within the horizon."""
    start = horizon.start.astimezone(UTC)
    before_h = max((start - car.arrival).total_seconds() / 3600, 0.0)
    step_h = horizon.step_minutes / 60
    arrives = max((car.arrival - start).total_seconds() / 3600 / step_h, 0.0)
    leaves = min((car.departure - start).total_seconds() / 3600 / step_h, float(horizon.steps))
    if leaves <= arrives:
        return None
    edges = np.arange(horizon.steps)
    overlap = np.clip(np.minimum(edges + 1, leaves) - np.maximum(edges, arrives), 0.0, 1.0)
    connected = np.where(overlap >= 0.5, 1.0, 0.0)
    if not connected.any():
        connected[int(np.argmax(overlap))] = 1.0
    # What is due at the end of the horizon of a stay that goes beyond it is what could not be charged after it.
    after_h = max((car.departure - horizon.end).total_seconds() / 3600, 0.0)
    asked = car.energy_kwh - car.max_kw * (before_h + after_h)
    asked = min(asked, car.max_kw * float(connected.sum()) * step_h)
    if asked <= 1e-3:
        return None
    gained = asked * EFFICIENCY
    capacity = max(CAR_KWH, gained)
    soc = min(car.soc if car.soc is not None else 1.0 - gained / capacity, 1.0 - gained / capacity)
    return EvSession(
        id=car.id,
        connected=connected,
        capacity_kwh=capacity,
        soc_start=soc,
        soc_target=min(soc + gained / capacity, 1.0),
        max_kw=car.max_kw,
        efficiency=EFFICIENCY,
        priority=car.priority,
        unmet_price_eur_per_kwh=unmet_price_eur_per_kwh,
    )


def limits_of_groups(problem: Problem, plan: Plan, ratings_kw: Mapping[str, tuple[float, float]]) -> pl.DataFrame:
    """Power of each charging manager and the limit to send it: ``asset_id, quantity, time, value``.

    A manager is held to the planned power while a car waits for a better hour; else its rating restricts nothing, so
    that a car which nobody expected charges at once.

    Parameters
    ----------
    ratings_kw : mapping
        Rating of each manager, and the least limit that may be sent to it (kW).
    """
    sessions = {session.id: session for session in problem.ev_sessions}
    times = problem.horizon.times()
    frames = []
    for group in problem.ev_groups:
        if group.id not in ratings_kw:
            continue
        rated, least = ratings_kw[group.id]
        power, waits = np.zeros(problem.horizon.steps), np.zeros(problem.horizon.steps, dtype=bool)
        for name in group.sessions:
            own = plan.column(name, "active_power_kw")
            power += own
            waits |= _waits(sessions[name], own)
        limit = np.where(waits, np.maximum(power, least), rated)
        frames += [
            pl.DataFrame({"asset_id": group.id, "quantity": quantity, "time": times, "value": values})
            for quantity, values in (("active_power_kw", power), ("active_power_limit_kw", limit))
        ]
    schema = {"asset_id": pl.String, "quantity": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64}
    return pl.concat(frames).cast(schema) if frames else pl.DataFrame(schema=schema)  # pyright: ignore[reportArgumentType]


def _waits(session: EvSession, power_kw: FloatArray) -> np.ndarray:
    """Steps in which a car is there and takes less than it could, although it charges later."""
    later = power_kw.sum() - np.cumsum(power_kw)
    room = session.largest_kw - power_kw
    there = np.broadcast_to(session.connected, power_kw.shape) > 0.5
    return there & (room > MOVES_KW) & (later > MOVES_KW)


def charging_patterns(problem: Problem, plan: Plan, cars: Mapping[str, Sequence[Car]]) -> list[dict[str, Any]]:
    """When and how each car charges, for the plan's record."""
    planned = {session.id for session in problem.ev_sessions}
    edges = [*problem.horizon.times(), problem.horizon.end]
    hours = problem.horizon.step_minutes / 60
    rows = []
    for manager, own in cars.items():
        for car in own:
            if car.id not in planned:
                continue
            power = plan.column(car.id, "active_power_kw")
            used = np.flatnonzero(power > MOVES_KW)
            rows.append(
                {
                    "id": car.id,
                    "manager": manager,
                    "charge_point": car.charge_point,
                    "arrival": car.arrival.isoformat(),
                    "departure": car.departure.isoformat(),
                    "source": car.source,
                    "asked_kwh": round(car.energy_kwh, 3),
                    "planned_kwh": round(float(power.sum()) * hours, 3),
                    "from": edges[int(used[0])].isoformat() if used.size else None,
                    "to": edges[int(used[-1]) + 1].isoformat() if used.size else None,
                    "pattern_kw": [[edges[int(step)].isoformat(), round(float(power[step]), 2)] for step in used],
                }
            )
    return rows
