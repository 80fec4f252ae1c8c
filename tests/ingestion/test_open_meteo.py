"""Open-Meteo's format over real HTTP, with the faults such services have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from ingestion.weather import OpenMeteo, WeatherError, WeatherRequest
from ingestion.weather.transport import RetryRules
from tests.ingestion.answers import (
    Answerer,
    Reply,
    as_json,
    changed_weather,
    good_weather,
    open_meteo_body,
    serving,
    status,
)

NOW = datetime(2026, 3, 28, 9, 20, tzinfo=UTC)
REQUEST = WeatherRequest(52.0, 5.0, 3.0, datetime(2026, 3, 28, 9, tzinfo=UTC), datetime(2026, 3, 30, 9, tzinfo=UTC))
QUICK = RetryRules(attempts=3, timeout_s=5.0, first_wait_s=0.001, longest_wait_s=0.002)


def ask(*script: Answerer, rules: RetryRules = QUICK) -> tuple[Any, int]:
    with serving(*script) as service:
        answer = OpenMeteo(service.url, rules).forecast(REQUEST, NOW)
        return answer, len(service.requests)


@pytest.mark.requirement("module.weather")
def test_rows_begin_at_their_stamp_and_radiation_moves_from_the_end_to_the_start_of_its_hour() -> None:
    answer, _ = ask(good_weather(NOW))
    frame = answer.frame
    assert frame["time"][0] == REQUEST.start
    assert frame["time"][-1] == REQUEST.end - timedelta(hours=1)
    noon = frame.row(by_predicate=pl.col("time") == datetime(2026, 3, 28, 12, tzinfo=UTC), named=True)
    # The service's 13:00 stamp holds the mean of 12:00 to 13:00; its 12:00 stamp the wind of 12:00.
    assert noon["shortwave_radiation_w_m2"] == 400 - 60 * 0.5
    assert noon["wind_speed_10m_ms"] == pytest.approx(5.2)


def test_it_asks_for_the_place_and_for_metres_per_second() -> None:
    with serving(good_weather(NOW)) as service:
        OpenMeteo(service.url, QUICK).forecast(REQUEST, NOW)
    query = service.requests[0]
    assert (query["latitude"], query["longitude"]) == ("52.00000", "5.00000")
    assert query["wind_speed_unit"] == "ms"
    assert query["timezone"] == "UTC"


@pytest.mark.parametrize("fault", [status(429, Retry_After="0"), status(500), status(503)])
def test_a_busy_service_is_asked_again(fault: Answerer) -> None:
    answer, requests = ask(fault, fault, good_weather(NOW))
    assert requests == 3
    assert answer.frame.height == 48


def test_it_gives_up_after_the_attempts_it_has() -> None:
    with serving(status(500)) as service, pytest.raises(WeatherError, match=r"open_meteo: HTTP 500 \(3 attempts\)"):
        OpenMeteo(service.url, QUICK).forecast(REQUEST, NOW)
    assert len(service.requests) == 3


def test_a_refused_request_is_not_repeated() -> None:
    with serving(status(400)) as service, pytest.raises(WeatherError, match=r"HTTP 400: .*told to"):
        OpenMeteo(service.url, QUICK).forecast(REQUEST, NOW)
    assert len(service.requests) == 1


def test_a_service_that_is_too_slow_counts_as_failed() -> None:
    held = threading.Event()
    rules = RetryRules(attempts=2, timeout_s=0.05, first_wait_s=0.001, longest_wait_s=0.001)
    try:
        with pytest.raises(WeatherError, match=r"no answer within 0.05 s \(2 attempts\)"):
            ask(lambda _query: Reply(body=b"{}", hold=held), rules=rules)
    finally:
        held.set()


def test_a_body_cut_short_is_asked_for_again() -> None:
    whole = as_json(open_meteo_body(NOW, 2, 60)).body

    def cut(_query: dict[str, str]) -> Reply:
        return Reply(body=whole[: len(whole) // 2], announced_length=len(whole))

    answer, requests = ask(cut, good_weather(NOW))
    assert requests == 2
    assert answer.frame.height == 48


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda body: body["hourly"].pop(name)


def put(place: int, name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda body: body["hourly"][name].__setitem__(place, value)


def kilometres(body: dict[str, Any]) -> None:
    body["hourly_units"]["wind_speed_10m"] = "km/h"


def short(body: dict[str, Any]) -> None:
    body["hourly"]["temperature_2m"].pop()


def half_hours(body: dict[str, Any]) -> None:
    body["hourly"]["time"][3] = body["hourly"]["time"][3][:-2] + "30"


def not_a_time(body: dict[str, Any]) -> None:
    body["hourly"]["time"][3] = "tomorrow"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("cloud_cover"), "hourly.cloud_cover: Field required"),
        (lambda body: body.pop("hourly"), "hourly: Field required"),
        (kilometres, "wind_speed_10m came in 'km/h', expected m/s"),
        (short, "temperature_2m has 5[0-9] values for 5[0-9] times"),
        (put(5, "temperature_2m", "mild"), "hourly.temperature_2m.5"),
        (put(5, "cloud_cover", True), "hourly.cloud_cover.5"),
        (put(5, "temperature_2m", 400.0), "temperature_2m_c 400.0 at 2026-.* is outside -90..60 °C"),
        (put(5, "shortwave_radiation", -3.0), "shortwave_radiation_w_m2 -3.0 .* is outside 0..1500 W/m²"),
        (half_hours, "times are not hourly"),
        (not_a_time, "time 'tomorrow' is not ISO 8601"),
    ],
)
def test_a_changed_schema_is_refused_with_the_field_that_changed(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(WeatherError, match=message):
        ask(changed_weather(NOW, change))


@pytest.mark.parametrize(
    "body", [b"<html>maintenance</html>", b"[1, 2]", b"null", b'{"hourly": {"time": [NaN]}}', b"\xff\xfe"]
)
def test_an_answer_that_is_something_else_is_refused(body: bytes) -> None:
    with pytest.raises(WeatherError, match="open_meteo: "):
        ask(lambda _query: Reply(body=body))


def test_a_stale_forecast_is_refused_and_says_until_when_it_reaches() -> None:
    with pytest.raises(WeatherError, match=r"stale: covers 2026-03-27T07:00Z to 2026-03-29T10:00Z"):
        ask(good_weather(NOW - timedelta(days=1)))


def test_no_service_at_all_is_a_clear_line() -> None:
    with pytest.raises(WeatherError, match="open_meteo: connection failed"):
        OpenMeteo("http://127.0.0.1:9", QUICK).forecast(REQUEST, NOW)


def test_gaps_of_the_provider_stay_gaps_here() -> None:
    answer, _ = ask(changed_weather(NOW, put(10, "temperature_2m", None)))
    assert answer.frame["temperature_2m_c"].null_count() == 1
