"""The process in which IEC 61850 is spoken: `python -m control_loop.protocols.iec61850_worker`.

The C library is called by ctypes, which frees the interpreter while a call lasts, and each device has a thread of its
own: a peer that does not answer holds up nobody else. Measured values come in reports, in the library's threads; what
no report carries is polled. One JSON object a line: the configuration of all links first, then commands on standard
input; values, states and answers on standard output.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import queue
import socket
import sys
import threading
import time
from ctypes import byref, c_int
from pathlib import Path
from typing import Any

from control_loop.protocols import iec61850_library as library
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.iec61850_control import Controls
from control_loop.protocols.iec61850_library import Values
from control_loop.protocols.iec61850_reports import State, Subscription, scaled
from control_loop.protocols.iec61850_shapes import LinkLostError, Shape, Shapes
from control_loop.protocols.traffic import TrafficReport
from control_loop.protocols.tunnel import TlsTunnel
from flexergy_pipelines.grid.connection import TlsFiles
from flexergy_pipelines.grid.tls import TlsError, client_context

POLL_S = 0.5
BEAT_S = 0.25
TRAFFIC_BEATS = 8
"""What went over the links is told so many beats apart."""
TIMEOUT_MS = 1000
"""Least time for an association and for each answer."""
LOOK_AGAIN_S = 30.0
"""Objects that were not there, and reports that could not be had, are looked for again so much later."""
_output = threading.Lock()


def say(message: dict[str, Any]) -> None:
    """One line to the loop."""
    with _output:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


class Link(threading.Thread):
    """One device's association, in a thread of its own.

    Parameters
    ----------
    lib : ctypes.CDLL
        The protocol's library.
    spec : dict
        ``key``, ``host``, ``port``, ``monitored`` (list of ``[reference, kind]``), ``report`` (report control block or
        None), ``tls`` (files, folder and server name, or None).
    """

    def __init__(self, lib: ctypes.CDLL, spec: dict[str, Any]) -> None:
        super().__init__(name=spec["key"], daemon=True)
        self.key: str = spec["key"]
        self.commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self.open = False
        self.tracing = False
        self.peer: tuple[str, int] | None = None
        self._lib = lib
        self._values = Values(lib)
        self._host, self._port = spec["host"], spec["port"]
        self._timeout_ms = max(TIMEOUT_MS, round(1000 * spec.get("timeout_s", 0.0)))
        self._kinds: dict[str, str] = dict(spec["monitored"])
        self._report: str | None = spec.get("report")
        self._tls: dict[str, Any] | None = spec.get("tls")
        self._tunnel: TlsTunnel | None = None
        self._connection: int | None = None
        self._controls: Controls | None = None
        self._shapes: dict[str, Shape] = {}
        self._latest: dict[str, State] = {}
        self._subscription: Subscription | None = None
        self._look_again = 0.0
        self._backoff = Backoff(0.25, 8.0)

    def run(self) -> None:
        """Connect, poll and operate, for ever."""
        while True:
            try:
                self._serve()
            except Exception as error:
                self._drop(f"unexpected: {error!r}")
                self._pause()

    def _serve(self) -> None:
        due = 0.0
        while True:
            if self._connection is None and not self._connect():
                self._pause()
                continue
            try:
                command = self.commands.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                due = time.monotonic() + POLL_S
                if not self._round():
                    self._drop("connection lost")
            else:
                self._operate(command)

    def _pause(self) -> None:
        self._backoff.failed(time.monotonic())
        self._refuse_commands(self._backoff.wait_s(time.monotonic()))

    def _round(self) -> bool:
        """What is done regularly; returns whether the device answers."""
        now = time.monotonic()
        try:
            if self._subscription is not None and not self._subscription.keep_up(now):
                self._note(f"report {self._subscription.block} is silent; its points are polled")
                self._subscription.end()
                self._look_again = now + LOOK_AGAIN_S
            if now >= self._look_again:
                self._look_around()
        except LinkLostError:
            return False
        return self._poll()

    def _connect(self) -> bool:
        try:
            host, port = self._way()
        except TlsError as error:
            self._tell_trouble(str(error))
            return False
        self._note("")
        self.peer = _resolved(host, port)
        connection, error = self._lib.IedConnection_create(), c_int(0)
        self._lib.IedConnection_setConnectTimeout(connection, self._timeout_ms)
        self._lib.IedConnection_setRequestTimeout(connection, self._timeout_ms)
        self._lib.IedConnection_connect(connection, byref(error), host.encode(), port)
        self._connection = connection
        # The first request after an association fails now and then; only one that was answered counts.
        if error.value != 0 or not self._begin():
            reason = self._tunnel.trouble if self._tunnel is not None else ""
            self._drop(reason or f"no association with {self._host}:{self._port}")
            return False
        self._controls = Controls(self._lib, connection)
        self._backoff.succeeded()
        self.open = True
        return True

    def _begin(self) -> bool:
        """Learn what the device has, and read it all once; returns whether it answers."""
        try:
            self._look_around()
        except LinkLostError:
            return False
        return self._poll()

    def _look_around(self) -> None:
        """Find the objects that were not found yet, and subscribe the report where there is none.

        Raises
        ------
        LinkLostError
            The device does not answer.
        """
        if self._connection is None:
            raise LinkLostError
        self._look_again = time.monotonic() + LOOK_AGAIN_S
        shapes = Shapes(self._lib, self._connection)
        for name in self._kinds.keys() - self._shapes.keys():
            shape = shapes.of(name, self._kinds[name])
            if shape is not None:
                self._shapes[name] = shape
        if self._report is None or (self._subscription is not None and self._subscription.block):
            return
        self._subscription = Subscription(self._lib, self._connection, self._shapes, self._latest, self._tell_report)
        refused = self._subscription.begin(self._report)
        if refused is not None:
            self._note(f"no report, its points are polled: {refused}")
        elif self._subscription.block != self._report:
            self._note(f"report {self._report} is not free; {self._subscription.block} is taken")

    def _tell_report(self, news: dict[str, State]) -> None:
        if news:
            say({"key": self.key, "values": news})
        self._trace(f"report of {len(news)} values: {json.dumps({n: v for n, (v, *_) in news.items()})}")

    def _way(self) -> tuple[str, int]:
        """Where to connect: the device, or the tunnel that leads to it."""
        if self._tls is None:
            return self._host, self._port
        if self._tunnel is None:
            files, folder = TlsFiles.model_validate(self._tls["files"]), Path(self._tls["folder"])
            name = files.server_name or self._host
            self._tunnel = TlsTunnel(self._host, self._port, client_context(files, folder), name)
        return "127.0.0.1", self._tunnel.port

    def _drop(self, reason: str) -> None:
        self.open = False
        connection, self._connection = self._connection, None
        if self._controls is not None:
            self._controls.forget()
            self._controls = None
        if connection is not None:
            self._lib.IedConnection_close(connection)
            self._lib.IedConnection_destroy(connection)
        self._subscription, self._shapes, self._latest, self._look_again = None, {}, {}, 0.0
        self._tell_trouble(reason)

    def _note(self, text: str) -> None:
        """What is less than wanted though the link works; nothing takes it back."""
        say({"key": self.key, "note": text})

    def _tell_trouble(self, reason: str) -> None:
        self._trace(f"-- {reason}")
        say({"key": self.key, "trouble": reason})

    def _refuse_commands(self, seconds: float) -> None:
        """While there is no association, say no at once."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                command = self.commands.get(timeout=left)
            except queue.Empty:
                return
            say({"answer": command["id"], "done": False})

    def _poll(self) -> bool:
        """Read what no report carries, at least one object, so that a dead peer is noticed."""
        carried = self._subscription.carried if self._subscription is not None else frozenset()
        wanted = [name for name in self._shapes if name not in carried] or list(self._shapes)[:1]
        values: dict[str, State] = {}
        for name in wanted:
            self._operate_waiting()
            error, shape = c_int(0), self._shapes[name]
            read = self._lib.IedConnection_readObject(self._connection, byref(error), name.encode(), shape.constraint)
            if error.value in library.LINK_ERRORS:
                return False
            # An object that the device never gave is not told of at all, so that the loop can say which it is.
            if name in self._latest or (read and self._lib.MmsValue_getType(read) != library.ACCESS_ERROR):
                values[name] = self._state(read, shape)
            if read:
                self._lib.MmsValue_delete(read)
        if not wanted and not self._answers():
            return False
        self._latest |= values
        say({"key": self.key, "values": values})
        if values:
            self._trace(f"read {json.dumps({n: v for n, (v, *_) in values.items()})}")
        return True

    def _state(self, read: int | None, shape: Shape) -> State:
        values = self._values
        quality = None if shape.quality is None else values.quality(values.at(read, shape.quality))
        stamp = None if shape.time is None else values.stamp(values.at(read, shape.time))
        return scaled(values.number(values.at(read, shape.value)), shape), quality is not False, stamp

    def _answers(self) -> bool:
        """Whether a device answers that has none of the objects."""
        error = c_int(0)
        listed = self._lib.IedConnection_getLogicalDeviceList(self._connection, byref(error))
        with library.names_in(self._lib, listed):
            return error.value not in library.LINK_ERRORS

    def _operate_waiting(self) -> None:
        """Orders don't wait until everything was read."""
        while not self.commands.empty():
            self._operate(self.commands.get())

    def _operate(self, command: dict[str, Any]) -> None:
        name, value = command["object"], command["value"]
        refusal = self._controls.operate(name, value) if self._controls is not None else "no association"
        say({"answer": command["id"], "done": refusal is None, "reason": refusal or ""})
        self._trace(f"operate {name} = {value:g}: {refusal or 'done'}")

    def _trace(self, frame: str) -> None:
        if self.tracing:
            say({"key": self.key, "frame": frame})


def _resolved(host: str, port: int) -> tuple[str, int] | None:
    """Numeric address of a device; None where it has none, which the library will find out as well."""
    with contextlib.suppress(OSError):
        return socket.gethostbyname(host), port
    return None


def main() -> None:
    """Serve the links that the first line describes, until standard input ends."""
    lib = library.load_library()
    links = {spec["key"]: Link(lib, spec) for spec in json.loads(sys.stdin.readline())}
    for link in links.values():
        link.start()

    def beat() -> None:
        pause, traffic, beats = threading.Event(), TrafficReport(say), 0
        while not pause.wait(BEAT_S):
            beats += 1
            say({"open": [link.key for link in links.values() if link.open]})
            if beats % TRAFFIC_BEATS == 0:
                traffic.tell({link.key: link.peer for link in links.values() if link.open and link.peer is not None})

    threading.Thread(target=beat, daemon=True).start()
    for line in sys.stdin:
        command = json.loads(line)
        link = links[command["key"]]
        if "trace" in command:
            link.tracing = command["trace"]
        else:
            link.commands.put(command)


if __name__ == "__main__":
    main()
