"""From served forecasts to a training of just the target that decayed, through Dagster."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import numpy as np
import polars as pl
import pytest

from assets_defs import due
from assets_defs.assets.forecasts import TrainingConfig
from assets_defs.definitions import defs
from assets_defs.resources import ModelsResource, StoreResource
from assets_defs.sensors import retrain_sensor
from assets_defs.sites import SitesConfig
from flexergy_pipelines.forecasting.scoreboard import record_attempts, record_scores
from flexergy_pipelines.forecasting.targets import targets_of
from flexergy_pipelines.grid import ForecastTarget
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.forecasts import ForecastRun, write_forecast
from flexergy_pipelines.store.sites import save_site

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
STORE = StoreResource(as_of=NOW.isoformat())
QUARTER = timedelta(minutes=15)
LOAD = next(target for target in targets_of(sample_site("microgrid")) if target.asset_id == "load-1")


def served(db: TenantStore, error_kw: float) -> None:
    """Eight days of measurements, and a forecast of each day that is wrong by `error_kw`."""
    start = datetime(2026, 11, 10, tzinfo=UTC)
    times = [start + QUARTER * i for i in range(96 * 10)]
    values = 50 + 10 * np.sin(np.arange(len(times)) / 96 * 2 * np.pi)
    rows = pl.DataFrame({"time": times, "value": values}).with_columns(
        asset_id=pl.lit("load-1"), quantity=pl.lit("active_power_kw"), flag=pl.lit(None, dtype=pl.String),
        uncertainty=pl.lit(None, dtype=pl.Float64),
    )  # fmt: skip
    write_clean(db, "microgrid", rows)
    for day in range(9):
        ahead = slice(day * 96, day * 96 + 192)
        bands = {f"p{q}": values[ahead] + (q - 50) / 10 for q in range(10, 100, 10)}
        frame = pl.DataFrame({"time": times[ahead], "value": values[ahead] + error_kw, **bands})
        write_forecast(
            db, ForecastRun("microgrid", "load-1", "active_power_kw", times[day * 96], "ensemble", "1"), frame
        )


@pytest.mark.requirement("energy.02.1")
def test_a_decayed_forecast_ends_in_a_training_of_that_target_only(
    installation: Settings, db: TenantStore, instance: dg.DagsterInstance
) -> None:
    assert installation.database_url
    served(db, 6.0)
    trained = NOW - timedelta(days=30)
    record_scores(db, "microgrid", trained, [(LOAD, "ensemble", {"mae": 1.0, "naive_mae": 2.0})])
    record_attempts(db, "microgrid", trained, [(LOAD, True, "first")])
    config = dg.RunConfig(ops={"forecast_quality": SitesConfig(sites=["microgrid"])})
    tags = {"dagster/asset_partition_range_start": "2026-11-13", "dagster/asset_partition_range_end": "2026-11-19"}
    result = defs.resolve_job_def("monitoring").execute_in_process(
        instance=instance, run_config=config, resources={"store": STORE, "models": ModelsResource()}, tags=tags
    )
    assert result.success
    [event] = result.get_asset_materialization_events()[:1]
    assert "1 targets compared" in str(event.materialization.metadata["summary"].value)
    codes = {row["code"] for row in list_alarms(db, "microgrid").iter_rows(named=True)}
    assert "forecast_accuracy" in codes

    context = dg.build_sensor_context(
        instance=instance, repository_def=defs.get_repository_def(), resources={"store": STORE}
    )
    [request] = retrain_sensor.evaluate_tick(context).run_requests or []
    assert request.run_config["ops"]["forecast_models"]["config"] == {
        "sites": ["microgrid"], "targets": [LOAD.name], "only_due": False, "quick": False,
    }  # fmt: skip
    assert request.run_key == f"microgrid 2026-11-20 {LOAD.name}"
    assert TrainingConfig(**request.run_config["ops"]["forecast_models"]["config"])


@pytest.mark.parametrize(
    ("day", "start"),
    [
        (date(2026, 11, 20), datetime(2026, 11, 19, 22, tzinfo=UTC)),
        (date(2026, 3, 29), datetime(2026, 3, 28, 22, tzinfo=UTC)),
    ],
)
def test_forecasts_are_made_right_before_the_day_is_planned(day: date, start: datetime) -> None:
    site = sample_site("microgrid")
    slow = site.model_copy(update={"forecasts": site.forecasts.model_copy(update={"period_minutes": 1440})})
    ticks = [start + due.TICK * i for i in range(8)]
    planned = [tick for tick in ticks if due.at_local_time("00:00", slow, tick) == day]
    assert [tick for tick in ticks if due.forecasting(slow, tick) and tick < planned[0]][-1] == planned[0] - due.TICK


@pytest.mark.requirement("energy.03.1")
def test_a_target_of_its_own_period_is_served_at_that(db: TenantStore) -> None:
    site = sample_site("microgrid")
    own = (ForecastTarget(asset="load-1", period_minutes=360), ForecastTarget(asset="pv-1", period_minutes=30))
    site = site.model_copy(update={"forecasts": site.forecasts.model_copy(update={"targets": own})})
    save_site(db, site)
    frame = pl.DataFrame({"time": [NOW], "value": [1.0]})
    for asset in ("load-1", "pv-1"):
        write_forecast(db, ForecastRun(site.id, asset, "active_power_kw", NOW, "ensemble"), frame)
    assert due.forecasting(site, datetime(2026, 11, 20, 10, 30, tzinfo=UTC))
    later = {hours: due.targets_to_serve(db, site.id, NOW + timedelta(hours=hours)) for hours in (1, 5, 6)}
    assert [LOAD.name in later[hours] for hours in (1, 5, 6)] == [False, False, True]
    assert all(any("pv-1" in name for name in later[hours]) for hours in later)
