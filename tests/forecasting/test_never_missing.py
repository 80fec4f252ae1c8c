"""Whatever is wrong with models and inputs, a complete forecast comes out and says why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.forecasting.registry import (
    ModelMissingError,
    ModelRegistry,
    RegistryUnavailableError,
)
from flexergy_pipelines.forecasting.serving import ServedForecast, serve_target
from flexergy_pipelines.forecasting.targets import Target
from flexergy_pipelines.forecasting.trained import (
    TooLittleHistoryError,
    TrainedTarget,
    make_inputs,
    predict,
    train_models,
)
from flexergy_pipelines.forecasting.weather import EMPTY_PANEL, build_panel
from tests.forecasting.data import LOAD, PRICE, PV, WIND, load_series, price_series, pv_series, utc, wind_series

NOW = utc(2014, 3, 20, 7)
NOTHING = pl.DataFrame(schema={"time": pl.Datetime("us", "UTC"), "value": pl.Float64})


@pytest.fixture(scope="module")
def load() -> tuple[pl.DataFrame, pl.DataFrame]:
    return load_series(utc(2014, 1, 1), utc(2014, 3, 24))


@pytest.fixture(scope="module")
def trained(load: tuple[pl.DataFrame, pl.DataFrame]) -> TrainedTarget:
    return train_models(*load, LOAD, NOW, quick=True)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    made = ModelRegistry(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    yield made
    made.close()


@pytest.fixture
def away() -> ModelRegistry:
    return ModelRegistry("http://127.0.0.1:9", Path("/nowhere"))


def whole(served: ServedForecast | pl.DataFrame, target: Target) -> pl.DataFrame:
    """The forecast, after checking what every forecast must be."""
    frame = served.frame if isinstance(served, ServedForecast) else served
    assert frame.columns == ["time", "value", *(f"p{q}" for q in range(10, 100, 10))]
    assert frame.height == target.horizon_hours * 60 // target.step_minutes
    assert (frame["time"].diff().drop_nulls() == timedelta(minutes=target.step_minutes)).all()
    numbers = frame.drop("time").to_numpy()
    assert np.isfinite(numbers).all()
    assert (np.diff(numbers[:, 1:], axis=1) >= 0).all()
    if target.kind in ("pv", "wind"):
        # a model may show a turbine's own consumption; what is served is available power
        assert numbers.min() >= (0.0 if isinstance(served, ServedForecast) else -0.01 * (target.capacity or 0.0))
        assert target.capacity is not None
        assert numbers.max() <= target.capacity
    return frame


@pytest.mark.requirement("energy.03.1", "energy.03.3", "module.load")
def test_the_chain_steps_down_one_by_one_and_back_up(
    registry: ModelRegistry, trained: TrainedTarget, load: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    history, weather = load
    panel = build_panel(weather, LOAD.step_minutes, LOAD.time_zone)

    none_yet = serve_target(LOAD, history, panel, NOW, registry)
    assert (none_yet.model, none_yet.fallback_level) == ("similar_day", 2)
    assert "no model stands under 'champion'" in none_yet.reason
    whole(none_yet, LOAD)

    first, second = registry.log(trained), registry.log(trained)
    good = serve_target(LOAD, history, panel, NOW, registry)
    assert (good.fallback_level, good.model_version, good.reason) == (0, second, "")
    whole(good, LOAD)

    corrupt(registry, second)
    fresh = ModelRegistry(registry.tracking_uri, registry.artifacts_dir)
    previous = serve_target(LOAD, history, panel, NOW, fresh)
    assert (previous.fallback_level, previous.model_version) == (1, first)
    assert f"version {second}: the artifact" in previous.reason

    corrupt(registry, first)
    both_gone = serve_target(LOAD, history, panel, NOW, ModelRegistry(registry.tracking_uri, registry.artifacts_dir))
    assert both_gone.fallback_level == 2
    whole(both_gone, LOAD)

    third = registry.log(trained)
    assert serve_target(LOAD, history, panel, NOW, fresh).model_version == third
    fresh.close()


def corrupt(registry: ModelRegistry, version: str) -> None:
    """Damage the artifact of a version, every second time by half a file."""
    files = sorted(registry.artifacts_dir.rglob("bundle.pickle"), key=lambda path: path.stat().st_mtime_ns)
    file = files[int(version) - 1]
    file.write_bytes(file.read_bytes()[: 1000 * (int(version) % 2)] or b"not a model")


@pytest.mark.requirement("energy.03.3")
def test_a_registry_that_is_away_is_said_and_does_not_stop_the_forecast(
    away: ModelRegistry, load: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    served = serve_target(LOAD, load[0], EMPTY_PANEL, NOW, away)
    assert served.fallback_level == 2
    assert "model registry is away" in served.reason
    whole(served, LOAD)
    with pytest.raises(RegistryUnavailableError):
        away.load(LOAD.name)


def test_a_champion_loaded_before_serves_on_while_the_registry_is_away(
    tmp_path: Path, trained: TrainedTarget, load: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    registry = ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    registry.log(trained)
    registry.load(LOAD.name)
    registry.close()
    registry.tracking_uri = "http://127.0.0.1:9"
    served = serve_target(LOAD, load[0], EMPTY_PANEL, NOW, registry)
    assert served.fallback_level == 0
    assert "the champion loaded before serves" in served.reason
    with pytest.raises(RegistryUnavailableError):
        registry.log(trained)


@pytest.mark.parametrize("target", [LOAD, PV, WIND, PRICE], ids=lambda target: target.kind)
def test_no_history_at_all_gives_a_guess_that_says_so(target: Target, away: ModelRegistry) -> None:
    served = serve_target(target, NOTHING, EMPTY_PANEL, NOW, away)
    assert served.fallback_level == 4
    assert "no history at all" in served.reason
    frame = whole(served, target)
    if target.kind == "pv":
        assert frame["value"].max() > 10  # type: ignore[operator]


@pytest.mark.requirement("energy.03.3")
@pytest.mark.parametrize("days", [1, 3, 10])
def test_a_few_days_of_history_are_enough_for_a_stand_in(
    days: int, away: ModelRegistry, load: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    short = load[0].filter(pl.col("time") >= NOW - timedelta(days=days))
    served = serve_target(LOAD, short, EMPTY_PANEL, NOW, away)
    assert served.fallback_level in (2, 3)
    whole(served, LOAD)
    with pytest.raises(TooLittleHistoryError, match="days of history, 21 needed"):
        train_models(short, None, LOAD, NOW, quick=True)


def served_by_new_model(
    history: pl.DataFrame, weather: pl.DataFrame | None, target: Target, now: datetime
) -> pl.DataFrame:
    return whole(predict(train_models(history, weather, target, now, quick=True), history, weather, now), target)


def test_a_constant_history_is_forecast_to_stay(load: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    frame = served_by_new_model(load[0].with_columns(value=pl.lit(42.0)), None, LOAD, NOW)
    np.testing.assert_allclose(frame["value"].to_numpy(), 42.0, atol=0.5)


def test_a_load_that_feeds_in_is_forecast_negative(load: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    frame = served_by_new_model(load[0].with_columns(value=-pl.col("value")), None, LOAD, NOW)
    assert (frame["value"] < 0).all()


def test_weather_of_nothing_but_gaps_is_left_out(load: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    history, weather = load
    empty = weather.with_columns(temperature_c=pl.lit(float("nan")))
    assert make_inputs(history, empty, LOAD).weather.columns == ()
    served_by_new_model(history, empty, LOAD, NOW)


@pytest.mark.requirement("energy.03.5")
def test_weather_that_ends_before_the_horizon_or_is_gone_is_said(
    trained: TrainedTarget, tmp_path: Path, load: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    history, weather = load
    registry = ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    registry.log(trained)
    short = build_panel(weather.filter(pl.col("time") < NOW + timedelta(hours=20)), 60, LOAD.time_zone)
    served = serve_target(LOAD, history, short, NOW, registry)
    assert served.fallback_level == 0
    assert "weather known for 19 h only" in served.reason
    whole(served, LOAD)
    gone = serve_target(LOAD, history, EMPTY_PANEL, NOW, registry)
    assert "no weather forecast" in gone.reason
    whole(gone, LOAD)
    registry.close()


@pytest.mark.requirement("energy.03.1")
def test_wind_pv_and_prices_are_forecast_within_physics_and_below_the_naive_error(tmp_path: Path) -> None:
    wind, era5 = wind_series(utc(2014, 1, 1), utc(2014, 6, 1))
    now = utc(2014, 5, 20, 6)
    model = train_models(wind, era5, WIND, now, quick=True)
    assert model.metrics["rmse"] < 0.6 * model.metrics["naive_rmse"]
    whole(predict(model, wind, era5, now), WIND)
    registry = ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    registry.log(model)
    panel = build_panel(era5, 60, WIND.time_zone)
    served = serve_target(WIND, wind, panel, now, registry)
    registry.close()
    assert served.fallback_level == 0
    assert whole(served, WIND)["p10"].min() == 0.0

    pv = pv_series(utc(2016, 3, 1), utc(2016, 6, 1))
    sunny = served_by_new_model(pv, None, PV, utc(2016, 5, 25, 6))
    night = sunny.filter(pl.col("time").dt.hour().is_in([0, 22, 23]))
    assert (night.drop("time").to_numpy() == 0).all()

    prices = price_series(utc(2016, 1, 1), utc(2016, 5, 1))
    model = train_models(prices, None, PRICE, utc(2016, 4, 25), quick=True)
    assert model.metrics["mae"] < model.metrics["naive_mae"]
    whole(predict(model, prices, None, utc(2016, 4, 25)), PRICE)


def test_the_same_data_and_seed_give_the_same_forecast(
    trained: TrainedTarget, load: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    again = train_models(*load, LOAD, NOW, quick=True)
    assert again.data_version == trained.data_version
    assert predict(again, *load, NOW).equals(predict(trained, *load, NOW))


@pytest.mark.requirement("energy.03.4")
def test_a_quarter_hourly_forecast_of_the_same_target_has_the_same_level(
    trained: TrainedTarget, load: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    from dataclasses import replace

    fine = replace(LOAD, step_minutes=15)
    frame = served_by_new_model(load[0], load[1], fine, NOW)
    hourly = predict(trained, *load, NOW)["value"].mean()
    assert frame["value"].mean() == pytest.approx(hourly, rel=0.05)


def test_a_missing_alias_is_told_apart_from_a_missing_registry(registry: ModelRegistry) -> None:
    with pytest.raises(ModelMissingError, match="no model stands under"):
        registry.load("no.such.target")
