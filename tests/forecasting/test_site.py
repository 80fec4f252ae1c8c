"""A whole site against a real database: trained, served, written, alarmed, and cleared again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.forecasting.registry import ModelRegistry
from flexergy_pipelines.forecasting.serving import serve_site
from flexergy_pipelines.forecasting.targets import targets_of
from flexergy_pipelines.forecasting.timegrid import to_datetimes, to_minute
from flexergy_pipelines.forecasting.training import train_site
from flexergy_pipelines.grid import load_site_file
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.forecasts import list_forecast_runs, read_forecast
from flexergy_pipelines.store.prices import write_prices
from flexergy_pipelines.store.sites import save_site
from flexergy_pipelines.store.weather import write_weather
from tests.forecasting.data import DATA, price_series, pv_series, utc

SITE = load_site_file(DATA.parent / "sites" / "microgrid.yaml")
NOW = utc(2016, 6, 20, 6)


def fill(db: TenantStore, days: int) -> None:
    """History of pv-1 and load-1, prices, and one weather forecast."""
    save_site(db, SITE)
    pv = pv_series(NOW - timedelta(days=days), NOW + timedelta(days=2))
    load = pv.with_columns(value=150 - pv["value"] / 2)
    parts = [
        frame.select(
            asset_id=pl.lit(asset), quantity=pl.lit("active_power_kw"), time="time", value="value",
            flag=pl.lit(None, dtype=pl.String), uncertainty=pl.lit(None, dtype=pl.Float64),
        )
        for asset, frame in (("pv-1", pv), ("load-1", load))
    ]  # fmt: skip
    write_clean(db, SITE.id, pl.concat(parts).unique(["asset_id", "time"]))
    prices = price_series(NOW - timedelta(days=days), NOW).rename({"value": "price_eur_per_kwh"})
    write_prices(db, SITE.id, "day_ahead", prices.with_columns(resolution_minutes=pl.lit(60)), NOW - timedelta(hours=1))
    stamps = to_datetimes(np.arange(to_minute(NOW), to_minute(NOW) + 48 * 60, 60, dtype=np.int64))
    write_weather(db, SITE.id, "test", NOW, pl.DataFrame({"time": stamps, "temperature_2m_c": [18.0] * 48}))


@pytest.mark.requirement("energy.03.2")
def test_every_source_and_consumer_and_the_price_is_a_target_unless_excluded() -> None:
    assert [t.asset_id for t in targets_of(SITE)] == ["pv-1", "wind-1", "cold-store", "ev-1", "load-1", "market"]
    assert {t.asset_id: t.kind for t in targets_of(SITE)}["ev-1"] == "ev"
    settings = SITE.forecasts.model_copy(update={"excluded_assets": ("ev-1",), "granularity_minutes": 5})
    fewer = targets_of(SITE.model_copy(update={"forecasts": settings}))
    assert "ev-1" not in [t.asset_id for t in fewer]
    assert fewer[0].step_minutes == 5


@pytest.mark.requirement("energy.02.1", "energy.03.1", "energy.03.3", "module.load")
def test_a_site_is_served_before_and_after_training(db: TenantStore, tmp_path: Path) -> None:
    fill(db, 60)
    registry = ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")

    before = {served.target.asset_id: served for served in serve_site(db, SITE.id, NOW, registry)}
    assert before["load-1"].fallback_level == 2
    assert before["wind-1"].fallback_level == 4
    alarms = {row["asset_id"]: row for row in list_alarms(db, SITE.id).to_dicts()}
    assert set(alarms) == set(before)
    assert "similar_day" in alarms["load-1"]["message"]

    results = {result.target: result for result in train_site(db, SITE.id, NOW, registry, targets=["load-1", "wind-1"])}
    trained = results["microgrid.load-1.active_power_kw"]
    assert trained.promoted
    assert trained.metrics["mae"] <= trained.metrics["naive_mae"] * 1.02
    untrained = results["microgrid.wind-1.active_power_kw"]
    assert untrained.version is None
    assert "0.0 days of history" in untrained.reason

    later = NOW + timedelta(hours=1)
    after = {served.target.asset_id: served for served in serve_site(db, SITE.id, later, registry)}
    assert after["load-1"].fallback_level == 0
    assert "load-1" not in list_alarms(db, SITE.id)["asset_id"]
    stored = read_forecast(db, SITE.id, "load-1", "active_power_kw", later, later + timedelta(hours=48), known_at=later)
    assert stored.height == 192
    assert stored["fallback_level"].unique().to_list() == [0]
    earlier = read_forecast(db, SITE.id, "load-1", "active_power_kw", later, later + timedelta(hours=40), known_at=NOW)
    assert earlier["model"].unique().to_list() == ["similar_day"]
    assert len(list_forecast_runs(db, SITE.id)) == 2 * len(targets_of(SITE))
    registry.close()


def test_asking_to_train_what_is_not_there_names_what_is(db: TenantStore, tmp_path: Path) -> None:
    save_site(db, SITE)
    registry = ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    with pytest.raises(ValueError, match="no target among pv-9; the site has pv-1, wind-1"):
        train_site(db, SITE.id, datetime(2016, 1, 1, tzinfo=UTC), registry, targets=["pv-9"])
