"""Cleansing of one series: what is found, what is left alone, and how gaps are filled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from flexergy_pipelines.grid.replay import ReplayedSite, ReplayRule
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.quality import SeriesKind, SeriesSpec, clean_series, flags, spec_of

START = datetime(2026, 1, 5, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
LOAD = SeriesSpec("load", 0.0, 400.0)


def frame_of(values: np.ndarray) -> pl.DataFrame:
    times = [START + timedelta(minutes=15 * i) for i in range(len(values))]
    return pl.DataFrame({"time": pl.Series(times, dtype=pl.Datetime("us", "UTC")), "value": values}).with_columns(
        pl.col("value").fill_nan(None)
    )


def weeks_of_load(weeks: int = 6, seed: int = 1) -> np.ndarray:
    """A load with a course of the day and of the week and some noise."""
    i = np.arange(weeks * 7 * 96)
    day = 1 - np.cos(2 * np.pi * (i % 96) / 96)
    weekend = np.where((i // 96) % 7 >= 5, 0.6, 1.0)
    return 80 + 60 * day * weekend + np.random.default_rng(seed).normal(0, 2, i.size)


def flagged(values: np.ndarray, spec: SeriesSpec = LOAD) -> dict[str, list[int]]:
    found = clean_series(frame_of(values), spec)["flag"].to_list()
    return {flag: [i for i, f in enumerate(found) if f == flag] for flag in set(found) - {None}}


@pytest.mark.requirement("module.ami")
def test_an_untouched_series_comes_out_as_it_went_in() -> None:
    values = weeks_of_load()
    clean = clean_series(frame_of(values), LOAD)
    assert clean["flag"].null_count() == clean.height
    assert clean["value"].to_numpy() == pytest.approx(values, abs=0)
    assert clean["uncertainty"].null_count() == clean.height


@pytest.mark.requirement("module.ami")
def test_values_beyond_the_nameplate_are_replaced() -> None:
    values = weeks_of_load()
    values[[500, 900]] = [2500.0, -40.0]
    found = flagged(values)
    assert found == {flags.OUT_OF_RANGE: [500], flags.NEGATIVE: [900]}
    clean = clean_series(frame_of(values), LOAD)
    assert abs(clean["value"][500] - (values[499] + values[501]) / 2) < 20
    assert clean["uncertainty"][500] > 0


@pytest.mark.requirement("module.ami")
def test_a_spike_is_found_and_a_lasting_step_is_not() -> None:
    values = weeks_of_load()
    values[800] += 180
    values[1500] = max(values[1500] - 120, 0)
    values[2000:2008] += 100
    found = flagged(values)
    assert {800, 1500} <= set(found[flags.SPIKE])
    assert not set(range(2000, 2008)) & {i for indices in found.values() for i in indices}


@pytest.mark.requirement("module.ami")
def test_a_meter_that_stands_still_is_found() -> None:
    values = weeks_of_load()
    values[1000:1024] = values[1000]
    # The first of them was still measured.
    assert flagged(values) == {flags.FROZEN: list(range(1001, 1024))}


@pytest.mark.parametrize(("kind", "maximum"), [("pv", 100.0), ("wind", 100.0), ("ev", 100.0)])
def test_night_calm_and_empty_car_parks_are_not_frozen(kind: SeriesKind, maximum: float) -> None:
    i = np.arange(30 * 96)
    values = np.clip(90 * np.sin(2 * np.pi * (i % 96 - 24) / 96), 0, None)
    values = values * np.random.default_rng(3).uniform(0.2, 1.0, i.size)
    values[400:700] = 0.0
    assert flagged(values, SeriesSpec(kind, 0.0, maximum)) == {}


def test_a_turbine_at_full_power_is_not_frozen() -> None:
    values = 900 + 800 * np.sin(np.arange(2000) / 30) + np.random.default_rng(4).normal(0, 20, 2000)
    values[300:340] = 2050.0
    values[900:940] = values[900]
    found = flagged(values, SeriesSpec("wind", -100.0, 2255.0))
    assert found == {flags.FROZEN: list(range(901, 940))}


@pytest.mark.requirement("module.ami")
def test_gaps_are_filled_by_their_length_and_an_outage_stays_empty() -> None:
    truth = weeks_of_load()
    values = truth.copy()
    values[700:703] = np.nan
    values[1500:1532] = np.nan
    values[2200:2600] = np.nan
    clean = clean_series(frame_of(values), LOAD)
    flag = np.array(clean["flag"].to_list(), dtype=object)
    assert (flag[700:703] == flags.INTERPOLATED).all()
    assert (flag[1500:1532] == flags.SIMILAR_DAY).all()
    assert (flag[2200:2600] == flags.OUTAGE).all()
    assert clean["value"][2200:2600].null_count() == 400
    assert np.abs(clean["value"][1500:1532].to_numpy() - truth[1500:1532]).mean() < 4
    uncertainty = clean["uncertainty"]
    assert uncertainty[1500:1532].null_count() == 0
    assert uncertainty[2200:2600].null_count() == 400


def test_imputation_never_leaves_the_nameplate() -> None:
    values = np.clip(weeks_of_load() * 3 - 200, 0, 400)
    values[1500:1560] = np.nan
    estimates = clean_series(frame_of(values), LOAD)["value"][1500:1560].to_numpy()
    assert estimates.min() >= 0
    assert estimates.max() <= 400


def test_what_a_battery_did_in_a_long_gap_is_not_made_up() -> None:
    values = 200 * np.sin(np.arange(3000) / 40)
    values[1000:1003] = np.nan
    values[2000:2020] = np.nan
    found = flagged(values, SeriesSpec("storage", -250.0, 250.0))
    assert found == {flags.INTERPOLATED: [1000, 1001, 1002], flags.OUTAGE: list(range(2000, 2020))}


def test_differences_too_small_to_divide_by_are_none() -> None:
    values = np.zeros(300)
    values[[1, 50, 51]] = [2.2e-309, np.nan, np.nan]
    clean = clean_series(frame_of(values), LOAD)
    assert clean["value"].to_list() == pytest.approx(np.zeros(300), abs=1e-300)


arrays = npst.arrays(
    np.float64,
    st.integers(0, 300),
    elements=st.one_of(st.floats(-50, 500), st.sampled_from([0.0, np.nan, np.inf, -1e6, 1e6, 20.0])),
)


@pytest.mark.requirement("module.ami")
@settings(deadline=None, max_examples=150)
@given(arrays, st.sampled_from(["load", "pv", "wind", "ev", "storage", "exchange", "state", "meter"]))
def test_only_flagged_values_change_and_every_change_is_explained(values: np.ndarray, kind: SeriesKind) -> None:
    spec = SeriesSpec(kind, 0.0, 400.0)
    frame = frame_of(values)
    clean = clean_series(frame, spec)
    assert clean.height == frame.height
    assert clean["time"].equals(frame["time"])
    untouched = clean["flag"].is_null().to_numpy()
    assert np.array_equal(clean["value"].to_numpy()[untouched], values[untouched])
    assert set(clean["flag"].drop_nulls()) <= set(flags.DESCRIPTIONS)
    assert clean["value"].is_finite().fill_null(True).all()
    empty = clean.filter(pl.col("value").is_null())["flag"]
    assert empty.is_in(list(flags.EMPTY)).all()


@pytest.mark.parametrize("site_id", ["microgrid", "hybrid-park"])
def test_real_series_are_almost_never_called_wrong(site_id: str) -> None:
    site = sample_site(site_id)
    replayed = ReplayedSite(site, ReplayRule.for_now(NOW, site.zone))
    for asset_id in replayed.asset_ids:
        frame = replayed.series(asset_id, NOW - timedelta(days=364), NOW)
        clean = clean_series(frame, spec_of(site, site.point(asset_id, "active_power_kw")))
        wrong = clean["flag"].is_in(list(flags.DETECTED)).sum()
        assert wrong <= 0.002 * clean.height, asset_id
