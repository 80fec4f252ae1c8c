"""Accounts for a site's day, month, year or any period, and stores the figures."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from flexergy_pipelines.kpis import battery, economics, energy
from flexergy_pipelines.kpis.figures import Figure, figures_frame
from flexergy_pipelines.kpis.flows import Flows, positive
from flexergy_pipelines.kpis.loading import cost_rates, load_flows
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import period
from flexergy_pipelines.store.kpis_table import write_kpis
from flexergy_pipelines.store.sites import load_site

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    import polars as pl

    from flexergy_pipelines.grid import ESS, Site
    from flexergy_pipelines.store.engine import TenantStore

LONGEST: Final = timedelta(days=3 * 366)


def local_day(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """UTC bounds of a local day of 23, 24 or 25 hours."""
    return _midnight(day, zone), _midnight(day + timedelta(days=1), zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def account_day(db: TenantStore, site_id: str, day: date, now: datetime) -> pl.DataFrame:
    """Account for one local day and store the figures.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    day : date
        A day in the site's time zone; one that is not over is accounted up to `now`, and coverage says so.
    now : datetime
        The present; a later day is refused.

    Returns
    -------
    pl.DataFrame
        As `read_kpis`, period_kind "day".
    """
    site = load_site(db, site_id)
    start, end = local_day(day, site.zone)
    if start > now:
        raise InvalidDataError(f"KPIs of {site_id}: {day} has not begun at {now.isoformat()}")
    return _account(db, site, "day", start, end)


def account_month(db: TenantStore, site_id: str, year: int, month: int) -> pl.DataFrame:
    """Account for a local month and store the figures (period_kind "month")."""
    site = load_site(db, site_id)
    first = date(year, month, 1)
    following = date(year + month // 12, month % 12 + 1, 1)
    return _account(db, site, "month", _midnight(first, site.zone), _midnight(following, site.zone))


def account_year(db: TenantStore, site_id: str, year: int) -> pl.DataFrame:
    """Account for a local year and store the figures (period_kind "year")."""
    site = load_site(db, site_id)
    return _account(
        db, site, "year", _midnight(date(year, 1, 1), site.zone), _midnight(date(year + 1, 1, 1), site.zone)
    )


def account_period(db: TenantStore, site_id: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Account for any period that a user picks, without storing; bounds on the quarter hour.

    Returns
    -------
    pl.DataFrame
        As `read_kpis`, period_kind "period".
    """
    first, last = period(start, end)
    if last - first > LONGEST:
        raise InvalidDataError(
            f"KPIs of {site_id}: the period is {(last - first).days} days long; up to {LONGEST.days}"
        )
    for moment in (first, last):
        if moment.minute % 15 or moment.second or moment.microsecond:
            raise InvalidDataError(f"KPIs of {site_id}: {moment.isoformat()} is not on a quarter hour")
    site = load_site(db, site_id)
    return figures_frame(figures(load_flows(db, site, first, last), site), "period", first)


def _account(db: TenantStore, site: Site, kind: str, start: datetime, end: datetime) -> pl.DataFrame:
    frame = figures_frame(figures(load_flows(db, site, start, end), site), kind, start)
    write_kpis(db, site.id, frame)
    return frame


def figures(flows: Flows, site: Site) -> list[Figure]:
    """All figures of a period."""
    rates = cost_rates(site)
    money = economics.money(flows, rates)
    found = [
        *energy.energy_statistics(flows),
        *money,
        *economics.emissions(flows, rates),
        energy.surplus_use(flows),
        *energy.curtailment_reduction(flows),
        *energy.peak_shaving(flows),
        energy.system_efficiency(flows),
    ]
    if flows.ids("pv", "wind"):
        found.append(energy.smoothing(flows))
    cycles = 0.0
    for ess in site.ess():
        own = battery_figures(flows, ess)
        cycles += next(figure.value or 0.0 for figure in own if figure.kpi == "equivalent_full_cycles")
        found += own
    if site.ess():
        by_name = {figure.kpi: figure for figure in money}
        saved, wear = by_name["savings"], by_name["battery_wear"]
        earned = saved.value - wear.value if saved.value is not None and wear.value is not None else None
        per_cycle = earned / cycles if earned is not None and cycles > 0 else None
        told = f"savings less wear, over {cycles:.3g} full cycles"
        found.append(Figure("cycle_benefit", per_cycle, "EUR", saved.coverage, reference=told))
    return found


def battery_figures(flows: Flows, ess: ESS) -> list[Figure]:
    """Cycles, wear, health, availability and useful energy of one ESS."""
    power, soc = flows.power_kw[ess.id], flows.soc[ess.id]
    measured = float(np.mean(flows.good[ess.id])) if flows.intervals else 0.0
    of_soc = float(np.mean(~np.isnan(soc))) if flows.intervals else 0.0
    wear = battery.cycle_damage(soc, ess.cycles_at, flows.intervals * flows.step_hours)
    discharged = flows.energy(positive(power))
    ready = flows.available[ess.id]
    known = soc[~np.isnan(soc)]
    stored = known * ess.energy_capacity_kwh * ess.soh
    trip = (
        battery.round_trip_efficiency(flows.energy(positive(-power)), discharged, float(stored[0]), float(stored[-1]))
        if known.size > 1
        else None
    )
    window = (ess.soc_min, ess.soc_max)
    useful = battery.useful_energy(ess.energy_capacity_kwh, ess.soh, window, ess.discharge_efficiency)
    return [
        Figure(
            "equivalent_full_cycles",
            battery.equivalent_full_cycles(discharged, ess.energy_capacity_kwh),
            "cycles",
            measured,
            scope=ess.id,
        ),
        Figure("cycle_damage", wear.damage, "fraction", of_soc, scope=ess.id, reference="of the life from new"),
        Figure("cycles_to_failure", wear.cycles_to_failure, "cycles", of_soc, scope=ess.id),
        Figure("years_to_failure", wear.years_left, "a", of_soc, scope=ess.id, reference="by cycling alone, from new"),
        Figure("round_trip_efficiency", trip, "fraction", min(measured, of_soc), scope=ess.id),
        Figure("soh", ess.soh, "fraction", 1.0, scope=ess.id, reference="as configured"),
        Figure("useful_energy", useful, "kWh", 1.0, scope=ess.id, reference=f"nominal {ess.energy_capacity_kwh:g} kWh"),
        Figure(
            "availability",
            battery.availability(ready),
            "fraction",
            float(np.mean(~np.isnan(ready))) if flows.intervals else 0.0,
            scope=ess.id,
        ),
    ]
