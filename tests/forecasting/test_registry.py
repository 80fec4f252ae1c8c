"""What a stranger finds in MLflow, and what is served while the registry or its artifacts are broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from flexergy_pipelines.forecasting.explain import explain
from flexergy_pipelines.forecasting.registered import COPIES
from flexergy_pipelines.forecasting.registry import ModelRegistry
from flexergy_pipelines.forecasting.serving import serve_site
from flexergy_pipelines.forecasting.targets import targets_of
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.forecasting.trained import TrainedTarget, make_inputs, train_models
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.forecasts import list_forecast_runs
from flexergy_pipelines.store.sites import save_site
from tests.forecasting.data import LOAD, load_series, utc

NOW = utc(2014, 3, 20, 7)


@pytest.fixture(scope="module")
def data() -> tuple[pl.DataFrame, pl.DataFrame]:
    return load_series(utc(2014, 1, 20), NOW)


@pytest.fixture(scope="module")
def trained(data: tuple[pl.DataFrame, pl.DataFrame]) -> TrainedTarget:
    return train_models(*data, LOAD, NOW, quick=True)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ModelRegistry]:
    made = ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    yield made
    made.close()


def test_a_run_explains_itself(
    registry: ModelRegistry,
    trained: TrainedTarget,
    data: tuple[pl.DataFrame, pl.DataFrame],
    capfd: pytest.CaptureFixture[str],
) -> None:
    explanation = explain(trained, make_inputs(*data, LOAD), rows=60)
    assert explanation is not None
    facts = {"training_window": "from 2014-01-20 on", "excluded_h": 12.0, "estimated_h": 9.0, "curtailed_h": 3.0}
    version = registry.log(trained, note="first model of this target", facts=facts, explanation=explanation)
    captured = capfd.readouterr()
    assert "Successfully registered" not in captured.err + captured.out
    assert "INFO" not in captured.err

    from mlflow import MlflowClient

    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    model = client.get_model_version(LOAD.name, version)
    run = client.get_run(str(model.run_id))
    note = run.data.tags["mlflow.note.content"]
    for text in ("load-1", "the best simple rule", "in P10 to P90", "9 h estimated"):
        assert text in note
    assert run.data.tags["asset"] == "load-1"
    assert run.data.tags["data_version"] == trained.data_version
    assert run.data.params["training_window"] == "from 2014-01-20 on"
    metrics = run.data.metrics
    assert {"mae", "naive_mae", "skill", "mae_00_06h", "naive_mae_24_48h", "coverage_80"} <= set(metrics)
    assert metrics["mae_00_06h"] < metrics["mae_24_48h"] * 1.5
    files = {file.path for folder in ("", "plots") for file in client.list_artifacts(run.info.run_id, folder)}
    assert {"features.csv", "models_left_out.json", "plots/backtest.png", "plots/importance.png"} <= files
    assert "consumption" in str(client.get_registered_model(LOAD.name).description)
    experiment = client.get_experiment(run.info.experiment_id)
    assert "metrics.skill" in experiment.tags["mlflow.note.content"]


def test_contributions_add_up_to_the_forecast(trained: TrainedTarget, data: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    from flexergy_pipelines.forecasting.models.lightgbm import LightGBMPoint

    explanation = explain(trained, make_inputs(*data, LOAD).known_at(to_minute(NOW)), rows=40)
    model = trained.fitted.models["lightgbm"]
    assert explanation is not None
    assert isinstance(model, LightGBMPoint)
    assert model.booster is not None
    forecast = model.booster.predict(explanation.features, num_threads=1)
    base = forecast - explanation.contributions.sum(axis=1)
    assert base.std() < 1e-6 * abs(base.mean())
    strongest = next(iter(explanation.strength))
    assert explanation.strength[strongest] == max(explanation.strength.values())


def corrupt(registry: ModelRegistry) -> None:
    for file in registry.artifacts_dir.rglob("bundle.pickle"):
        file.write_bytes(b"half a model")


@pytest.mark.requirement("energy.03.3")
def test_each_step_down_is_tagged_and_alarmed_by_its_severity_and_cleared(
    db: TenantStore, registry: ModelRegistry, data: tuple[pl.DataFrame, pl.DataFrame], trained: TrainedTarget
) -> None:
    site = sample_site("microgrid")
    others = tuple(t.asset_id for t in targets_of(site) if t.asset_id != "load-1")
    site = site.model_copy(update={"forecasts": site.forecasts.model_copy(update={"excluded_assets": others})})
    save_site(db, site)
    [target] = targets_of(site)
    rows = data[0].with_columns(
        asset_id=pl.lit("load-1"), quantity=pl.lit("active_power_kw"), flag=pl.lit(None, dtype=pl.String),
        uncertainty=pl.lit(None, dtype=pl.Float64),
    )  # fmt: skip
    write_clean(db, site.id, rows)
    model = replace(trained, target=replace(trained.target, site_id=target.site_id))

    def served(using: ModelRegistry) -> tuple[int, dict[str, int]]:
        [forecast] = serve_site(db, site.id, NOW, using)
        alarms = list_alarms(db, site.id)
        stored = list_forecast_runs(db, site.id, limit=1).row(0, named=True)
        assert (stored["fallback_level"], stored["reason"]) == (forecast.fallback_level, forecast.reason)
        return forecast.fallback_level, dict(zip(alarms["code"], alarms["severity"], strict=True))

    registry.log(model)
    registry.log(model)
    assert served(registry) == (0, {})
    registry.close()

    # a process that starts while the registry is away serves what the last one had
    away = ModelRegistry("http://127.0.0.1:9", registry.artifacts_dir)
    assert served(away) == (0, {"model_registry_away": 3})
    for copy in (registry.artifacts_dir / COPIES).glob("*champion.pickle"):
        copy.write_bytes(b"half a model")
    cold = ModelRegistry("http://127.0.0.1:9", registry.artifacts_dir)
    assert served(cold) == (2, {"model_registry_away": 3, "forecast_fallback": 2})

    # back again
    again = ModelRegistry(registry.tracking_uri, registry.artifacts_dir)
    assert served(again) == (0, {})
    corrupt(registry)
    damaged = ModelRegistry(registry.tracking_uri, registry.artifacts_dir)
    assert served(damaged) == (2, {"forecast_fallback": 2})
    registry.log(model)
    assert served(damaged) == (0, {})
    damaged.close()
    again.close()
