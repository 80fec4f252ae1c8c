"""Figures of storage systems, from flows and nameplate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from flexergy_pipelines.kpis import battery, economics
from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.flows import Flows, positive
from flexergy_pipelines.kpis.market import Storage
from flexergy_pipelines.kpis.supply import StorageLimits

if TYPE_CHECKING:
    from flexergy_pipelines.grid import ESS, Site

DISCOUNT_RATE: Final = 0.07
_HOURS_A_YEAR: Final = 8766.0


def battery_figures(flows: Flows, ess: ESS) -> list[Figure]:
    """Cycles, wear, health, availability and useful energy of one ESS."""
    power, soc = flows.power_kw[ess.id], flows.soc[ess.id]
    measured = float(np.mean(flows.good[ess.id])) if flows.intervals else 0.0
    of_soc = _known(soc)
    wear = battery.cycle_damage(soc, ess.cycles_at, flows.intervals * flows.step_hours)
    used = bool(of_soc)
    discharged, charged = flows.energy(positive(power)), flows.energy(positive(-power))
    health = _health(flows, ess)
    known = soc[~np.isnan(soc)]
    stored = known * ess.energy_capacity_kwh * (health[0].value or ess.soh)
    trip = None
    if known.size > 1 and discharged > 0:
        trip = battery.round_trip_efficiency(charged, discharged, float(stored[0]), float(stored[-1]))
    window = (ess.soc_min, ess.soc_max)
    useful = battery.useful_energy(
        ess.energy_capacity_kwh, health[0].value or ess.soh, window, ess.discharge_efficiency
    )
    ready = flows.available[ess.id]
    cycles = battery.equivalent_full_cycles(discharged, ess.energy_capacity_kwh)
    of_life = f"of the life from new, {wear.full_cycles:.3g} cycles by rainflow"
    return [
        Figure("energy_charged", charged, "kWh", measured, scope=ess.id),
        Figure("energy_discharged", discharged, "kWh", measured, scope=ess.id),
        Figure("equivalent_full_cycles", cycles, "cycles", measured, scope=ess.id),
        Figure("cycle_damage", wear.damage if used else None, "fraction", of_soc, scope=ess.id, reference=of_life),
        Figure("cycles_to_failure", wear.cycles_to_failure if used else None, "cycles", of_soc, scope=ess.id),
        Figure(
            "years_to_failure",
            wear.years_left if used else None,
            "a",
            of_soc,
            scope=ess.id,
            reference="by cycling alone, from new",
        ),
        Figure("round_trip_efficiency", trip, "fraction", min(measured, of_soc), scope=ess.id),
        *health,
        Figure(
            "useful_energy",
            useful,
            "kWh",
            1.0,
            scope=ess.id,
            reference=f"nominal {ess.energy_capacity_kwh:g} kWh, SoH {health[0].value:.3g} ({health[0].reference})",
        ),
        Figure("availability", battery.availability(ready), "fraction", _known(ready), scope=ess.id),
        _levelized_cost_of_storage(flows, ess, charged, discharged, measured),
    ]


def _known(series: np.ndarray) -> float:
    return float(np.mean(~np.isnan(series))) if series.size else 0.0


def _health(flows: Flows, ess: ESS) -> list[Figure]:
    """State of health as the device tells it (else as configured), and the capacity measured from use beside it."""
    told = flows.soh[ess.id]
    found = battery.measured_capacity(
        flows.power_kw[ess.id],
        flows.soc[ess.id],
        flows.step_hours,
        charge_efficiency=ess.charge_efficiency,
        discharge_efficiency=ess.discharge_efficiency,
    )
    measured = found.capacity_kwh / ess.energy_capacity_kwh if found else None
    error = f"error {found.error_kwh / ess.energy_capacity_kwh:.2g}" if found else "too little use to tell"
    beside = f"measured capacity {measured:.3f} of nominal, {error}" if measured is not None else error
    of_soc = _known(flows.soc[ess.id])
    if _known(told):
        own = Figure("soh", float(np.nanmean(told)), "fraction", _known(told), scope=ess.id, reference=beside)
    elif measured is not None:
        own = Figure("soh", measured, "fraction", of_soc, scope=ess.id, reference=f"measured from use, {error}")
    else:
        own = Figure("soh", ess.soh, "fraction", 0.0, scope=ess.id, reference=f"as configured; {beside}")
    return [
        own,
        Figure("soh_measured", measured, "fraction", of_soc, scope=ess.id, reference=error),
    ]


def _levelized_cost_of_storage(flows: Flows, ess: ESS, charged: float, discharged: float, coverage: float) -> Figure:
    """Cost of a kWh from the store: annuity of its investment and the energy charged, over the energy discharged."""
    if ess.capex_eur is None:
        return Figure("lcoe", None, "EUR/kWh", coverage, scope=ess.id, reference="no capex_eur is configured")
    bought = flows.energy(positive(-flows.power_kw[ess.id]) * flows.import_price) if charged > 0 else 0.0
    cost = economics.levelized_cost(
        ess.capex_eur,
        discharged,
        years=ess.calendar_life_years,
        rate=DISCOUNT_RATE,
        period_years=flows.intervals * flows.step_hours / _HOURS_A_YEAR,
        fuel_eur=bought,
    )
    told = f"of energy discharged; charging at the import price, {DISCOUNT_RATE:.0%} over {ess.calendar_life_years:g} a"
    return Figure("lcoe", cost, "EUR/kWh", coverage, scope=ess.id, reference=told)


def storage_limits(site: Site) -> dict[str, StorageLimits]:
    """What each ESS of a site can give in an outage."""
    return {
        ess.id: StorageLimits(
            max_discharge_kw=ess.max_discharge_kw,
            soc_min=ess.soc_min,
            deliverable_kwh_per_soc=ess.energy_capacity_kwh * ess.soh * ess.discharge_efficiency,
        )
        for ess in site.ess()
        if ess.in_service
    }


def hindsight_parts(flows: Flows, site: Site) -> list[tuple[Flows, Storage]]:
    """A period in parts of at most a week, each with the store as it began and ended; empty where that is not known."""
    week = round(7 * 24 / flows.step_hours)
    parts = []
    for first in range(0, flows.intervals, week):
        part = flows.part(first, min(first + week, flows.intervals))
        store = hindsight_store(part, site)
        if store is None:
            return []
        parts.append((part, store))
    return parts


def hindsight_store(flows: Flows, site: Site) -> Storage | None:
    """The only ESS of a site for the hindsight optimum; None with several, or where its SoC is not known."""
    if len(site.ess()) != 1:
        return None
    ess = site.ess()[0]
    soc = flows.soc[ess.id]
    known = soc[~np.isnan(soc)]
    if known.size < 2:
        return None
    capacity = ess.energy_capacity_kwh * ess.soh
    lowest, highest = min(ess.soc_min, float(known.min())), max(ess.soc_max, float(known.max()))
    return Storage(
        max_charge_kw=ess.max_charge_kw,
        max_discharge_kw=ess.max_discharge_kw,
        lowest_kwh=lowest * capacity,
        highest_kwh=highest * capacity,
        charge_efficiency=ess.charge_efficiency,
        discharge_efficiency=ess.discharge_efficiency,
        wear_eur_per_kwh=ess.wear_cost_eur_per_kwh,
        start_kwh=float(known[0]) * capacity,
        end_kwh=float(known[-1]) * capacity,
    )
