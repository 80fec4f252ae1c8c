"""The process in which IEC 61850 is spoken: `python -m control_loop.protocols.iec61850_worker`.

The C library is called by ctypes, which frees the interpreter while a call lasts, and each device has a thread of its
own: a peer that does not answer holds up nobody else. Measured values come in reports, in the library's threads; what
no report carries is polled. One JSON object a line: the configuration of all links first, then commands on standard
input; values, states and answers on standard output.
"""

from __future__ import annotations

import ctypes
import json
import queue
import sys
import threading
import time
from ctypes import byref, c_bool, c_int
from pathlib import Path
from typing import Any

from control_loop.protocols import iec61850_library as library
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.iec61850_control import Controls
from control_loop.protocols.iec61850_library import Values
from control_loop.protocols.tunnel import TlsTunnel
from flexergy_pipelines.grid.connection import TlsFiles
from flexergy_pipelines.grid.tls import TlsError, client_context

POLL_S = 0.5
BEAT_S = 0.25
TIMEOUT_MS = 1000
"""Least time for an association and for each answer."""
INTEGRITY_MS = 2000
SILENT_S = 3.0 * INTEGRITY_MS / 1000
"""A subscribed report that is not heard for so long has ended, whatever the association says."""
VALUE_PARTS = {"mag.f", "mag", "mag.i", "instMag.f", "cVal.mag.f", "stVal", "mxVal.f", "actVal"}
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
        self._members: list[tuple[str, str]] = []
        self._latest: dict[str, tuple[float | None, bool, float | None]] = {}
        self._handler: Any = None
        self._reported = 0.0
        self._backoff = Backoff(0.25, 8.0)

    def run(self) -> None:
        """Connect, poll and operate, for ever."""
        due = 0.0
        while True:
            if self._connection is None and not self._connect():
                self._backoff.failed(time.monotonic())
                self._refuse_commands(self._backoff.wait_s(time.monotonic()))
                continue
            self._backoff.succeeded()
            try:
                command = self.commands.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                due = time.monotonic() + POLL_S
                if not self._poll() or self._report_ended():
                    self._drop("connection lost")
            else:
                self._operate(command)

    def _connect(self) -> bool:
        try:
            host, port = self._way()
        except TlsError as error:
            self._tell_trouble(str(error))
            return False
        connection, error = self._lib.IedConnection_create(), c_int(0)
        self._lib.IedConnection_setConnectTimeout(connection, self._timeout_ms)
        self._lib.IedConnection_setRequestTimeout(connection, self._timeout_ms)
        self._lib.IedConnection_connect(connection, byref(error), host.encode(), port)
        self._connection = connection
        if error.value == 0:
            self._subscribe()
        # The first request after an association fails now and then; only one that was answered counts.
        if error.value != 0 or not self._poll():
            reason = self._tunnel.trouble if self._tunnel is not None else ""
            self._drop(reason or f"no association with {self._host}:{self._port}")
            return False
        self._controls = Controls(self._lib, connection)
        self.open = True
        return True

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
        self._handler = None
        self._members, self._latest = [], {}
        self._tell_trouble(reason)

    def _tell_trouble(self, reason: str) -> None:
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

    def _subscribe(self) -> None:
        """Have the device report changes, everything regularly, and everything now; a device without it is polled."""
        if self._report is None:
            return
        lib, error, deletable = self._lib, c_int(0), c_bool(False)
        block = lib.IedConnection_getRCBValues(self._connection, byref(error), self._report.encode(), None)
        if not block or error.value != 0:
            return
        data_set = (lib.ClientReportControlBlock_getDataSetReference(block) or b"").decode().replace("$", ".")
        listed = lib.IedConnection_getDataSetDirectory(
            self._connection, byref(error), data_set.encode(), byref(deletable)
        )
        with library.names_in(lib, listed) as members:
            self._members = [self._member(name) for name in members]
        self._handler = library.ReportHandler(self._arrived)
        report_id = lib.ClientReportControlBlock_getRptId(block)
        lib.IedConnection_installReportHandler(self._connection, self._report.encode(), report_id, self._handler, None)
        with_fields = library.WITH_SEQUENCE | library.WITH_TIME | library.WITH_REASON | library.WITH_DATA_SET
        triggers = library.ON_CHANGE | library.ON_QUALITY | library.INTEGRITY | library.INTERROGATION
        lib.ClientReportControlBlock_setRptEna(block, False)
        lib.IedConnection_setRCBValues(self._connection, byref(error), block, library.RPT_ENA, True)
        lib.ClientReportControlBlock_setOptFlds(block, with_fields)
        lib.ClientReportControlBlock_setTrgOps(block, triggers)
        lib.ClientReportControlBlock_setIntgPd(block, INTEGRITY_MS)
        wanted = library.OPT_FLDS | library.TRG_OPS | library.INTG_PD
        if ".BR." in self._report:
            # What was buffered while nobody listened is of the past: nothing is controlled by it.
            lib.ClientReportControlBlock_setPurgeBuf(block, True)
            wanted |= library.PURGE
        lib.IedConnection_setRCBValues(self._connection, byref(error), block, wanted, False)
        lib.ClientReportControlBlock_setRptEna(block, True)
        lib.IedConnection_setRCBValues(self._connection, byref(error), block, library.RPT_ENA, True)
        if error.value != 0:
            self._members = []
        lib.ClientReportControlBlock_setGI(block, True)
        lib.IedConnection_setRCBValues(self._connection, byref(c_int(0)), block, library.GI, True)
        lib.ClientReportControlBlock_destroy(block)
        self._reported = time.monotonic()

    def _member(self, entry: str) -> tuple[str, str]:
        """The monitored object that an entry of the data set belongs to, and which part of it; both empty: none."""
        reference = entry.partition("[")[0]
        for name in self._kinds:
            if reference == name or reference.startswith(name + "."):
                return name, reference[len(name) + 1 :]
        return "", ""

    def _report_ended(self) -> bool:
        return bool(self._members) and time.monotonic() - self._reported > SILENT_S

    def _arrived(self, _parameter: int, report: int) -> None:
        """A report came; called in a thread of the library, which owns the report."""
        self._reported = time.monotonic()
        lib, news = self._lib, {}
        values = lib.ClientReport_getDataSetValues(report)
        for index, (name, part) in enumerate(self._members):
            if not name or lib.ClientReport_getReasonForInclusion(report, index) == 0:
                continue
            element = lib.MmsValue_getElement(values, index) if values else None
            if not element:
                continue
            value, good, stamp = self._latest.get(name, (None, True, None))
            quality, stamped = self._values.quality(element), self._values.stamp(element)
            if not part or part in VALUE_PARTS:
                value = self._values.number(element, self._kinds[name])
            good = quality if quality is not None else good
            stamp = stamped if stamped is not None else stamp
            self._latest[name] = news[name] = (value, good, stamp)
        if news:
            say({"key": self.key, "values": news})
            self._trace(f"report of {len(news)} values: {json.dumps({n: v for n, (v, *_) in news.items()})}")

    def _poll(self) -> bool:
        """Read what no report carries, at least one object, so that a dead peer is noticed."""
        carried = {name for name, _ in self._members}
        wanted = [name for name in self._kinds if name not in carried] or list(self._kinds)[:1]
        values: dict[str, tuple[float | None, bool, float | None]] = {}
        for name in wanted:
            error, kind = c_int(0), self._kinds[name]
            constraint = library.FC_MX if kind == "analogue" else library.FC_ST
            read = self._lib.IedConnection_readObject(self._connection, byref(error), name.encode(), constraint)
            if error.value != 0 or not read:
                return False
            # An object that the device never had is not told of at all, so that the loop can say which it is.
            if name in self._latest or self._lib.MmsValue_getType(read) != library.ACCESS_ERROR:
                quality = self._values.quality(read)
                values[name] = (self._values.number(read, kind), quality is not False, self._values.stamp(read))
            self._lib.MmsValue_delete(read)
        self._latest |= values
        say({"key": self.key, "values": values})
        return True

    def _operate(self, command: dict[str, Any]) -> None:
        name, value = command["object"], command["value"]
        refusal = self._controls.operate(name, value) if self._controls is not None else "no association"
        say({"answer": command["id"], "done": refusal is None})
        self._trace(f"operate {name} = {value:g}: {refusal or 'done'}")
        if refusal is not None:
            self._tell_trouble(f"{name} = {value:g}: {refusal}")

    def _trace(self, frame: str) -> None:
        if self.tracing:
            say({"key": self.key, "frame": frame})


def main() -> None:
    """Serve the links that the first line describes, until standard input ends."""
    lib = library.load_library()
    links = {spec["key"]: Link(lib, spec) for spec in json.loads(sys.stdin.readline())}
    for link in links.values():
        link.start()

    def beat() -> None:
        pause = threading.Event()
        while not pause.wait(BEAT_S):
            say({"open": [link.key for link in links.values() if link.open]})

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
