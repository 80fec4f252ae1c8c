"""Any object of a DLMS/COSEM meter, read when somebody asks: what it lists, and what an attribute of it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flexergy_pipelines.metering.cosem_time import LENGTH, read_time
from flexergy_pipelines.metering.dlms import (
    ASSOCIATION,
    ASSOCIATION_OBIS,
    CLOCK,
    DEMAND_REGISTER,
    EXTENDED_REGISTER,
    REGISTER,
    DlmsClient,
    MeterError,
    MeterRefusal,
)
from ingestion.meters.device import DeviceError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from flexergy_pipelines.grid import Device
    from flexergy_pipelines.metering.keys import Credentials

OBIS: Final = re.compile(r"^(?:(\d{1,3})-(\d{1,3}):)?(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:[.*](\d{1,3}))?$")
_SIX: Final = re.compile(r"^\d{1,3}(\.\d{1,3}){5}$")
_REGISTERS: Final = frozenset({REGISTER, EXTENDED_REGISTER, DEMAND_REGISTER})
_VALUE: Final = 2
_NAME_BYTES: Final = 6
"""Length of a logical name."""


@dataclass(frozen=True, slots=True)
class ObjectValue:
    """An attribute of an object: a number with its unit, a time, a text, or what else the meter tells.

    Attributes
    ----------
    interface : int
        Class of the object.
    """

    obis: str
    interface: int
    attribute: int
    value: Any
    unit: str


def full_name(name: str) -> str:
    """An OBIS identifier with all of its six groups: ``1.7.0``, ``1-0:1.7.0`` and ``1.0.1.7.0.255`` are the same.

    Raises
    ------
    ValueError
        It is none.
    """
    match = OBIS.match(name.strip())
    if match:
        medium, channel, *middle, last = match.groups()
        groups = [medium or "1", channel or "0", *middle, last or "255"]
    elif _SIX.match(name.strip()):
        groups = name.strip().split(".")
    else:
        raise ValueError(f"{name}: is no OBIS identifier, such as 1-0:1.7.0 or 1.0.1.7.0.255")
    if any(int(group) > 255 for group in groups):
        raise ValueError(f"{name}: a group of an OBIS identifier is 0 to 255")
    return ".".join(str(int(group)) for group in groups)


async def list_objects(
    device: Device, host: str, port: int, timeout_s: float, credentials: Credentials
) -> list[tuple[int, str]]:
    """Class and logical name of every object that the meter's association shows.

    Raises
    ------
    DeviceError
        It cannot be reached, or does not tell.
    """
    try:
        async with DlmsClient(host, port, credentials, timeout_s=timeout_s) as meter:
            return await _objects(meter)
    except MeterError as error:
        raise DeviceError(f"{device.id}: {error}") from error


async def read_object(  # noqa: PLR0917 - whom to ask, and for what
    device: Device,
    host: str,
    port: int,
    timeout_s: float,
    credentials: Credentials,
    obis: str,
    *,
    zone: ZoneInfo,
    interface: int | None = None,
    attribute: int = _VALUE,
) -> ObjectValue:
    """What an attribute of an object holds now.

    Parameters
    ----------
    obis : str
        All six groups.
    zone : ZoneInfo
        Of the meter, for times without deviation from UTC.
    interface : int, optional
        Class of the object; as the meter lists it when left out, else a register.

    Raises
    ------
    DeviceError
        It cannot be reached, or refuses.
    """
    try:
        async with DlmsClient(host, port, credentials, timeout_s=timeout_s, zone=zone) as meter:
            if interface is None:
                interface = await _class_of(meter, obis)
            if attribute == _VALUE and interface in _REGISTERS:
                number = await meter.read(obis, interface)
                return ObjectValue(obis, interface, attribute, number.value, number.unit)
            raw = await meter.get(interface, obis, attribute)
    except MeterError as error:
        raise DeviceError(f"{device.id}: {error}") from error
    return ObjectValue(obis, interface, attribute, told(raw, zone, is_time=interface == CLOCK), "")


async def _objects(meter: DlmsClient) -> list[tuple[int, str]]:
    rows = await meter.get(ASSOCIATION, ASSOCIATION_OBIS)
    return [
        (row[0], ".".join(map(str, row[2])))
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, list) and len(row) > 2 and isinstance(row[0], int) and isinstance(row[2], bytes)
    ]


async def _class_of(meter: DlmsClient, obis: str) -> int:
    try:
        listed = {name: interface for interface, name in await _objects(meter)}
    except MeterRefusal:
        return REGISTER
    return listed.get(obis, REGISTER)


def told(raw: Any, zone: ZoneInfo, *, is_time: bool = False) -> Any:
    """An attribute's value for people: times as ISO text, bytes as text, logical name or hexadecimal digits."""
    if isinstance(raw, list):
        return [told(item, zone, is_time=is_time) for item in raw]
    if not isinstance(raw, bytes):
        return raw
    if is_time and len(raw) == LENGTH:
        try:
            return read_time(raw, zone).time.astimezone(zone).isoformat()
        except ValueError:
            return raw.hex()
    text = raw.decode("ascii", "replace")
    if text and text.isprintable() and "\ufffd" not in text:
        return text
    return ".".join(map(str, raw)) if len(raw) == _NAME_BYTES else raw.hex()
