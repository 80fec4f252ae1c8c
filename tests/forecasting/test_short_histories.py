"""Bands of models that learnt from little, and of consumers and plants that are often at nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from benchmarks.forecast_coverage import SERIES, trial
from flexergy_pipelines.forecasting.backtest import grounded
from flexergy_pipelines.forecasting.bounds import bounds_of
from flexergy_pipelines.forecasting.calibration import adapted_width, calibrate
from flexergy_pipelines.forecasting.dataset import refits
from flexergy_pipelines.forecasting.live_width import live_width
from flexergy_pipelines.forecasting.timegrid import DAY, to_minute
from flexergy_pipelines.forecasting.trained import make_inputs, warm_up
from tests.forecasting.data import PV, pv_series, utc


def test_bands_widen_while_they_hold_too_little_and_only_by_days_of_the_model_in_force() -> None:
    trained = utc(2026, 3, 10, 3)
    days = [(utc(2026, 3, 1) + timedelta(days=k), 0.5) for k in range(20)]
    assert live_width(days, trained) > 1.2
    assert live_width([(day, 0.95) for day, _ in days], trained) < 0.9
    assert live_width(days[:10], trained) == 1.0
    assert live_width([], trained) == 1.0


@pytest.mark.parametrize("wrong_by", [0.5, 2.0])
def test_bands_of_the_wrong_width_hold_what_they_promise_within_two_months(wrong_by: float) -> None:
    rng = np.random.default_rng(9)
    width, shares = 1.0, [0.8, 0.8]
    for day in range(60):
        # what a day held is known the day after the next
        width = adapted_width(width, 0.8, shares[-2], day + 1)
        shares.append(float((np.abs(rng.normal(size=24)) < 1.2816 * wrong_by * width).mean()))
    assert float(np.mean(shares[2:])) == pytest.approx(0.8, abs=0.04)


def test_a_band_settles_after_some_months() -> None:
    early, late = (adapted_width(1.0, 0.8, 0.5, day) for day in (1, 120))
    assert 1.0 < late < early


def test_few_days_of_errors_ask_for_a_wider_band_than_as_many_rows_of_many_days() -> None:
    rng = np.random.default_rng(4)
    truth, raw = rng.normal(size=480), np.tile([-1.28, 1.28], (480, 1))
    few, many = (calibrate(truth, np.zeros(480), raw, (0.1, 0.9), days).factors for days in (10, 480))
    assert few[0] > many[0]
    assert few[1] > many[1]


def test_bands_learnt_in_three_months_hold_over_the_holidays_that_follow() -> None:
    found = trial(SERIES["load Victoria"](), 90, utc(2014, 12, 22, 10), quick=True)
    assert found is not None
    assert found["inside"] / found["rows"] == pytest.approx(0.8, abs=0.06)


def test_errors_before_the_scored_folds_are_collected_inside_the_history() -> None:
    for days in (28, 60, 180, 400):
        scored = (days - days // 4) * DAY
        cutoffs = warm_up(0, scored)
        assert cutoffs == sorted(cutoffs)
        assert all(10 * DAY <= cutoff < scored for cutoff in cutoffs)
        assert len(cutoffs) == 2
    assert len(warm_up(0, 337 * DAY, quick=True)) == 1
    assert len(warm_up(0, 68 * DAY, quick=True)) == 2


def test_models_of_a_backtest_are_refitted_more_often_while_there_is_little_to_learn_from() -> None:
    short, long = refits(0, 20 * DAY, 60 * DAY), refits(0, 400 * DAY, 600 * DAY)
    assert short[1] - short[0] == 7 * DAY
    assert set(np.diff(long)) == {42 * DAY}
    assert long[-1] < 600 * DAY


def test_where_a_consumer_is_off_its_low_quantiles_are_nothing_wherever_the_mean_lies() -> None:
    band = np.array([[2.0, 3.0, 9.0], [2.0, 3.0, 9.0]])
    median, offsets = np.array([0.0, 5.0]), np.array([[0.0, 0.0, 8.0], [-2.0, 0.0, 4.0]])
    assert grounded(band, median, offsets, 10.0, "ev").tolist() == [[0.0, 0.0, 9.0], [2.0, 3.0, 9.0]]
    assert grounded(band, median, offsets, 10.0, "load").tolist() == band.tolist()


def test_nights_of_a_season_never_seen_are_those_across_the_solstice() -> None:
    target = replace(PV, location=None)
    inputs = make_inputs(pv_series(utc(2016, 1, 1), utc(2016, 6, 1)), None, target)
    day = np.arange(24, dtype=np.int64) * 60 + to_minute(utc(2016, 9, 20))
    clipped = bounds_of(inputs).clip(np.full(24, 50.0), day, target)
    assert clipped[[0, 1, 22, 23]].tolist() == [0.0] * 4
    assert clipped[[8, 11, 14]].tolist() == [50.0] * 3
