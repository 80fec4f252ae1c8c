"""The process in which IEC 60870-5-104 is spoken: `python -m control_loop.protocols.iec104_worker`.

The library can crash or hang its process when a peer misbehaves, so it lives here, alone. One JSON object a line: the
configuration of all links first, then commands on standard input; values, states and answers on standard output.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import c104

from control_loop.protocols.iec104_line import Line, Station

BEAT_S = 0.25
TICK_S = 0.02
COMMAND_TIMEOUT_S = 1.0
"""Least time for the confirmation of a command; links over mobile networks take most of it."""
_output = threading.Lock()


def say(message: dict[str, Any]) -> None:
    """One line to the loop."""
    with _output:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def lines_of(client: c104.Client, specs: Sequence[dict[str, Any]], answer_s: float) -> list[Line]:
    """The lines to all stations; those at one address share a line, with TLS or without."""
    lines: dict[str, Line] = {}
    for spec in specs:
        way = json.dumps([spec["host"], spec["port"], spec.get("tls")], sort_keys=True)
        line = lines.setdefault(way, Line(client, spec, say, answer_s))
        line.stations.append(Station(spec, line, say))
    return list(lines.values())


def tell_news(lines: Sequence[Line]) -> None:
    """Pass on what the stations said."""
    for line in lines:
        for station in line.stations:
            news = station.take_news()
            if news:
                say({"key": station.key, "values": news})


def watch(lines: Sequence[Line], told: dict[str, str]) -> None:
    """Look after every connection, and tell what is wrong where that is new."""
    now = time.monotonic()
    standing: list[str] = []
    for line in lines:
        stands = line.watch(now)
        for station in line.stations:
            trouble = station.trouble or line.trouble
            if trouble and told.get(station.key) != trouble:
                say({"key": station.key, "trouble": trouble})
            told[station.key] = trouble
            if stands and not station.trouble:
                standing.append(station.key)
    say({"open": standing})


def main() -> None:
    """Serve the links that the first line describes, until standard input ends."""
    specs = json.loads(sys.stdin.readline())
    # The library has one time for all links of a client.
    timeout_s = max([COMMAND_TIMEOUT_S, *(spec.get("timeout_s", 0.0) for spec in specs)])
    client = c104.Client(tick_rate_ms=50, command_timeout_ms=round(1000 * timeout_s))
    lines = lines_of(client, specs, timeout_s)
    stations = {station.key: station for line in lines for station in line.stations}
    client.start()
    ended = threading.Event()

    def report() -> None:
        beat_at, told = float("-inf"), dict[str, str]()
        while not ended.wait(TICK_S):
            tell_news(lines)
            if time.monotonic() - beat_at >= BEAT_S:
                beat_at = time.monotonic()
                watch(lines, told)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    for line in sys.stdin:
        command = json.loads(line)
        station = stations[command["key"]]
        if "trace" in command:
            station.tracing = command["trace"]
        else:
            station.orders.put(command)
    ended.set()
    reporter.join(2.0)
    client.stop()


if __name__ == "__main__":
    main()
