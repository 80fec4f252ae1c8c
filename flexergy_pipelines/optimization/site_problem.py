"""From a site, its series and its state to the problem that is planned. Pure: nothing is read from the store here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.operation.month_peak import billing_start
from flexergy_pipelines.optimization.network_of_site import network_of_site
from flexergy_pipelines.optimization.problem import Horizon, Objective, Problem
from flexergy_pipelines.optimization.series import FloatArray
from flexergy_pipelines.optimization.specs import (
    Battery,
    ControllableLoad,
    DemandCharge,
    Genset,
    GridConnection,
    Load,
    Renewable,
)
from flexergy_pipelines.optimization.specs_ev import EvBlock
from flexergy_pipelines.optimization.specs_wear import CyclePoint, DepthWear
from flexergy_pipelines.optimization.usual_peaks import worth_by_level

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site

WEAR_SEGMENTS = 6


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """What was curtailed of a controllable load: minutes since local midnight, and since the last one ended."""

    curtailed_minutes: int
    minutes_since_last: int


@dataclass(frozen=True, slots=True)
class SiteState:
    """What is known of the site at the start of the plan.

    Attributes
    ----------
    soc : mapping
        SoC of each ESS (0..1).
    soh : mapping
        SoH of each ESS where measured; else the site's own figure holds.
    max_charge_kw, max_discharge_kw : mapping
        Power limits that each ESS reports now (kW); else nameplate.
    unavailable : frozenset
        Assets that can't be used (fault, maintenance).
    running : frozenset
        Gensets that run.
    peak_so_far_kw : float
        Highest import of the billing period (kW).
    usual_peaks_kw : tuple of float
        Peaks that storage could have held earlier days at (kW), see
        :mod:`~flexergy_pipelines.optimization.usual_peaks`.
    minutes_in_state : mapping
        For how long each genset runs or rests, where that is known.
    load_history : mapping
        What was curtailed of controllable loads.
    """

    soc: Mapping[str, float]
    soh: Mapping[str, float] = field(default_factory=dict)
    max_charge_kw: Mapping[str, float] = field(default_factory=dict)
    max_discharge_kw: Mapping[str, float] = field(default_factory=dict)
    unavailable: frozenset[str] = frozenset()
    running: frozenset[str] = frozenset()
    peak_so_far_kw: float = 0.0
    usual_peaks_kw: tuple[float, ...] = ()
    minutes_in_state: Mapping[str, int] = field(default_factory=dict)
    load_history: Mapping[str, LoadHistory] = field(default_factory=dict)


def out_of_operation(site: Site, state: SiteState) -> SiteState:
    """The state with every asset that the site takes out of service counted as unavailable."""
    idle = frozenset(asset.id for asset in site.assets() if not asset.in_service)
    return replace(state, unavailable=state.unavailable | idle)


def build_problem(
    site: Site,
    horizon: Horizon,
    power_kw: Mapping[str, FloatArray],
    spot_eur_per_kwh: FloatArray,
    state: SiteState,
) -> Problem:
    """The planning problem of a site.

    Parameters
    ----------
    site : Site
        The grid model.
    horizon : Horizon
        Planned time.
    power_kw : mapping
        For every source, load, controllable load and EV block: expected uncontrolled power of each step (kW).
    spot_eur_per_kwh : ndarray
        Market price of each step (EUR/kWh).
    state : SiteState
        State at the start.

    Notes
    -----
    Mode ``self_consumption`` puts the least loss of renewable energy to export and curtailment before money;
    ``tariff_management`` is least cost. For a power plant least cost is greatest revenue at the market price.
    """
    operation = site.operation
    state = out_of_operation(site, state)
    return Problem(
        id=site.id,
        horizon=horizon,
        objective=Objective(
            goal="self_consumption" if operation.mode == "self_consumption" else "cost",
            wear_weight=operation.wear_weight,
        ),
        grid=_grid_connection(site, horizon, spot_eur_per_kwh, state),
        network=network_of_site(site),
        batteries=_batteries(site, horizon, state),
        renewables=tuple(
            Renewable(
                id=source.id,
                kind=source.kind,
                available_kw=_present(power_kw[source.id], source.id, state),
                rated_kw=source.rated_kw,
                curtailable=source.curtailable,
            )
            for source in site.sources()
        ),
        gensets=_gensets(site, state),
        loads=tuple(Load(id=load.id, power_kw=np.maximum(power_kw[load.id], 0.0)) for load in site.loads),
        controllable_loads=_controllable_loads(site, power_kw, state),
        ev_blocks=tuple(
            EvBlock(
                id=block.id,
                power_kw=np.maximum(power_kw[block.id], 0.0),
                rated_kw=block.rated_kw,
                min_kw=block.min_limit_kw,
                unmet_price_eur_per_kwh=block.curtailment_cost_eur_per_kwh,
            )
            for block in site.ev_blocks()
        ),
    )


def _controllable_loads(
    site: Site, power_kw: Mapping[str, FloatArray], state: SiteState
) -> tuple[ControllableLoad, ...]:
    made = []
    for load in site.controllable_loads():
        past = state.load_history.get(load.id)
        most = int(load.max_curtailed_minutes)
        if load.id in state.unavailable:
            most = 0
        elif past is not None:
            most = max(most - past.curtailed_minutes, 0)
        made.append(
            ControllableLoad(
                id=load.id,
                power_kw=np.maximum(power_kw[load.id], 0.0),
                rated_kw=load.rated_kw,
                priority=load.priority,
                steps=tuple(sorted(round(1.0 - share, 9) for share in load.curtail_steps if share < 1.0)),
                curtailment_cost_eur_per_kwh=load.curtailment_cost_eur_per_kwh,
                min_minutes_between=int(load.min_minutes_between_curtailments),
                max_curtailed_minutes=most,
                minutes_since_last=1_000_000 if past is None else past.minutes_since_last,
            )
        )
    return tuple(made)


def _present(power_kw: FloatArray, asset_id: str, state: SiteState) -> FloatArray:
    """Expected power of a source, none while it can't be used; forecasts slightly below zero are cut."""
    return np.zeros_like(power_kw) if asset_id in state.unavailable else np.maximum(power_kw, 0.0)


def _demand_charges(site: Site, horizon: Horizon, state: SiteState) -> tuple[DemandCharge, ...]:
    """The month's demand charge, and that of the next month where the plan reaches into it.

    Each in parts: what later days will need anyhow costs nothing more today.
    """
    if site.tariff.demand_charge_eur_per_kw_month <= 0:
        return ()
    first = billing_start(site, horizon.start)
    later = np.array([billing_start(site, at) > first for at in horizon.times()], dtype=np.float64)
    known = state.usual_peaks_kw
    last = horizon.end - timedelta(seconds=1)
    if not later.any():
        return _charge_by_level(site, "month-peak", later, known, (_days_to_come(site, last), state.peak_so_far_kw))
    return (
        *_charge_by_level(site, "month-peak", later, known, (0, state.peak_so_far_kw)),
        *_charge_by_level(site, "next-month-peak", 1.0 - later, known, (_days_to_come(site, last), 0.0)),
    )


def _days_to_come(site: Site, last: datetime) -> int:
    """Whole local days of the billing period behind the one that `last` lies in."""
    end = billing_start(site, billing_start(site, last) + timedelta(days=32))
    return (end.astimezone(site.zone).date() - last.astimezone(site.zone).date()).days - 1


def _charge_by_level(
    site: Site, name: str, leaves_out: FloatArray, usual_kw: Sequence[float], past: tuple[int, float]
) -> tuple[DemandCharge, ...]:
    """One billing period's charge, in shares that count from rising peaks; `past` is days to come and peak so far."""
    days_to_come, so_far_kw = past
    return tuple(
        DemandCharge(
            id=name if number == 0 else f"{name} beyond {level:.1f} kW",
            price_eur_per_kw=site.tariff.demand_charge_eur_per_kw_month * share,
            applies=1.0 - leaves_out,
            peak_so_far_kw=level,
        )
        for number, (level, share) in enumerate(worth_by_level(usual_kw, days_to_come, max(so_far_kw, 0.0)))
    )


def _grid_connection(site: Site, horizon: Horizon, spot_eur_per_kwh: FloatArray, state: SiteState) -> GridConnection:
    connection, tariff = site.grid_connection, site.tariff
    return GridConnection(
        id=connection.id,
        import_price_eur_per_kwh=np.array([tariff.import_price(price) for price in spot_eur_per_kwh.tolist()]),
        export_price_eur_per_kwh=np.array([tariff.export_price(price) for price in spot_eur_per_kwh.tolist()]),
        import_limit_kw=connection.import_limit_kw,
        export_limit_kw=connection.export_limit_kw,
        demand_charges=_demand_charges(site, horizon, state),
        emission_kg_per_kwh=site.emissions.grid_kg_per_kwh,
    )


def _batteries(site: Site, horizon: Horizon, state: SiteState) -> tuple[Battery, ...]:
    """The batteries; each is to end with what it would hold at rest, so that a plan never costs more than resting."""
    batteries = []
    days = horizon.steps * horizon.hours / 24
    for ess in site.ess():
        soc_start = min(max(state.soc[ess.id], 0.0), 1.0)
        self_discharge = min(ess.self_discharge_per_day, 0.999)
        at_rest = soc_start * (1 - self_discharge) ** days
        usable = ess.id not in state.unavailable
        charge = min(ess.max_charge_kw, state.max_charge_kw.get(ess.id, ess.max_charge_kw))
        discharge = min(ess.max_discharge_kw, state.max_discharge_kw.get(ess.id, ess.max_discharge_kw))
        batteries.append(
            Battery(
                id=ess.id,
                energy_capacity_kwh=ess.energy_capacity_kwh * state.soh.get(ess.id, ess.soh),
                max_charge_kw=max(charge, 0.0) if usable else 0.0,
                max_discharge_kw=max(discharge, 0.0) if usable else 0.0,
                soc_min=ess.soc_min,
                soc_max=ess.soc_max,
                charge_efficiency=ess.charge_efficiency,
                discharge_efficiency=ess.discharge_efficiency,
                self_discharge_per_day=self_discharge,
                soc_start=soc_start,
                terminal="at_least",
                terminal_soc=min(max(at_rest, ess.soc_min), ess.soc_max),
                wear_cost_eur_per_kwh=ess.wear_cost_eur_per_kwh,
                depth_wear=DepthWear(
                    replacement_cost_eur_per_kwh=ess.replacement_cost_eur_per_kwh,
                    cycle_life=tuple(
                        CyclePoint(depth=point.depth, cycles=point.cycles)
                        for point in sorted(ess.cycle_life, key=lambda point: point.depth)
                    ),
                    segments=WEAR_SEGMENTS,
                ),
            )
        )
    return tuple(batteries)


def _gensets(site: Site, state: SiteState) -> tuple[Genset, ...]:
    return tuple(
        Genset(
            id=genset.id,
            min_kw=genset.min_kw,
            max_kw=genset.max_kw,
            available=0.0 if genset.id in state.unavailable else 1.0,
            fuel_cost_eur_per_kwh=genset.fuel_cost_eur_per_kwh,
            start_cost_eur=genset.start_cost_eur,
            min_up_minutes=round(genset.min_up_minutes),
            min_down_minutes=round(genset.min_down_minutes),
            running_at_start=genset.id in state.running,
            minutes_in_state=state.minutes_in_state.get(genset.id, 1_000_000),
            ramp_kw_per_minute=genset.ramp_kw_per_s * 60,
            emission_kg_per_kwh=genset.emissions_kg_per_kwh,
        )
        for genset in site.gensets()
    )
