"""The search for tree parameters: within its budget, repeatable, used only when it helps, and kept."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from flexergy_pipelines.forecasting.exclusions import Lesson
from flexergy_pipelines.forecasting.registry import ModelRegistry
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.forecasting.trained import make_inputs, train_models
from flexergy_pipelines.forecasting.training import _train_one
from flexergy_pipelines.forecasting.tuning import DEFAULTS, MIN_GAIN, tune
from flexergy_pipelines.forecasting.weather import build_panel
from tests.forecasting.data import LOAD, load_series, utc

NOW = utc(2014, 4, 30, 7)


@pytest.fixture(scope="module")
def data() -> tuple[pl.DataFrame, pl.DataFrame]:
    return load_series(utc(2014, 1, 30), NOW)


def test_the_same_seed_finds_the_same_parameters(data: tuple[pl.DataFrame, pl.DataFrame]) -> None:
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
def test_parameters_of_the_champion_serve_the_next_training_and_forecasts_repeat(
    data: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    registry = ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    tuned = {"num_leaves": 15.0, "min_data_in_leaf": 40.0}
    champion = train_models(*data, LOAD, NOW, quick=True, tuned=tuned)
    registry.log(champion)
    panel = build_panel(data[1], LOAD.step_minutes, LOAD.time_zone)
    result = _train_one(LOAD, Lesson(data[0]), panel, NOW, registry, quick=True, seed=7)
    assert result.version == "2"
    again = registry.load(LOAD.name, "champion").trained
    assert again.tuned == tuned
    inputs = make_inputs(*data, LOAD).known_at(to_minute(NOW))
    issue = to_minute(NOW)
    assert again.predict(inputs, issue).equals(champion.predict(inputs, issue))
    registry.close()
