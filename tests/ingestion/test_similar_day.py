"""The day of the past that stands in when nobody answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from ingestion.weather.model import COLUMNS, TIME
from ingestion.weather.similar_day import similar_day

HOUR = timedelta(hours=1)
START = datetime(2026, 11, 20, 10, tzinfo=UTC)


def archive(days: int, mood: dict[int, float]) -> pl.DataFrame:
    """Days before START; `mood` is the temperature of a day counted backwards, else 0."""
    rows = []
    for hour in range(days * 24, 0, -1):
        back = (hour - 1) // 24 + 1
        rows.append((START - HOUR * hour, *(mood.get(back, 0.0) for _ in COLUMNS)))
    return pl.DataFrame(rows, schema={"time": TIME} | dict.fromkeys(COLUMNS, pl.Float64), orient="row")


@pytest.mark.requirement("energy.01.3")
def test_what_followed_the_most_similar_day_stands_in() -> None:
    # Yesterday was 20; so was the 11th day back, and then came a 33.
    past = archive(25, {1: 20.0, 11: 20.0, 10: 33.0, 15: 19.0, 14: 44.0})
    found = similar_day(past, START, START + timedelta(days=1), HOUR)
    assert found is not None
    assert found.days_back == 10
    assert found.frame["temperature_2m_c"].to_list() == [33.0] * 24
    assert found.frame["time"][0] == START


def test_two_days_are_taken_together() -> None:
    past = archive(30, {1: 20.0, 11: 20.0, 10: 33.0, 9: 34.0})
    found = similar_day(past, START, START + timedelta(days=2), HOUR)
    assert found is not None
    assert found.frame["temperature_2m_c"].to_list() == [33.0] * 24 + [34.0] * 24


def test_another_season_is_not_looked_at() -> None:
    past = archive(200, {1: 20.0, 100: 20.0, 99: 77.0})
    found = similar_day(past, START, START + timedelta(days=1), HOUR)
    assert found is not None
    assert found.days_back != 99


def test_a_year_ago_is_the_same_season() -> None:
    past = archive(380, {1: 20.0, 365: 20.0, 364: 55.0})
    found = similar_day(past, START, START + timedelta(days=1), HOUR)
    assert found is not None
    assert found.days_back == 364


def test_a_candidate_with_a_hole_is_passed_over() -> None:
    past = archive(25, {1: 20.0, 11: 20.0, 10: 33.0, 6: 20.0, 5: 44.0})
    past = past.filter(pl.col("time") != START - timedelta(days=9, hours=12))
    found = similar_day(past, START, START + timedelta(days=1), HOUR)
    assert found is not None
    assert found.days_back == 5


def test_without_yesterday_the_nearest_complete_day_is_taken() -> None:
    past = archive(10, {3: 12.0}).filter(pl.col("time") < START - timedelta(days=1, hours=1))
    found = similar_day(past, START, START + timedelta(days=1), HOUR)
    assert found is not None
    assert found.distance is None
    assert found.days_back == 3


def test_an_archive_without_a_complete_day_gives_nothing() -> None:
    assert similar_day(archive(1, {}).head(12), START, START + timedelta(days=1), HOUR) is None
    assert similar_day(archive(1, {}).head(0), START, START + timedelta(days=1), HOUR) is None
