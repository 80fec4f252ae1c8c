"""The process in which IEC 60870-5-104 is spoken: `python -m control_loop.protocols.iec104_worker`.

The library can crash or hang its process when a peer misbehaves, so it lives here, alone. One JSON object a line: the
configuration of all links first, then commands on standard input; values, states and answers on standard output.
"""

# The library compares the annotations of callbacks with its own types, so they must not be strings here.

import json
import queue
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex

import c104

from control_loop.protocols.tunnel import TlsTunnel
from flexergy_pipelines.grid.connection import TlsFiles
from flexergy_pipelines.grid.tls import client_context

BEAT_S = 0.25
TICK_S = 0.02
COMMAND_TIMEOUT_S = 1.0
"""Least time for the confirmation of a command; links over mobile networks take most of it."""
INTERROGATION_S = 60.0
CLOCK_SYNC_S = 3600.0
RESOLVE_S = 5.0
SHOWN = {
    "analogue": c104.Type.M_ME_NC_1, "single": c104.Type.M_SP_NA_1, "double": c104.Type.M_DP_NA_1,
    "integer": c104.Type.M_ME_NB_1, "word": c104.Type.M_BO_NA_1,
}  # fmt: skip
TAKEN = {
    "analogue": c104.Type.C_SE_NC_1, "single": c104.Type.C_SC_NA_1, "double": c104.Type.C_DC_NA_1,
    "integer": c104.Type.C_SE_NB_1, "word": c104.Type.C_BO_NA_1, "start": c104.Type.C_BO_NA_1,
}  # fmt: skip
_output = threading.Lock()


def parse_name(name: str, kind: c104.Type) -> tuple[int, c104.Type]:
    """Number and type of an object named ``4001`` or ``M_ME_TF_1:4001``.

    Raises
    ------
    ValueError
        It is no such name.
    """
    given, _, number = name.rpartition(":")
    wanted = getattr(c104.Type, given, None) if given else kind
    if wanted is None or not number.isdigit() or not 0 < int(number) < 2**24:
        raise ValueError(
            f"object {name}: must be a number of 1..16777215, with a type such as M_ME_TF_1: before it or not"
        )
    return int(number), wanted


def as_number(value: object) -> float | None:
    """A value of the library's as a number; a double point that is neither on nor off is none."""
    if isinstance(value, c104.Double):
        return {c104.Double.OFF: 0.0, c104.Double.ON: 1.0}.get(value)
    if isinstance(value, c104.Byte32):
        return float(int.from_bytes(bytes(value), "little"))
    return float(value) if isinstance(value, SupportsFloat | SupportsIndex) else None


def as_value(kind: c104.Type, value: float) -> Any:
    """A number as the type of a command wants it."""
    name = kind.name
    if name.startswith("C_BO_"):
        return c104.Byte32(int(value).to_bytes(4, "little"))
    if name.startswith("C_SC_"):
        return value >= 0.5
    if name.startswith("C_DC_"):
        return c104.Double.ON if value >= 0.5 else c104.Double.OFF
    if name.startswith(("C_SE_NB", "C_SE_TB")):
        return c104.Int16(round(value))
    if name.startswith(("C_SE_NA", "C_SE_TA")):
        return c104.NormalizedFloat(value)
    return value


class Link:
    """One station, with a thread of its own for its commands: one that does not confirm holds up nobody else.

    Parameters
    ----------
    client : c104.Client
        The library's client.
    spec : dict
        ``key``, ``host``, ``port``, ``unit_id``, ``monitored`` (list of ``[name, kind]``), ``orders`` (list of
        ``[name, kind, select]``), ``tls`` (files, folder and server name, or None), ``timeout_s`` (longest wait for the
        confirmation of a command, where it is longer than usual).
    """

    def __init__(self, client: c104.Client, spec: dict[str, Any]) -> None:
        self.key: str = spec["key"]
        self.common_address: int = max(1, spec["unit_id"])
        self.news: dict[str, tuple[float | None, bool, float | None]] = {}
        self.lock = threading.Lock()
        self.tracing = False
        self.trouble = ""
        self.connection: c104.Connection | None = None
        self.orders: queue.Queue[dict[str, Any]] = queue.Queue()
        self.asked_at = self.synced_at = self._tried_at = float("-inf")
        self._client = client
        self._spec = spec
        self._tunnel: TlsTunnel | None = None
        self._commands: dict[str, c104.Point] = {}
        self._names: dict[int, str] = {}
        self._callbacks: list[Any] = []
        threading.Thread(target=self._obey, daemon=True).start()

    @property
    def open(self) -> bool:
        """Whether data flow; a connection that never started its data transfer counts as closed."""
        return self.connection is not None and self.connection.state == c104.ConnectionState.OPEN

    def watch(self, now: float) -> None:
        """Start the data transfer where it was not, ask for everything after connecting and now and then."""
        if self.connection is None:
            if now - self._tried_at >= RESOLVE_S:
                self._tried_at = now
                self._dial()
            return
        if self.connection.state == c104.ConnectionState.OPEN_MUTED:
            self.connection.unmute()
        if not self.open:
            self.asked_at = self.synced_at = float("-inf")
            self.trouble = (
                self._tunnel.trouble if self._tunnel is not None and self._tunnel.trouble else "no connection"
            )
            return
        self.trouble = ""
        if now - self.asked_at >= INTERROGATION_S:
            self.asked_at = now
            self.connection.interrogation(self.common_address, wait_for_response=False)
        if now - self.synced_at >= CLOCK_SYNC_S:
            self.synced_at = now
            self.connection.clock_sync(self.common_address, wait_for_response=False)

    def take_news(self) -> dict[str, tuple[float | None, bool, float | None]]:
        """Values that arrived since the last call."""
        with self.lock:
            news, self.news = self.news, {}
        return news

    def _dial(self) -> None:
        """Add the station to the client; what cannot be reached by name is tried again."""
        try:
            host, port = self._way()
            connection = self._client.get_connection(ip=host, port=port)
            if connection is None:
                connection = self._client.add_connection(ip=host, port=port, init=c104.Init.NONE)
            station = None if connection is None else connection.add_station(common_address=self.common_address)
            if connection is None or station is None:
                raise ValueError(
                    f"common address {self.common_address} of {host}:{port} is there twice or not possible"
                )
            self._place(station)
        except (OSError, ValueError) as error:
            self.trouble = str(error)
            return
        self._trace_from(connection)
        self.connection = connection
        connection.connect()

    def _way(self) -> tuple[str, int]:
        """Where to connect: the device, or the tunnel that leads to it, for the library's own TLS client is broken."""
        host, port, tls = self._spec["host"], self._spec["port"], self._spec.get("tls")
        if tls is None:
            return socket.gethostbyname(host), port
        files, folder = TlsFiles.model_validate(tls["files"]), Path(tls["folder"])
        if self._tunnel is None:
            self._tunnel = TlsTunnel(host, port, client_context(files, folder), files.server_name or host)
        return "127.0.0.1", self._tunnel.port

    def _place(self, station: c104.Station) -> None:
        def seen(
            point: c104.Point, previous_info: c104.Information, message: c104.IncomingMessage
        ) -> c104.ResponseState:
            del previous_info, message
            quality = point.quality
            good = not isinstance(quality, c104.Quality) or quality.is_good()
            stamp = point.recorded_at  # none where the type has no time tag
            seconds = None if stamp is None else stamp.timestamp()
            with self.lock:
                self.news[self._names[point.io_address]] = (as_number(point.value), good, seconds)
            return c104.ResponseState.SUCCESS

        for name, kind in self._spec["monitored"]:
            number, wanted = parse_name(name, SHOWN[kind])
            point = station.add_point(io_address=number, type=wanted)
            if point is not None:
                self._names[number] = name
                point.on_receive(callable=seen)
        for name, kind, select in self._spec["orders"]:
            number, wanted = parse_name(name, TAKEN[kind])
            point = station.add_point(io_address=number, type=wanted)
            if point is not None:
                if select:
                    point.command_mode = c104.CommandMode.SELECT_AND_EXECUTE
                self._commands[name] = point
        self._callbacks.append(seen)

    def _trace_from(self, connection: c104.Connection) -> None:
        def received(connection: c104.Connection, data: bytes) -> None:
            del connection
            if self.tracing:
                say({"key": self.key, "frame": f"<- {c104.explain_bytes(data)}"})

        def sent(connection: c104.Connection, data: bytes) -> None:
            del connection
            if self.tracing:
                say({"key": self.key, "frame": f"-> {c104.explain_bytes(data)}"})

        connection.on_receive_raw(callable=received)
        connection.on_send_raw(callable=sent)
        self._callbacks += [received, sent]

    def _obey(self) -> None:
        while True:
            command = self.orders.get()
            say({"answer": command["id"], "done": self._send(command["object"], command["value"])})

    def _send(self, name: str, value: float) -> bool:
        """Send one command and wait for its confirmation."""
        point = self._commands.get(name)
        if point is None or not self.open:
            return False
        try:
            point.value = as_value(point.type, value)
            return bool(point.transmit(cause=c104.Cot.ACTIVATION))
        except (ValueError, TypeError) as error:
            self.trouble = f"object {name}: {error}"
            return False


def say(message: dict[str, Any]) -> None:
    """One line to the loop."""
    with _output:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def tell_news(links: dict[str, Link]) -> None:
    """Pass on what the stations said."""
    for link in links.values():
        news = link.take_news()
        if news:
            say({"key": link.key, "values": news})


def watch(links: dict[str, Link], told: dict[str, str]) -> None:
    """Look after every connection, and tell what is wrong where that is new."""
    now = time.monotonic()
    for link in links.values():
        link.watch(now)
        if link.trouble and told.get(link.key) != link.trouble:
            say({"key": link.key, "trouble": link.trouble})
        told[link.key] = link.trouble
    say({"open": [link.key for link in links.values() if link.open]})


def main() -> None:
    """Serve the links that the first line describes, until standard input ends."""
    specs = json.loads(sys.stdin.readline())
    # The library has one time for all links of a client.
    timeout_s = max([COMMAND_TIMEOUT_S, *(spec.get("timeout_s", 0.0) for spec in specs)])
    client = c104.Client(tick_rate_ms=50, command_timeout_ms=round(1000 * timeout_s))
    links = {spec["key"]: Link(client, spec) for spec in specs}
    client.start()
    ended = threading.Event()

    def report() -> None:
        beat_at, told = float("-inf"), dict[str, str]()
        while not ended.wait(TICK_S):
            tell_news(links)
            if time.monotonic() - beat_at >= BEAT_S:
                beat_at = time.monotonic()
                watch(links, told)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    for line in sys.stdin:
        command = json.loads(line)
        link = links[command["key"]]
        if "trace" in command:
            link.tracing = command["trace"]
        else:
            link.orders.put(command)
    ended.set()
    reporter.join(2.0)
    client.stop()


if __name__ == "__main__":
    main()
