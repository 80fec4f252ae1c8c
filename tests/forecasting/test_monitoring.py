"""Served forecasts are judged day by day; what is wrong becomes an alarm, a request to train, and is cleared again."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexergy_pipelines.forecasting.drift import seasonal_index, stability_index, usual_index
from flexergy_pipelines.forecasting.health import (
    ACCURACY,
    DRIFT,
    INPUTS,
    Health,
    assess_site,
    judge_target,
    targets_to_retrain,
)
from flexergy_pipelines.forecasting.monitoring import LEADS_H, lead_name, monitor_day
from flexergy_pipelines.forecasting.scoreboard import record_attempts, record_scores
from flexergy_pipelines.forecasting.targets import targets_of
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.forecasts import ForecastRun, write_forecast
from flexergy_pipelines.store.kpis_table import read_kpis
from flexergy_pipelines.store.sites import save_site
from tests.forecasting.data import utc

SITE = sample_site("microgrid")
SITE = SITE.model_copy(
    update={
        "forecasts": SITE.forecasts.model_copy(
            update={"excluded_assets": ("pv-1", "wind-1", "cold-store", "ev-1", "market")}
        )
    }
)
[LOAD] = targets_of(SITE)
NOW = utc(2026, 3, 31, 6)
QUARTER = timedelta(minutes=15)
SCOPE = "load-1/active_power_kw"


def shape(moment: datetime) -> float:
    return 50.0 + 20.0 * np.sin(2 * np.pi * moment.hour / 24) + moment.minute / 30


def measure(db: TenantStore, days: int, *, offset: dict[date, float] | None = None) -> None:
    start = NOW - timedelta(days=days)
    times = [start + QUARTER * i for i in range(96 * days)]
    values = [shape(t) + (offset or {}).get(t.date(), 0.0) for t in times]
    frame = pl.DataFrame({"time": times, "value": values}).with_columns(
        asset_id=pl.lit("load-1"), quantity=pl.lit("active_power_kw"), flag=pl.lit(None, dtype=pl.String),
        uncertainty=pl.lit(None, dtype=pl.Float64),
    )  # fmt: skip
    write_clean(db, SITE.id, frame)


def serve(db: TenantStore, first: datetime, days: int, error_kw: float, level: int = 0) -> None:
    """A forecast every twelve hours, `error_kw` too high in the first half of its horizon and twice that later."""
    for k in range(days * 2):
        issued = first + timedelta(hours=12 * k)
        times = [issued + QUARTER * i for i in range(192)]
        values = np.array([shape(t) for t in times]) + np.where(np.arange(192) < 48, error_kw, 2 * error_kw)
        bands = {f"p{q}": values + (q - 50) / 10 for q in range(10, 100, 10)}
        run = ForecastRun(SITE.id, "load-1", "active_power_kw", issued, "ensemble", "1", level)
        write_forecast(db, run, pl.DataFrame({"time": times, "value": values, **bands}))


def figures(db: TenantStore, kpi: str) -> list[float]:
    return read_kpis(db, SITE.id, period_kind="monitoring", scope=SCOPE, kpi=kpi)["value"].to_list()


def standing(db: TenantStore) -> dict[str, int]:
    return {row["code"]: row["severity"] for row in list_alarms(db, SITE.id).iter_rows(named=True)}


def test_a_day_is_scored_by_lead_time_from_what_was_served(db: TenantStore) -> None:
    save_site(db, SITE)
    measure(db, 20)
    serve(db, utc(2026, 3, 20), 10, 1.0, level=1)
    [found] = monitor_day(db, SITE.id, date(2026, 3, 28), NOW)
    assert found.share == 1.0
    assert found.values[lead_name(LEADS_H[0])] == pytest.approx(1.0)
    assert found.values[lead_name(LEADS_H[1])] == pytest.approx(1.0)
    assert found.values[lead_name(LEADS_H[3])] == pytest.approx(2.0)
    assert found.values["bias"] == pytest.approx(found.values["mae"])
    assert found.values["coverage_80"] == 1.0
    assert found.values["fallback_share"] == 1.0
    assert found.values["naive_mae"] == pytest.approx(0.0)
    assert found.values["input_quality"] == 1.0
    assert figures(db, "mae") == [pytest.approx(found.values["mae"])]
    monitor_day(db, SITE.id, date(2026, 3, 28), NOW)
    assert len(figures(db, "mae")) == 1


@pytest.mark.parametrize(("day", "intervals"), [(date(2026, 3, 29), 92), (date(2026, 3, 28), 96)])
def test_days_of_23_hours_are_whole_days(db: TenantStore, day: date, intervals: int) -> None:
    save_site(db, SITE)
    measure(db, 10)
    serve(db, utc(2026, 3, 25), 6, 1.0)
    [found] = monitor_day(db, SITE.id, day, NOW)
    assert found.share == 1.0
    assert found.values["input_quality"] == 1.0
    assert intervals in (92, 96)


@pytest.mark.requirement("energy.02.1")
def test_decayed_accuracy_alarms_asks_for_training_and_is_cleared_when_it_is_back(db: TenantStore) -> None:
    save_site(db, SITE)
    measure(db, 30)
    record_scores(db, SITE.id, utc(2026, 3, 2), [(LOAD, "ensemble", {"mae": 1.0, "naive_mae": 2.0})])
    record_attempts(db, SITE.id, utc(2026, 3, 2), [(LOAD, True, "first model")])
    serve(db, utc(2026, 3, 10), 12, 5.0)
    health: list[Health] = []
    for day in range(14, 22):
        health = assess_site(db, SITE.id, monitor_day(db, SITE.id, date(2026, 3, day), NOW), utc(2026, 3, 22))
    assert ACCURACY in health[0].complaints
    assert "times the 1 kW of its backtest" in health[0].complaints[ACCURACY]
    assert standing(db)[ACCURACY] == 3
    assert targets_to_retrain(db, SITE.id, utc(2026, 3, 22)) == {LOAD.name: health[0].retrain}
    assert targets_to_retrain(db, SITE.id, utc(2026, 3, 28)) == {}

    record_attempts(db, SITE.id, utc(2026, 3, 22, 3), [(LOAD, False, "significantly worse")])
    assert targets_to_retrain(db, SITE.id, utc(2026, 3, 22, 6)) == {}

    serve(db, utc(2026, 3, 22), 9, 0.5)
    for day in range(24, 31):
        health = assess_site(db, SITE.id, monitor_day(db, SITE.id, date(2026, 3, day), NOW), NOW)
    assert health[0].complaints.keys() <= {"forecast_bias", "forecast_coverage"}
    assert ACCURACY not in standing(db)


def test_a_site_can_forbid_automatic_training(db: TenantStore) -> None:
    limits = SITE.forecasts.monitoring.model_copy(update={"retrain": False, "window_days": 1})
    save_site(db, SITE.model_copy(update={"forecasts": SITE.forecasts.model_copy(update={"monitoring": limits})}))
    measure(db, 30)
    record_scores(db, SITE.id, utc(2026, 3, 2), [(LOAD, "ensemble", {"mae": 1.0, "naive_mae": 2.0})])
    serve(db, utc(2026, 3, 27), 3, 5.0)
    health = assess_site(db, SITE.id, monitor_day(db, SITE.id, date(2026, 3, 29), NOW), NOW)
    assert ACCURACY in health[0].complaints
    assert targets_to_retrain(db, SITE.id, NOW) == {}


def test_drift_of_the_measurements_and_missing_values_are_told_apart(db: TenantStore) -> None:
    save_site(db, SITE)
    rebuilt = {date(2026, 3, 1) + timedelta(days=k): 60.0 for k in range(30)}
    measure(db, 120, offset=rebuilt)
    record_scores(db, SITE.id, utc(2026, 2, 20), [(LOAD, "ensemble", {"mae": 100.0, "naive_mae": 200.0})])
    [found] = monitor_day(db, SITE.id, date(2026, 3, 30), NOW)
    [health] = assess_site(db, SITE.id, [found], NOW)
    assert found.values["psi_target"] > 1.0
    assert set(health.complaints) == {DRIFT}
    assert health.retrain
    [tomorrow] = monitor_day(db, SITE.id, date(2026, 3, 31), utc(2026, 4, 1, 6))
    assert tomorrow.values["input_quality"] < 0.5
    [health] = assess_site(db, SITE.id, [tomorrow], utc(2026, 4, 1, 6))
    assert INPUTS in health.complaints


@given(st.integers(0, 10_000), st.floats(0.1, 50.0), st.floats(-100, 100))
def test_the_stability_index_is_small_for_the_same_distribution_and_does_not_know_units(
    seed: int, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    reference, recent, other = rng.normal(size=3000), rng.normal(size=2000), rng.normal(1.5, 1.0, 2000)
    same = stability_index(reference, recent)
    assert 0 <= same < 0.1
    assert stability_index(reference * scale + shift, recent * scale + shift) == pytest.approx(same, abs=0.02)
    assert stability_index(reference, other) > 0.5


def test_a_season_is_no_drift_but_a_change_beyond_it_is() -> None:
    minutes = np.arange(0, 800 * 1440, 60, dtype=np.int64)
    rng = np.random.default_rng(0)
    values = 100 + 50 * np.sin(2 * np.pi * minutes / 525960) + rng.normal(0, 30, minutes.size)
    now = 790 * 1440
    usual = seasonal_index(minutes, values, now - 7 * 1440, now)
    changed = np.where(minutes > now - 28 * 1440, values * 2.0, values)
    assert usual < 0.25 < stability_index(values[: 365 * 24], values[762 * 24 : 790 * 24])
    assert seasonal_index(minutes, changed, now - 30 * 1440, now) > 1.0
    assert np.isnan(seasonal_index(minutes[:500], values[:500], now, now))


def test_what_always_wandered_is_no_drift() -> None:
    minutes = np.arange(0, 400 * 1440, 60, dtype=np.int64)
    rng = np.random.default_rng(1)
    months = np.repeat(rng.normal(0, 3, 20), 28 * 24)[: minutes.size]
    wandering = 10 + months + rng.normal(0, 2, minutes.size)
    now = 399 * 1440
    index = seasonal_index(minutes, wandering, now - 7 * 1440, now)
    usual = usual_index(minutes, wandering, now)
    assert usual > 0.5
    steady = rng.normal(10, 2, minutes.size)
    assert usual_index(minutes, steady, now) < 0.1
    target = {"psi_target": index, "psi_target_usual": usual}
    days = pl.DataFrame([{"period_start": NOW, "kpi": kpi, "value": value} for kpi, value in target.items()])
    health = judge_target(LOAD, days, None, SITE.forecasts.monitoring)
    assert (DRIFT in health.complaints) == (index > 1.25 * usual)
    beyond = days.with_columns(
        pl.when(pl.col("kpi") == "psi_target").then(1.3 * usual).otherwise("value").alias("value")
    )
    assert DRIFT in judge_target(LOAD, beyond, None, SITE.forecasts.monitoring).complaints
