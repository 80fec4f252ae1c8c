"""What real series do by themselves is flagged hardly ever, in files without any option."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from benchmarks.faults import FAULTS, MORE_FAULTS, RealSeries, every_series
from flexergy_pipelines.quality.axis import Axis
from flexergy_pipelines.quality.kinds import infer_kind
from flexergy_pipelines.quality.profile import clear_sky
from flexergy_pipelines.quality.rules.spikes import spikes
from flexergy_pipelines.quality.series import FLAGS, detect
from flexergy_pipelines.quality.spec import SeriesSpec

SERIES = {series.name: series for series in every_series()}


def axis_of(series: RealSeries) -> Axis:
    nothing = np.zeros(0, dtype=np.int64)
    no = np.zeros(0, dtype=bool)
    return Axis(nothing, no, no, series.values.size, series.step_minutes, series.first_slot, 0)


def told(series: RealSeries) -> str:
    return infer_kind("value", series.values, axis_of(series))


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", SERIES)
def test_every_real_series_is_told_by_its_looks_even_when_it_is_dirty(name: str) -> None:
    series = SERIES[name].days(0, 365)
    expected = "meter" if series.kind == "load" else series.kind
    assert told(series) == expected
    for fault in (FAULTS["spikes"], FAULTS["unit slips"], MORE_FAULTS["signs"]):
        dirty, _ = fault(series.values, series.per_day, np.random.default_rng(3))
        assert infer_kind("value", dirty, axis_of(series)) == expected


@pytest.mark.parametrize("name", ["PV3", "inverter sma_7kw"])
def test_pv_that_is_not_measured_at_night_is_told_too(name: str) -> None:
    series = SERIES[name].days(100, 30)
    dark = series.values <= 0
    values = np.where(dark, np.nan, series.values)
    assert infer_kind("value", values, axis_of(series)) == "pv"


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", SERIES)
def test_hardly_anything_is_flagged_in_a_clean_year(name: str) -> None:
    series = SERIES[name].days(0, 365)
    spec = SeriesSpec(told(series), step_minutes=series.step_minutes, first_slot=series.first_slot)  # pyright: ignore[reportArgumentType]
    codes = detect(series.values, spec)[1]
    found = [FLAGS[code] for code in codes[codes != 0]]
    assert len(found) < 1e-3 * series.values.size, found[:5]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_a_meter_that_goes_both_ways_keeps_its_signs(share: float) -> None:
    values = SERIES["household H0-C"].values - share * SERIES["PV3"].values
    codes = detect(values, SeriesSpec("meter"))[1]
    assert not {"sign_flip", "negative"} & {FLAGS[code] for code in codes}


def test_a_temperature_below_zero_is_no_wrong_sign() -> None:
    temperature = pl.read_parquet("examples/data/load_victoria_30min.parquet")["temperature_c"].to_numpy()
    codes = detect(temperature - 14.0, SeriesSpec("meter", step_minutes=30))[1]
    assert not {"sign_flip", "negative"} & {FLAGS[code] for code in codes}


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", ["household H0-A", "business G4-H", "turbine R80711"])
def test_a_few_negative_values_and_stretches_of_a_one_way_meter_are_found(name: str) -> None:
    series = SERIES[name].days(0, 330)
    spec = SeriesSpec(told(series), step_minutes=series.step_minutes)  # pyright: ignore[reportArgumentType]
    dirty, truth = MORE_FAULTS["signs"](series.values, series.per_day, np.random.default_rng(8))
    truth &= dirty < -0.02 * series.values.max()
    flagged = detect(dirty, spec)[1] != 0
    assert (flagged & truth).sum() >= 0.9 * truth.sum()


@pytest.mark.requirement("module.ami")
def test_pv_under_snow_is_no_other_unit() -> None:
    series = SERIES["PV3"].days(60, 120)
    values = series.values.copy()
    snow = slice(10 * 96, 15 * 96)
    values[snow] *= np.repeat([0.004, 0.006, 0.01, 0.02, 0.03], 96)
    codes = detect(values, SeriesSpec("pv"))[1]
    assert not codes[snow].any()


@pytest.mark.requirement("module.ami")
def test_a_gap_in_the_clouds_is_no_spike_of_pv_but_more_than_the_sky_allows_is() -> None:
    series = SERIES["PV3"].days(90, 120)
    course = clear_sky(series.values, 96, 0).reshape(120, 96)
    sky = np.tile(course[np.argmax(course.max(axis=1))], 120)
    values = sky.copy()
    noon, later = 60 * 96 + 48, 70 * 96 + 48
    values[noon - 12 : noon + 12] *= 0.15
    values[noon] = 0.97 * sky[noon]
    values[later] *= 1.45
    assert np.flatnonzero(spikes(values, SeriesSpec("pv"), sky)).tolist() == [later]


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("kind", ["meter", "own"])
@pytest.mark.parametrize("name", ["business G4-H", "heat WB-H", "PV1", "wind WP1", "turbine R80790"])
def test_sums_of_days_are_judged_by_their_range(name: str, kind: str) -> None:
    series = SERIES[name].days(0, 365)
    days = series.values.reshape(365, -1).mean(axis=1)
    spec = SeriesSpec("meter" if kind == "meter" else series.kind, step_minutes=1440)
    assert not detect(days, spec)[1].any()
    dirty = days.copy()
    dirty[[50, 200]] += 8 * days.std()
    dirty[100:108] *= 1000
    found = [FLAGS[code] for code in detect(dirty, spec)[1]]
    assert [found[50], found[200]] == ["spike"] * 2
    assert set(found[100:108]) == {"unit_slip"}
    assert sum(flag != "" for flag in found) == 10
