"""The search for tree parameters: within its budget, repeatable, used only when it helps, and kept."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flexergy_pipelines.forecasting import training, tuning
from flexergy_pipelines.forecasting.exclusions import Lesson
from flexergy_pipelines.forecasting.registry import ModelRegistry
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.forecasting.trained import TrainedTarget, make_inputs, train_models
from flexergy_pipelines.forecasting.tuning import DEFAULTS, MIN_GAIN, tune
from flexergy_pipelines.forecasting.weather import EMPTY_PANEL
from tests.forecasting.data import LOAD, load_series, utc

NOW = utc(2014, 4, 30, 7)


@pytest.fixture(scope="module")
def data() -> tuple[pl.DataFrame, pl.DataFrame]:
    return load_series(utc(2014, 2, 3), NOW)


def test_the_same_seed_finds_the_same_parameters(
    data: tuple[pl.DataFrame, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "ROWS", 1500)
    inputs = make_inputs(*data, LOAD).known_at(to_minute(NOW))
    first, second = (tune(inputs, 300.0, seed=3, trials=3) for _ in range(2))
    assert first.parameters == second.parameters
    assert (first.trials, first.loss) == (3, second.loss)
    if first.parameters:
        assert set(first.parameters) == set(DEFAULTS)
        assert first.loss < first.default_loss * (1 - MIN_GAIN)


def test_a_spent_budget_and_a_short_history_leave_the_defaults(data: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    inputs = make_inputs(*data, LOAD).known_at(to_minute(NOW))
    spent = tune(inputs, 0.0, trials=50)
    assert spent.trials <= 2
    assert spent.parameters == {}
    young = make_inputs(data[0].tail(24 * 2 * 30), None, LOAD).known_at(to_minute(NOW))
    assert "30 days of history, 84 needed to search" in tune(young, 60.0).reason


@pytest.mark.requirement("energy.02.1")
def test_parameters_of_the_champion_serve_the_next_training(
    data: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    tuned = {"num_leaves": 15.0, "min_data_in_leaf": 40.0}
    short = data[0].tail(48 * 30)
    champion = train_models(short, None, LOAD, NOW, quick=True, tuned=tuned)
    registry.log(champion)
    handed: list[object] = []

    def remembered(*_: object, tuned: object = None, **__: object) -> TrainedTarget:
        handed.append(tuned)
        return champion

    monkeypatch.setattr(training, "train_models", remembered)
    result = training._train_one(LOAD, Lesson(short), EMPTY_PANEL, NOW, registry, quick=True, seed=7)
    assert handed == [tuned]
    assert result.version == "2"

    from mlflow import MlflowClient

    client = MlflowClient(registry.tracking_uri, registry.tracking_uri)
    run = client.get_run(str(client.get_model_version(LOAD.name, "2").run_id))
    assert run.data.params["trees.num_leaves"] == "15.0"
    assert run.data.params["tuning"] == "parameters of the champion"
    registry.close()
