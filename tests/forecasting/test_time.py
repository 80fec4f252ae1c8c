"""Local days of 23, 24 and 25 hours, irregular stamps, and what is known when."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.forecasting.calendars import calendar_matrix, day_types
from flexergy_pipelines.forecasting.features import Inputs, Rows, lag_days
from flexergy_pipelines.forecasting.models.naive import Naive
from flexergy_pipelines.forecasting.schedule import gate_minute, gate_rows, hours_of
from flexergy_pipelines.forecasting.timegrid import (
    DAY,
    GatedSeries,
    Series,
    known_until,
    local_offset,
    series_from_frame,
    to_minute,
    wall_lag,
)
from tests.forecasting.data import LOAD, PRICE, PV, utc


def minutes(*stamps) -> np.ndarray:
    return np.array([to_minute(stamp) for stamp in stamps], dtype=np.int64)


def test_a_lag_of_a_day_keeps_the_clock_time_across_the_change_of_clock() -> None:
    # Berlin went from +1 h to +2 h on 2016-03-27 at 01:00 UTC
    noon_sunday = minutes(utc(2016, 3, 27, 10))
    assert wall_lag(noon_sunday, 1, "Europe/Berlin")[0] == to_minute(utc(2016, 3, 26, 11))
    noon_autumn = minutes(utc(2016, 10, 30, 11))
    assert wall_lag(noon_autumn, 1, "Europe/Berlin")[0] == to_minute(utc(2016, 10, 29, 10))


@settings(deadline=None)
@given(st.integers(to_minute(utc(2000, 1, 1)) // 30, to_minute(utc(2050, 1, 1)) // 30))
def test_local_offsets_agree_with_the_time_zone_database(half_hour: int) -> None:
    for zone in ("Europe/Amsterdam", "Australia/Lord_Howe", "UTC", "America/St_Johns"):
        stamp = utc(1970, 1, 1) + timedelta(minutes=half_hour * 30)
        expected = stamp.astimezone(ZoneInfo(zone)).utcoffset()
        assert expected is not None
        got = int(local_offset(np.array([half_hour * 30], dtype=np.int64), zone)[0])
        assert got == int(expected.total_seconds() // 60)


@pytest.mark.parametrize(
    ("day", "hours"), [(utc(2016, 3, 26, 23), 23), (utc(2016, 10, 29, 22), 25), (utc(2016, 6, 1, 22), 24)]
)
def test_a_day_ahead_covers_the_whole_local_day(day, hours: int) -> None:
    start = to_minute(day)
    rows = gate_rows(start, start + hours * 60, gate=600, horizon_hours=24, step=60, zone="Europe/Berlin")
    assert len(rows) == hours
    assert len(set(rows.valid.tolist())) == hours
    local_gate = (rows.issue + local_offset(rows.issue, "Europe/Berlin")) % DAY
    assert set(local_gate.tolist()) == {600}
    assert (rows.issue < rows.valid.min()).all()


@settings(deadline=None)
@given(st.integers(0, 400 * 24), st.integers(0, 47))
def test_no_lag_is_shorter_than_the_lead(issue_hour: int, lead: int) -> None:
    issue = np.array([to_minute(utc(2016, 1, 1)) + issue_hour * 60], dtype=np.int64)
    valid = issue + lead * 60
    past = GatedSeries(Series(int(issue[0]) - 40 * DAY, 60, np.ones(100 * 24)), PV)
    days = lag_days(Rows(issue, valid), past)
    assert days[0] >= 1
    assert (valid - days * DAY + 60 <= issue).all()


def test_prices_of_tomorrow_are_known_after_publication_only() -> None:
    before, after = minutes(utc(2016, 7, 1, 10)), minutes(utc(2016, 7, 1, 11))
    assert known_until(before, PRICE)[0] == to_minute(utc(2016, 7, 1, 22))
    assert known_until(after, PRICE)[0] == to_minute(utc(2016, 7, 2, 22))


def test_duplicated_shuffled_and_coarse_stamps_become_one_grid() -> None:
    stamps = [utc(2016, 1, 1, 0), utc(2016, 1, 1, 2), utc(2016, 1, 1, 1), utc(2016, 1, 1, 1)]
    series = series_from_frame(pl.DataFrame({"time": stamps, "value": [1.0, 3.0, 1.0, 3.0]}), 60)
    np.testing.assert_allclose(series.values, [1.0, 2.0, 3.0])
    quarters = series_from_frame(pl.DataFrame({"time": stamps, "value": [1.0, 3.0, 1.0, 3.0]}), 15)
    np.testing.assert_allclose(quarters.values, np.repeat([1.0, 2.0, 3.0], 4))


def test_gaps_and_infinities_are_missing_not_zero() -> None:
    frame = pl.DataFrame(
        {
            "time": [utc(2016, 1, 1, h) for h in (0, 1, 2, 5)],
            "value": [1.0, float("inf"), None, 4.0],
        }
    )
    values = series_from_frame(frame, 60).values
    assert np.isnan(values[1:5]).all()
    assert values[[0, 5]].tolist() == [1.0, 4.0]


def test_a_unit_slip_in_the_stamps_is_refused() -> None:
    frame = pl.DataFrame({"time": [utc(1970, 1, 1), utc(2200, 1, 1)], "value": [1.0, 2.0]})
    with pytest.raises(ValueError, match="check its time stamps"):
        series_from_frame(frame, 15)


@pytest.mark.requirement("energy.03.4", "energy.03.5")
@pytest.mark.parametrize(("step", "horizon"), [(7, 24), (90, 24), (15, 0), (15, 1000)])
def test_impossible_granularity_or_horizon_is_refused_by_name(step: int, horizon: int) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match=r"victoria\.load-1\.active_power_kw: (granularity|horizon)"):
        replace(LOAD, step_minutes=step, horizon_hours=horizon)


def test_holidays_count_as_sundays() -> None:
    days = np.array([(utc(2016, 12, d) - utc(1970, 1, 1)).days for d in (23, 24, 25, 26, 27)], dtype=np.int64)
    assert day_types(days, "NL").tolist() == [0.0, 1.0, 2.0, 2.0, 0.0]
    assert day_types(days, None).tolist() == [0.0, 1.0, 2.0, 0.0, 0.0]
    assert np.isfinite(calendar_matrix(days * DAY, "Europe/Amsterdam", "NL")).all()


def test_the_weekly_naive_repeats_last_week_by_the_clock() -> None:
    start = to_minute(utc(2016, 3, 1))
    series = Series(start, 60, np.arange(30 * 24, dtype=float))
    issue = to_minute(utc(2016, 3, 27, 12))
    rows = Rows(np.array([issue], dtype=np.int64), minutes(utc(2016, 3, 28, 10)))
    target = PV
    got = Naive("naive_week").forecast(rows, Inputs(target, series))
    expected = series.at(minutes(utc(2016, 3, 21, 11)))
    assert got[0] == expected[0]


@pytest.mark.parametrize(("text", "hours"), [("24h", 24.0), ("30min", 0.5), ("2d", 48.0), ("36", 36.0)])
def test_durations_are_read(text: str, hours: float) -> None:
    assert hours_of(text) == hours


@pytest.mark.parametrize("text", ["", "tomorrow", "-3h"])
def test_odd_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        hours_of(text)


@pytest.mark.parametrize("text", ["24:00", "10", "10:61"])
def test_odd_gates_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="gate"):
        gate_minute(text)
