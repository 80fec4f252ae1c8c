"""The kind of a channel is told by its looks, on real series, so that files need no options."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.faults import RealSeries, every_series
from flexergy_pipelines.quality.axis import Axis
from flexergy_pipelines.quality.kinds import infer_kind
from flexergy_pipelines.quality.rules.ranges import negative, turned
from flexergy_pipelines.quality.spec import SeriesSpec

SERIES = {series.name: series for series in every_series()}
LOADS = [name for name, series in SERIES.items() if series.kind == "load"]


def told(series: RealSeries, values: NDArray[np.float64], name: str = "value") -> str:
    none = np.zeros(0, dtype=bool)
    axis = Axis(np.zeros(0, np.int64), none, none, values.size, float(series.step_minutes), series.first_slot, 0)
    return infer_kind(name, values, axis)


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", ["PV1", "PV3", "PV5", "PV8", "PV3 1 h", "inverter sma_7kw"])
@pytest.mark.parametrize("first_day", [20, 170])
def test_pv_is_known_by_its_nights_and_noons(name: str, first_day: int) -> None:
    part = SERIES[name].days(first_day, 60)
    assert told(part, part.values) == "pv"


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", LOADS)
def test_no_load_is_taken_for_a_source(name: str) -> None:
    for first_day in (20, 170, 280):
        part = SERIES[name].days(first_day, 60)
        assert told(part, part.values) == "meter"


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", ["wind WP1", "wind WP4", "turbine R80711", "turbine R80790", "wind farm"])
def test_a_year_of_wind_is_known_by_how_it_dies_down_and_comes_back(name: str) -> None:
    assert told(SERIES[name], SERIES[name].values) == "wind"


def test_a_name_tells_more_than_looks() -> None:
    load = SERIES["business G0-A"].days(20, 30)
    assert told(load, load.values, "Turbine 4 active power") == "wind"
    assert told(load, load.values, "roof-pv_kw") == "pv"
    assert told(load, load.values, "pvc_extruder_kw") == "meter"


@pytest.mark.requirement("module.ami")
def test_a_meter_that_often_draws_a_little_may_still_not_draw_its_whole_power() -> None:
    turbine = SERIES["turbine R80711"].values.copy()
    natural = turbine < 0
    wrong = np.array([500, 2500, 4200, 7000])
    turbine[wrong] = -0.7 * turbine.max()
    found = np.flatnonzero(negative(turbine, SeriesSpec("meter", step_minutes=60)))
    assert found.tolist() == wrong.tolist()
    assert natural.any()


@pytest.mark.requirement("module.ami")
def test_a_turned_sign_is_found_and_a_meter_of_both_directions_left_alone() -> None:
    load, pv = SERIES["business G0-A"].days(100, 60).values, SERIES["PV3"].days(100, 60).values
    spec = SeriesSpec("meter", step_minutes=15)
    exchange = load / load.max() - 1.5 * pv / pv.max()
    assert (exchange < 0).mean() > 0.05
    assert not turned(exchange, spec).any()
    assert not negative(exchange, spec).any()
    wrong = load.copy()
    wrong[2000:2040] *= -1
    assert np.flatnonzero(turned(wrong, spec)).tolist() == list(range(2000, 2040))
