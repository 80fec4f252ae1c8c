"""Checks beside the assets. Errors are broken structure; warnings are content a person should look at.

The quick ones run with their asset. Those by Great Expectations, whose import alone takes seconds and 280 MB, are in a
job of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from assets_defs.resources import StoreResource

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

_FINDING_DAYS = 14
_SAMPLE_ROWS = 20
# Named here, for the definitions must load without the libraries of the quality room; a test compares them.
METERS_AGREE = ("import_energy", "export_energy", "balance")
ODDITIES = ("swapped_phases", "clock_drift", "unusual_day")

Look = Callable[["TenantStore", str, date, date], pl.DataFrame]
Work = Callable[["TenantStore", str, datetime], list[str]]
"""Looks at one site and returns one line for each problem."""


def site_check(
    asset: str, name: str, description: str, work: Work, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN
) -> dg.AssetChecksDefinition:
    """A check that looks at every site and lists what is wrong.

    Parameters
    ----------
    asset, name, description : str
        Asset that is checked, name and description of the check.
    work : callable
        Finds problems of one site.
    severity : AssetCheckSeverity
        Of a finding.
    """

    @dg.asset_check(asset=asset, name=name, description=description)
    def _check(store: StoreResource) -> dg.AssetCheckResult:
        from flexergy_pipelines.store.sites import list_sites

        db, now = store.db(), store.now()
        problems = {site_id: work(db, site_id, now) for site_id in list_sites(db)}
        return check_result(problems, severity)

    return _check


def check_result(problems: Mapping[str, Sequence[str]], severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    """Passed when no site has a problem; else with a list of them."""
    found = [f"- **{site}**: {line}" for site, lines in problems.items() for line in lines]
    metadata: dict[str, Any] = {"sites": len(problems), "problems": len(found)}
    if found:
        metadata["list"] = dg.MetadataValue.md("\n".join(found))
    return dg.AssetCheckResult(passed=not found, severity=severity, metadata=metadata)


def weather_problems(db: "TenantStore", site_id: str, now: datetime) -> list[str]:
    """Gaps in the weather of the coming hours, and a stand-in instead of a forecast."""
    from flexergy_pipelines.store.sites import load_site
    from flexergy_pipelines.store.weather import read_weather

    site = load_site(db, site_id)
    until = now + timedelta(hours=site.forecasts.weather_horizon_hours)
    frame = read_weather(db, site_id, now, until)
    wanted = (until - now) // timedelta(minutes=site.forecasts.weather_granularity_minutes)
    problems = []
    if frame.height < wanted:
        problems.append(f"{frame.height} of {wanted} intervals until {until:%d %b %H:%M} UTC")
    if "provider" in frame.columns and (frame["provider"] == "similar_day").any():
        problems.append("a similar day stands in for the forecast")
    return problems


def price_problems(db: "TenantStore", site_id: str, now: datetime) -> list[str]:
    """Hours of today without a price."""
    from flexergy_pipelines.store.prices import read_prices
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    midnight = now.astimezone(site.zone).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    prices = read_prices(db, site_id, now - timedelta(hours=1), midnight)
    if prices.is_empty():
        return ["no price of the rest of today is known"]
    return []


def forecast_problems(db: "TenantStore", site_id: str, now: datetime) -> list[str]:
    """Targets without a forecast, or with quantiles that cross."""
    from flexergy_pipelines.forecasting import targets_of
    from flexergy_pipelines.store.forecasts import read_forecast
    from flexergy_pipelines.store.sites import load_site

    problems = []
    for target in targets_of(load_site(db, site_id)):
        frame = read_forecast(db, site_id, target.asset_id, target.quantity, now, now + timedelta(hours=24))
        if frame.is_empty():
            problems.append(f"{target.asset_id}: no forecast of the next day")
            continue
        levels = [f"p{level}" for level in range(10, 100, 10) if f"p{level}" in frame.columns]
        crossing = frame.filter(pl.any_horizontal(pl.col(low) > pl.col(high) + 1e-9 for low, high in pairwise(levels)))
        if levels and not crossing.is_empty():
            problems.append(f"{target.asset_id}: quantiles cross in {crossing.height} intervals")
    return problems


def plan_problems(db: "TenantStore", site_id: str, now: datetime) -> list[str]:
    """The active plan against the limits of grid connection and storage, and its balance of power."""
    from flexergy_pipelines.store.plans import read_active_plan
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    plan = read_active_plan(db, site_id, now)
    if plan is None:
        return ["no plan covers the present"]
    problems = []
    power = plan.values.filter(pl.col("quantity") == "active_power_kw")
    grid = site.grid_connection
    for asset_id, low, high in [
        (grid.id, -grid.export_limit_kw, grid.import_limit_kw),
        *((ess.id, -ess.max_charge_kw, ess.max_discharge_kw) for ess in site.ess()),
    ]:
        over = power.filter((pl.col("asset_id") == asset_id) & ~pl.col("value").is_between(low - 1e-3, high + 1e-3))
        if not over.is_empty():
            problems.append(f"{asset_id}: {over.height} steps outside {low:g}..{high:g} kW")
    consumers = [a.id for a in site.assets() if a.kind in {"load", "ev", "controllable_load"}]
    sign = pl.when(pl.col("asset_id").is_in(consumers)).then(-pl.col("value")).otherwise(pl.col("value"))
    balance = power.group_by("time").agg(sign.sum().alias("kw")).filter(pl.col("kw").abs() > 0.1)
    if not balance.is_empty():
        problems.append(f"power does not balance in {balance.height} steps")
    return problems


QUICK_CHECKS = [
    site_check("weather_forecast", "weather_covers_horizon", "Weather is known to the end of the horizon, from a "
               "provider.", weather_problems),
    site_check("day_ahead_prices", "prices_known_today", "Prices of the rest of today are known.", price_problems),
    site_check("forecasts", "every_target_forecast", "Every target has a forecast of the next day and its quantiles "
               "are in order.", forecast_problems, dg.AssetCheckSeverity.ERROR),
    site_check("day_ahead_plan", "day_plan_keeps_limits", "The active plan keeps the limits of grid and storage, and "
               "power balances.", plan_problems, dg.AssetCheckSeverity.ERROR),
    site_check("intraday_plan", "intraday_plan_keeps_limits", "The active plan keeps the limits of grid and storage, "
               "and power balances.", plan_problems, dg.AssetCheckSeverity.ERROR),
]  # fmt: skip


def expectations_check(asset: str, name: str, description: str) -> dg.AssetChecksDefinition:
    """A check by Great Expectations with what the quality room expects of the source."""

    @dg.asset_check(asset=asset, name=name, description=description)
    def _check(store: StoreResource) -> dg.AssetCheckResult:
        from assets_defs import expectations as gx
        from flexergy_pipelines.quality import expectations as expected

        read, suite = {
            "raw_meter_readings": (gx.raw_day, expected.raw_readings),
            "clean_readings": (gx.clean_day_frame, expected.clean_readings),
            "weather_forecast": (gx.weather_ahead, expected.weather),
            "day_ahead_prices": (gx.prices_around, expected.day_ahead_prices),
        }[asset]
        return gx.validate_sites(store, asset, read, suite)

    return _check


def findings_check(name: str, description: str, check_names: Sequence[str], look: Look) -> dg.AssetChecksDefinition:
    """A check whose findings are kept by day for the Data quality page, and shown here with their rows.

    Parameters
    ----------
    name, description : str
        Of the check.
    check_names : sequence of str
        What it looks for, names of `flexergy_pipelines.quality.findings.CHECKS`.
    look : callable
        Looks at a site's days from the first to the last date.
    """

    @dg.asset_check(asset="clean_readings", name=name, description=description)
    def _check(store: StoreResource) -> dg.AssetCheckResult:
        from flexergy_pipelines.store.quality import replace_findings
        from flexergy_pipelines.store.sites import list_sites, load_site

        db, now = store.db(), store.now()
        found: list[pl.DataFrame] = []
        sites = list_sites(db)
        for site_id in sites:
            yesterday = now.astimezone(load_site(db, site_id).zone).date() - timedelta(days=1)
            first = yesterday - timedelta(days=_FINDING_DAYS - 1)
            frame = look(db, site_id, first, yesterday)
            replace_findings(db, site_id, list(check_names), first, yesterday, frame)
            found.append(frame.select(pl.lit(site_id).alias("site"), pl.all()))
        rows = pl.concat(found) if found else pl.DataFrame()
        newest = rows.sort("day", descending=True).head(_SAMPLE_ROWS) if rows.height else rows
        records = (
            [
                dg.TableRecord({name: str(value) for name, value in row.items() if value is not None})
                for row in newest.select("site", "day", "check_name", "subject", "detail").iter_rows(named=True)
            ]
            if rows.height
            else []
        )
        return dg.AssetCheckResult(
            passed=rows.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "sites": len(sites),
                "findings": rows.height,
                **({"rows": dg.MetadataValue.table(records)} if records else {}),
            },
        )

    return _check


def _disagreements(db: "TenantStore", site_id: str, first: date, last: date) -> pl.DataFrame:
    from flexergy_pipelines.quality.findings import find_disagreements

    return find_disagreements(db, site_id, first, last)


def _oddities(db: "TenantStore", site_id: str, first: date, last: date) -> pl.DataFrame:
    from flexergy_pipelines.quality.findings import find_oddities

    return find_oddities(db, site_id, first, last)


_OF_THE_LAST_DAY = "Great Expectations on the last day: columns, keys, missing values, plausible ranges."
EXPECTATIONS = [
    expectations_check("raw_meter_readings", "raw_readings_expectations", _OF_THE_LAST_DAY),
    expectations_check("clean_readings", "clean_readings_expectations", _OF_THE_LAST_DAY),
    expectations_check("weather_forecast", "weather_expectations", "Great Expectations on the weather ahead."),
    expectations_check("day_ahead_prices", "price_expectations", "Great Expectations on the prices around now."),
    findings_check("meters_agree", "Registers agree with integrated power, and the parts with the main meter, on each "
                   "of the last 14 days.", METERS_AGREE, _disagreements),
    findings_check("days_look_usual", "No exchanged phases, no meter whose clock is off, and no day like no other "
                   "(isolation forest) among the last 14 days, judged by the last four months.", ODDITIES, _oddities),
]  # fmt: skip
CHECKS = [*QUICK_CHECKS, *EXPECTATIONS]
