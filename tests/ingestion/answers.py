"""A local HTTP server that answers in a provider's format, or fails as told."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOUR = timedelta(hours=1)


@dataclass
class Reply:
    """One answer: status, body and how it is sent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    announced_length: int | None = None
    """Length named in the header, to cut a body short of it."""
    hold: threading.Event | None = None
    """The answer waits for this."""


Answerer = Callable[[dict[str, str]], Reply]


class _Server(ThreadingHTTPServer):
    """Says nothing when a client went away in the middle of an answer, as those do that lost patience."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Service:
    """A running server; each request takes the next reply of the script, the last one for ever."""

    def __init__(self, script: list[Answerer]) -> None:
        self.script = script
        self.requests: list[dict[str, str]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                place = min(len(service.requests), len(service.script) - 1)
                service.requests.append(query)
                reply = service.script[place](query)
                if reply.hold is not None:
                    reply.hold.wait(30)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                length = len(reply.body) if reply.announced_length is None else reply.announced_length
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ARG002 - the base class's own
                return

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(*script: Answerer) -> Iterator[Service]:
    """A service that answers by `script`."""
    service = Service(list(script))
    service.start()
    try:
        yield service
    finally:
        service.stop()


def open_meteo_body(now: datetime, past_hours: int, forecast_hours: int) -> dict[str, Any]:
    """What Open-Meteo answers: hours from `now`, radiation as the mean of the hour before each stamp."""
    first = now.replace(minute=0, second=0, microsecond=0) - HOUR * past_hours
    stamps = [first + HOUR * i for i in range(past_hours + forecast_hours)]
    return {
        "latitude": 52.0,
        "longitude": 5.0,
        "utc_offset_seconds": 0,
        "generationtime_ms": 0.1,
        "hourly_units": {
            "time": "iso8601",
            "shortwave_radiation": "W/m²",
            "temperature_2m": "°C",
            "wind_speed_10m": "m/s",
            "wind_speed_100m": "m/s",
            "cloud_cover": "%",
        },
        "hourly": {
            "time": [f"{stamp:%Y-%m-%dT%H:%M}" for stamp in stamps],
            "shortwave_radiation": [round(max(0.0, 400 - 60 * abs(stamp.hour - 12.5)), 1) for stamp in stamps],
            "temperature_2m": [10 + 5 * ((stamp.hour - 14) / 12) ** 2 for stamp in stamps],
            "wind_speed_10m": [4.0 + stamp.hour / 10 for stamp in stamps],
            "wind_speed_100m": [6.0 + stamp.hour / 10 for stamp in stamps],
            "cloud_cover": [50 for _ in stamps],
        },
    }


def good_weather(now: datetime) -> Answerer:
    """Answers as asked."""
    return lambda query: as_json(open_meteo_body(now, int(query["past_hours"]), int(query["forecast_hours"])))


def changed_weather(now: datetime, change: Callable[[dict[str, Any]], None]) -> Answerer:
    """Answers as asked, but for `change`."""

    def answer(query: dict[str, str]) -> Reply:
        body = open_meteo_body(now, int(query["past_hours"]), int(query["forecast_hours"]))
        change(body)
        return as_json(body)

    return answer


def status(code: int, **headers: str) -> Answerer:
    """Answers with an error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _query: Reply(code, b'{"reason": "told to"}', named)


def as_json(body: Any) -> Reply:
    return Reply(body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


def prices_body(start: datetime, hours: int, area: str = "NL") -> dict[str, Any]:
    """What the market answers."""
    first = start.astimezone(UTC)
    return {
        "area": area,
        "resolution_minutes": 60,
        "unit": "EUR/MWh",
        "published_at": (first + HOUR).isoformat(),
        "prices": [{"start": (first + HOUR * i).isoformat(), "price": 10.0 * i - 20.0} for i in range(hours)],
    }
