"""Weather, market, state and faults over HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import polars as pl
import pytest

from flexergy_pipelines.grid import SimulatedClock
from flexergy_pipelines.grid.replay import ReplayedSite, ReplayRule
from flexergy_pipelines.grid.samples import sample_sites
from plant_simulator.field import Field
from plant_simulator.http_app import build_app

NOW = datetime(2026, 6, 3, 10, 20, tzinfo=UTC)
WEATHER = {
    "latitude": "52.1",
    "longitude": "5.1",
    "hourly": "shortwave_radiation,temperature_2m,wind_speed_10m,wind_speed_100m,cloud_cover",
    "forecast_hours": "24",
    "past_hours": "6",
    "timezone": "UTC",
    "windspeed_unit": "ms",
}


@pytest.fixture(scope="module")
def replays() -> list[tuple[Any, ReplayedSite]]:
    return [(site, ReplayedSite(site, ReplayRule.for_now(NOW, site.zone))) for site in sample_sites()]


@pytest.fixture
def field(replays: list[tuple[Any, ReplayedSite]]) -> Field:
    return Field(replays, SimulatedClock(NOW), seed=1)


def ask(field: Field, method: str, path: str, **options: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app=build_app(field), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://simulator") as client:
            return await client.request(method, path, **options)

    return asyncio.run(call())


def weather(field: Field, **changes: str) -> httpx.Response:
    return ask(field, "GET", "/v1/forecast", params=WEATHER | changes)


def at_utc(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp).replace(tzinfo=UTC)


def test_a_forecast_has_the_format_of_open_meteo(field: Field) -> None:
    answer = weather(field).json()
    assert answer["utc_offset_seconds"] == 0
    assert answer["hourly_units"] == {
        "time": "iso8601",
        "shortwave_radiation": "W/m²",
        "temperature_2m": "°C",
        "wind_speed_10m": "m/s",
        "wind_speed_100m": "m/s",
        "cloud_cover": "%",
    }
    hourly = answer["hourly"]
    assert hourly["time"][0] == "2026-06-03T04:00"
    assert hourly["time"][6] == "2026-06-03T10:00"
    assert len(hourly["time"]) == 30
    assert all(len(values) == 30 and None not in values for values in hourly.values())


def test_radiation_is_the_mean_of_the_preceding_hour_and_the_rest_stands_at_its_stamp(field: Field) -> None:
    hourly = weather(field).json()["hourly"]
    source = field.replayed["microgrid"]
    issued_at = NOW.replace(minute=0)
    rows = pl.concat(
        [
            source.weather_actual(issued_at - timedelta(hours=7), issued_at),
            source.weather_forecast(issued_at, 24, 60),
        ]
    )
    by_time = {row["time"]: row for row in rows.iter_rows(named=True)}
    for i, stamp in enumerate(hourly["time"]):
        before = by_time[at_utc(stamp) - timedelta(hours=1)]
        assert hourly["shortwave_radiation"][i] == pytest.approx(before["shortwave_radiation_w_m2"], abs=0.006)
        assert hourly["temperature_2m"][i] == pytest.approx(by_time[at_utc(stamp)]["temperature_2m_c"], abs=0.006)


def test_the_future_is_a_forecast_and_not_reality(field: Field) -> None:
    hourly = weather(field).json()["hourly"]
    start = NOW.replace(minute=0)
    actual = field.replayed["microgrid"].weather_actual(start, start + timedelta(hours=24))
    forecast = hourly["wind_speed_100m"][6:]
    errors = [abs(a - b) for a, b in zip(actual["wind_speed_100m_ms"].to_list(), forecast, strict=True)]
    assert sum(errors) / len(errors) > 0.1


def test_the_nearest_site_answers(field: Field) -> None:
    answers = {
        weather(field, latitude=lat, longitude=lon).json()["latitude"] for lat, lon in (("52", "5"), ("48.4", "5.6"))
    }
    assert answers == {site.location.latitude_deg for site, _ in field.places}


def test_other_units_and_time_zones(field: Field) -> None:
    metres = weather(field).json()["hourly"]["wind_speed_10m"]
    answer = weather(field, windspeed_unit="kmh", timezone="Europe/Amsterdam").json()
    assert answer["hourly_units"]["wind_speed_10m"] == "km/h"
    assert answer["hourly"]["wind_speed_10m"][3] == pytest.approx(3.6 * metres[3], abs=0.03)
    assert answer["hourly"]["time"][0] == "2026-06-03T06:00"
    assert answer["utc_offset_seconds"] == 7200


def test_a_past_issue_can_be_asked_for_but_none_of_the_future(field: Field) -> None:
    past = weather(field, issued_at="2026-06-01T00:00:00+00:00", past_hours="0").json()
    assert past["hourly"]["time"][0] == "2026-06-01T00:00"
    assert weather(field, issued_at="2026-06-04T00:00:00+00:00").status_code == 400


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"latitude": "91"}, "latitude 91 is outside -90..90"),
        ({"longitude": "east"}, "longitude 'east' is not a number"),
        ({"hourly": "temprature"}, "hourly variable 'temprature' is unknown"),
        ({"forecast_hours": "1000"}, "forecast_hours 1000 is outside 0..384"),
        ({"windspeed_unit": "bft"}, "wind_speed_unit 'bft' is unknown"),
        ({"timezone": "Mars/Base"}, "timezone 'Mars/Base' is unknown"),
    ],
)
def test_bad_weather_queries_are_refused_with_a_reason(field: Field, changes: dict[str, str], reason: str) -> None:
    answer = weather(field, **changes)
    assert answer.status_code == 400
    assert reason in answer.json()["reason"]


def test_tomorrows_prices_appear_at_a_quarter_to_one_local_time(field: Field) -> None:
    clock = field.clock
    assert isinstance(clock, SimulatedClock)
    before = ask(field, "GET", "/market/day-ahead", params={"area": "NL"}).json()
    assert len(before["prices"]) == 24
    assert before["prices"][0]["start"] == "2026-06-02T22:00:00+00:00"
    clock.advance(25 * 60 - 1)  # 12:44:59 in Amsterdam
    assert len(ask(field, "GET", "/market/day-ahead", params={"area": "NL"}).json()["prices"]) == 24
    clock.advance(1)
    after = ask(field, "GET", "/market/day-ahead", params={"area": "NL"}).json()
    assert len(after["prices"]) == 48
    assert after["published_at"] == "2026-06-03T10:45:00+00:00"
    assert after["unit"] == "EUR/MWh"


def test_a_long_price_query_stops_where_knowledge_ends(field: Field) -> None:
    query = {"area": "NL", "start": "2026-05-01T00:00:00+00:00", "end": "2026-07-01T00:00:00+00:00"}
    prices = ask(field, "GET", "/market/day-ahead", params=query).json()["prices"]
    assert prices[0]["start"] == "2026-05-01T00:00:00+00:00"
    assert prices[-1]["start"] == "2026-06-03T21:00:00+00:00"
    future = {"area": "NL", "start": "2026-06-10T00:00:00Z", "end": "2026-06-11T00:00:00Z"}
    assert ask(field, "GET", "/market/day-ahead", params=future).json()["prices"] == []


@pytest.mark.parametrize("day", [datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)])
def test_days_of_23_and_25_hours_have_as_many_prices(replays: list[tuple[Any, ReplayedSite]], day: datetime) -> None:
    field = Field(replays, SimulatedClock(day + timedelta(hours=13)), seed=1)
    prices = ask(field, "GET", "/market/day-ahead", params={"area": "NL"}).json()["prices"]
    assert len(prices) == 24 + (23 if day.month == 3 else 25)


def test_an_unknown_market_area_is_refused(field: Field) -> None:
    answer = ask(field, "GET", "/market/day-ahead", params={"area": "XX"})
    assert answer.status_code == 400
    assert "area 'XX' is unknown; known: NL" in answer.json()["reason"]


def test_state_shows_every_asset_and_device(field: Field) -> None:
    state = ask(field, "GET", "/state").json()
    assert state["sites"]["microgrid"]["assets"]["ess-1"]["soc"] == pytest.approx(0.5)
    assert set(state["sites"]["hybrid-park"]["devices"]) == {k for k in field.devices if k.startswith("hybrid-park/")}


def test_faults_are_set_listed_and_cleared(field: Field) -> None:
    body = {"target": "microgrid/esc-1", "kind": "frozen", "duration_s": 60.0}
    made = ask(field, "POST", "/faults", json=body)
    assert made.status_code == 201
    assert ask(field, "GET", "/faults").json() == [made.json()]
    assert ask(field, "DELETE", f"/faults/{made.json()['id']}").json() == {"cleared": 1}
    ask(field, "POST", "/faults", json=body)
    ask(field, "POST", "/faults", json={"target": "microgrid/ess-1", "kind": "bms_trip"})
    assert ask(field, "DELETE", "/faults").json() == {"cleared": 2}
    assert ask(field, "GET", "/faults").json() == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"target": "microgrid/esc-9", "kind": "down"}, "target 'microgrid/esc-9' is not simulated"),
        ({"target": "microgrid/esc-1", "kind": "http_500"}, "microgrid/esc-1 cannot have 'http_500'"),
        ({"target": "microgrid/esc-1", "kind": "meltdown"}, "kind:"),
        ({"target": "weather", "kind": "slow", "delay_s": -1.0}, "delay_s: -1.0: Input should be greater"),
        ({"target": "microgrid/pcc", "kind": "voltage"}, "voltage needs a value"),
        ({"kind": "down"}, "target: Field required"),
    ],
)
def test_impossible_faults_are_refused_with_a_reason(field: Field, body: dict[str, Any], reason: str) -> None:
    answer = ask(field, "POST", "/faults", json=body)
    assert answer.status_code == 422
    assert reason in answer.json()["reason"]


def test_a_sick_weather_service(field: Field) -> None:
    def with_fault(kind: str) -> httpx.Response:
        ask(field, "DELETE", "/faults")
        ask(field, "POST", "/faults", json={"target": "weather", "kind": kind, "delay_s": 0.01})
        return weather(field)

    assert with_fault("http_429").status_code == 429
    assert with_fault("http_500").status_code == 500
    assert with_fault("slow").status_code == 200
    truncated = with_fault("truncated")
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        truncated.json()
    assert at_utc(with_fault("stale").json()["hourly"]["time"][6]) < NOW - timedelta(hours=24)


def test_a_stale_market_does_not_know_tomorrow(field: Field) -> None:
    clock = field.clock
    assert isinstance(clock, SimulatedClock)
    clock.advance(6 * 3600)
    assert len(ask(field, "GET", "/market/day-ahead").json()["prices"]) == 48
    ask(field, "POST", "/faults", json={"target": "market", "kind": "stale"})
    assert ask(field, "GET", "/market/day-ahead").json()["prices"][-1]["start"] < "2026-06-03T22:00"
