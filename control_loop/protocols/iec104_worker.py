"""The process in which IEC 60870-5-104 is spoken: `python -m control_loop.protocols.iec104_worker`.

The library can crash or hang its process when a peer misbehaves, so it lives here, alone. One JSON object a line: the
configuration of all links first, then commands on standard input; values, states and answers on standard output.
"""

# The library compares the annotations of callbacks with its own types, so they must not be strings here.

import json
import queue
import sys
import threading
import time
from typing import Any

import c104

BEAT_S = 0.25
TICK_S = 0.02
COMMAND_TIMEOUT_MS = 500
INTERROGATION_S = 60.0
CLOCK_SYNC_S = 3600.0


class Link:
    """One connection to one station.

    Parameters
    ----------
    client : c104.Client
        The library's client.
    spec : dict
        ``key``, ``host``, ``port``, ``unit_id``, ``monitored`` (list of ``[ioa, single]``), ``setpoints`` and
        ``starts`` (lists of ioa).
    """

    def __init__(self, client: c104.Client, spec: dict[str, Any]) -> None:
        self.key: str = spec["key"]
        self.common_address: int = max(1, spec["unit_id"])
        self.news: dict[int, tuple[float | None, bool]] = {}
        self.lock = threading.Lock()
        connection = client.add_connection(ip=spec["host"], port=spec["port"], init=c104.Init.NONE)
        if connection is None:
            raise ValueError(f"{self.key}: {spec['host']}:{spec['port']} is given twice")
        station = connection.add_station(common_address=self.common_address)
        if station is None:
            raise ValueError(f"{self.key}: common address {self.common_address} is not possible")
        self.connection = connection
        self.commands: dict[int, c104.Point] = {}
        self.asked_at = self.synced_at = float("-inf")

        def seen(
            point: c104.Point, previous_info: c104.Information, message: c104.IncomingMessage
        ) -> c104.ResponseState:
            del previous_info, message
            value, quality = point.value, point.quality
            number = float(value) if isinstance(value, bool | int | float) else None
            good = not isinstance(quality, c104.Quality) or quality.is_good()
            with self.lock:
                self.news[point.io_address] = (number, good)
            return c104.ResponseState.SUCCESS

        for ioa, single in spec["monitored"]:
            kind = c104.Type.M_SP_NA_1 if single else c104.Type.M_ME_NC_1
            point = station.add_point(io_address=int(ioa), type=kind)
            if point is not None:
                point.on_receive(callable=seen)
        for name, kind in (("setpoints", c104.Type.C_SE_NC_1), ("starts", c104.Type.C_BO_NA_1)):
            for ioa in spec[name]:
                point = station.add_point(io_address=int(ioa), type=kind)
                if point is not None:
                    self.commands[int(ioa)] = point
        self._seen = seen

    @property
    def open(self) -> bool:
        """Whether data flow; a connection that never started its data transfer counts as closed."""
        return self.connection.state == c104.ConnectionState.OPEN

    def watch(self, now: float) -> None:
        """Start the data transfer where it was not, ask for everything after connecting and now and then."""
        if self.connection.state == c104.ConnectionState.OPEN_MUTED:
            self.connection.unmute()
        if not self.open:
            self.asked_at = self.synced_at = float("-inf")
            return
        if now - self.asked_at >= INTERROGATION_S:
            self.asked_at = now
            self.connection.interrogation(self.common_address, wait_for_response=False)
        if now - self.synced_at >= CLOCK_SYNC_S:
            self.synced_at = now
            self.connection.clock_sync(self.common_address, wait_for_response=False)

    def send(self, ioa: int, value: float) -> bool:
        """Send one command and wait for its confirmation."""
        point = self.commands.get(ioa)
        if point is None or not self.open:
            return False
        if point.type == c104.Type.C_BO_NA_1:
            point.value = c104.Byte32(int(value).to_bytes(4, "little"))
        else:
            point.value = value
        return bool(point.transmit(cause=c104.Cot.ACTIVATION))

    def take_news(self) -> dict[int, tuple[float | None, bool]]:
        """Values that arrived since the last call."""
        with self.lock:
            news, self.news = self.news, {}
        return news


def say(message: dict[str, Any]) -> None:
    """One line to the loop."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def listen(lines: queue.Queue[dict[str, Any] | None]) -> None:
    """Take commands from standard input until it ends, which is when the loop has gone."""
    for line in sys.stdin:
        lines.put(json.loads(line))
    lines.put(None)


def main() -> None:
    """Serve the links that the first line describes, until standard input ends."""
    specs = json.loads(sys.stdin.readline())
    client = c104.Client(tick_rate_ms=50, command_timeout_ms=COMMAND_TIMEOUT_MS)
    links = {spec["key"]: Link(client, spec) for spec in specs}
    lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=listen, args=(lines,), daemon=True).start()
    client.start()
    beat_at = float("-inf")
    try:
        while True:
            try:
                command = lines.get(timeout=TICK_S)
            except queue.Empty:
                pass
            else:
                if command is None:
                    return
                link = links[command["key"]]
                done = link.send(int(command["object"]), command["value"])
                say({"answer": command["id"], "done": done})
            now = time.monotonic()
            for link in links.values():
                news = link.take_news()
                if news:
                    say({"key": link.key, "values": {str(ioa): value for ioa, value in news.items()}})
            if now - beat_at >= BEAT_S:
                beat_at = now
                for link in links.values():
                    link.watch(now)
                say({"open": [link.key for link in links.values() if link.open]})
    finally:
        client.stop()


if __name__ == "__main__":
    main()
