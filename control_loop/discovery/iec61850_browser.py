"""The process that browses one IEC 61850 device: `python -m control_loop.discovery.iec61850_browser HOST PORT`.

Prints one JSON object: the data objects of each logical node with what they show, and report control blocks.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from ctypes import byref, c_int
from typing import Any

from control_loop.protocols import iec61850_library as library

TIMEOUT_MS = 3000
CONTROL_PART = "Oper"


def names(lib: ctypes.CDLL, listed: int | None) -> list[str]:
    """The strings of a list, which is freed."""
    with library.names_in(lib, listed) as found:
        return found


def browse(lib: ctypes.CDLL, connection: int) -> dict[str, Any]:
    """Objects and report control blocks of the device."""
    error = c_int(0)
    objects: dict[str, dict[str, Any]] = {}
    reports: list[str] = []
    for device in names(lib, lib.IedConnection_getLogicalDeviceList(connection, byref(error))):
        nodes = lib.IedConnection_getLogicalDeviceDirectory(connection, byref(error), device.encode())
        for node in names(lib, nodes):
            reference = f"{device}/{node}"
            variables = lib.IedConnection_getLogicalNodeVariables(connection, byref(error), reference.encode())
            for variable in names(lib, variables):
                parts = variable.split("$")
                if len(parts) < 2:
                    continue
                item = objects.setdefault(f"{reference}.{parts[1]}", {"constraints": [], "commanded": False})
                if parts[0] not in item["constraints"]:
                    item["constraints"].append(parts[0])
                if parts[0] == "CO" and CONTROL_PART in parts:
                    item["commanded"] = True
            for kind, letters in ((library.BUFFERED_REPORTS, "BR"), (library.UNBUFFERED_REPORTS, "RP")):
                blocks = lib.IedConnection_getLogicalNodeDirectory(connection, byref(error), reference.encode(), kind)
                reports += [f"{reference}.{letters}.{name}" for name in names(lib, blocks)]
    shown = {name: item for name, item in objects.items() if {"MX", "ST"} & set(item["constraints"])}
    return {"objects": shown, "reports": reports}


def main() -> None:
    """Associate, browse, print, and go."""
    lib, error = library.load_library(), c_int(0)
    connection = lib.IedConnection_create()
    lib.IedConnection_setConnectTimeout(connection, TIMEOUT_MS)
    lib.IedConnection_setRequestTimeout(connection, TIMEOUT_MS)
    lib.IedConnection_connect(connection, byref(error), sys.argv[1].encode(), int(sys.argv[2]))
    result = {"error": f"no association (error {error.value})"} if error.value != 0 else browse(lib, connection)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    # The library's threads are not worth waiting for.
    os._exit(0)


if __name__ == "__main__":
    main()
