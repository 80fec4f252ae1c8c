"""The process in which IEC 61850 is spoken: `python -m control_loop.protocols.iec61850_worker`.

The C library is called by ctypes, which frees the interpreter while a call lasts, and each device has a thread of its
own: a peer that does not answer holds up nobody else. One JSON object a line: the configuration of all links first,
then commands on standard input; values, states and answers on standard output.
"""

from __future__ import annotations

import ctypes
import json
import queue
import sys
import threading
import time
from ctypes import POINTER, byref, c_bool, c_char_p, c_float, c_int, c_int32, c_uint32, c_uint64, c_void_p
from importlib.metadata import files
from typing import Any

POLL_S = 0.5
BEAT_S = 0.25
TIMEOUT_MS = 1000
RETRY_S = 1.0
FC_ST, FC_MX = 0, 1
QUALITY_VALIDITY = 3
_output = threading.Lock()


def say(message: dict[str, Any]) -> None:
    """One line to the loop."""
    with _output:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def load_library() -> ctypes.CDLL:
    """The protocol's library, as its wheel installed it.

    Raises
    ------
    FileNotFoundError
        The wheel holds none for this machine.
    """
    for file in files("pyiec61850-ng") or []:
        if file.name.startswith("libiec61850") and (".so" in file.name or ".dylib" in file.name):
            library = ctypes.CDLL(str(file.locate()))
            break
    else:
        raise FileNotFoundError("pyiec61850-ng brought no libiec61850 for this machine")
    error = POINTER(c_int)
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "IedConnection_create": (c_void_p, ()),
        "IedConnection_destroy": (None, (c_void_p,)),
        "IedConnection_close": (None, (c_void_p,)),
        "IedConnection_setConnectTimeout": (None, (c_void_p, c_uint32)),
        "IedConnection_setRequestTimeout": (None, (c_void_p, c_uint32)),
        "IedConnection_connect": (None, (c_void_p, error, c_char_p, c_int)),
        "IedConnection_readObject": (c_void_p, (c_void_p, error, c_char_p, c_int)),
        "ControlObjectClient_create": (c_void_p, (c_char_p, c_void_p)),
        "ControlObjectClient_destroy": (None, (c_void_p,)),
        "ControlObjectClient_operate": (c_bool, (c_void_p, c_void_p, c_uint64)),
        "MmsValue_createEmptyStructure": (c_void_p, (c_int,)),
        "MmsValue_setElement": (None, (c_void_p, c_int, c_void_p)),
        "MmsValue_getElement": (c_void_p, (c_void_p, c_int)),
        "MmsValue_newFloat": (c_void_p, (c_float,)),
        "MmsValue_newIntegerFromInt32": (c_void_p, (c_int32,)),
        "MmsValue_toFloat": (c_float, (c_void_p,)),
        "MmsValue_getBoolean": (c_bool, (c_void_p,)),
        "MmsValue_getBitStringAsInteger": (c_uint32, (c_void_p,)),
        "MmsValue_delete": (None, (c_void_p,)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Link(threading.Thread):
    """One device's association, in a thread of its own.

    Parameters
    ----------
    library : ctypes.CDLL
        The protocol's library.
    spec : dict
        ``key``, ``host``, ``port``, ``monitored`` (list of ``[reference, single]``), ``starts`` (references of integer
        controls); every other control takes an analogue value.
    """

    def __init__(self, library: ctypes.CDLL, spec: dict[str, Any]) -> None:
        super().__init__(name=spec["key"], daemon=True)
        self.key: str = spec["key"]
        self.commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self.open = False
        self._lib = library
        self._host, self._port = spec["host"], spec["port"]
        self._monitored: list[tuple[str, bool]] = [(name, single) for name, single in spec["monitored"]]
        self._integers = set(spec["starts"])
        self._connection: int | None = None

    def run(self) -> None:
        """Connect, poll and operate, for ever."""
        due = 0.0
        while True:
            if self._connection is None and not self._connect():
                self._refuse_commands(RETRY_S)
                continue
            try:
                command = self.commands.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                due = time.monotonic() + POLL_S
                if not self._poll():
                    self._drop()
            else:
                done = self._operate(command["object"], command["value"])
                say({"answer": command["id"], "done": done})

    def _connect(self) -> bool:
        connection, error = self._lib.IedConnection_create(), c_int(0)
        self._lib.IedConnection_setConnectTimeout(connection, TIMEOUT_MS)
        self._lib.IedConnection_setRequestTimeout(connection, TIMEOUT_MS)
        self._lib.IedConnection_connect(connection, byref(error), self._host.encode(), self._port)
        self._connection = connection
        # The first request after an association fails now and then; only one that was answered counts.
        if error.value != 0 or not self._poll():
            self._drop()
            return False
        self.open = True
        return True

    def _drop(self) -> None:
        self.open = False
        connection, self._connection = self._connection, None
        if connection is not None:
            self._lib.IedConnection_close(connection)
            self._lib.IedConnection_destroy(connection)

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
        values: dict[str, tuple[float | None, bool]] = {}
        for name, single in self._monitored:
            error = c_int(0)
            read = self._lib.IedConnection_readObject(
                self._connection, byref(error), name.encode(), FC_ST if single else FC_MX
            )
            if error.value != 0 or not read:
                return False
            values[name] = self._value(read, single)
            self._lib.MmsValue_delete(read)
        say({"key": self.key, "values": values})
        return True

    def _value(self, read: int, single: bool) -> tuple[float | None, bool]:
        """Value and validity of a data object: its first element is the value, its second the quality."""
        first, quality = self._lib.MmsValue_getElement(read, 0), self._lib.MmsValue_getElement(read, 1)
        if not first:
            return None, False
        good = not quality or (self._lib.MmsValue_getBitStringAsInteger(quality) & QUALITY_VALIDITY) == 0
        if single:
            return float(self._lib.MmsValue_getBoolean(first)), good
        number = self._lib.MmsValue_getElement(first, 0)
        return (float(self._lib.MmsValue_toFloat(number)), good) if number else (None, False)

    def _operate(self, name: str, value: float) -> bool:
        control = self._lib.ControlObjectClient_create(name.encode(), self._connection)
        if not control:
            return False
        if name in self._integers:
            wanted = self._lib.MmsValue_newIntegerFromInt32(int(value))
        else:
            wanted = self._lib.MmsValue_createEmptyStructure(1)
            self._lib.MmsValue_setElement(wanted, 0, self._lib.MmsValue_newFloat(value))
        done = self._lib.ControlObjectClient_operate(control, wanted, 0)
        self._lib.MmsValue_delete(wanted)
        self._lib.ControlObjectClient_destroy(control)
        return bool(done)


def main() -> None:
    """Serve the links that the first line describes, until standard input ends."""
    library = load_library()
    links = {spec["key"]: Link(library, spec) for spec in json.loads(sys.stdin.readline())}
    for link in links.values():
        link.start()

    def beat() -> None:
        pause = threading.Event()
        while not pause.wait(BEAT_S):
            say({"open": [link.key for link in links.values() if link.open]})

    threading.Thread(target=beat, daemon=True).start()
    for line in sys.stdin:
        command = json.loads(line)
        links[command["key"]].commands.put(command)


if __name__ == "__main__":
    main()
