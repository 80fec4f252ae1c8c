"""Late readings mark the day they fall into, whichever way they come in, and cleansing takes the mark away."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.quality.site import clean_day
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.open_days import close_days, open_days
from flexergy_pipelines.store.quality import read_quality
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.sites import save_site

SITE = "microgrid"
FIRST = datetime(2026, 3, 27, 23, tzinfo=UTC)  # midnight of 28 March in Amsterdam; the 29th has 23 hours


@pytest.fixture
def site(db: TenantStore) -> TenantStore:
    save_site(db, sample_site(SITE))
    return db


def power(start: datetime, count: int, value: float = 5.0) -> pl.DataFrame:
    times = pl.Series([start + timedelta(minutes=15 * i) for i in range(count)], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "asset_id": ["load-1"] * count,
            "quantity": ["active_power_kw"] * count,
            "time": times,
            "value": [value + i % 5 for i in range(count)],
        }
    )


def marked(db: TenantStore) -> list[date]:
    return [one.day for one in open_days(db)]


def days(first: int, last: int) -> list[date]:
    return [date(2026, 3, 28) + timedelta(days=n) for n in range(first, last + 1)]


def test_one_late_reading_marks_its_own_local_day_only(site: TenantStore) -> None:
    write_readings(site, SITE, power(FIRST, 3 * 96 - 4), "control")
    assert marked(site) == days(0, 2)
    for n, hours in ((0, 24), (1, 23), (2, 24)):
        start = FIRST + timedelta(hours=sum((24, 23, 24)[:n]))
        clean_day(site, SITE, start, start + timedelta(hours=hours))
    assert marked(site) == []
    write_readings(site, SITE, power(FIRST, 3 * 96 - 4), "control")
    assert marked(site) == [], "the same readings again are nothing new"
    # 22:30 UTC of the 29th is half past midnight of the 30th where the clock was put forward.
    late = datetime(2026, 3, 29, 22, 30, tzinfo=UTC)
    write_readings(site, SITE, power(late, 1, 50.0), "control")
    assert marked(site) == [date(2026, 3, 30)]
    quality = read_quality(site, SITE, date(2026, 3, 28), date(2026, 3, 30))
    assert quality["expected"].to_list() == [96, 92, 96]
    assert quality["coverage"].to_list() == [1.0, 1.0, 1.0]


def test_what_comes_in_while_a_day_is_done_keeps_it_open(site: TenantStore) -> None:
    write_readings(site, SITE, power(FIRST, 96), "control")
    before = open_days(site)
    write_readings(site, SITE, power(FIRST, 1, 40.0), "bulk")
    assert close_days(site, before) == 0
    assert marked(site) == days(0, 0)
    assert open_days(site)[0].readings == 97
    assert close_days(site, open_days(site)) == 1


def test_a_spool_that_catches_up_is_left_to_finish_and_today_is_left_to_the_clock(site: TenantStore) -> None:
    write_readings(site, SITE, power(FIRST, 2 * 96), "control")
    assert open_days(site, quiet=timedelta(minutes=5)) == []
    assert [one.day for one in open_days(site, {SITE: date(2026, 3, 29)})] == days(0, 0)
    assert open_days(site, {}) == []


def test_a_part_of_a_day_leaves_the_day_open(site: TenantStore) -> None:
    write_readings(site, SITE, power(FIRST, 96), "control")
    clean_day(site, SITE, FIRST, FIRST + timedelta(hours=23))
    assert marked(site) == days(0, 0)
