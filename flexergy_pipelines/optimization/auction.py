"""What a plan offers at the markets: bids with quantity and price, what each unit can give, and the system's capacity.

A bid's price is what holding the power costs the plan: the shadow price of covering one more kilowatt over the block,
with every whole-number decision as it is; never more than the market price that the bid was planned with, at which it
was worth while. Below it the bid would lose money.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.specs import Battery
from flexergy_pipelines.optimization.specs_market import Service

TIME = pl.Datetime("us", "UTC")
LEAST_BID_KW = 1e-6
_BIDS = {
    "service": pl.String,
    "product": pl.String,
    "direction": pl.String,
    "start": TIME,
    "end": TIME,
    "bid_kw": pl.Float64,
    "price_eur_per_kw_h": pl.Float64,
    "market_price_eur_per_kw_h": pl.Float64,
    "sold_kw": pl.Float64,
    "revenue_eur": pl.Float64,
}
_UNITS = {
    "service": pl.String,
    "direction": pl.String,
    "start": TIME,
    "end": TIME,
    "unit": pl.String,
    "largest_kw": pl.Float64,
    "free_kw": pl.Float64,
    "held_kw": pl.Float64,
    "reason": pl.String,
}


def bids(problem: Problem, plan: Plan) -> pl.DataFrame:
    """Bids of a plan, one row for each service, direction ("both" for a symmetric product) and auction period.

    Returns
    -------
    pl.DataFrame
        service, product, direction, start, end, bid_kw, price_eur_per_kw_h (what it has to earn at least; null where
        the plan has no shadow prices), market_price_eur_per_kw_h (what it was planned with), sold_kw, revenue_eur.
    """
    rows: list[tuple[object, ...]] = []
    for service in problem.services:
        block_of = service.blocks(problem.horizon.steps)
        directions = _directions(service)
        for shown in ["both"] if service.symmetric else directions:
            parts = directions if shown == "both" else [shown]
            places = [np.flatnonzero(block_of == block) for block in range(int(block_of[-1]) + 1)]
            rows += [_bid(problem, plan, service, shown, parts, inside) for inside in places]
    return pl.DataFrame(rows, schema=_BIDS, orient="row")


def _bid(  # noqa: PLR0917 - one bid of a plan
    problem: Problem, plan: Plan, service: Service, shown: str, parts: list[str], inside: np.ndarray
) -> tuple[object, ...]:
    """One bid; that of a symmetric product earns and costs what its two directions do together."""
    steps, hours = problem.horizon.steps, problem.horizon.hours
    market, earned = 0.0, 0.0
    least: float | None = 0.0
    bid, sold = np.zeros(steps), np.zeros(steps)
    for part in parts:
        price = expand(getattr(service, f"{part}_price_eur_per_kw_h"), steps)
        duals = plan.duals.get((service.id, f"{part}_covered"))
        bid = plan.column(service.id, f"{part}_bid_kw")
        sold = np.maximum(sold, expand(getattr(service, f"sold_{part}_kw"), steps))
        market += float(price[inside].mean())
        earned += float((bid[inside] * price[inside]).sum()) * hours
        least = None if duals is None or least is None else least + float(duals[inside].sum()) / (inside.size * hours)
    start, end = _period(problem, inside)
    asked = None if least is None else max(least, 0.0)
    first = int(inside[0])
    # At a step of bids, or at its end, the shadow price is that of the next kilowatt, which is dearer than those bid.
    if asked is not None and bid[first] > LEAST_BID_KW and sold[inside].max() <= 0:
        asked = min(asked, max(market, 0.0))
    return (
        service.id, service.kind, shown, start, end, float(bid[first]), asked, market, float(sold[inside].max()), earned
    )  # fmt: skip


def unit_capacities(problem: Problem, plan: Plan) -> pl.DataFrame:
    """What each unit can give in each auction period.

    Returns
    -------
    pl.DataFrame
        service, direction, start, end, unit, largest_kw (by its rating, availability and usable energy), free_kw (in
        the worst step, beside its planned operation and at the planned SoC), held_kw (what the plan holds in it),
        reason (why it gives nothing, else empty).
    """
    rows = []
    steps = problem.horizon.steps
    for service in problem.services:
        block_of = service.blocks(steps)
        for direction in _directions(service):
            for battery in problem.batteries:
                provides = not service.providers or battery.id in service.providers
                largest, free = _headroom(battery, service, direction, plan, steps)
                held = _held(plan, service, direction, battery.id, steps)
                for block in range(int(block_of[-1]) + 1):
                    inside = np.flatnonzero(block_of == block)
                    able = float(largest[inside].min())
                    reason = "" if provides and able > 0 else _why_not(battery, provides, inside, steps)
                    rows.append(
                        (service.id, direction, *_period(problem, inside), battery.id, able if provides else 0.0,
                         max(float(free[inside].min()), 0.0) if provides else 0.0, float(held[inside].min()), reason)
                    )  # fmt: skip
    return pl.DataFrame(rows, schema=_UNITS, orient="row")


@dataclass(frozen=True, slots=True)
class SystemCapacity:
    """What the storage as a whole can do within the boundaries of its use case.

    Attributes
    ----------
    charge_kw, discharge_kw : ndarray
        In each step: the units' power, no more than the grid connection's limits leave beside the planned rest of the
        site.
    energy_kwh : float
        Usable energy between the SoC limits of the units in operation.
    limited_by : str
        What bounds the power most often.
    """

    charge_kw: FloatArray
    discharge_kw: FloatArray
    energy_kwh: float
    limited_by: str


def system_capacity(problem: Problem, plan: Plan) -> SystemCapacity:
    """Capacity of the system for the use case in force: units, SoC windows and the limits at the connection."""
    steps = problem.horizon.steps
    charge = sum((expand(b.max_charge_kw, steps) for b in problem.batteries), np.zeros(steps))
    discharge = sum((expand(b.max_discharge_kw, steps) for b in problem.batteries), np.zeros(steps))
    own = [b for b in problem.batteries if expand(b.max_discharge_kw, steps).any()]
    energy = sum(((b.soc_max - b.soc_min) * b.energy_capacity_kwh for b in own), 0.0)
    limited = "the units"
    grid = problem.grid
    if grid is not None and problem.batteries:
        storage = sum((plan.column(b.id, "active_power_kw") for b in problem.batteries), np.zeros(steps))
        rest = plan.column(grid.id, "active_power_kw") + storage  # what the site takes without its storage (kW)
        room = [charge, discharge]
        if grid.import_limit_kw is not None:
            room[0] = np.clip(expand(grid.import_limit_kw, steps) - rest, 0.0, charge)
        if grid.export_limit_kw is not None:
            room[1] = np.clip(expand(grid.export_limit_kw, steps) + rest, 0.0, discharge)
        cut = (room[0] < charge - 1e-6) | (room[1] < discharge - 1e-6)
        if cut.mean() > 0.5:
            limited = "the grid connection"
        charge, discharge = room
    return SystemCapacity(charge, discharge, energy, limited)


def _directions(service: Service) -> list[str]:
    return [name for name, offered in (("up", service.up), ("down", service.down)) if offered]


def _period(problem: Problem, inside: np.ndarray) -> tuple[datetime, datetime]:
    start, step = problem.horizon.start.astimezone(UTC), timedelta(minutes=problem.horizon.step_minutes)
    return start + int(inside[0]) * step, start + (int(inside[-1]) + 1) * step


def _headroom(
    battery: Battery, service: Service, direction: str, plan: Plan, steps: int
) -> tuple[FloatArray, FloatArray]:
    """Power that the unit could give at most, and what is free beside its planned operation (kW)."""
    bought = (expand(service.available, steps) > 0.5).astype(np.float64)
    charge, discharge = expand(battery.max_charge_kw, steps) * bought, expand(battery.max_discharge_kw, steps) * bought
    power = plan.column(battery.id, "active_power_kw")
    soc = plan.column(battery.id, "soc")
    capacity, hours = battery.energy_capacity_kwh, service.duration_hours
    window = (battery.soc_max - battery.soc_min) * capacity
    discharging, charging = np.maximum(power, 0.0), np.maximum(-power, 0.0)
    # What each kilowatt takes from the store, or puts into it, over the duration (kWh).
    by_charge, by_discharge = hours * battery.charge_efficiency, hours / battery.discharge_efficiency
    if direction == "up":
        stored = np.maximum((soc - battery.soc_min) * capacity, 0.0)
        free = _two_ways(stored, (charging, by_charge), (discharge - discharging, by_discharge))
        largest = np.minimum(discharge, _over(window, by_discharge))
    else:
        stored = np.maximum((battery.soc_max - soc) * capacity, 0.0)
        free = _two_ways(stored, (charge - charging, by_charge), (discharging, by_discharge))
        largest = np.minimum(charge, _over(window, by_charge))
    return largest, free * bought


def _two_ways(energy: FloatArray, first: tuple[FloatArray, float], second: tuple[FloatArray, float]) -> FloatArray:
    """Most power that an energy suffices for, the way that needs less of it first."""
    one = np.minimum(np.maximum(first[0], 0.0), _over(energy, first[1]))
    return one + np.minimum(np.maximum(second[0], 0.0), _over(energy - one * first[1], second[1]))


def _over(energy: FloatArray | float, per_kw: float) -> FloatArray:
    return np.full_like(energy, np.inf, dtype=np.float64) if per_kw == 0 else np.asarray(energy) / per_kw


def _held(plan: Plan, service: Service, direction: str, unit: str, steps: int) -> FloatArray:
    name = f"{service.id}@{unit}.{direction}_held_kw"
    return plan.schedule[name].to_numpy() if name in plan.schedule.columns else np.zeros(steps)


def _why_not(battery: Battery, provides: bool, inside: np.ndarray, steps: int) -> str:
    if not provides:
        return "not among the providers"
    power = expand(battery.max_charge_kw, steps)[inside] + expand(battery.max_discharge_kw, steps)[inside]
    return "out of operation" if (power <= 0).any() else "not bought in this period"
