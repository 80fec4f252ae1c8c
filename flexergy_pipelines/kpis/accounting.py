"""Accounts for a site's day, month, year or any period, and stores the figures."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final

from flexergy_pipelines.kpis import economics, energy, market, supply
from flexergy_pipelines.kpis.declared import declared_profile, limited_baseline, supply_quality
from flexergy_pipelines.kpis.figures import Figure, figures_frame
from flexergy_pipelines.kpis.flows import Flows
from flexergy_pipelines.kpis.loading import cost_rates, load_flows, market_price
from flexergy_pipelines.kpis.phases import balance_by_phase, connections_of, phase_powers
from flexergy_pipelines.kpis.services import frequency_control
from flexergy_pipelines.kpis.storage_figures import battery_figures, hindsight_parts, storage_limits
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import period
from flexergy_pipelines.store.kpis_table import write_kpis
from flexergy_pipelines.store.sites import load_site

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    import polars as pl

    from flexergy_pipelines.grid import Site
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
    return figures_frame(figures(db, load_flows(db, site, first, last), site), "period", first)


def _account(db: TenantStore, site: Site, kind: str, start: datetime, end: datetime) -> pl.DataFrame:
    frame = figures_frame(figures(db, load_flows(db, site, start, end), site), kind, start)
    write_kpis(db, site.id, frame)
    return frame


def figures(db: TenantStore, flows: Flows, site: Site) -> list[Figure]:
    """All figures of a period."""
    rates = cost_rates(site)
    money = {figure.kpi: figure for figure in economics.money(flows, rates)}
    limits = storage_limits(site)
    gensets = {genset.id: genset.max_kw for genset in site.gensets() if genset.in_service}
    assumptions = supply.SupplyAssumptions()
    profile = declared_profile(db, site, flows)
    spot, imbalance = market_price(db, site.id, flows), market_price(db, site.id, flows, "imbalance")
    of_storage = [figure for ess in site.ess() for figure in battery_figures(flows, ess)]
    earned = _earned(money)
    return [
        *energy.energy_statistics(flows),
        *energy.balance(flows),
        *balance_by_phase(flows, connections_of(site), phase_powers(db, site, flows)),
        *money.values(),
        *economics.emissions(flows, rates),
        *market.shifted_energy(flows),
        *supply_quality(db, site, flows),
        *supply.flexibility(flows, limited_baseline(db, site, flows)),
        energy.smoothing(flows),
        market.predictability(flows, profile),
        market.park_revenue(flows, spot, profile, imbalance),
        energy.surplus_use(flows),
        *energy.curtailment_reduction(flows),
        *energy.peak_shaving(flows),
        supply.outage_risk(flows, limits, sum(gensets.values()), assumptions),
        _levelized_cost(flows, site),
        *supply.loss_of_load_figures(flows, limits, gensets, assumptions),
        supply.security_of_supply(flows, limits, gensets),
        *supply.congestion(flows),
        market.allocation(flows, hindsight_parts(flows, site), earned),
        *frequency_control(db, site, flows),
        energy.system_efficiency(flows),
        *of_storage,
        _cycle_benefit(of_storage, earned, money["savings"].coverage),
    ]


def _earned(money: dict[str, Figure]) -> float | None:
    """What storage earned [EUR]: the lower bill, less wear."""
    saved, wear = money["savings"].value, money["battery_wear"].value
    return saved - wear if saved is not None and wear is not None else None


def _cycle_benefit(of_storage: list[Figure], earned: float | None, coverage: float) -> Figure:
    cycles = sum(figure.value or 0.0 for figure in of_storage if figure.kpi == "equivalent_full_cycles")
    told = f"savings less wear, over {cycles:.3g} full cycles"
    per_cycle = earned / cycles if earned is not None and cycles > 0 else None
    return Figure("cycle_benefit", per_cycle, "EUR", coverage, reference=told)


def _levelized_cost(flows: Flows, site: Site) -> Figure:
    """LCOE of the site's own generation; only where the investment of every source is configured."""
    sources = [*site.sources(), *site.gensets()]
    unknown = [source.id for source in sources if source.capex_eur is None]
    coverage = flows.coverage("pv", "wind", "genset")
    if unknown or not sources:
        told = f"no capex_eur is configured of {', '.join(unknown)}" if unknown else "no sources"
        return Figure("lcoe", None, "EUR/kWh", coverage, reference=told)
    produced = flows.energy(flows.total("pv", "wind", "genset"))
    cost = economics.levelized_cost_of(
        [(source.capex_eur or 0.0, source.lifetime_years, source.operation_eur_per_year) for source in sources],
        produced,
        period_years=flows.intervals * flows.step_hours / 8766,
        fuel_eur=economics.fuel_cost(flows, cost_rates(site)),
    )
    return Figure("lcoe", cost, "EUR/kWh", coverage, reference="7 % over each source's life, with fixed O&M and fuel")
