"""One device asked what it offers: IEC 61850 by browsing, IEC 60870-5-104 by interrogation, DLMS by its association."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from control_loop.discovery.found import Found, SearchError
from control_loop.protocols.scl import object_points
from flexergy_pipelines.metering.dlms import ASSOCIATION, ASSOCIATION_OBIS, DATA, DlmsClient, MeterRefusal
from flexergy_pipelines.metering.keys import Credentials

PATIENCE_S = 30.0
LOGICAL_NAME_OBIS, SERIAL_OBIS = "0.0.42.0.0.255", "0.0.96.1.0.255"
LISTED = 400
"""Objects that a proposal lists; what a device has beyond them is counted."""


async def browse_iec61850(host: str, port: int) -> Found:
    """An IEC 61850 device with its data objects; those whose names tell a quantity come as points of a connection.

    Raises
    ------
    SearchError
        There is no such device; says why.
    """
    told = await _child("control_loop.discovery.iec61850_browser", host, str(port)) or {
        "error": "it could not be browsed"
    }
    if "objects" not in told:
        raise SearchError(f"{host}:{port}: {told['error']}")
    objects: dict[str, Any] = told["objects"]
    points = object_points(
        (p["quantity"], p["reference"], p["kind"], p["scale"], p["commanded"]) for p in told["points"]
    )
    identity = {
        "logical_devices": sorted({name.partition("/")[0] for name in objects}),
        "objects": list(objects)[:LISTED],
        "commanded": [name for name, item in objects.items() if item["commanded"]][:LISTED],
        "count": len(objects),
        "reports": told["reports"],
        "points": points,
    }
    return Found("iec61850", f"{host}:{port} unit 1", identity, _template_for(points))


def _template_for(points: Sequence[Mapping[str, Any]]) -> str | None:
    """Template that fits what a device shows and takes; None when it shows no power."""
    shown = {point["quantity"] for point in points}
    taken = {point["quantity"] for point in points if "write" in point}
    if "active_power_kw" not in shown:
        return None
    if "active_power_setpoint_kw" in taken:
        return "generic_esc" if "soc" in shown else "generic_genset_controller"
    if "active_power_limit_kw" in taken:
        return "generic_pv_controller" if "reactive_power_setpoint_kvar" in taken else "generic_res_controller"
    return "generic_esc" if "soc" in shown else "generic_meter"


async def interrogate_iec104(
    host: str, port: int, common_address: int | None = None, seconds: float = 10.0
) -> list[Found]:
    """Stations of IEC 60870-5-104 with the information objects of their interrogation.

    Parameters
    ----------
    common_address : int, optional
        Of the station; by default all are asked that are behind the address.

    Raises
    ------
    SearchError
        There is a station, which does not know the common address or refuses.
    """
    everybody = 65_535
    asked = everybody if common_address is None else common_address
    told = await _child(
        "control_loop.discovery.iec104_browser", host, str(port), str(asked), str(min(seconds, PATIENCE_S))
    )
    if told is None or not told["open"]:
        return []
    found: list[Found] = []
    refusals: list[str] = []
    for station, heard in told["stations"].items():
        objects: dict[str, Any] = heard["objects"]
        listed = {f"{'/'.join(i['types'])}:{number}": i["value"] for number, i in list(objects.items())[:LISTED]}
        if objects:
            identity = {"objects": listed, "count": len(objects)}
            found.append(Found("iec104", f"{host}:{port} unit {station}", identity, None))
        elif heard["refusal"]:
            refusals.append(f"common address {'of all' if int(station) == everybody else station}: {heard['refusal']}")
    if refusals and not found:
        raise SearchError(f"{host}:{port}: {'; '.join(refusals)}")
    return found


async def associate_dlms(host: str, port: int, credentials: Credentials, timeout_s: float = 5.0) -> Found:
    """A DLMS meter with its name, serial number and, where it shows them, the objects of the association.

    Raises
    ------
    MeterError
        There is none, or it refuses these credentials.
    """
    identity: dict[str, Any] = {}
    async with DlmsClient(host, port, credentials, timeout_s=timeout_s) as meter:
        for key, obis in (("name", LOGICAL_NAME_OBIS), ("serial", SERIAL_OBIS)):
            identity[key] = await _text(meter, obis)
        identity["objects"] = await _association(meter)
    has = set(identity["objects"])
    fits = not has or {"1.0.1.8.0.255", "1.0.1.7.0.255"} <= has
    return Found("dlms", f"{host}:{port} unit 1", identity, "generic_meter" if fits else None)


async def _text(meter: DlmsClient, obis: str) -> str | None:
    try:
        value = await meter.get(DATA, obis)
    except MeterRefusal:
        return None
    if isinstance(value, bytes):
        text = value.rstrip(b"\0").decode("ascii", "replace")
        return text if text.isprintable() and "\ufffd" not in text else value.hex()
    return None if value is None else str(value)


async def _association(meter: DlmsClient) -> list[str]:
    """Logical names of the objects that the association shows; empty where the meter does not tell."""
    try:
        rows = await meter.get(ASSOCIATION, ASSOCIATION_OBIS)
    except MeterRefusal:
        return []
    names = [row[2] for row in rows if isinstance(row, list) and len(row) > 2] if isinstance(rows, list) else []
    return [".".join(map(str, name)) for name in names if isinstance(name, bytes) and len(name) == 6]


async def _child(module: str, *arguments: str) -> dict[str, Any] | None:
    """What a process of its own tells in its last line: the libraries may crash or hang it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S + 10.0)
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    lines = output.decode().strip().splitlines()
    if process.returncode != 0 or not lines:
        return None
    return json.loads(lines[-1])
