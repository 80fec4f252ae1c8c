"""Worker process: an IEC 61850 MMS server for a simulated device (run by `plant_simulator.worker.Worker`).

The protocol's C library is called through ctypes, which lets go of the interpreter lock while it works; nothing but
this server lives in the process.
"""

from __future__ import annotations

import ctypes
import json
import math
import socket
import sys
import threading
import time
from ctypes import CFUNCTYPE, c_bool, c_char_p, c_float, c_int, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from importlib.metadata import files
from typing import Any

DISTRIBUTION = "pyiec61850-ng"
START_TRIES = 20
# Constants of the library's public headers (iec61850_common.h, iec61850_cdc.h, iec61850_server.h).
CONTROL_OPTIONS = {"direct": 1, "select": 2, "direct_enhanced": 3, "select_enhanced": 4, "start": 1}
DATA_CHANGED, INTEGRITY, GENERAL_INTERROGATION = 1, 8, 16
SEQUENCE, TIME_STAMP, REASON, DATA_SET, ENTRY_ID, CONF_REV = 1, 2, 4, 8, 64, 128
QUALITY_GOOD, QUALITY_INVALID = 0, 2
MMS_STRUCTURE = 1
CONTROL_RESULT_FAILED, CONTROL_RESULT_OK = 0, 1
INTEGRITY_MS = 5_000
FUNCTIONAL_CONSTRAINT = {"mv": "MX", "sps": "ST", "ins": "ST"}
INT32_MAX = 2**31 - 1

ControlHandler = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_bool)
_output = threading.Lock()


def tell(**message: Any) -> None:
    """Send one message to the parent."""
    with _output:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def load_library() -> ctypes.CDLL:
    """The protocol's library, as its wheel installed it.

    Raises
    ------
    FileNotFoundError
        If the wheel holds none for this machine.
    """
    for file in files(DISTRIBUTION) or []:
        if file.name.startswith("libiec61850") and (".so" in file.name or ".dylib" in file.name):
            return _declared(ctypes.CDLL(str(file.locate())))
    raise FileNotFoundError(f"{DISTRIBUTION} brought no libiec61850 for this machine")


def _declared(lib: ctypes.CDLL) -> ctypes.CDLL:
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "IedModel_create": (c_void_p, (c_char_p,)),
        "LogicalDevice_create": (c_void_p, (c_char_p, c_void_p)),
        "LogicalNode_create": (c_void_p, (c_char_p, c_void_p)),
        "CDC_ENS_create": (c_void_p, (c_char_p, c_void_p, c_uint32)),
        "CDC_MV_create": (c_void_p, (c_char_p, c_void_p, c_uint32, c_bool)),
        "CDC_SPS_create": (c_void_p, (c_char_p, c_void_p, c_uint32)),
        "CDC_INS_create": (c_void_p, (c_char_p, c_void_p, c_uint32)),
        "CDC_APC_create": (c_void_p, (c_char_p, c_void_p, c_uint32, c_uint32, c_bool)),
        "CDC_INC_create": (c_void_p, (c_char_p, c_void_p, c_uint32, c_uint32)),
        "DataSet_create": (c_void_p, (c_char_p, c_void_p)),
        "DataSetEntry_create": (c_void_p, (c_void_p, c_char_p, c_int, c_char_p)),
        "ReportControlBlock_create": (
            c_void_p,
            (c_char_p, c_void_p, c_char_p, c_bool, c_char_p, c_uint32, c_uint8, c_uint8, c_uint32, c_uint32),
        ),
        "IedServer_create": (c_void_p, (c_void_p,)),
        "IedServer_setLocalIpAddress": (None, (c_void_p, c_char_p)),
        "IedServer_start": (None, (c_void_p, c_int)),
        "IedServer_isRunning": (c_bool, (c_void_p,)),
        "IedServer_stop": (None, (c_void_p,)),
        "IedServer_destroy": (None, (c_void_p,)),
        "IedServer_updateFloatAttributeValue": (None, (c_void_p, c_void_p, c_float)),
        "IedServer_updateInt32AttributeValue": (None, (c_void_p, c_void_p, c_int)),
        "IedServer_updateBooleanAttributeValue": (None, (c_void_p, c_void_p, c_bool)),
        "IedServer_updateQuality": (None, (c_void_p, c_void_p, c_uint16)),
        "IedServer_updateUTCTimeAttributeValue": (None, (c_void_p, c_void_p, c_uint64)),
        "IedServer_setControlHandler": (None, (c_void_p, c_void_p, ControlHandler, c_void_p)),
        "ModelNode_getChild": (c_void_p, (c_void_p, c_char_p)),
        "MmsValue_getType": (c_int, (c_void_p,)),
        "MmsValue_getElement": (c_void_p, (c_void_p, c_int)),
        "MmsValue_toFloat": (c_float, (c_void_p,)),
        "MmsValue_toInt32": (c_int, (c_void_p,)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class Ied:
    """The server of one device.

    Parameters
    ----------
    lib : CDLL
        The protocol's library.
    spec : dict
        Device as `plant_simulator.iec61850.Iec61850Device.spec` describes it.
    """

    def __init__(self, lib: ctypes.CDLL, spec: dict[str, Any]) -> None:
        self.key = spec["key"]
        self.port = 0
        self._lib = lib
        self._handlers: list[Any] = []
        self._attributes: dict[str, tuple[str, int, int, int]] = {}
        self._model = lib.IedModel_create(spec["ied"].encode())
        logical_device = lib.LogicalDevice_create(spec["logical_device"].encode(), self._model)
        first_node = lib.LogicalNode_create(b"LLN0", logical_device)
        for name in (b"Mod", b"Health"):
            lib.CDC_ENS_create(name, first_node, 0)
        lib.LogicalNode_create(b"LPHD1", logical_device)
        nodes = {name: lib.LogicalNode_create(name.encode(), logical_device) for name in _nodes(spec)}
        self._objects = {
            f"{o['node']}.{o['name']}": (o["kind"], self._create(o, nodes[o["node"]])) for o in spec["objects"]
        }
        self._add_reports(spec, first_node)
        self._server = lib.IedServer_create(self._model)
        lib.IedServer_setLocalIpAddress(self._server, b"127.0.0.1")
        for name, (kind, data_object) in self._objects.items():
            self._attributes[name] = self._find_attributes(kind, data_object)
            if kind in CONTROL_OPTIONS:
                self._listen(name, data_object)

    def start(self) -> None:
        """Serve on a free port of the loopback interface.

        Raises
        ------
        RuntimeError
            If none of the tried ports could be bound.
        """
        for _ in range(START_TRIES):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            self._lib.IedServer_start(self._server, self.port)
            if self._lib.IedServer_isRunning(self._server):
                return
        raise RuntimeError(f"{self.key}: no port could be bound")

    def stop(self) -> None:
        """Close the server."""
        self._lib.IedServer_stop(self._server)
        self._lib.IedServer_destroy(self._server)

    def show(self, values: dict[str, float | None], clock_error_s: float) -> None:
        """Set values with quality, and the time by the device's own clock."""
        now_ms = time.time_ns() // 1_000_000 + round(1000 * clock_error_s)
        for name, value in values.items():
            kind, attribute, quality, stamp = self._attributes[name]
            if stamp:
                self._lib.IedServer_updateUTCTimeAttributeValue(self._server, stamp, now_ms)
            if quality:
                state = QUALITY_INVALID if value is None else QUALITY_GOOD
                self._lib.IedServer_updateQuality(self._server, quality, state)
            if value is None:
                continue
            if kind == "sps":
                self._lib.IedServer_updateBooleanAttributeValue(self._server, attribute, value >= 0.5)
            elif kind == "ins":
                number = round(min(max(value, 0.0), INT32_MAX))
                self._lib.IedServer_updateInt32AttributeValue(self._server, attribute, number)
            else:
                self._lib.IedServer_updateFloatAttributeValue(self._server, attribute, value)

    def _create(self, spec: dict[str, str], node: int) -> int:
        name, kind = spec["name"].encode(), spec["kind"]
        if kind == "mv":
            return self._lib.CDC_MV_create(name, node, 0, False)
        if kind == "sps":
            return self._lib.CDC_SPS_create(name, node, 0)
        if kind == "ins":
            return self._lib.CDC_INS_create(name, node, 0)
        if kind == "start":
            return self._lib.CDC_INC_create(name, node, 0, CONTROL_OPTIONS[kind])
        return self._lib.CDC_APC_create(name, node, 0, CONTROL_OPTIONS[kind], False)

    def _find_attributes(self, kind: str, data_object: int) -> tuple[str, int, int, int]:
        value = {"mv": b"mag.f", "sps": b"stVal", "ins": b"stVal", "start": b"stVal"}.get(kind, b"mxVal.f")
        found = [self._lib.ModelNode_getChild(data_object, name) or 0 for name in (value, b"q", b"t")]
        return kind, found[0], found[1], found[2]

    def _add_reports(self, spec: dict[str, Any], first_node: int) -> None:
        measured = [o for o in spec["objects"] if o["kind"] in FUNCTIONAL_CONSTRAINT]
        if not measured:
            return
        values = self._lib.DataSet_create(b"Values", first_node)
        for o in measured:
            variable = f"{o['node']}${FUNCTIONAL_CONSTRAINT[o['kind']]}${o['name']}"
            self._lib.DataSetEntry_create(values, variable.encode(), -1, None)
        triggers = DATA_CHANGED | INTEGRITY | GENERAL_INTERROGATION
        options = SEQUENCE | TIME_STAMP | REASON | DATA_SET | CONF_REV
        for name, buffered, more in ((b"urcbValues01", False, 0), (b"brcbValues01", True, ENTRY_ID)):
            self._lib.ReportControlBlock_create(
                name, first_node, name, buffered, b"Values", 1, triggers, options | more, 50, INTEGRITY_MS
            )

    def _listen(self, name: str, data_object: int) -> None:
        key, lib = self.key, self._lib

        def operate(_action: int, _parameter: int, value: int, test: bool) -> int:
            element = lib.MmsValue_getElement(value, 0) if lib.MmsValue_getType(value) == MMS_STRUCTURE else value
            number = float(lib.MmsValue_toInt32(element)) if name.endswith("ISCSO1") else lib.MmsValue_toFloat(element)
            if not math.isfinite(number):
                return CONTROL_RESULT_FAILED
            if not test:
                tell(key=key, name=name, value=number)
            return CONTROL_RESULT_OK

        handler = ControlHandler(operate)
        self._handlers.append(handler)  # the library keeps no reference of its own
        lib.IedServer_setControlHandler(self._server, data_object, handler, None)


def _nodes(spec: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(o["node"] for o in spec["objects"]))


def main() -> None:
    """Serve what the first line specifies, until the input ends."""
    spec = json.loads(sys.stdin.readline())
    ied = Ied(load_library(), spec)
    ied.start()
    tell(key=ied.key, port=ied.port)
    for line in sys.stdin:
        message = json.loads(line)
        ied.show(message["values"], message["clock_error_s"])
    ied.stop()


if __name__ == "__main__":
    main()
