"""Acquisition end to end: real HTTP, real store, alarms, stand-in and recovery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from flexergy_pipelines.grid import Site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.sites import save_site
from flexergy_pipelines.store.weather import read_weather, write_weather
from ingestion.weather import COLUMNS, OpenMeteo, WeatherError, fetch_weather
from ingestion.weather.model import TIME
from ingestion.weather.service import ALARM_CODE, EARLIER_FORECAST, SIMILAR_DAY
from ingestion.weather.transport import RetryRules
from tests.ingestion.answers import good_weather, serving, status

NOW = datetime(2026, 11, 20, 10, 7, tzinfo=UTC)
START = NOW.replace(minute=0)
ONCE = RetryRules(attempts=1, timeout_s=5.0)


def remember(db: TenantStore, site: Site, days: int, issued_at: datetime) -> None:
    """An archive of hours up to START."""
    count = days * 24
    frame = pl.DataFrame(
        {"time": pl.Series([START - timedelta(hours=i) for i in range(count, 0, -1)], dtype=TIME)}
        | {name: [float(10 + i % 24) for i in range(count)] for name in COLUMNS}
    )
    write_weather(db, site.id, "open_meteo", issued_at, frame)


def active(db: TenantStore, site: Site) -> list[tuple[str, int]]:
    return [(row["code"], row["severity"]) for row in list_alarms(db, site.id).iter_rows(named=True)]


@pytest.mark.requirement("energy.01.4", "energy.01.5", "module.weather")
@pytest.mark.parametrize(("minutes", "hours"), [(60, 48), (15, 24), (5, 2)])
def test_granularity_and_horizon_are_the_sites_own(db: TenantStore, site: Site, minutes: int, hours: int) -> None:
    wanted = {"weather_granularity_minutes": minutes, "weather_horizon_hours": hours}
    save_site(db, site.model_copy(update={"forecasts": site.forecasts.model_copy(update=wanted)}))
    with serving(good_weather(NOW)) as service:
        result = fetch_weather(db, site.id, NOW, [OpenMeteo(service.url, ONCE)])
    step = timedelta(minutes=minutes)
    assert result.frame.height == timedelta(hours=hours) // step
    assert set(result.frame["time"].diff().drop_nulls().to_list()) == {step}
    stored = read_weather(db, site.id, NOW - timedelta(hours=1), NOW + timedelta(days=3))
    assert stored.select("time", *COLUMNS).equals(result.frame)
    assert set(stored["issued_at"].to_list()) == {NOW}


@pytest.mark.requirement("energy.01.2")
def test_the_place_asked_for_is_the_sites(db: TenantStore, site: Site) -> None:
    with serving(good_weather(NOW)) as service:
        fetch_weather(db, site.id, NOW, [OpenMeteo(service.url, ONCE)])
    assert float(service.requests[0]["latitude"]) == pytest.approx(site.location.latitude_deg, abs=1e-5)
    assert float(service.requests[0]["longitude"]) == pytest.approx(site.location.longitude_deg, abs=1e-5)


def test_the_next_provider_is_asked_when_the_first_fails(db: TenantStore, site: Site) -> None:
    with serving(status(500)) as broken, serving(good_weather(NOW)) as good:
        providers = [OpenMeteo(broken.url, ONCE, "first"), OpenMeteo(good.url, ONCE, "second")]
        result = fetch_weather(db, site.id, NOW, providers)
    assert result.provider == "second"
    assert result.failures == ("first: HTTP 500 (1 attempts)",)
    assert active(db, site) == []


@pytest.mark.requirement("energy.01.3")
def test_a_dead_provider_ends_in_a_similar_day_an_alarm_and_recovery_by_itself(db: TenantStore, site: Site) -> None:
    remember(db, site, 40, START)
    with serving(status(503)) as dead:
        result = fetch_weather(db, site.id, NOW, [OpenMeteo(dead.url, ONCE)])
    assert result.provider == SIMILAR_DAY
    assert result.fallback
    assert result.frame.height == 48
    assert active(db, site) == [(ALARM_CODE, 3)]
    stored = read_weather(db, site.id, START, START + timedelta(days=2))
    assert set(stored["provider"].to_list()) == {SIMILAR_DAY}

    later = NOW + timedelta(hours=1)
    with serving(good_weather(later)) as back:
        recovered = fetch_weather(db, site.id, later, [OpenMeteo(back.url, ONCE)])
    assert not recovered.fallback
    assert active(db, site) == []


@pytest.mark.requirement("energy.01.3")
def test_a_forecast_of_an_hour_ago_is_not_overruled_by_a_similar_day(db: TenantStore, site: Site) -> None:
    remember(db, site, 40, START)
    with serving(good_weather(NOW)) as good:
        earlier = fetch_weather(db, site.id, NOW, [OpenMeteo(good.url, ONCE)])
    later = NOW + timedelta(hours=6)
    with serving(status(503)) as dead:
        result = fetch_weather(db, site.id, later, [OpenMeteo(dead.url, ONCE)])
    assert result.provider == SIMILAR_DAY
    known = read_weather(db, site.id, START + timedelta(hours=6), START + timedelta(hours=54))
    assert known["provider"].to_list() == ["open_meteo"] * 42 + [SIMILAR_DAY] * 6
    same = known.head(42).select("time", "temperature_2m_c")
    assert same.equals(earlier.frame.tail(42).select("time", "temperature_2m_c"))


def test_minutes_later_the_earlier_forecast_is_enough(db: TenantStore, site: Site) -> None:
    with serving(good_weather(NOW), status(500)) as service:
        provider = OpenMeteo(service.url, ONCE)
        fetch_weather(db, site.id, NOW, [provider])
        result = fetch_weather(db, site.id, NOW + timedelta(minutes=20), [provider])
    assert result.provider == EARLIER_FORECAST
    assert active(db, site) == [(ALARM_CODE, 3)]


def test_with_nothing_to_stand_in_the_alarm_is_high_and_the_message_says_all(db: TenantStore, site: Site) -> None:
    with serving(status(500)) as dead, pytest.raises(WeatherError, match=r"microgrid: .*HTTP 500.*no complete day"):
        fetch_weather(db, site.id, NOW, [OpenMeteo(dead.url, ONCE)])
    assert active(db, site) == [(ALARM_CODE, 2)]
    assert read_weather(db, site.id, START, START + timedelta(days=2)).is_empty()
