"""Who serves after a training: the champion until now, or the challenger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from flexergy_pipelines.forecasting.challenge import judge, paired_losses
from flexergy_pipelines.forecasting.features import Inputs
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.forecasting.trained import TrainedTarget, make_inputs, train_models
from tests.forecasting.data import LOAD, load_series, utc

NOW = utc(2014, 4, 10, 7)


@pytest.fixture(scope="module")
def data() -> tuple[pl.DataFrame, pl.DataFrame]:
    return load_series(utc(2014, 1, 1), NOW)


@pytest.fixture(scope="module")
def inputs(data: tuple[pl.DataFrame, pl.DataFrame]) -> Inputs:
    return make_inputs(*data, LOAD).known_at(to_minute(NOW))


@pytest.fixture(scope="module")
def champion(data: tuple[pl.DataFrame, pl.DataFrame]) -> TrainedTarget:
    return train_models(*data, LOAD, NOW - timedelta(days=20), quick=True)


@pytest.fixture(scope="module")
def challenger(data: tuple[pl.DataFrame, pl.DataFrame]) -> TrainedTarget:
    return train_models(*data, LOAD, NOW, quick=True)


def worse(model: TrainedTarget, factor: float) -> TrainedTarget:
    """The same model with a backtest whose errors are `factor` times as large."""
    value = pl.col("truth") + factor * (pl.col("value") - pl.col("truth"))
    return replace(model, backtest=model.backtest.with_columns(value=value))


def test_both_are_scored_on_forecasts_issued_after_the_champion_was_trained(
    challenger: TrainedTarget, champion: TrainedTarget, inputs: Inputs
) -> None:
    old, new = paired_losses(challenger, champion, inputs)
    assert old.size == new.size > 300
    assert 0 < old.mean() < 500


@pytest.mark.requirement("energy.02.1")
def test_a_significantly_better_challenger_takes_over_and_a_worse_one_does_not(
    challenger: TrainedTarget, champion: TrainedTarget, inputs: Inputs
) -> None:
    better = judge(worse(challenger, 0.2), champion, inputs)
    assert better.promote
    assert "significantly better" in better.reason
    worst = judge(worse(challenger, 5.0), champion, inputs)
    assert not worst.promote
    assert "significantly worse" in worst.reason


def test_models_that_cannot_be_told_apart_are_not_exchanged_before_four_weeks(
    challenger: TrainedTarget, champion: TrainedTarget, inputs: Inputs
) -> None:
    # the champion's own forecasts as the challenger's: no difference at all
    parts = [
        champion.predict(inputs.known_at(to_minute(issued)), to_minute(issued)).with_columns(issued_at=pl.lit(issued))
        for issued in challenger.backtest["issued_at"].unique()
    ]
    twin = pl.concat(parts).select("issued_at", "time", twin="value")
    backtest = challenger.backtest.join(twin, on=["issued_at", "time"]).with_columns(value=pl.col("twin"))
    same = replace(challenger, backtest=backtest)
    kept = judge(same, champion, inputs)
    assert not kept.promote
    assert "no significant difference" in kept.reason
    older = replace(same, trained_at=champion.trained_at + timedelta(days=30))
    assert judge(older, champion, inputs).promote


def test_without_common_forecasts_their_own_backtests_decide(challenger: TrainedTarget, inputs: Inputs) -> None:
    assert judge(challenger, challenger, inputs).promote
    poor = replace(challenger, metrics={**challenger.metrics, "mae": challenger.metrics["mae"] * 1.2})
    assert not judge(poor, challenger, inputs).promote
    changed = replace(challenger, features=("other",))
    assert "inputs changed" in judge(challenger, changed, inputs).reason
