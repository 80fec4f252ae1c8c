"""Reading a DLMS/COSEM meter: its present values (S21 and registers), and its load profile (S29) of a period."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flexergy_pipelines.metering import load_profile
from flexergy_pipelines.metering.dlms import PROFILE_OBIS, DlmsClient, Measured, MeterError
from ingestion.meters.catalogue import REGISTERS, S21, by_name, platform_values
from ingestion.meters.device import DeviceError, DeviceReading

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from flexergy_pipelines.grid import Device
    from flexergy_pipelines.metering.keys import Credentials

INSTANT = (*S21, *REGISTERS)
_TOTALS = {
    "16.7.0": ("active_power_kw", "kW"), "3.7.0": ("reactive_power_kvar", "kvar"), "14.7.0": ("frequency_hz", "Hz"),
}  # fmt: skip
"""Totals that meters give beside the phases; used where a phase is missing."""
_INCREMENTS = {"AI": "AIi", "AE": "AEi"}
_COUNTERS = frozenset({"import_energy_kwh", "export_energy_kwh"})


_NOT_VALID = {"idis": 0b0000_0111, "ree": 0b1000_0000}
"""Bits of a status word that say that an entry is not to be trusted.

IDIS: critical error, clock invalid, data not valid. REE (meters of the PRIME family): invalid.
"""
_GOOD, _SUSPECT = 0, 1


@dataclass(frozen=True, slots=True)
class ProfileRow:
    """A value of a load profile.

    Attributes
    ----------
    time : datetime
        Start of the interval of a mean; when a counter was read.
    value : float
        In the point's unit.
    quality : int
        0 good; 1 suspect, where the meter itself says that the entry is not valid.
    """

    asset_id: str
    quantity: str
    time: datetime
    value: float
    quality: int = _GOOD


@dataclass(frozen=True, slots=True)
class ProfileReading:
    """What a load profile held.

    Attributes
    ----------
    rows : tuple of ProfileRow
        Means over intervals.
    counters : tuple of ProfileRow
        Counters as they stood at the ends of intervals.
    period_s : int
        Length of an interval [s].
    expected, received : int
        Intervals of the period asked for, and those that came and are valid.
    latency_s : float
        From connecting to the last answer [s].
    """

    rows: tuple[ProfileRow, ...]
    counters: tuple[ProfileRow, ...]
    period_s: int
    expected: int
    received: int
    latency_s: float


async def read_instant(
    device: Device, host: str, port: int, timeout_s: float, credentials: Credentials
) -> DeviceReading:
    """Present values of a meter as quantities of the asset it measures.

    Raises
    ------
    DeviceError
        It cannot be reached, or refuses.
    """
    asset_id = _asset_of(device)
    began = time.monotonic()
    try:
        async with DlmsClient(host, port, credentials, timeout_s=timeout_s) as meter:
            objects = await meter.read_many([f"1.0.{item.obis}.255" for item in INSTANT])
            totals = await meter.read_many([f"1.0.{obis}.255" for obis in _TOTALS])
    except MeterError as error:
        raise DeviceError(f"{device.id}: {error}") from error
    values = _by_code(tuple(objects), tuple(objects.values()))
    quantities = platform_values(values, 1.0)
    for obis, (quantity, unit) in _TOTALS.items():
        total = totals[f"1.0.{obis}.255"]
        if total is not None and total.unit == unit:
            quantities.setdefault(quantity, total.value)
    wanted = [*platform_values({item.code: 0.0 for item in INSTANT}, 1.0), _TOTALS["14.7.0"][0]]
    answered: dict[tuple[str, str], float | None] = {(asset_id, name): quantities.get(name) for name in wanted}
    return DeviceReading(answered, time.monotonic() - began)


async def read_profile(
    device: Device,
    host: str,
    port: int,
    timeout_s: float,
    credentials: Credentials,
    *,
    start: datetime,
    end: datetime,
    zone: ZoneInfo,
) -> ProfileReading:
    """The meter's load profile of the intervals that begin in [start, end).

    Parameters
    ----------
    zone : ZoneInfo
        Of the meter, for stamps without deviation from UTC.

    Raises
    ------
    DeviceError
        It cannot be reached, refuses, or has no load profile.

    Notes
    -----
    Where the profile holds counters only, the means follow from their differences over whole intervals.
    """
    asset_id = _asset_of(device)
    began = time.monotonic()
    try:
        async with DlmsClient(host, port, credentials, timeout_s=timeout_s, zone=zone) as meter:
            name = device.connection.load_profile or PROFILE_OBIS
            profile = await load_profile.read_profile(meter, name, start, end + timedelta(days=1))
    except MeterError as error:
        raise DeviceError(f"{device.id}: {error}") from error
    if profile.period_s <= 0:
        raise DeviceError(f"{device.id}: the load profile has a period of {profile.period_s} s")
    period = timedelta(seconds=profile.period_s)
    not_valid = _NOT_VALID.get(device.connection.profile_status or "", 0)
    rows: list[ProfileRow] = []
    counters: list[ProfileRow] = []
    before: tuple[datetime, dict[str, float]] | None = None
    received = 0
    for (stamp, measured), status in zip(profile.rows, profile.statuses, strict=True):
        values = _by_code(profile.obis, measured)
        quality = _SUSPECT if not_valid & (status or 0) else _GOOD
        follows = before is not None and stamp - before[0] == period
        increments = values | (_moved(before[1], values) if before is not None and follows else {})
        before = stamp, values
        begin = stamp - period
        if not start <= begin < end:
            continue
        quantities = platform_values(increments, profile.period_s)
        received += bool(quantities) and quality == _GOOD
        for quantity, value in quantities.items():
            of, when = (counters, stamp) if quantity in _COUNTERS else (rows, begin)
            of.append(ProfileRow(asset_id, quantity, when, value, quality))
    expected = max(0, int((end - start).total_seconds() // profile.period_s))
    latency_s = time.monotonic() - began
    return ProfileReading(tuple(rows), tuple(counters), profile.period_s, expected, min(received, expected), latency_s)


def _moved(before: dict[str, float], values: dict[str, float]) -> dict[str, float]:
    """Increments between two readings of counters; none of one that went back, or that the meter tells itself."""
    return {
        increment: values[counter] - before[counter]
        for counter, increment in _INCREMENTS.items()
        if increment not in values and counter in values and counter in before and values[counter] >= before[counter]
    }


def _by_code(obis: tuple[str, ...], measured: tuple[Measured | None, ...]) -> dict[str, float]:
    """Values by the catalogue's codes; what it does not know, or has another unit, is left out."""
    found: dict[str, float] = {}
    for name, value in zip(obis, measured, strict=True):
        item = by_name(".".join(name.split(".")[2:5]))
        if item is not None and value is not None and value.unit == item.unit:
            found[item.code] = value.value
    return found


def _asset_of(device: Device) -> str:
    if not device.assets:
        raise DeviceError(f"{device.id}: measures no asset of the site")
    return device.assets[0].id
