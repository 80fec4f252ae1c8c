"""What changes a site's problem beyond its forecasts: settings, modes, interventions, services, reserve. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from flexergy_pipelines.optimization.blocks.reserve import margin_from_quantiles
from flexergy_pipelines.optimization.blocks.tariff import peak_already_billed
from flexergy_pipelines.optimization.problem import Horizon, Problem
from flexergy_pipelines.optimization.series import FloatArray, expand
from flexergy_pipelines.optimization.settings import RENEWABLES_PRICE_EUR_PER_KWH, PlanningSettings, ServiceOffer
from flexergy_pipelines.optimization.specs_battery import Battery, Headroom
from flexergy_pipelines.optimization.specs_market import Reserve, Service

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.operation.modes import ModeInForce
    from flexergy_pipelines.operation.outages import Outage
    from flexergy_pipelines.store.ancillary import Transaction

FULL_ANSWER_HOURS = 0.25
"""For how long a full answer to the frequency must last: at least 15 minutes by Regulation (EU) 2017/1485, Art. 156."""
EARLIER_IS_DEARER = 1.5
"""Least ratio between the prices of two functions of which one stands before the other in the list of priorities."""


@dataclass(frozen=True, slots=True)
class MarketNews:
    """What the markets told: prices of services (columns as stored) and what was sold."""

    prices: pl.DataFrame
    sold: Sequence[Transaction]


def apply_settings(problem: Problem, settings: PlanningSettings) -> Problem:
    """The problem with the operator's functions, their priorities, weights and the objective."""
    update: dict[str, Any] = {}
    if settings.goal is not None:
        update["goal"] = settings.goal
    if settings.function("battery_life") is not None:
        update["wear_weight"] = problem.objective.wear_weight * settings.weight("battery_life")
    changed: dict[str, Any] = {"objective": problem.objective.model_copy(update=update)} if update else {}
    if problem.grid is not None and settings.function("peak_shaving") is not None:
        weight = settings.weight("peak_shaving")
        charges = tuple(
            charge.model_copy(update={"price_eur_per_kw": charge.price_eur_per_kw * weight})
            for charge in problem.grid.demand_charges
            if weight > 0
        )
        changed["grid"] = problem.grid.model_copy(update={"demand_charges": charges})
    prices = _prices_by_priority(problem, settings)
    if "ev_charging" in prices:
        changed["ev_blocks"] = tuple(
            block.model_copy(update={"unmet_price_eur_per_kwh": prices["ev_charging"]}) for block in problem.ev_blocks
        )
    if "load_supply" in prices:
        changed["controllable_loads"] = tuple(
            load.model_copy(update={"curtailment_cost_eur_per_kwh": prices["load_supply"]})
            for load in problem.controllable_loads
        )
    if "renewables" in prices:
        changed["renewables"] = tuple(
            source.model_copy(update={"curtailment_price_eur_per_kwh": prices["renewables"]})
            for source in problem.renewables
        )
    return problem.model_copy(update=changed)


def _prices_by_priority(problem: Problem, settings: PlanningSettings) -> dict[str, float]:
    """Price of energy not served by function (EUR/kWh): weighted, and falling along the list of priorities."""
    own = {
        "ev_charging": max((block.unmet_price_eur_per_kwh for block in problem.ev_blocks), default=0.0),
        "load_supply": max((load.curtailment_cost_eur_per_kwh for load in problem.controllable_loads), default=0.0),
        "renewables": RENEWABLES_PRICE_EUR_PER_KWH,
    }
    prices: dict[str, float] = {}
    least = 0.0
    for function in reversed(settings.functions):
        if function.name not in own:
            continue
        price = own[function.name] * settings.weight(function.name)
        if price > 0:
            price = max(price, least * EARLIER_IS_DEARER)
            least = price
        prices[function.name] = price
    return prices


def paid_peak_kw(problem: Problem) -> FloatArray:
    """Import that a demand charge bills already, in each step (kW): up to it more power costs nothing more."""
    charges = () if problem.grid is None else problem.grid.demand_charges
    return peak_already_billed(charges, problem.horizon.steps)


def apply_modes(problem: Problem, modes: Sequence[ModeInForce], paid_kw: FloatArray | float = 0.0) -> Problem:
    """The problem with what the scheduled modes ask for, step by step.

    Limits of a mode bind in its steps; a goal (self-consumption, zero flow) holds for the whole plan when its mode
    covers more than half of it, and zero flow also narrows the exchange in its own steps. Peak shaving holds the
    import at its own limit or at what is paid for already, whichever is higher, as the control loop does.

    Parameters
    ----------
    paid_kw : ndarray or float
        See :func:`paid_peak_kw`.
    """
    steps = problem.horizon.steps
    inside = {id(mode): steps_inside(problem.horizon, mode.since, mode.until) for mode in modes}
    share: dict[str, float] = {}
    for mode in modes:
        share[mode.mode] = share.get(mode.mode, 0.0) + float(inside[id(mode)].mean())
    goal: Literal["self_consumption", "zero_flow"] | None = None
    if share.get("self_consumption", 0.0) > 0.5:
        goal = "self_consumption"
    if share.get("zero_flow", 0.0) > 0.5:
        goal = "zero_flow"
    changed: dict[str, Any] = {}
    if goal is not None:
        changed["objective"] = problem.objective.model_copy(update={"goal": goal})
    if problem.grid is not None:
        most = {"import": problem.grid.import_limit_kw, "export": problem.grid.export_limit_kw}
        limits = {name: None if value is None else expand(value, steps).copy() for name, value in most.items()}
        for mode in modes:
            for direction, limit in _limits_of(mode, paid_kw).items():
                before = limits[direction]
                before = np.full(steps, 1e9) if before is None else before
                limits[direction] = np.where(inside[id(mode)], np.minimum(before, limit), before)
        changed["grid"] = problem.grid.model_copy(
            update={f"{name}_limit_kw": limit for name, limit in limits.items() if limit is not None}
        )
    resting = np.zeros(steps, dtype=bool)
    for mode in modes:
        if mode.mode in {"idle", "manual"}:
            resting |= inside[id(mode)]
    if resting.any():
        changed["batteries"] = tuple(_without(battery, resting, steps) for battery in problem.batteries)
    return problem.model_copy(update=changed)


def _limits_of(mode: ModeInForce, paid_kw: FloatArray | float) -> dict[str, FloatArray | float]:
    if mode.mode in {"zero_flow", "islanded"}:
        return {"import": 0.0, "export": 0.0}
    if mode.mode == "peak_shaving":
        return {"import": np.maximum(mode.parameters["import_kw"], paid_kw)}
    if mode.mode == "export_cap":
        return {"export": mode.parameters["export_kw"]}
    return {}


def apply_outages(problem: Problem, outages: Sequence[Outage]) -> Problem:
    """The problem without the assets that are out of operation, for as long as they are."""
    steps = problem.horizon.steps
    out: dict[str, np.ndarray] = {}
    for outage in outages:
        there = steps_inside(problem.horizon, outage.starts_at, outage.ends_at)
        out[outage.asset_id] = out.get(outage.asset_id, np.zeros(steps, dtype=bool)) | there
    if not out:
        return problem
    return problem.model_copy(
        update={
            "batteries": tuple(_without(b, out[b.id], steps) if b.id in out else b for b in problem.batteries),
            "renewables": tuple(
                r.model_copy(update={"available_kw": np.where(out[r.id], 0.0, expand(r.available_kw, steps))})
                if r.id in out
                else r
                for r in problem.renewables
            ),
            "gensets": tuple(
                g.model_copy(update={"available": np.where(out[g.id], 0.0, expand(g.available, steps))})
                if g.id in out
                else g
                for g in problem.gensets
            ),
        }
    )


def _without(battery: Any, out: np.ndarray, steps: int) -> Any:
    return battery.model_copy(
        update={
            name: np.where(out, 0.0, expand(getattr(battery, name), steps))
            for name in ("max_charge_kw", "max_discharge_kw")
        }
    )


def steps_inside(horizon: Horizon, since: datetime, until: datetime | None) -> np.ndarray:
    """Steps that a stretch of time touches."""
    start = horizon.start.astimezone(UTC)
    step = horizon.step_minutes * 60
    first = int(np.floor((since - start).total_seconds() / step))
    last = horizon.steps if until is None else int(np.ceil((until - start).total_seconds() / step))
    places = np.arange(horizon.steps)
    return (places >= first) & (places < last)


def services_of(
    settings: PlanningSettings, news: MarketNews, horizon: Horizon, zone: ZoneInfo, now: datetime
) -> tuple[Service, ...]:
    """The services that are offered, or were sold, over a horizon.

    Blocks are counted from local midnight. A block whose gate is closed takes no new bid; what was sold in it is held.
    """
    if not settings.enabled("services", otherwise=True):
        return ()
    return tuple(_service(offer, settings, news, horizon, zone, now) for offer in settings.services)


def _service(  # noqa: PLR0917 - everything that a service depends on
    offer: ServiceOffer, settings: PlanningSettings, news: MarketNews, horizon: Horizon, zone: ZoneInfo, now: datetime
) -> Service:
    steps, step = horizon.steps, timedelta(minutes=horizon.step_minutes)
    block_steps = max(offer.block_minutes // horizon.step_minutes, 1)
    start = horizon.start.astimezone(zone)
    midnight = datetime.combine(start.date(), time(0), zone).astimezone(UTC)
    offset = round((horizon.start.astimezone(UTC) - midnight) / step) % block_steps
    block_of = (np.arange(steps) + offset) // block_steps
    opens = [horizon.start.astimezone(UTC) + (int(block) * block_steps - offset) * step for block in block_of]
    gate = timedelta(minutes=offer.gate_closes_minutes)
    closed = np.array([begins - gate <= now.astimezone(UTC) for begins in opens], dtype=np.float64)
    sold = {"up": np.zeros(steps), "down": np.zeros(steps)}
    for sale in news.sold:
        if sale.product == offer.product:
            there = steps_inside(horizon, sale.starts_at, sale.ends_at)
            for direction in ("up", "down") if sale.direction == "both" else (sale.direction,):
                sold[direction] += np.where(there, sale.power_kw, 0.0)
    weight = settings.weight("services")
    up, down = (_price(offer, news.prices, direction, horizon) for direction in ("up", "down"))
    return Service(
        id=offer.id,
        kind=offer.product,
        up_price_eur_per_kw_h=up * weight * (0.5 if offer.symmetric else 1.0),
        down_price_eur_per_kw_h=down * weight * (0.5 if offer.symmetric else 1.0),
        up=offer.up,
        down=offer.down,
        symmetric=offer.symmetric,
        duration_hours=offer.duration_minutes / 60,
        activation_up=offer.activation_up,
        activation_down=offer.activation_down,
        block_steps=block_steps,
        block_offset=offset,
        sold_up_kw=sold["up"] if offer.up else 0.0,
        sold_down_kw=sold["down"] if offer.down else 0.0,
        closed=closed,
        min_bid_kw=offer.min_bid_kw,
        bid_step_kw=offer.bid_step_kw,
        max_bid_kw=offer.max_bid_kw,
        providers=offer.providers,
        excludes=offer.excludes,
    )


def _price(offer: ServiceOffer, prices: pl.DataFrame, direction: str, horizon: Horizon) -> FloatArray:
    """Price of holding a kilowatt for an hour in each step: as told for the direction, for both, else as set."""
    found = np.full(horizon.steps, offer.price_eur_per_kw_h)
    if offer.price_source == "fixed":
        return found
    for wanted in ("both", direction):
        own = prices.filter(
            (pl.col("product") == offer.product)
            & (pl.col("direction") == wanted)
            & pl.col("capacity_price_eur_per_kw_h").is_not_null()
        )
        for row in own.iter_rows(named=True):
            ends = row["time"] + timedelta(minutes=row["resolution_minutes"])
            there = steps_inside(horizon, row["time"], ends)
            found[there] = row["capacity_price_eur_per_kw_h"]
    return found


def with_reserve(
    problem: Problem, quantiles_kw: Mapping[str, tuple[FloatArray, FloatArray]], settings: PlanningSettings
) -> Problem:
    """The problem with spinning reserve for what the forecasts may miss, where that function is on."""
    if not settings.enabled("reserve", otherwise=False):
        return problem
    steps, weight = problem.horizon.steps, settings.weight("reserve")

    def bands(assets: Sequence[Any], name: str) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
        return [
            (low, expand(getattr(asset, name), steps), high)
            for asset in assets
            if asset.id in quantiles_kw
            for low, high in (quantiles_kw[asset.id],)
        ]

    load = bands((*problem.loads, *problem.controllable_loads, *problem.ev_blocks), "power_kw")
    up, down = margin_from_quantiles(load, bands(problem.renewables, "available_kw"))
    reserve = Reserve(
        up_kw=np.broadcast_to(up * weight, steps),
        down_kw=np.broadcast_to(down * weight, steps),
        duration_hours=settings.reserve_minutes / 60,
        with_gensets=settings.reserve_with_genset,
    )
    return problem.model_copy(update={"reserve": reserve})


def with_headroom(problem: Problem, site: Site) -> Problem:
    """The problem with the power that batteries owe the frequency by a droop of the grid code kept free.

    Where frequency containment reserve is offered or sold, that is what the droop delivers: it is held as a service
    already, block by block. A table of P(f) asks for power only in an emergency, and holds nothing.
    """
    if any(service.kind == "fcr" for service in problem.services):
        return problem
    owed = {rule.asset: rule.reserve_kw for rule in site.grid_code.frequency if rule.droop is not None}
    batteries = tuple(_owing(battery, owed.get(battery.id, 0.0)) for battery in problem.batteries)
    return problem.model_copy(update={"batteries": batteries})


def _owing(battery: Battery, reserve_kw: float) -> Battery:
    """The battery with its reserve kept free, as far as it has power at all: one out of operation owes nothing."""
    if reserve_kw <= 0:
        return battery
    up, down = np.minimum(battery.max_discharge_kw, reserve_kw), np.minimum(battery.max_charge_kw, reserve_kw)
    headroom = Headroom(up_kw=up, down_kw=down, hours=FULL_ANSWER_HOURS)
    return battery.model_copy(update={"headroom": headroom})
