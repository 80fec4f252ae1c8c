"""The process that browses one IEC 61850 device: `python -m control_loop.discovery.iec61850_browser HOST PORT`.

Prints one JSON object: the data objects of each logical node with what they show, what those whose names tell a
quantity are, and report control blocks, those first that carry most of these.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Iterator
from ctypes import byref, c_bool, c_int
from typing import Any

from control_loop.protocols import iec61850_library as library
from control_loop.protocols.iec61850_library import Values
from control_loop.protocols.iec61850_rcb import BUFFERED, ReportBlock
from control_loop.protocols.iec61850_shapes import VALUES, LinkLostError, Shapes
from control_loop.protocols.scl import quantity_of

TIMEOUT_MS = 3000
TRIES = 5
PAUSE_S = 0.5
CONTROL_PART = "Oper"
SHOWN = {"MX": library.FC_MX, "ST": library.FC_ST, "SP": library.FC_SP}
VALUE_NAMES = frozenset(name.partition(".")[0] for names in VALUES.values() for name in names)
KINDS = {
    library.BOOLEAN: "single", library.BIT_STRING: "double", library.INTEGER: "integer", library.UNSIGNED: "integer",
    library.FLOAT: "analogue",
}  # fmt: skip


def names(lib: ctypes.CDLL, listed: int | None) -> list[str]:
    """The strings of a list, which is freed."""
    with library.names_in(lib, listed) as found:
        return found


def browse(lib: ctypes.CDLL, connection: int) -> dict[str, Any]:
    """Objects and report control blocks of the device.

    Raises
    ------
    LinkLostError
        The device does not answer.
    """
    error = c_int(0)

    def listed(found: int | None) -> list[str]:
        if error.value in library.LINK_ERRORS:
            raise LinkLostError
        return names(lib, found)

    objects: dict[str, dict[str, Any]] = {}
    reports: list[str] = []
    for device in listed(lib.IedConnection_getLogicalDeviceList(connection, byref(error))):
        for node in listed(lib.IedConnection_getLogicalDeviceDirectory(connection, byref(error), device.encode())):
            reference = f"{device}/{node}"
            variables = listed(lib.IedConnection_getLogicalNodeVariables(connection, byref(error), reference.encode()))
            for name, constraint, commanded in data_objects(variables):
                item = objects.setdefault(f"{reference}.{name}", {"constraints": [], "commanded": False})
                item["constraints"] += [constraint] if constraint else []
                item["commanded"] |= commanded
            reports += [f"{reference}.{letters}.{name}" for letters, name in report_blocks(variables)]
    shown = {name: item for name, item in objects.items() if item["constraints"]}
    points = [point for name, item in shown.items() if (point := describe(lib, connection, name, item)) is not None]
    carried = {block: carries(lib, connection, block, [point["reference"] for point in points]) for block in reports}
    reports.sort(key=lambda block: (-carried[block], BUFFERED not in block))
    return {"objects": shown, "reports": reports, "points": points}


def carries(lib: ctypes.CDLL, connection: int, reference: str, wanted: list[str]) -> int:
    """How many of the objects a report control block carries.

    Raises
    ------
    LinkLostError
        The device does not answer.
    """
    block, error, deletable = ReportBlock(lib, connection, reference), c_int(0), c_bool(False)
    try:
        data_set = block.data_set if block.read() else ""
    finally:
        block.free()
    if not data_set:
        return 0
    listed = lib.IedConnection_getDataSetDirectory(connection, byref(error), data_set.encode(), byref(deletable))
    if error.value in library.LINK_ERRORS:
        raise LinkLostError
    entries = [f"{entry.partition('[')[0]}." for entry in names(lib, listed)]
    return sum(
        any(f"{name}.".startswith(entry) or entry.startswith(f"{name}.") for entry in entries) for name in wanted
    )


def data_objects(variables: list[str]) -> Iterator[tuple[str, str, bool]]:
    """Name below its node, constraint of its value and whether it takes orders, of each object in a node's variables.

    Variables are named ``MX$PhV$phsA$cVal$mag$f``: what is above a value is an object, however deep it is.
    """
    seen: set[tuple[str, str]] = set()
    for variable in variables:
        constraint, *path = variable.split("$")
        place = next((i for i, part in enumerate(path) if part in VALUE_NAMES and i > 0), None)
        if constraint in SHOWN and place is not None:
            name = ".".join(path[:place])
            if (name, constraint) not in seen:
                seen.add((name, constraint))
                yield name, constraint, constraint == "SP"
        elif constraint == "CO" and CONTROL_PART in path[1:]:
            name = ".".join(path[: path.index(CONTROL_PART)])
            if (name, constraint) not in seen:
                seen.add((name, constraint))
                yield name, "", True


def report_blocks(variables: list[str]) -> list[tuple[str, str]]:
    """``BR`` or ``RP`` and name of each report control block in a node's variables."""
    parts = [variable.split("$") for variable in variables]
    return list(dict.fromkeys((part[0], part[1]) for part in parts if part[0] in {"BR", "RP"} and len(part) > 1))


def describe(lib: ctypes.CDLL, connection: int, name: str, item: dict[str, Any]) -> dict[str, Any] | None:
    """Quantity, kind and scale of an object whose name tells its quantity; None for any other.

    Raises
    ------
    LinkLostError
        The device does not answer.
    """
    node, _, below = name.partition("/")[2].partition(".")
    if not node or quantity_of(below)[0] is None:
        return None
    shape = Shapes(lib, connection).of(name, "analogue" if {"MX", "SP"} & set(item["constraints"]) else "integer")
    if shape is None:
        return None
    values = Values(lib)
    multiplier = read(lib, connection, f"{name}.units.multiplier", library.FC_CF)
    model = read(lib, connection, f"{name}.ctlModel", library.FC_CF)
    value = lib.IedConnection_readObject(connection, byref(c_int(0)), name.encode(), shape.constraint)
    kind = KINDS.get(lib.MmsValue_getType(part) if (part := values.at(value, shape.value)) else -1, "analogue")
    if value:
        lib.MmsValue_delete(value)
    quantity, scale = quantity_of(below, int(multiplier or 0))
    commanded = item["commanded"] and model != library.STATUS_ONLY
    kind = "analogue" if shape.constraint == library.FC_MX else kind
    return {"quantity": quantity, "reference": name, "kind": kind, "scale": scale, "commanded": commanded}


def read(lib: ctypes.CDLL, connection: int, reference: str, constraint: int) -> float | None:
    """The number at a reference; None where there is none."""
    error = c_int(0)
    value = lib.IedConnection_readObject(connection, byref(error), reference.encode(), constraint)
    if error.value in library.LINK_ERRORS:
        raise LinkLostError
    number = Values(lib).number(value)
    if value:
        lib.MmsValue_delete(value)
    return number


def associate(lib: ctypes.CDLL, host: str, port: int) -> dict[str, Any]:
    """What the device at the address offers, or why nobody knows."""
    connection, error = lib.IedConnection_create(), c_int(0)
    lib.IedConnection_setConnectTimeout(connection, TIMEOUT_MS)
    lib.IedConnection_setRequestTimeout(connection, TIMEOUT_MS)
    lib.IedConnection_connect(connection, byref(error), host.encode(), port)
    if error.value != 0:
        return {"error": f"no association (error {error.value})"}
    try:
        found = browse(lib, connection)
    except LinkLostError:
        return {"error": "the device does not answer"}
    return found if found["objects"] else {"error": "the device shows no objects"}


def main() -> None:
    """Associate, browse, print, and go."""
    lib = library.load_library()
    result: dict[str, Any] = {}
    for attempt in range(TRIES):
        time.sleep(PAUSE_S if attempt else 0.0)
        result = associate(lib, sys.argv[1], int(sys.argv[2]))
        # The first request after an association fails now and then.
        if "objects" in result or "no association" in result["error"]:
            break
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    # The library's threads are not worth waiting for.
    os._exit(0)


if __name__ == "__main__":
    main()
