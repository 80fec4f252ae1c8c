"""Reading a meter itself, when somebody asks or a bulk job comes round: all its values, over Modbus TCP."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Device
    from flexergy_pipelines.grid.templates import TemplatePoint

PROTOCOL = "modbus_tcp"
_MOST_REGISTERS = 120
_LARGEST_GAP = 8


class DeviceError(Exception):
    """The device gave no values; the message says why."""


class UnreadableError(DeviceError):
    """The device speaks a protocol that is not read on request; trying again is of no use."""


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What one device answered.

    Attributes
    ----------
    values : dict
        (asset, quantity) → value in the point's unit; None where the device says it has none.
    latency_s : float
        From connecting to the last answer [s].
    """

    values: dict[tuple[str, str], float | None] = field(default_factory=dict)
    latency_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Span:
    """Neighbouring registers of one table, read by one request."""

    table: str
    address: int
    count: int


def readable_points(device: Device) -> list[tuple[tuple[str, str], TemplatePoint]]:
    """The measured values of a device: (asset, quantity) and where they stand.

    Raises
    ------
    DeviceError
        When the device speaks another protocol than Modbus TCP.
    """
    from flexergy_pipelines.grid import load_template

    if device.connection.protocol != PROTOCOL:
        known = f"{PROTOCOL} and dlms"
        raise UnreadableError(f"{device.id} speaks {device.connection.protocol}; only {known} are read on request")
    template = load_template(device.connection.template)
    return [
        ((asset.id, point.quantity), template.point(point.quantity, index))
        for index, asset in enumerate(device.assets)
        for point in template.points
        if not point.writable
    ]


async def read_device(device: Device, host: str, port: int, timeout_s: float) -> DeviceReading:
    """Read every measured value of a device once.

    Parameters
    ----------
    device : Device
        What is read.
    host, port : str, int
        Where it is.
    timeout_s : float
        Longest wait for connecting and for each answer [s].

    Raises
    ------
    DeviceError
        When it cannot be reached, refuses, or answers with another number of registers than asked for.
    """
    from pymodbus.client import AsyncModbusTcpClient
    from pymodbus.exceptions import ModbusException

    from flexergy_pipelines.grid import decode

    points = readable_points(device)
    began = time.monotonic()
    # The library's own retries would keep a dead meter's slot for ten seconds; the job has its own.
    client = AsyncModbusTcpClient(host, port=port, timeout=timeout_s, retries=0, reconnect_delay=0)
    registers: dict[tuple[str, int], int] = {}
    try:
        if not await asyncio.wait_for(client.connect(), timeout_s):
            raise DeviceError(f"{device.id}: no connection to {host}:{port}")
        for span in _spans([point for _, point in points]):
            read: Any = client.read_holding_registers if span.table == "holding" else client.read_input_registers
            answer = await read(span.address, count=span.count, device_id=device.connection.unit_id)
            if answer.isError() or len(answer.registers) != span.count:
                raise DeviceError(f"{device.id}: refused {span.table} registers {span.address}+{span.count}")
            registers |= {(span.table, span.address + i): word for i, word in enumerate(answer.registers)}
    except (ModbusException, TimeoutError, OSError) as error:
        raise DeviceError(f"{device.id}: no answer from {host}:{port} within {timeout_s:g} s") from error
    finally:
        client.close()
    values = {
        key: decode(point, [registers[point.table, point.address + i] for i in range(point.width)])
        for key, point in points
    }
    return DeviceReading(values, time.monotonic() - began)


def _spans(points: list[TemplatePoint]) -> list[_Span]:
    spans: list[_Span] = []
    for point in sorted(points, key=lambda item: (item.table, item.address)):
        last = spans[-1] if spans else None
        end = point.address + point.width
        if (
            last is not None
            and last.table == point.table
            and point.address - (last.address + last.count) <= _LARGEST_GAP
            and end - last.address <= _MOST_REGISTERS
        ):
            spans[-1] = _Span(last.table, last.address, max(last.count, end - last.address))
        else:
            spans.append(_Span(point.table, point.address, point.width))
    return spans
