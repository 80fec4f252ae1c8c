"""Holidays that nobody configured, and whole days as price models see them."""

from __future__ import annotations

import holidays
import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.features import Inputs, completed
from flexergy_pipelines.forecasting.free_days import inferred_country
from flexergy_pipelines.forecasting.members import new_members, squared_loss
from flexergy_pipelines.forecasting.models.daily import day_rows
from flexergy_pipelines.forecasting.targets import Target
from flexergy_pipelines.forecasting.timegrid import Series, series_from_frame, to_datetimes, to_minute
from flexergy_pipelines.forecasting.weather import build_panel
from tests.forecasting.data import load_series, utc

START = to_minute(utc(2015, 1, 1))


def office(days: int, country: str | None) -> Series:
    """A load that rests on Sundays and on the holidays of a country."""
    rng = np.random.default_rng(1)
    day = np.arange(days)
    first = utc(2015, 1, 1).date()
    free = {} if country is None else holidays.country_holidays(country, years=range(2015, 2018))
    off = np.array([(d + 3) % 7 == 6 or first.fromordinal(first.toordinal() + int(d)) in free for d in day])
    hour = np.arange(24)
    profile = 100 + 40 * np.sin((hour - 8) / 24 * 2 * np.pi)
    values = np.where(off, 0.7, 1.0)[:, None] * profile[None, :] * (1 + 0.02 * rng.normal(size=(days, 24)))
    return Series(START, 60, values.reshape(-1))


def test_the_country_is_told_by_its_holidays() -> None:
    for country in ("DE", "US", "FR"):
        assert inferred_country(office(730, country), "UTC") == country
    assert inferred_country(office(730, None), "UTC") is None
    assert inferred_country(office(200, "DE"), "UTC") is None


def test_the_demand_of_victoria_keeps_australian_holidays() -> None:
    history, _ = load_series(utc(2012, 1, 1), utc(2013, 12, 31))
    series = series_from_frame(history, 60)
    assert inferred_country(series, "UTC") == "AU"


def test_a_configured_country_stays_and_what_comes_later_does_not_count() -> None:
    target = Target("a", "load-1", "power", "load", "UTC", step_minutes=60, country="NL")
    series = office(730, "DE")
    assert completed(Inputs(target, series), series.end).target.country == "NL"
    open_target = Target("a", "load-1", "power", "load", "UTC", step_minutes=60)
    cutoff = START + 500 * 1440
    spoilt = Series(START, 60, np.where(series.minutes >= cutoff, -1e6, series.values))
    for one in (series, spoilt):
        assert completed(Inputs(open_target, one), cutoff).target.country == "DE"
    assert completed(Inputs(open_target, series), START + 100 * 1440).target.country is None


def test_price_models_see_the_exogenous_forecasts_of_the_day_the_day_before_and_a_week_before() -> None:
    minutes = START + 60 * np.arange(40 * 24, dtype=np.int64)
    frame = pl.DataFrame(
        {
            "time": to_datetimes(minutes),
            "Load forecast (MW)": np.arange(minutes.size, dtype=float),
            "Wind": -np.arange(minutes.size, dtype=float),
        }
    )
    target = Target("m", "market", "price", "price", "UTC", step_minutes=60)
    series = Series(START, 60, np.arange(1000.0, 1000.0 + minutes.size))
    inputs = Inputs(target, series, build_panel(frame, 60, "UTC"))
    day = 30
    X = day_rows(inputs, np.array([START // 1440 + day], dtype=np.int64), lag=1, lead=14 * 60).X[0]
    blocks = X[: 10 * 24].reshape(10, 24)
    hours = np.arange(24.0)
    for block, back in zip(blocks[:4], (1, 2, 3, 7), strict=True):
        np.testing.assert_array_equal(block, 1000.0 + (day - back) * 24 + hours)
    for k, back in enumerate((0, 1, 7)):
        np.testing.assert_array_equal(blocks[4 + 2 * k], (day - back) * 24 + hours)
        np.testing.assert_array_equal(blocks[5 + 2 * k], -((day - back) * 24 + hours))


def test_prices_are_forecast_by_the_models_of_whole_days_unless_in_haste() -> None:
    names = {model.name for model in new_members("price")}
    assert {"lear", "daily_net", "lightgbm", "lightgbm_median", "linear", "prophet"} <= names
    assert not {"lear", "daily_net"} & {model.name for model in new_members("price", quick=True)}


def test_what_is_off_most_of_the_time_is_judged_by_its_energy() -> None:
    for kind in ("ev", "controllable_load"):
        assert squared_loss(kind)
        assert "lightgbm_median" not in {model.name for model in new_members(kind)}
    assert not squared_loss("load")
