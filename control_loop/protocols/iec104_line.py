"""Lines of IEC 60870-5-104 and the stations behind them, in the library's worker process.

A line is one connection; behind it are one or more stations, each with its common address. The library keeps the
connection and its numbered frames, and gives orders; what stations tell is read from the frames (`iec104_asdu`).
"""

# The library compares the annotations of callbacks with its own types, so they must not be strings here.

import datetime
import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c104

from control_loop.protocols import iec104_asdu as asdu
from control_loop.protocols.tunnel import TlsTunnel
from flexergy_pipelines.grid.connection import TlsFiles
from flexergy_pipelines.grid.tls import client_context

INTERROGATION_S = 60.0
CLOCK_SYNC_S = 3600.0
AGAIN_S = 10.0
"""What a station refused, it is asked again after so long."""
RESOLVE_S = 5.0
TEST_S = 5
"""A line on which nothing goes is tested after so long (t3 of the protocol)."""
LEAST_GRACE_S = 5.0
"""Longest wait for the answer to a test before what was heard no longer counts."""
TAKEN = {
    "analogue": c104.Type.C_SE_NC_1, "single": c104.Type.C_SC_NA_1, "double": c104.Type.C_DC_NA_1,
    "integer": c104.Type.C_SE_NB_1, "word": c104.Type.C_BO_NA_1, "start": c104.Type.C_BO_NA_1,
}  # fmt: skip
"""Usual type of an order of each kind."""
ASKED = {
    asdu.GENERAL_INTERROGATION: "general interrogation",
    asdu.COUNTER_INTERROGATION: "counter interrogation",
    asdu.CLOCK: "clock synchronization",
}
"""What a station is asked regularly."""
MOST_ADDRESS = 2**24 - 1
YES = 0.5
LEAST_VERDICT_S, SECOND_WORD_S = 0.1, 0.05

Say = Callable[[dict[str, Any]], None]
News = dict[str, tuple[float | None, bool, float | None]]


def parse_name(name: str) -> tuple[int, str]:
    """Number and type of an object named ``4001`` or ``M_ME_TF_1:4001``; the type is empty where none is named.

    Raises
    ------
    ValueError
        It is no such name.
    """
    given, _, number = name.rpartition(":")
    known = not given or given in c104.Type.__members__
    if not known or not number.isdecimal() or not 0 < int(number) <= MOST_ADDRESS:
        raise ValueError(
            f"object {name}: must be a number of 1..{MOST_ADDRESS}, with a type such as M_ME_TF_1: before it or not"
        )
    return int(number), given


AS_VALUE: dict[str, Callable[[float], Any]] = {
    "C_BO": lambda value: c104.Byte32(int(value).to_bytes(4, "little")),
    "C_SC": lambda value: value >= YES,
    "C_DC": lambda value: c104.Double.ON if value >= YES else c104.Double.OFF,
    "C_RC": lambda value: c104.Step.HIGHER if value >= YES else c104.Step.LOWER,
    "C_SE_NB": lambda value: c104.Int16(round(value)),
    "C_SE_TB": lambda value: c104.Int16(round(value)),
    "C_SE_NA": c104.NormalizedFloat,
    "C_SE_TA": c104.NormalizedFloat,
}
"""By the beginning of a command's type: a number as it wants it; short floating point numbers stay as they are."""


def as_value(kind: c104.Type, value: float) -> Any:
    """A number as the type of a command wants it.

    Raises
    ------
    ValueError, TypeError, OverflowError, LookupError
        The type cannot hold it.
    """
    fitting = (AS_VALUE[start] for start in (kind.name[:7], kind.name[:4]) if start in AS_VALUE)
    return next(fitting, float)(value)


class Station:
    """One station, with a thread of its own for its orders: one that does not confirm holds up nobody else.

    Parameters
    ----------
    spec : dict
        ``key``, ``unit_id`` (common address), ``monitored`` (list of ``[name, kind]``), ``orders`` (list of ``[name,
        kind, select]``).
    line : Line
        The connection to it.
    say : callable
        Tells the loop something.
    """

    def __init__(self, spec: dict[str, Any], line: "Line", say: Say) -> None:
        self.key: str = spec["key"]
        self.common_address: int = max(1, spec["unit_id"])
        self.tracing = False
        self.trouble = ""
        self.orders: queue.Queue[dict[str, Any]] = queue.Queue()
        self._spec = spec
        self._line = line
        self._say = say
        self._lock = threading.Lock()
        self._news: News = {}
        self._names: dict[int, list[str]] = {}
        self._commands: dict[str, c104.Point] = {}
        self._awaited = 0
        self._verdict = ""
        self._judged = threading.Event()
        self._noted: set[str] = set()
        self._due = dict.fromkeys(ASKED, float("-inf"))
        self._counts = False
        threading.Thread(target=self._obey, daemon=True).start()

    def place(self, connection: c104.Connection) -> None:
        """Make its objects known.

        Raises
        ------
        ValueError
            Its name or type is none, or the address is there twice.
        """
        names: dict[int, list[str]] = {}
        for name, kind in self._spec["monitored"]:
            number, given = parse_name(name)
            names.setdefault(number, []).append(name)
            self._counts |= kind == "counter" or given.startswith("M_IT")
        self._names = names
        station = connection.add_station(common_address=self.common_address)
        if station is None:
            raise ValueError(f"common address {self.common_address} is there twice or not possible")
        for name, kind, select in self._spec["orders"]:
            number, given = parse_name(name)
            point = station.add_point(io_address=number, type=getattr(c104.Type, given) if given else TAKEN[kind])
            if point is None:
                raise ValueError(f"object {name}: another order has the same address")
            if select:
                point.command_mode = c104.CommandMode.SELECT_AND_EXECUTE
            self._commands[name] = point

    def hear(self, told: asdu.Told) -> None:
        """Take what it says."""
        if told.kind == asdu.END_OF_INITIALIZATION:
            self.begin_anew()
        elif told.kind in ASKED and told.refusal:
            self._due[told.kind] = time.monotonic() + AGAIN_S
            self._note(f"{ASKED[told.kind]}: {told.refusal}")
        elif told.address == self._awaited and (told.confirms or (told.kind in asdu.COMMANDS and told.refusal)):
            # Some refuse twice, the second time with the cause.
            self._verdict = told.refusal if told.cause in asdu.CAUSES else self._verdict or told.refusal
            self._judged.set()
        with self._lock:
            for seen in told.seen:
                for name in self._names.get(seen.address, ()):
                    self._news[name] = (seen.value, seen.good, seen.stamp_s)

    def begin_anew(self) -> None:
        """Everything must be asked for again."""
        self._due = dict.fromkeys(ASKED, float("-inf"))

    def look_after(self, connection: c104.Connection, now: float) -> None:
        """Ask for everything after connecting and now and then."""
        address = self.common_address
        if now >= self._due[asdu.GENERAL_INTERROGATION]:
            self._due[asdu.GENERAL_INTERROGATION] = now + INTERROGATION_S
            connection.interrogation(address, wait_for_response=False)
        if self._counts and now >= self._due[asdu.COUNTER_INTERROGATION]:
            self._due[asdu.COUNTER_INTERROGATION] = now + INTERROGATION_S
            connection.counter_interrogation(address, wait_for_response=False)
        if now >= self._due[asdu.CLOCK]:
            self._due[asdu.CLOCK] = now + CLOCK_SYNC_S
            connection.clock_sync(address, wait_for_response=False)

    def take_news(self) -> News:
        """Values that arrived since the last call."""
        with self._lock:
            news, self._news = self._news, {}
        return news

    def _note(self, what: str) -> None:
        """Tell once what does not work though the line does."""
        if what not in self._noted:
            self._noted.add(what)
            self._say({"key": self.key, "note": what})

    def _obey(self) -> None:
        while True:
            command = self.orders.get()
            # What the loop no longer waits for is not sent: it may want something else by now.
            late = time.monotonic() > command.get("until", float("inf"))
            try:
                refusal = "too late" if late else self._send(command["object"], command["value"])
            except Exception as error:  # whatever the library raises: the next order is to be given all the same
                refusal = f"{type(error).__name__}: {error}"
            self._say({"answer": command["id"], "done": refusal is None, "reason": refusal or ""})

    def _send(self, name: str, value: float) -> str | None:
        """Send one command and wait for its confirmation; returns why it was refused, empty when nobody answered."""
        point = self._commands.get(name)
        if point is None:
            return self.trouble or f"object {name} is none of its orders"
        if not self._line.open:
            return "no connection"
        try:
            point.value = as_value(point.type, value)
        except (ValueError, TypeError, OverflowError, LookupError) as error:
            return f"{value:g} does not fit into {point.type.name}: {error}"
        self._judged.clear()
        self._verdict = ""
        self._awaited, deadline = point.io_address, time.monotonic() + self._line.answer_s
        point.transmit(cause=c104.Cot.ACTIVATION)
        # What came over the line counts: the library gives up too early now and then, takes an object that the station
        # does not know for a success, and wants the end of a selected command confirmed, which stations may leave out.
        if not self._judged.wait(max(LEAST_VERDICT_S, deadline - time.monotonic())):
            return ""
        if self._verdict:
            time.sleep(SECOND_WORD_S)
        return self._verdict or None


class Line:
    """One connection and its stations.

    Parameters
    ----------
    client : c104.Client
        The library's client.
    spec : dict
        ``host``, ``port``, ``tls`` (files, folder and server name, or None).
    answer_s : float
        Longest wait for the confirmation of a command [s].
    """

    def __init__(self, client: c104.Client, spec: dict[str, Any], say: Say, answer_s: float) -> None:
        self.answer_s = answer_s
        self.stations: list[Station] = []
        self._client = client
        self._spec = spec
        self._say = say
        self._tunnel: TlsTunnel | None = None
        self._connection: c104.Connection | None = None
        self._dialling = False
        self._tried_at = self._heard_at = float("-inf")
        self._was_open = self._lost = False
        self._grace_s = TEST_S + max(LEAST_GRACE_S, 2.0 * answer_s)
        self._callbacks: list[Any] = []
        self.trouble = "no connection"

    @property
    def open(self) -> bool:
        """Whether data flow; a connection that never started its transfer, or fell silent, counts as closed."""
        connection = self._connection
        up = connection is not None and connection.state == c104.ConnectionState.OPEN
        return up and time.monotonic() - self._heard_at < self._grace_s

    def watch(self, now: float) -> bool:
        """See to the connection and its stations; returns whether it stood since the last call."""
        connection = self._connection
        if connection is None:
            if now - self._tried_at >= RESOLVE_S and not self._dialling:
                self._tried_at, self._dialling = now, True
                # A name that nobody resolves takes its time, and no other line shall wait for it.
                threading.Thread(target=self._dial, daemon=True).start()
            return False
        if connection.state == c104.ConnectionState.OPEN_MUTED:
            connection.unmute()
        lost, self._lost = self._lost, False
        if lost or not self.open:
            for station in self.stations:
                station.begin_anew()
            silent = connection.state == c104.ConnectionState.OPEN and not self.open
            behind = self._tunnel.trouble if self._tunnel is not None else ""
            self.trouble = "the station is silent" if silent else behind or "no connection"
            return False
        self.trouble = ""
        for station in self.stations:
            station.look_after(connection, now)
        return True

    def _dial(self) -> None:
        """Add the connection to the client; what cannot be reached by name is tried again."""
        try:
            host, port = self._way()
            connection = self._client.get_connection(ip=host, port=port)
            if connection is None:
                connection = self._client.add_connection(ip=host, port=port, init=c104.Init.NONE)
            if connection is None:
                raise ValueError(f"{host}:{port} is there twice or not possible")
        except (OSError, ValueError) as error:
            self.trouble = str(error)
            self._dialling = False
            return
        for station in self.stations:
            try:
                station.place(connection)
            except ValueError as error:
                station.trouble = str(error)
        connection.protocol_parameters.keep_alive_interval = TEST_S
        self._listen(connection)
        self._connection = connection
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

    def _listen(self, connection: c104.Connection) -> None:
        def received(connection: c104.Connection, data: bytes) -> None:
            del connection
            self._heard_at = time.monotonic()
            told = asdu.told(data, datetime.datetime.now(datetime.UTC))
            for station in self.stations:
                if told is not None and told.station == station.common_address:
                    station.hear(told)
            self._trace("<-", data)

        def sent(connection: c104.Connection, data: bytes) -> None:
            del connection
            self._trace("->", data)

        def changed(connection: c104.Connection, state: c104.ConnectionState) -> None:
            del connection
            if state == c104.ConnectionState.OPEN:
                self._heard_at = time.monotonic()
            else:
                self._lost = True

        connection.on_receive_raw(callable=received)
        connection.on_send_raw(callable=sent)
        connection.on_state_change(callable=changed)
        self._callbacks = [received, sent, changed]

    def _trace(self, way: str, data: bytes) -> None:
        for station in self.stations:
            if station.tracing:
                self._say({"key": station.key, "frame": f"{way} {c104.explain_bytes(data)}"})
