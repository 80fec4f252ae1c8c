"""Weather as weather centres give it: sums since midnight, code numbers, no word of where the plant stands."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.forecasting.features import Inputs, completed
from flexergy_pipelines.forecasting.solar import InferredLocation, inferred_location, sun
from flexergy_pipelines.forecasting.targets import Location, Target
from flexergy_pipelines.forecasting.timegrid import Series, to_datetimes, to_minute
from flexergy_pipelines.forecasting.weather import build_panel
from flexergy_pipelines.forecasting.weather_columns import amounts, light_column
from tests.forecasting.data import utc

HERE = Location(-35.3, 149.1)
START = to_minute(utc(2012, 4, 1))


def sky(days: int) -> tuple[np.ndarray, np.ndarray]:
    """Hours since the start and the light on the ground [W/m2] under clouds that come and go."""
    minutes = START + 60 * np.arange(days * 24, dtype=np.int64)
    clouds = np.random.default_rng(1).uniform(0.3, 1.0, days).repeat(24)
    return minutes, sun(minutes, 60, HERE)[2] * clouds


def summed(flux: np.ndarray, hours: int = 24) -> np.ndarray:
    return (3600 * flux).reshape(-1, hours).cumsum(axis=1).reshape(-1)


def test_sums_since_midnight_become_the_irradiance_of_each_hour() -> None:
    minutes, light = sky(40)
    cover = np.random.default_rng(2).random(light.size)
    # stamps are ends of hours, so that midnight closes a day
    frame = pl.DataFrame({"time": to_datetimes(minutes + 60), "VAR169": summed(light), "VAR164": cover})
    panel = build_panel(frame, 60, "UTC")
    shown = panel.values[:, panel.columns.index("ssrd")]
    np.testing.assert_allclose(shown, light, atol=0.1)
    np.testing.assert_allclose(panel.values[:, panel.columns.index("tcc")], cover)
    assert panel.light == "ssrd"


def test_sums_since_each_issue_become_amounts_within_it() -> None:
    minutes, light = sky(30)
    parts = []
    for issue in range(0, light.size - 48, 24):
        window = slice(issue, issue + 48)
        parts.append(
            pl.DataFrame(
                {
                    "time": to_datetimes(minutes[window] + 60),
                    "radiation_sum": (3600 * light[window]).cumsum(),
                    "issued_at": to_datetimes(np.full(48, minutes[issue], dtype=np.int64)),
                }
            )
        )
    panel = build_panel(pl.concat(parts), 60, "UTC")
    seen = panel.lookup(minutes[24:72] + 60, np.full(48, minutes[24], dtype=np.int64))[:, 0]
    np.testing.assert_allclose(seen, light[24:72], atol=0.1)


def test_an_archive_of_a_fixed_lead_is_known_from_its_issue_on() -> None:
    minutes, light = sky(10)
    issued = to_datetimes(minutes - 30 * 60).alias("issued_at")
    panel = build_panel(pl.DataFrame({"time": to_datetimes(minutes), "ghi": light, "issued_at": issued}), 30, "UTC")
    ahead = minutes[48:60]
    column = panel.columns.index("ghi")
    known = panel.lookup(ahead, ahead - 30 * 60)[:, column]
    np.testing.assert_allclose(known, light[48:60])
    np.testing.assert_allclose(panel.lookup(ahead + 30, ahead - 30 * 60)[:, column], light[48:60])
    assert np.isnan(panel.lookup(ahead, ahead - 31 * 60)[:, column]).all()


def three_hourly() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Hours, and what a weather centre gives at every third: temperature, light of the next hours, its sum so far."""
    minutes, light = sky(40)
    warmth = 10 + 6 * np.sin((np.arange(light.size) - 9) / 24 * 2 * np.pi)
    so_far = summed(light).reshape(-1, 24)
    # the sum up to a stamp; that of midnight is the whole day before
    so_far = np.concatenate([np.append(0.0, so_far[:-1, -1])[:, None], so_far[:, :-1]], axis=1).reshape(-1)
    mean = light.reshape(-1, 3).mean(axis=1).repeat(3)
    return minutes, {"temperature": warmth, "VAR169": so_far, "irradiance": mean}


def seen_hourly(column: str) -> np.ndarray:
    """The hours of a column that was given every three hours, without the first and last day."""
    minutes, columns = three_hourly()
    frame = pl.DataFrame({"time": to_datetimes(minutes), column: columns[column]}).gather_every(3)
    panel = build_panel(frame, 60, "UTC")
    return panel.lookup(minutes, np.full(minutes.size, minutes[-1], dtype=np.int64))[24:-24, 0]


def test_a_three_hourly_temperature_holds_at_its_stamps() -> None:
    # an hour has the temperature of its middle
    middle = 10 + 6 * np.sin((np.arange(24, 39 * 24) + 0.5 - 9) / 24 * 2 * np.pi)
    np.testing.assert_allclose(seen_hourly("temperature"), middle, atol=0.5)


@pytest.mark.parametrize("column", ["VAR169", "irradiance"])
def test_three_hourly_light_stands_at_the_hours_in_which_it_shone(column: str) -> None:
    found, light = seen_hourly(column), three_hourly()[1]["irradiance"][24:-24]
    lags = range(-3, 4)
    alike = [np.corrcoef(found[3:-3], np.roll(light, k)[3:-3])[0, 1] for k in lags]
    assert lags[int(np.argmax(alike))] == 0
    assert found.mean() == pytest.approx(light.mean(), rel=0.05)


@pytest.mark.parametrize("name", ["temperature", "holiday", "hour", "irradiance", "load"])
def test_columns_that_do_not_add_up_stay_as_they_are(name: str) -> None:
    minutes, light = sky(40)
    hour = np.arange(light.size) % 24
    values = {
        "temperature": 280 + 8 * np.sin(hour / 4.0) + np.random.default_rng(3).normal(0, 1, light.size),
        "holiday": (np.arange(light.size) // 24 % 7 == 6).astype(float),
        "hour": hour.astype(float),
        "irradiance": light,
        "load": 500 + 100 * np.sin((hour - 6) / 24 * 2 * np.pi),
    }[name]
    panel = build_panel(pl.DataFrame({"time": to_datetimes(minutes), name: values}), 60, "UTC")
    np.testing.assert_allclose(panel.values[:, panel.columns.index(name)], values)


def test_a_gap_in_a_sum_is_shared_by_its_hours_and_a_long_one_stays_empty() -> None:
    minutes = np.array([0, 60, 180, 240, 1200, 1260], dtype=np.int64)
    said = amounts(minutes, np.zeros(6, np.int64), np.array([1.0, 2.0, 6.0, 7.0, 30.0, 31.0]))
    np.testing.assert_allclose(said, [1.0, 1.0, 2.0, 1.0, np.nan, 1.0])


def test_the_light_is_found_without_its_name_and_is_not_that_above_the_clouds() -> None:
    minutes, light = sky(60)
    above = sun(minutes, 60, HERE)[2] * 1.3
    cover = np.random.default_rng(4).random(light.size)
    columns = ("cover", "above", "ground")
    assert light_column(columns, minutes, np.column_stack([cover, above, light])) == "ground"
    assert light_column(("cover",), minutes, cover[:, None]) is None


@pytest.mark.parametrize(("latitude", "longitude"), [(52.0, 5.0), (-35.0, 149.0), (37.0, -120.0)])
def test_a_plant_is_placed_by_its_light(latitude: float, longitude: float) -> None:
    minutes = START + 60 * np.arange(365 * 24, dtype=np.int64)
    clouds = np.random.default_rng(5).uniform(0.2, 1.0, 365).repeat(24)
    place = inferred_location(minutes, sun(minutes, 60, Location(latitude, longitude))[2] * clouds)
    assert place is not None
    assert place.latitude_deg == pytest.approx(latitude, abs=3)
    assert place.longitude_deg == pytest.approx(longitude, abs=3)


def test_no_place_is_told_from_noise_or_from_a_few_weeks() -> None:
    minutes, light = sky(200)
    assert inferred_location(minutes, np.random.default_rng(6).random(light.size)) is None
    assert inferred_location(minutes[: 60 * 24], light[: 60 * 24]) is None


def test_the_place_does_not_depend_on_what_comes_later() -> None:
    minutes, light = sky(300)
    target = Target("a", "pv", "power", "pv", "UTC", step_minutes=60)
    cutoff = START + 200 * 1440
    spoilt = np.where(minutes >= cutoff, np.roll(light, 7) * 50, light)
    places = [completed(Inputs(target, Series(START, 60, v)), cutoff).target.location for v in (light, spoilt)]
    assert isinstance(places[0], InferredLocation)
    assert places[0] == places[1]
    known = Location(1.0, 2.0)
    placed = Target("a", "pv", "power", "pv", "UTC", step_minutes=60, location=known)
    assert completed(Inputs(placed, Series(START, 60, light)), cutoff).target.location is known


def test_what_a_column_is_taken_for_does_not_depend_on_what_comes_later() -> None:
    minutes, light = sky(60)
    cutoff = utc(2012, 4, 1) + timedelta(days=40)
    frame = pl.DataFrame({"time": to_datetimes(minutes + 60), "VAR169": summed(light)})
    noise = pl.Series(np.random.default_rng(7).normal(0, 1e9, light.size))
    spoilt = frame.with_columns(
        pl.when(pl.col("time") > cutoff).then(noise).otherwise(pl.col("VAR169")).alias("VAR169")
    )
    end = to_minute(cutoff) - 1440
    one, other = (build_panel(f, 60, "UTC") for f in (frame, spoilt))
    keep = one.valid < end
    np.testing.assert_allclose(one.values[keep], other.values[keep])
