"""SunSpec devices in ranges of addresses: who answers on a Modbus port with a chain of models."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from control_loop.discovery.found import Found
from control_loop.protocols.base import DriverError
from control_loop.protocols.modbus_line import TcpLine
from control_loop.protocols.sunspec import SunSpecDriver
from flexergy_pipelines.grid.templates import load_template

AT_ONCE = 64
INVERTERS = {101, 102, 103, 111, 112, 113, 701}
LIMITS = {123, 704}
STORAGE = {713, 802}
METERS = {201, 202, 203, 204, 211, 212, 213, 214}
DER_CONTROLS = {701, 702, 704, 713}


def template_for(models: Sequence[int]) -> str | None:
    """Template that fits a device's models; None when none does."""
    has = set(models)
    if has >= DER_CONTROLS:
        return "sunspec_storage"
    if has & INVERTERS and has & LIMITS and not has & STORAGE:
        return "sunspec_inverter"
    return "sunspec_meter" if has & METERS and not has & (INVERTERS | STORAGE) else None


async def probe(host: str, port: int, unit: int, timeout_s: float) -> Found | None:
    """The SunSpec device at one address, if there is one."""
    template = load_template("sunspec_inverter")
    line = TcpLine(lambda: (host, port))
    driver = SunSpecDriver(
        "probe", line, template, ["probe"], {"probe": template.quantities}, unit_id=unit, timeout_s=timeout_s
    )
    try:
        device, rated_kw = await driver.identify()
    except DriverError:
        return None
    finally:
        await driver.close()
    models = [place.model for place in device.chain]
    identity: dict[str, Any] = {**device.identity, "models": models}
    if rated_kw is not None:
        identity["rated_kw"] = round(rated_kw, 3)
    return Found("modbus_tcp", f"{host}:{port} unit {unit}", identity, template_for(models))


async def scan(hosts: Sequence[str], ports: Sequence[int], units: Sequence[int], timeout_s: float = 1.0) -> list[Found]:
    """SunSpec devices at any of the addresses.

    Parameters
    ----------
    hosts, ports, units : sequences
        Every combination is tried; further units only where a port is open.
    timeout_s : float
        Patience with each answer [s].
    """
    free = asyncio.Semaphore(AT_ONCE)

    async def at(host: str, port: int) -> list[Found]:
        async with free:
            if not await _is_open(host, port, timeout_s):
                return []
            found = [await probe(host, port, unit, timeout_s) for unit in units]
        return [item for item in found if item is not None]

    results = await asyncio.gather(*(at(host, port) for host in hosts for port in ports))
    return [item for result in results for item in result]


async def _is_open(host: str, port: int, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
