"""Change of time step and filling of gaps, against what physics keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.weather.model import TIME
from ingestion.weather.timestep import change_step, clear_sky_w_m2, fill_gaps

HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)
PLACE = (52.1, 5.2)
START = datetime(2026, 6, 20, tzinfo=UTC)


def hours(**columns: Sequence[float | None]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    times = pl.Series("time", [START + HOUR * i for i in range(count)], dtype=TIME)
    return pl.DataFrame([times, *(pl.Series(name, values, dtype=pl.Float64) for name, values in columns.items())])


def clear_day() -> np.ndarray:
    return clear_sky_w_m2([START + HOUR * i for i in range(24)], HOUR, *PLACE)


@pytest.mark.requirement("module.weather", "energy.01.4")
@pytest.mark.parametrize("minutes", [5, 15, 20])
@given(indices=st.lists(st.floats(0, 1.2), min_size=24, max_size=24))
@settings(max_examples=8, deadline=None)
def test_finer_irradiance_keeps_each_hours_energy_and_stays_dark_at_night(minutes: int, indices: list[float]) -> None:
    clear = clear_day()
    hourly = hours(shortwave_radiation_w_m2=list(clear * np.array(indices)))
    step = timedelta(minutes=minutes)
    fine = change_step(hourly, HOUR, step, *PLACE)
    means = fine["shortwave_radiation_w_m2"].to_numpy().reshape(24, -1).mean(axis=1)
    assert np.allclose(means, hourly["shortwave_radiation_w_m2"].to_numpy(), atol=1e-9)
    dark = clear_sky_w_m2(fine["time"].to_list(), step, *PLACE) == 0
    assert (fine["shortwave_radiation_w_m2"].to_numpy()[dark] <= 5.0).all()


def test_finer_irradiance_follows_the_sun_within_the_hour() -> None:
    hourly = hours(shortwave_radiation_w_m2=list(clear_day()))
    fine = change_step(hourly, HOUR, QUARTER, *PLACE)
    truth = clear_sky_w_m2(fine["time"].to_list(), QUARTER, *PLACE)
    bright = truth > 50
    error = np.abs(fine["shortwave_radiation_w_m2"].to_numpy() - truth)[bright].max()
    flat = np.abs(np.repeat(clear_day(), 4) - truth)[bright].max()
    assert error < flat / 20


def test_sums_are_shared_out_and_states_run_linearly() -> None:
    hourly = hours(precipitation_mm=[4.0, 0.0, 2.0], temperature_2m_c=[10.0, 12.0, 8.0])
    fine = change_step(hourly, HOUR, QUARTER, *PLACE)
    assert fine["precipitation_mm"].sum() == pytest.approx(6.0)
    assert fine["precipitation_mm"][0] == pytest.approx(1.0)
    assert fine["temperature_2m_c"][:5].to_list() == pytest.approx([10.0, 10.5, 11.0, 11.5, 12.0])


def test_direction_turns_the_short_way_through_north() -> None:
    fine = change_step(hours(wind_direction_100m_deg=[350.0, 10.0]), HOUR, timedelta(minutes=30), *PLACE)
    middle = math.radians(fine["wind_direction_100m_deg"][1])
    assert math.cos(middle) == pytest.approx(1.0, abs=1e-6)


@given(
    irradiance=st.lists(st.floats(0, 900), min_size=24, max_size=24),
    rain=st.lists(st.floats(0, 20), min_size=24, max_size=24),
)
@settings(max_examples=12, deadline=None)
def test_to_finer_and_back_gives_the_same_hours(irradiance: list[float], rain: list[float]) -> None:
    hourly = hours(shortwave_radiation_w_m2=irradiance, precipitation_mm=rain)
    back = change_step(change_step(hourly, HOUR, QUARTER, *PLACE), QUARTER, HOUR, *PLACE)
    for name in ("shortwave_radiation_w_m2", "precipitation_mm"):
        assert np.allclose(back[name].to_numpy(), hourly[name].to_numpy(), atol=1e-9)


def test_steps_that_do_not_divide_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        change_step(hours(temperature_2m_c=[1.0, 2.0]), HOUR, timedelta(minutes=25), *PLACE)


@pytest.mark.requirement("module.weather")
def test_short_gaps_are_filled_by_the_clear_sky_and_long_ones_stay() -> None:
    truth = 0.7 * clear_day()
    holes: list[float | None] = list(truth)
    holes[11] = holes[12] = None
    temperature: list[float | None] = [float(i) for i in range(24)]
    temperature[3:8] = [None] * 5
    temperature[20] = None
    filled, count = fill_gaps(hours(shortwave_radiation_w_m2=holes, temperature_2m_c=temperature), HOUR, *PLACE)
    assert count == 3
    assert filled["shortwave_radiation_w_m2"][12] == pytest.approx(truth[12], rel=1e-6)
    assert filled["temperature_2m_c"][20] == pytest.approx(20.0)
    assert filled["temperature_2m_c"].null_count() == 5


def test_nothing_is_made_up_beyond_the_ends() -> None:
    filled, count = fill_gaps(hours(temperature_2m_c=[None, 1.0, 2.0, None]), HOUR, *PLACE)
    assert count == 0
    assert filled["temperature_2m_c"].null_count() == 2


@given(position=st.integers(1, 22), length=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_filling_never_changes_a_known_value(position: int, length: int) -> None:
    values: list[float | None] = list(0.5 * clear_day())
    hole = range(position, min(23, position + length))
    for i in hole:
        values[i] = None
    filled, _ = fill_gaps(hours(shortwave_radiation_w_m2=values), HOUR, *PLACE)
    for i in set(range(24)) - set(hole):
        assert filled["shortwave_radiation_w_m2"][i] == values[i]
