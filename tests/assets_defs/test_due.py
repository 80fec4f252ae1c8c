"""When periodic work is due, on ordinary days and on those that have 23 or 25 hours."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from assets_defs import due
from assets_defs.partitions import local_span
from assets_defs.schedules import _accounting, _cleaning, _day_ahead
from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.samples import sample_site


@pytest.fixture(scope="module")
def site() -> Site:
    return sample_site("microgrid")


def ticks(start: datetime, hours: int) -> list[datetime]:
    return [start + due.TICK * i for i in range(hours * 4)]


def operated(site: Site, **settings: object) -> Site:
    return site.model_copy(update={"operation": site.operation.model_copy(update=settings)})


@pytest.mark.requirement("energy.01.1", "energy.03.1")
@pytest.mark.parametrize(("period", "runs"), [(5, 96), (15, 96), (30, 48), (60, 24), (180, 8), (1440, 1)])
def test_work_comes_as_often_as_its_period_says(period: int, runs: int) -> None:
    day = ticks(datetime(2026, 11, 20, tzinfo=UTC), 24)
    assert sum(due.every(period, tick) for tick in day) == runs


@pytest.mark.requirement("energy.04.2")
@pytest.mark.parametrize("day", [date(2026, 11, 20), date(2026, 3, 29), date(2026, 10, 25)])
def test_the_day_is_planned_at_its_own_midnight_once(site: Site, day: date) -> None:
    around = ticks(datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=6), 30)
    planned = [(tick, found) for tick in around for found in _day_ahead(site, tick) if found == day]
    midnight, _ = local_span(day, day, site.zone)
    assert planned == [(midnight, day)]


@pytest.mark.requirement("energy.04.1")
def test_the_operator_moves_the_time_of_the_plan(site: Site) -> None:
    moved = operated(site, day_ahead_time="13:30")
    day = ticks(datetime(2026, 11, 20, tzinfo=UTC), 24)
    assert [tick for tick in day if _day_ahead(moved, tick)] == [datetime(2026, 11, 20, 12, 30, tzinfo=UTC)]


@pytest.mark.parametrize("clock", ["02:00", "02:30", "02:59"])
def test_a_time_the_clock_skips_or_repeats_is_due_once(site: Site, clock: str) -> None:
    for day in (date(2026, 3, 29), date(2026, 10, 25)):
        around = ticks(datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=3), 30)
        found = Counter(due.at_local_time(clock, site, tick) for tick in around)
        assert found[day] == 1


@pytest.mark.requirement("energy.02.1")
@pytest.mark.parametrize("period", [1, 7, 30])
def test_models_are_trained_every_so_many_days(site: Site, period: int) -> None:
    settings = site.forecasts.model_copy(update={"training_period_days": period})
    configured = site.model_copy(update={"forecasts": settings})
    found = [t for t in ticks(datetime(2026, 1, 1, tzinfo=UTC), 24 * 60) if due.training(configured, t)]
    assert len(found) in {60 // period, 60 // period + 1}
    assert {t.astimezone(site.zone).hour for t in found} == {3}


def test_yesterday_is_cleansed_once_more_and_accounted_for_after_midnight(site: Site) -> None:
    midnight, _ = local_span(date(2026, 11, 20), date(2026, 11, 20), site.zone)
    assert _cleaning(site, midnight) == [date(2026, 11, 19), date(2026, 11, 20)]
    assert _cleaning(site, midnight + timedelta(hours=5)) == [date(2026, 11, 20)]
    assert _accounting(site, midnight + timedelta(minutes=30)) == [date(2026, 11, 19)]
    assert _accounting(site, midnight) == []


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 7, 1), 24)])
def test_a_local_day_has_the_hours_it_has(site: Site, day: date, hours: int) -> None:
    start, end = local_span(day, day, site.zone)
    assert end - start == timedelta(hours=hours)
