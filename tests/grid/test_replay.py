"""The replayed sample year: re-dated by one deterministic rule, and its forecast never knows the future."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexergy_pipelines.grid.replay import PERIOD_DAYS, ReplayedSite, ReplayRule, ensure_anchor, load_replay
from flexergy_pipelines.grid.samples import examples_dir, sample_site
from flexergy_pipelines.settings import Settings

ZONES = ["Europe/Amsterdam", "Europe/Paris", "Europe/London"]
instants = st.datetimes(datetime(2020, 1, 1), datetime(2040, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)


def season_distance(day: date, other: date) -> int:
    """Days between two dates when only month and day count (29 February counts as the 28th)."""
    number = 28 if (day.month, day.day) == (2, 29) else day.day
    return min(abs((date(other.year + d, day.month, number) - other).days) for d in (-1, 0, 1))


@pytest.fixture(scope="module")
def microgrid() -> ReplayedSite:
    site = sample_site("microgrid")
    return ReplayedSite(site, ReplayRule.for_now(NOW, site.zone))


@pytest.fixture(scope="module")
def park() -> ReplayedSite:
    site = sample_site("hybrid-park")
    return ReplayedSite(site, ReplayRule.for_now(NOW, site.zone))


@given(instants, st.sampled_from(ZONES), st.sampled_from([2015, 2016]))
def test_now_falls_on_its_weekday_hour_and_season(now: datetime, zone: str, year: int) -> None:
    rule = ReplayRule.for_now(now, zone)
    local = now.astimezone(ZoneInfo(zone))
    source = rule.source_time(now, year)
    assert source.weekday() == local.weekday()
    assert source.time() == local.time()
    assert season_distance(local.date(), source.date()) <= 4
    assert source.year == year


@given(instants, instants, st.sampled_from(ZONES))
def test_weekday_and_local_hour_hold_at_any_other_time(anchor: datetime, time: datetime, zone: str) -> None:
    rule = ReplayRule.for_now(anchor, zone)
    local = time.astimezone(ZoneInfo(zone))
    source = rule.source_time(time, 2016)
    assert (source.weekday(), source.time()) == (local.weekday(), local.time())
    again = ReplayRule.for_now(anchor, zone)
    assert again.source_time(time, 2016) == source
    assert rule.source_time(time.astimezone(ZoneInfo("Asia/Tokyo")), 2016) == source


@given(instants, instants)
def test_one_period_later_the_same_moment_is_replayed(anchor: datetime, time: datetime) -> None:
    rule = ReplayRule.for_now(anchor, "UTC")
    assert rule.source_time(time + timedelta(days=PERIOD_DAYS), 2016) == rule.source_time(time, 2016)


@given(instants)
def test_the_replay_moves_on_without_gap_across_the_wrap(anchor: datetime) -> None:
    rule = ReplayRule.for_now(anchor, "UTC")
    window_start = datetime(2016, 1, 1)  # noqa: DTZ001 - wall time of the source
    into = rule.source_time(anchor, 2016) - window_start
    wrap = anchor - into + timedelta(days=PERIOD_DAYS)
    before = rule.source_time(wrap - timedelta(minutes=15), 2016)
    assert before == window_start + timedelta(days=PERIOD_DAYS, minutes=-15)
    assert rule.source_time(wrap, 2016) == window_start


@given(instants, st.sampled_from(ZONES))
def test_many_times_at_once_agree_with_one_by_one(anchor: datetime, zone: str) -> None:
    rule = ReplayRule.for_now(anchor, zone)
    times = [anchor + timedelta(hours=h) for h in range(0, 9000, 1501)]
    seconds = rule.source_seconds(pl.Series(times, dtype=pl.Datetime("us", "UTC")), 2016)
    window_start = datetime(2016, 1, 1)  # noqa: DTZ001 - wall time of the source
    expected = [(rule.source_time(t, 2016) - window_start).total_seconds() for t in times]
    assert seconds == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("day", "hours"), [("2027-03-28", 23), ("2027-10-31", 25), ("2027-06-15", 24)])
def test_a_day_of_any_length_has_one_value_a_step(microgrid: ReplayedSite, day: str, hours: int) -> None:
    zone = microgrid.site.zone
    start = datetime.fromisoformat(day).replace(tzinfo=zone)
    end = start + timedelta(days=1)
    frame = microgrid.series("load-1", start, end)
    assert frame.height == hours * 4
    assert frame["time"].n_unique() == hours * 4
    assert frame["value"].null_count() == 0
    assert frame["time"].diff().drop_nulls().unique().to_list() == [timedelta(minutes=15)]
    assert microgrid.price(start, end).height == hours


def test_the_hour_is_kept_when_the_clocks_change(microgrid: ReplayedSite) -> None:
    zone = microgrid.site.zone

    def at(text: str) -> float:
        time = datetime.fromisoformat(text).replace(tzinfo=zone)
        return microgrid.series("load-1", time, time + timedelta(minutes=15))["value"][0]

    for text in ("2027-03-27T08:00", "2027-03-28T08:00", "2027-11-01T08:00"):
        source = microgrid.rule.source_time(datetime.fromisoformat(text).replace(tzinfo=zone), 2016)
        assert source.hour == 8
    # The hour that the clocks give twice is replayed twice.
    first = datetime(2027, 10, 31, 0, 0, tzinfo=UTC)
    both = microgrid.series("load-1", first, first + timedelta(hours=2))["value"].to_list()
    assert both[:4] == both[4:]
    assert at("2027-03-27T08:00") > 0


def test_source_values_are_replayed_exactly(microgrid: ReplayedSite) -> None:
    data = pl.read_parquet(examples_dir() / "data/simbench_2016_15min.parquet", columns=["time_local_cet", "WP4"])
    start = NOW - timedelta(days=30)
    series = microgrid.series("wind-1", start, start + timedelta(days=7))
    walls = [microgrid.rule.source_time(t, 2016) for t in series["time"]]
    source = pl.DataFrame({"time_local_cet": walls}).join(data, on="time_local_cet", how="left", maintain_order="left")
    assert series["value"].to_numpy() == pytest.approx(150 * source["WP4"].cast(pl.Float64).to_numpy(), abs=1e-9)


def test_steps_finer_and_coarser_keep_the_energy(microgrid: ReplayedSite, park: ReplayedSite) -> None:
    end = NOW + timedelta(days=7)
    fine = microgrid.series("load-1", NOW, end)["value"].sum() / 4
    coarse = microgrid.series("load-1", NOW, end, step_minutes=60)
    assert coarse.height == 7 * 24
    assert coarse["value"].sum() == pytest.approx(fine, rel=1e-12)
    hourly = park.series("wind-1", NOW, end, step_minutes=60)["value"].sum()
    quarter = park.series("wind-1", NOW, end, step_minutes=15)["value"].sum() / 4
    assert quarter == pytest.approx(hourly, rel=0.03)


def test_the_instant_lies_between_its_interval_means(microgrid: ReplayedSite) -> None:
    for minutes in range(0, 60 * 24 * 60, 397):
        time = NOW + timedelta(minutes=minutes, seconds=minutes % 60)
        middle = time.replace(minute=time.minute // 15 * 15, second=0)
        window = microgrid.series("load-1", middle - timedelta(minutes=15), middle + timedelta(minutes=30))["value"]
        low, high = window.to_numpy().min(), window.to_numpy().max()
        assert low - 1e-9 <= microgrid.value("load-1", time) <= high + 1e-9


def test_holes_of_the_source_stay_holes_in_the_raw_series_only(park: ReplayedSite) -> None:
    start = NOW - timedelta(days=PERIOD_DAYS)
    raw = park.series("wind-2", start, NOW, raw=True)["value"]
    filled = park.series("wind-2", start, NOW)["value"]
    assert raw.null_count() > 100
    assert filled.null_count() == 0
    assert filled.min() >= 0  # pyright: ignore[reportOperatorIssue]
    assert filled.max() <= 2050  # pyright: ignore[reportOperatorIssue]


@pytest.mark.parametrize("site_id", ["microgrid", "hybrid-park"])
def test_the_samples_fit_their_nameplates(site_id: str) -> None:
    site = sample_site(site_id)
    replayed = ReplayedSite(site, ReplayRule.for_now(NOW, site.zone))
    for asset_id in replayed.asset_ids:
        point = site.point(asset_id, "active_power_kw")
        values = replayed.series(asset_id, NOW - timedelta(days=PERIOD_DAYS), NOW)["value"]
        assert values.min() >= point.minimum  # pyright: ignore[reportOperatorIssue]
        assert values.max() <= point.maximum  # pyright: ignore[reportOperatorIssue]


def test_prices_are_the_real_ones_of_the_source_year(microgrid: ReplayedSite) -> None:
    data = pl.read_parquet(examples_dir() / "data/price_nl_dayahead_60min.parquet")
    year = data.filter(pl.col("time_utc").dt.year() == 2016)["price_nl_eur_mwh"]
    replayed = microgrid.price(NOW - timedelta(days=PERIOD_DAYS), NOW)["price_eur_per_mwh"]
    assert replayed.mean() == pytest.approx(year.mean(), rel=0.02)  # pyright: ignore[reportArgumentType]
    assert replayed.max() <= year.max() + 0.01  # pyright: ignore[reportOperatorIssue]


def forecast_errors(replayed: ReplayedSite, column: str) -> dict[int, float]:
    """Root mean square error by hour of lead, over many issues."""
    leads: dict[int, list[float]] = {}
    for day in range(0, 200):
        issued = NOW - timedelta(days=day, hours=day % 24)
        forecast = replayed.weather_forecast(issued, 48)
        actual = replayed.weather_actual(issued, issued + timedelta(hours=48))
        for lead, error in enumerate((forecast[column] - actual[column]).to_list()):
            leads.setdefault(lead, []).append(error)
    return {lead: float(np.sqrt(np.mean(np.square(errors)))) for lead, errors in leads.items()}


@pytest.mark.parametrize("column", ["wind_speed_100m_ms", "temperature_2m_c", "cloud_cover_pct"])
def test_the_forecast_does_not_know_the_future_and_errs_more_with_its_lead(
    microgrid: ReplayedSite, column: str
) -> None:
    error = forecast_errors(microgrid, column)
    assert error[0] > 0.1
    near, day, late = (np.mean([error[h] for h in hours]) for hours in (range(0, 4), range(20, 26), range(40, 48)))
    assert near < day < late
    assert late > 1.5 * near


def test_every_forecast_differs_from_what_comes_to_pass(park: ReplayedSite) -> None:
    forecast = park.weather_forecast(NOW, 48)
    actual = park.weather_actual(NOW, NOW + timedelta(hours=48))
    for column in ("wind_speed_100m_ms", "temperature_2m_c"):
        assert not np.isclose(forecast[column].to_numpy(), actual[column].to_numpy(), atol=1e-6).any()
    day = actual["shortwave_radiation_w_m2"].to_numpy() > 50
    assert not np.isclose(
        forecast["shortwave_radiation_w_m2"].to_numpy()[day], actual["shortwave_radiation_w_m2"].to_numpy()[day]
    ).all()


def test_a_forecast_is_the_same_each_time_it_is_asked_for(microgrid: ReplayedSite) -> None:
    site = sample_site("microgrid")
    other = ReplayedSite(site, ReplayRule.for_now(NOW, site.zone))
    assert other.weather_forecast(NOW, 48).equals(microgrid.weather_forecast(NOW, 48))
    later = microgrid.weather_forecast(NOW + timedelta(hours=6), 42)
    assert not later["temperature_2m_c"].equals(microgrid.weather_forecast(NOW, 48)["temperature_2m_c"][6:])


def test_weather_is_physically_possible(microgrid: ReplayedSite) -> None:
    for frame in (microgrid.weather_actual(NOW - timedelta(days=364), NOW), microgrid.weather_forecast(NOW, 48)):
        assert frame["shortwave_radiation_w_m2"].is_between(0, 1200).all()
        assert frame["cloud_cover_pct"].is_between(0, 100).all()
        assert frame["wind_speed_10m_ms"].is_between(0, 40).all()
        assert frame["temperature_2m_c"].is_between(-30, 45).all()
        hour = frame["time"].dt.hour()
        assert frame.filter(hour.is_in([0, 1, 2, 22, 23]))["shortwave_radiation_w_m2"].max() == 0


@pytest.mark.parametrize(("hours", "step"), [(0, 60), (385, 60), (48, 7)])
def test_a_forecast_that_cannot_be_given_is_refused(microgrid: ReplayedSite, hours: int, step: int) -> None:
    with pytest.raises(ValueError, match=r"hours \d+ is outside|step_minutes 7 is none of"):
        microgrid.weather_forecast(NOW, hours, step)


def test_quarter_hour_weather_agrees_with_the_hour(microgrid: ReplayedSite) -> None:
    fine = microgrid.weather_forecast(NOW, 24, 15)
    assert fine.height == 96
    coarse = microgrid.weather_forecast(NOW, 24, 60)
    means = fine["temperature_2m_c"].to_numpy().reshape(24, 4).mean(axis=1)
    assert means == pytest.approx(coarse["temperature_2m_c"].to_numpy(), abs=0.6)


def test_the_anchor_is_set_once_and_kept(tmp_path: Path) -> None:
    settings_ = Settings(home=tmp_path / "home", database_url=None, tenant="demo")
    first = ensure_anchor(settings_, NOW)
    assert ensure_anchor(settings_, NOW + timedelta(days=400)) == first == NOW
    assert load_replay(settings_, sample_site("microgrid")).rule.anchor == NOW
    (settings_.home / "replay.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no anchor"):
        ensure_anchor(settings_)
    (settings_.home / "replay.json").write_text(json.dumps({"anchor": "2026-01-01T00:00:00"}))
    with pytest.raises(ValueError, match="has no time zone"):
        ensure_anchor(settings_)


def test_naive_times_are_refused(microgrid: ReplayedSite) -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        ReplayRule.for_now(datetime(2026, 1, 1), "UTC")  # noqa: DTZ001
    with pytest.raises(ValueError, match="has no time zone"):
        microgrid.series("load-1", datetime(2026, 1, 1), NOW)  # noqa: DTZ001


def test_assets_without_a_series_are_named(microgrid: ReplayedSite) -> None:
    with pytest.raises(KeyError, match="replays no series for ess-1"):
        microgrid.value("ess-1", NOW)
