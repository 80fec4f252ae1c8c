"""Accounting of a stored site: from readings to figures, on days of 23, 24 and 25 hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.kpis import account_day, account_month, account_period, account_year
from flexergy_pipelines.kpis.accounting import local_day
from flexergy_pipelines.store import InvalidDataError, TenantStore
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.frequency_curves import (
    FrequencyCurve,
    read_frequency_curves,
    write_frequency_curve,
)
from flexergy_pipelines.store.kpis_table import read_kpis
from flexergy_pipelines.store.plans import PlanRecord, write_plan
from flexergy_pipelines.store.prices import write_prices
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.setpoints import write_setpoints
from flexergy_pipelines.store.sites import save_site

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
# A closed balance [kW]: 100 + 10 + 30 consumed = 60 + 15 + 0 generated + 20 discharged + 45 imported
STEADY = {"load-1": 100, "ev-1": 10, "cold-store": 30, "pv-1": 60, "wind-1": 15, "genset-1": 0, "ess-1": 20, "pcc": 45}


@pytest.fixture
def site(db: TenantStore) -> Site:
    site = sample_site("microgrid")
    save_site(db, site)
    return site


def steady(start: datetime, end: datetime, step: str = "15m") -> pl.DataFrame:
    """Constant power of every asset, and a SoC that falls by 0.04 an hour."""
    times = pl.DataFrame({"time": pl.datetime_range(start, end, step, closed="left", eager=True)}).with_columns(
        pl.col("time").cast(pl.Datetime("us", "UTC"))
    )
    power = pl.DataFrame(
        [(asset, "active_power_kw", float(value)) for asset, value in STEADY.items()],
        schema=["asset_id", "quantity", "value"],
        orient="row",
    ).join(times, how="cross")
    soc = times.select(
        pl.lit("ess-1").alias("asset_id"),
        pl.lit("soc").alias("quantity"),
        (0.9 - (pl.col("time") - start).dt.total_seconds() / 3600 * 0.02).alias("value"),
        "time",
    )
    ready = soc.with_columns(quantity=pl.lit("available"), value=pl.lit(1.0))
    return pl.concat([power, soc, ready])


def prices(start: datetime, end: datetime) -> pl.DataFrame:
    hours = pl.DataFrame({"time": pl.datetime_range(start, end, "1h", closed="left", eager=True)})
    return hours.with_columns(
        pl.col("time").cast(pl.Datetime("us", "UTC")),
        price_eur_per_kwh=pl.lit(0.1),
        resolution_minutes=pl.lit(60),
    )


def figure(frame: pl.DataFrame, kpi: str, scope: str = "site") -> dict:
    return frame.filter((pl.col("kpi") == kpi) & (pl.col("scope") == scope)).row(0, named=True)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 5, 5), 24), (date(2026, 10, 25), 25)])
def test_a_local_day_is_accounted_with_the_hours_it_has(db: TenantStore, site: Site, day: date, hours: int) -> None:
    start, end = local_day(day, site.zone)
    assert (end - start) / timedelta(hours=1) == hours
    margin = timedelta(hours=3)
    write_readings(db, site.id, steady(start - margin, end + margin, "5m"), "test")
    write_prices(db, site.id, "day_ahead", prices(start - margin, end + margin), start - timedelta(days=1))
    frame = account_day(db, site.id, day, NOW)
    for kpi, per_hour in (("grid_import", 45), ("demand", 140), ("res_generation", 75), ("energy_discharged", 20)):
        assert figure(frame, kpi)["value"] == pytest.approx(per_hour * hours), kpi
    tariff = site.tariff
    bought = 45 * hours * (0.1 + tariff.import_adder_eur_per_kwh)
    standing = tariff.standing_charge_eur_per_day * hours / 24
    cost = figure(frame, "cost")
    assert (cost["value"], cost["coverage"]) == (pytest.approx(bought + standing), 1.0)
    without = figure(frame, "cost_without_ess")["value"]
    assert without == pytest.approx(65 / 45 * bought + standing)
    assert figure(frame, "cost_reduction")["reference"] == f"without ESS: {without:.2f} EUR"
    assert figure(frame, "equivalent_full_cycles", "ess-1")["value"] == pytest.approx(20 * hours / 500)
    assert figure(frame, "availability", "ess-1")["value"] == 1.0
    stored = read_kpis(db, site.id, start, end, period_kind="day")
    assert stored.sort("scope", "kpi").equals(frame.sort("scope", "kpi"))
    assert stored["kpi"].n_unique() >= 30


def test_clean_values_count_before_raw_ones_and_filled_in_ones_are_no_good_data(db: TenantStore, site: Site) -> None:
    start, end = local_day(date(2026, 5, 5), site.zone)
    raw = steady(start, end)
    write_readings(db, site.id, raw, "test")
    clean = raw.filter(pl.col("asset_id") == "pcc").with_columns(
        value=pl.lit(50.0), flag=pl.when(pl.col("time") < start + timedelta(hours=6)).then(pl.lit("interpolated"))
    )
    write_clean(db, site.id, clean)
    frame = account_day(db, site.id, date(2026, 5, 5), NOW)
    bought = figure(frame, "grid_import")
    assert (bought["value"], bought["coverage"]) == (pytest.approx(50 * 24), pytest.approx(0.75))


def test_half_a_day_of_data_is_told_as_half(db: TenantStore, site: Site) -> None:
    day = date(2026, 5, 5)
    start, end = local_day(day, site.zone)
    write_readings(db, site.id, steady(start, start + (end - start) / 2), "test")
    bought = figure(account_day(db, site.id, day, start + timedelta(hours=12)), "grid_import")
    assert (bought["value"], bought["coverage"]) == (pytest.approx(45 * 12), 0.5)
    cost = figure(account_day(db, site.id, day, NOW), "cost")
    assert (cost["value"], cost["coverage"]) == (None, 0.0)
    with pytest.raises(InvalidDataError, match="has not begun"):
        account_day(db, site.id, NOW.date() + timedelta(days=2), NOW)


def test_months_and_periods_that_a_user_picks_agree_with_their_days(db: TenantStore, site: Site) -> None:
    first = local_day(date(2026, 5, 1), site.zone)[0]
    write_readings(db, site.id, steady(first, first + timedelta(days=2)), "test")
    month = account_month(db, site.id, 2026, 5)
    assert figure(month, "grid_import")["value"] == pytest.approx(45 * 48)
    assert figure(month, "grid_import")["coverage"] == pytest.approx(2 / 31)
    picked = account_period(db, site.id, first + timedelta(hours=6), first + timedelta(hours=30))
    assert figure(picked, "grid_import")["value"] == pytest.approx(45 * 24)
    assert figure(picked, "grid_import")["coverage"] == 1.0
    assert read_kpis(db, site.id, period_kind="period").is_empty()
    with pytest.raises(InvalidDataError, match="not on a quarter hour"):
        account_period(db, site.id, first + timedelta(minutes=1), first + timedelta(days=1))
    with pytest.raises(InvalidDataError, match="4000 days long"):
        account_period(db, site.id, first, first + timedelta(days=4000))


STATISTICS = {
    "grid_import", "grid_export", "res_generation", "generation", "ev_energy", "load_energy", "self_consumption",
    "res_share", "energy_charged", "energy_discharged", "flexibility", "equivalent_full_cycles", "hours_at_zero",
    "peak_shifted", "peak_shifted_share", "savings", "saifi", "saidi", "caidi", "asai", "co2_emitted",
    "emission_reduction",
}  # fmt: skip
INDICATORS = {
    "smoothing", "predictability", "park_revenue", "surplus", "curtailment", "profit", "peak_shaving", "outage_risk",
    "lcoe", "lole", "generation_reliability", "cost_reduction", "emission_reduction", "security_of_supply",
    "congestion", "allocation", "frequency_control", "soh", "cycle_benefit", "efficiency", "cycles_to_failure",
    "availability", "useful_energy",
}  # fmt: skip


@pytest.mark.requirement("energy.05.1", "energy.05.3")
def test_a_month_has_its_bill_and_every_statistic_for_the_site_and_its_assets(db: TenantStore, site: Site) -> None:
    start, end = local_day(date(2026, 5, 5), site.zone)
    write_readings(db, site.id, steady(start, end), "test")
    write_prices(db, site.id, "day_ahead", prices(start, end), start - timedelta(days=1))
    volts = pl.DataFrame({"time": pl.datetime_range(start, end, "1m", closed="left", eager=True)}).with_columns(
        pl.col("time").cast(pl.Datetime("us", "UTC")),
        asset_id=pl.lit("pcc"),
        quantity=pl.lit("voltage_l1_v"),
        value=pl.when(pl.int_range(pl.len()).is_between(60, 149)).then(0.0).otherwise(230.0),
    )
    write_readings(db, site.id, volts, "test")
    demand = pl.DataFrame({"time": [start], "sent": [10.0], "status": ["ok"]}).with_columns(
        pl.col("time").cast(pl.Datetime("us", "UTC")),
        asset_id=pl.lit("cold-store"),
        quantity=pl.lit("active_power_limit_kw"),
    )
    write_setpoints(db, site.id, demand)
    before = steady(start - timedelta(days=14), start).filter(pl.col("asset_id") == "cold-store")
    write_readings(db, site.id, before.with_columns(value=pl.lit(38.0)), "test")
    month = account_month(db, site.id, 2026, 5)
    told = set(month["kpi"])
    assert told >= STATISTICS
    assert told >= INDICATORS
    year = account_year(db, site.id, 2026)
    assert set(year["kpi"]) >= INDICATORS | STATISTICS
    assert figure(year, "grid_import")["value"] == pytest.approx(figure(month, "grid_import")["value"])
    tariff = site.tariff
    bill = 45 * 24 * (0.1 + tariff.import_adder_eur_per_kwh) + tariff.standing_charge_eur_per_day * 31
    assert figure(month, "cost")["value"] == pytest.approx(bill)
    assert figure(month, "cost")["coverage"] < 1 / 15
    assert figure(month, "generation", "pv-1")["value"] == pytest.approx(60 * 24)
    assert figure(month, "consumption", "cold-store")["value"] == pytest.approx(30 * 24 + 38 * 24 * 4)
    assert figure(month, "energy_discharged", "ess-1")["value"] == pytest.approx(20 * 24)
    assert figure(month, "flexibility", "cold-store")["value"] == pytest.approx(2.0)
    assert figure(month, "saifi")["value"] == 1
    assert figure(month, "saidi")["value"] == pytest.approx(1.5)
    assert figure(month, "asai")["value"] == pytest.approx(1 - 1.5 / (31 * 24))


def test_frequency_control_is_accounted_against_the_curve_that_held(db: TenantStore, site: Site) -> None:
    """Half an hour at 49.9 Hz: 50 kW are owed beyond the plan's 20; delivered for 20 of the 30 minutes."""
    day = date(2026, 5, 5)
    start, end = local_day(day, site.zone)
    begin = start + timedelta(hours=10)
    times = pl.Series([begin + k * timedelta(minutes=1) for k in range(60)]).cast(pl.Datetime("us", "UTC"))
    frequency = pl.DataFrame({"time": times, "value": [49.9] * 30 + [50.0] * 30}).with_columns(
        asset_id=pl.lit("pcc"), quantity=pl.lit("frequency_hz")
    )
    power = pl.DataFrame({"time": times, "value": [70.0] * 20 + [20.0] * 40}).with_columns(
        asset_id=pl.lit("ess-1"), quantity=pl.lit("active_power_kw")
    )
    write_readings(db, site.id, pl.concat([frequency, power]), "test")
    values = pl.DataFrame({"time": times[:1], "value": [20.0]}).with_columns(
        asset_id=pl.lit("ess-1"), quantity=pl.lit("active_power_setpoint_kw")
    )
    write_plan(db, PlanRecord(site.id, "intraday", start, start, end, 60, "optimal"), values)
    told = figure(account_day(db, site.id, day, NOW), "frequency_control")
    assert (told["value"], told["reference"]) == (None, "no P(f) curve is configured")
    old = FrequencyCurve("ess-1", start - timedelta(days=9), ((49.5, 500.0), (50.5, -500.0)), 1.0)
    write_frequency_curve(db, site.id, old)
    write_frequency_curve(db, site.id, replace(old, valid_from=start, points=((49.8, 100.0), (50.0, 0.0))))
    frame = account_day(db, site.id, day, NOW)
    found = figure(frame, "frequency_control", "ess-1")
    assert (found["value"], found["reference"]) == (pytest.approx(2 / 3), "activated for 0.5 h")
    assert found["coverage"] == pytest.approx((59 * 60 + 90) / 86400)
    assert figure(frame, "frequency_energy_up", "ess-1")["value"] == pytest.approx(50 / 3)


@pytest.mark.requirement("energy.06.1")
def test_all_23_indicators_of_a_measured_month_have_values(db: TenantStore, site: Site) -> None:
    """Every second hour PV gives 260 kW instead of 60 and the battery takes 100 instead of giving 20."""
    start, end = local_day(date(2026, 5, 1), site.zone)[0], local_day(date(2026, 5, 31), site.zone)[1]
    sunny = (pl.col("time").dt.hour() % 2 == 0).alias("sunny")
    changed = {"pv-1": 260.0, "ess-1": -100.0, "pcc": -35.0}
    frame = steady(start, end).with_columns(
        value=pl.when(sunny & (pl.col("quantity") == "active_power_kw"))
        .then(pl.col("asset_id").replace_strict(changed, default=pl.col("value"), return_dtype=pl.Float64))
        .otherwise(pl.col("value"))
    )
    swing = pl.when(sunny).then(0.3).otherwise(0.5) + pl.col("time").dt.minute() / 400
    frame = frame.with_columns(value=pl.when(pl.col("quantity") == "soc").then(swing).otherwise(pl.col("value")))
    hertz = frame.filter(pl.col("asset_id") == "pcc").with_columns(quantity=pl.lit("frequency_hz"), value=pl.lit(49.92))
    write_readings(db, site.id, pl.concat([frame, hertz]), "test")
    dear = prices(start, end).with_columns(price_eur_per_kwh=pl.when(sunny).then(0.05).otherwise(0.3))
    write_prices(db, site.id, "day_ahead", dear, start - timedelta(days=1))
    declared = frame.filter(
        pl.col("asset_id").is_in(["pv-1", "wind-1", "ess-1"]) & (pl.col("quantity") == "active_power_kw")
    ).with_columns(value=pl.col("value") + 5)
    write_plan(db, PlanRecord(site.id, "day_ahead", start, start, end, 15, "optimal"), declared)
    write_frequency_curve(db, site.id, FrequencyCurve("ess-1", start, ((49.8, 50.0), (50.0, 0.0)), 1.0))
    for frame_of_period in (account_month(db, site.id, 2026, 5), account_period(db, site.id, start, end)):
        told = frame_of_period.filter(pl.col("value").is_not_null())
        assert set(told["kpi"]) >= INDICATORS
        assert "" not in set(told["unit"])
    assert set(account_year(db, site.id, 2026)["kpi"]) >= INDICATORS
    assert len(INDICATORS) == 23


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        (((50.0, 0.0),), "at least two"),
        (((50.2, 0.0), (50.0, 10.0)), "rising frequency"),
        (((49.8, 0.0), (50.2, 10.0)), "power rises"),
        (((0.0, 0.0), (50.2, -10.0)), "outside 40 to 70 Hz"),
        (((49.8, float("nan")), (50.2, -10.0)), "not finite"),
    ],
)
def test_a_curve_that_would_drive_the_frequency_away_is_refused(
    db: TenantStore, site: Site, points: tuple, complaint: str
) -> None:
    with pytest.raises(InvalidDataError, match=complaint):
        write_frequency_curve(db, site.id, FrequencyCurve("ess-1", NOW, points, 1.0))
    assert read_frequency_curves(db, site.id, NOW - timedelta(days=1), NOW + timedelta(days=1)) == []
