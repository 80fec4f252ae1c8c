"""Quantiles: sorted, within physics, and as wide as the past says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.forecasting import scores
from flexergy_pipelines.forecasting.bounds import bounds_of
from flexergy_pipelines.forecasting.calibration import Calibration, calibrate
from flexergy_pipelines.forecasting.combine import ENSEMBLE, mix_of
from flexergy_pipelines.forecasting.targets import DEFAULT_QUANTILES
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.forecasting.trained import make_inputs
from tests.forecasting.data import PV, load_series, pv_series, utc

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@settings(deadline=None)
@given(
    st.lists(st.tuples(numbers, st.lists(numbers, min_size=9, max_size=9)), min_size=1, max_size=20),
    st.lists(st.floats(0, 20), min_size=9, max_size=9),
)
def test_quantiles_never_cross(rows: list, factors: list[float]) -> None:
    centre, raw = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    band = Calibration(DEFAULT_QUANTILES, tuple(factors)).apply(centre, raw)
    assert (np.diff(band, axis=1) >= 0).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 5.0), st.integers(0, 1000), st.sampled_from([1.0, 10.0]))
def test_spreads_that_are_wrong_by_a_factor_are_put_right(factor: float, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    from scipy.stats import norm

    width = scale * rng.uniform(0.5, 2.0, 4000)
    truth = rng.normal(0, width)
    raw = factor * width[:, None] * np.asarray(norm.ppf(DEFAULT_QUANTILES))[None, :]
    centre = np.zeros(4000)
    band = calibrate(truth[:2000], centre[:2000], raw[:2000], DEFAULT_QUANTILES).apply(centre[2000:], raw[2000:])
    assert 0.74 <= scores.coverage(truth[2000:], band[:, 0], band[:, -1]) <= 0.86


def test_too_few_errors_leave_the_spread_alone() -> None:
    assert set(calibrate(np.ones(5), np.zeros(5), np.ones((5, 9)), DEFAULT_QUANTILES).factors) == {1.0}


def test_pv_is_nothing_at_night_and_at_most_its_rating() -> None:
    inputs = make_inputs(pv_series(utc(2016, 5, 1), utc(2016, 6, 1)), None, PV)
    day = np.arange(24, dtype=np.int64) * 60 + to_minute(utc(2016, 6, 2))
    clipped = bounds_of(inputs).clip(np.full(24, 500.0), day, PV)
    assert clipped.max() == 100.0
    assert clipped[0] == 0.0
    assert clipped[23] == 0.0
    assert bounds_of(inputs).clip(np.full(24, -5.0), day, PV).min() == 0.0


def test_night_is_found_from_the_history_where_no_location_is_known() -> None:
    from dataclasses import replace

    target = replace(PV, location=None)
    inputs = make_inputs(pv_series(utc(2016, 1, 1), utc(2016, 12, 31)), None, target)
    day = np.arange(24, dtype=np.int64) * 60 + to_minute(utc(2016, 12, 5))
    clipped = bounds_of(inputs).clip(np.full(24, 50.0), day, target)
    assert clipped[[0, 3, 20, 23]].tolist() == [0.0] * 4
    assert clipped[11] == 50.0


def test_a_consumer_that_never_fed_in_stays_positive_and_a_prosumer_does_not() -> None:
    from tests.forecasting.data import LOAD

    history, _ = load_series(utc(2014, 1, 1), utc(2014, 1, 10))
    stamps = np.array([to_minute(utc(2014, 1, 11))], dtype=np.int64)
    low = np.array([-10.0])
    assert bounds_of(make_inputs(history, None, LOAD)).clip(low, stamps, LOAD)[0] == 0.0
    import polars as pl

    feeding = history.with_columns(pl.col("value") - pl.col("value").mean())
    assert bounds_of(make_inputs(feeding, None, LOAD)).clip(low, stamps, LOAD)[0] == -10.0


def test_models_that_lose_to_the_naive_do_not_serve() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=500)
    near, far = truth + rng.normal(0, 0.1, 500), truth + rng.normal(0, 3.0, 500)
    mix = mix_of(truth, {"naive_week": near, "naive_day": far, "persistence": far, "lightgbm": far}, squared=False)
    assert mix.champion == "naive_week"
    mix = mix_of(truth, {"naive_week": far, "naive_day": far, "persistence": far, "lightgbm": near}, squared=False)
    assert mix.champion in {"lightgbm", ENSEMBLE}
    assert mix.weights == {"lightgbm": 1.0}


def test_two_models_with_independent_errors_serve_together() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=2000)
    one, two = truth + rng.normal(0, 1.0, 2000), truth + rng.normal(0, 1.0, 2000)
    bad = truth + 5.0
    naives = {"naive_week": bad, "naive_day": bad, "persistence": bad}
    mix = mix_of(truth, {**naives, "lightgbm": one, "linear": two}, squared=False)
    assert mix.champion == ENSEMBLE
    assert mix.weights["linear"] == pytest.approx(0.5, abs=0.1)
    assert sum(mix.weights.values()) == pytest.approx(1.0)


def test_scores_against_values_worked_out_by_hand() -> None:
    truth, forecast = np.array([1.0, 2.0, np.nan, 5.0]), np.array([2.0, 2.0, 3.0, 3.0])
    assert scores.mae(truth, forecast) == pytest.approx(1.0)
    assert scores.rmse(truth, forecast) == pytest.approx(math.sqrt(5 / 3))
    # 0.9 * (3 - 2) and 0.1 * (2 - 1): the loss of an underestimated and an overestimated 90 % quantile
    assert scores.pinball(np.array([3.0]), np.array([[2.0]]), (0.9,)) == pytest.approx(0.9)
    assert scores.pinball(np.array([1.0]), np.array([[2.0]]), (0.9,)) == pytest.approx(0.1)
    assert math.isnan(scores.mae(np.array([np.nan]), np.array([1.0])))


def test_a_difference_by_chance_is_not_significant_and_a_real_one_is() -> None:
    rng = np.random.default_rng(11)
    same = scores.diebold_mariano(np.abs(rng.normal(size=400)), np.abs(rng.normal(size=400)), 23)
    better = scores.diebold_mariano(np.abs(rng.normal(size=400)) + 0.5, np.abs(rng.normal(size=400)), 23)
    assert same > 0.05
    assert better < 0.01
    assert scores.diebold_mariano(np.ones(400), np.ones(400), 23) == 1.0
