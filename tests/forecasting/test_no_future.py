"""Nothing that became known after the issue of a forecast may change it."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from flexergy_pipelines.forecasting.fallback import fallback_forecast
from flexergy_pipelines.forecasting.features import Inputs, Rows, feature_matrix
from flexergy_pipelines.forecasting.models.base import Table
from flexergy_pipelines.forecasting.models.lear import Lear
from flexergy_pipelines.forecasting.models.naive import NAIVE_NAMES, Naive
from flexergy_pipelines.forecasting.models.similar_day import SimilarDay
from flexergy_pipelines.forecasting.targets import Target
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.forecasting.trained import make_inputs, predict, train_models
from tests.forecasting.data import LOAD, PRICE, issued_weather, load_series, price_series, utc

ISSUE = utc(2014, 3, 20, 7)


def poisoned(frame: pl.DataFrame, after: datetime, column: str = "time") -> pl.DataFrame:
    """The frame with every number of later rows made absurd."""
    numbers = [c for c, kind in frame.schema.items() if kind.is_float()]
    later = pl.col(column) >= after
    return frame.with_columns(pl.when(later).then(pl.col(c) * -7.0 + 1e6).otherwise(pl.col(c)) for c in numbers)


@pytest.fixture(scope="module")
def load() -> tuple[pl.DataFrame, pl.DataFrame]:
    history, weather = load_series(utc(2014, 1, 1), utc(2014, 4, 1))
    return history, issued_weather(weather.filter(pl.col("time").dt.minute() == 0))


@pytest.mark.requirement("energy.03.1", "module.load")
def test_a_load_forecast_does_not_change_with_what_comes_later(load: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    history, weather = load
    honest = predict(train_models(history, weather, LOAD, ISSUE, quick=True), history, weather, ISSUE)
    bad_history = poisoned(history, ISSUE)
    bad_weather = poisoned(weather, ISSUE + timedelta(minutes=1), "issued_at")
    attacked = predict(train_models(bad_history, bad_weather, LOAD, ISSUE, quick=True), bad_history, bad_weather, ISSUE)
    assert_frame_equal(honest, attacked, check_exact=True)
    assert honest.height == 48


@pytest.mark.requirement("energy.03.1")
def test_a_price_forecast_knows_published_prices_and_none_after() -> None:
    history = price_series(utc(2016, 1, 1), utc(2016, 4, 1))
    issue = utc(2016, 3, 20, 9)
    # at 10:00 local time, prices are known to the end of that local day and tomorrow's are not yet published
    known_end = utc(2016, 3, 20, 23)
    honest = predict(train_models(history, None, PRICE, issue, quick=True), history, None, issue)
    bad = poisoned(history, known_end)
    attacked = predict(train_models(bad, None, PRICE, issue, quick=True), bad, None, issue)
    assert_frame_equal(honest, attacked, check_exact=True)


@pytest.mark.parametrize("target", [LOAD, PRICE])
def test_rows_of_a_batch_see_each_their_own_past_only(target: Target, load: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    history, weather = load
    issues = np.array([to_minute(ISSUE + timedelta(hours=13 * k)) for k in range(10)], dtype=np.int64)
    rows = Rows(np.repeat(issues, 48), np.concatenate([i + np.arange(48, dtype=np.int64) * 60 for i in issues]))
    honest = make_inputs(history, weather, target)
    for k, issue in enumerate(issues):
        stamp = ISSUE + timedelta(hours=13 * k)
        end = int(honest.past.known_end(np.array([issue], dtype=np.int64))[0])
        bad = make_inputs(
            poisoned(history, stamp + timedelta(minutes=end - int(issue))),
            poisoned(weather, stamp + timedelta(minutes=1), "issued_at"),
            target,
        )
        mine = np.flatnonzero(rows.issue == issue)
        for features in (
            lambda inputs: feature_matrix(rows, inputs)[1],
            lambda inputs: every_simple_model(rows, inputs),
        ):
            np.testing.assert_array_equal(features(honest)[mine], features(bad)[mine])


def every_simple_model(rows: Rows, inputs: Inputs) -> np.ndarray:
    naives = [Naive(name).forecast(rows, inputs) for name in NAIVE_NAMES]
    return np.column_stack([*naives, SimilarDay().forecast(rows, inputs)])


def test_price_models_of_whole_days_re_estimate_on_known_prices_only() -> None:
    history = price_series(utc(2016, 1, 1), utc(2016, 5, 1))
    cutoff, later = to_minute(utc(2016, 4, 1, 9)), utc(2016, 4, 20, 9)
    valid = to_minute(utc(2016, 4, 20, 22)) + np.arange(24, dtype=np.int64) * 60
    rows = Rows(np.full(24, to_minute(later), dtype=np.int64), valid)
    forecasts = []
    for frame in (history, poisoned(history, utc(2016, 4, 20, 22)), poisoned(history, utc(2016, 4, 10))):
        inputs = make_inputs(frame, None, PRICE)
        table = Table(rows, (), np.empty((24, 0)), np.full(24, np.nan))
        model = Lear()
        model.fit(table, inputs.known_at(cutoff), seed=1, quick=False)
        forecasts.append(model.predict(table, inputs))
    np.testing.assert_array_equal(forecasts[0], forecasts[1])
    assert np.isfinite(forecasts[0]).all()
    assert np.abs(forecasts[0] - forecasts[2]).max() > 0


def test_the_poison_would_be_noticed(load: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    """The test above has teeth: data just before the issue do matter."""
    history, weather = load
    issue = to_minute(ISSUE)
    honest = fallback_forecast(make_inputs(history, weather, LOAD).known_at(issue), issue)
    bad = poisoned(history, ISSUE - timedelta(days=2))
    attacked = fallback_forecast(make_inputs(bad, weather, LOAD).known_at(issue), issue)
    assert not honest.frame.equals(attacked.frame)
