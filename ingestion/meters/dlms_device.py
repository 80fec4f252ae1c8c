"""Reading a DLMS/COSEM meter: its present values (S21 and registers), and its load profile (S29) of a period."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from flexergy_pipelines.metering.dlms import PROFILE_OBIS, DlmsClient, Measured, MeterError
from ingestion.meters.catalogue import REGISTERS, S21, by_name, platform_values
from ingestion.meters.device import DeviceError, DeviceReading

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Device
    from flexergy_pipelines.metering.keys import Credentials

INSTANT = (*S21, *REGISTERS)
_TOTALS = {"16.7.0": "active_power_kw", "3.7.0": "reactive_power_kvar", "14.7.0": "frequency_hz"}
"""Totals that meters give beside the phases; used where a phase is missing."""


@dataclass(frozen=True, slots=True)
class ProfileReading:
    """What a load profile held.

    Attributes
    ----------
    rows : tuple
        (asset, quantity, start of the interval, value in the point's unit).
    period_s : int
        Length of an interval [s].
    expected, received : int
        Intervals of the period asked for, and those that came.
    latency_s : float
        From connecting to the last answer [s].
    """

    rows: tuple[tuple[str, str, datetime, float], ...]
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
    values = {item.code: found.value for item in INSTANT if (found := objects[f"1.0.{item.obis}.255"]) is not None}
    quantities = platform_values(values, 1.0)
    for obis, quantity in _TOTALS.items():
        total = totals[f"1.0.{obis}.255"]
        if total is not None:
            quantities.setdefault(quantity, total.value)
    wanted = [*platform_values({item.code: 0.0 for item in INSTANT}, 1.0), _TOTALS["14.7.0"]]
    answered: dict[tuple[str, str], float | None] = {(asset_id, name): quantities.get(name) for name in wanted}
    return DeviceReading(answered, time.monotonic() - began)


async def read_profile(
    device: Device, host: str, port: int, timeout_s: float, credentials: Credentials, *, start: datetime, end: datetime
) -> ProfileReading:
    """The meter's load profile of the intervals that begin in [start, end).

    Raises
    ------
    DeviceError
        It cannot be reached, refuses, or has no load profile.
    """
    asset_id = _asset_of(device)
    began = time.monotonic()
    try:
        async with DlmsClient(host, port, credentials, timeout_s=timeout_s) as meter:
            profile = await meter.profile(PROFILE_OBIS, start + timedelta(seconds=1), end + timedelta(days=1))
    except MeterError as error:
        raise DeviceError(f"{device.id}: {error}") from error
    if profile.period_s <= 0:
        raise DeviceError(f"{device.id}: the load profile has a period of {profile.period_s} s")
    rows: list[tuple[str, str, datetime, float]] = []
    received = 0
    for stamp, measured in profile.rows:
        begin = stamp.astimezone(UTC) - timedelta(seconds=profile.period_s)
        if not start <= begin < end:
            continue
        quantities = platform_values(_by_code(profile.obis, measured), profile.period_s)
        received += bool(quantities)
        rows += [(asset_id, quantity, begin, value) for quantity, value in quantities.items()]
    expected = max(0, int((end - start).total_seconds() // profile.period_s))
    return ProfileReading(tuple(rows), profile.period_s, expected, min(received, expected), time.monotonic() - began)


def _by_code(obis: tuple[str, ...], measured: tuple[Measured | None, ...]) -> dict[str, float]:
    """Values by the catalogue's codes; what it does not know is left out."""
    found: dict[str, float] = {}
    for name, value in zip(obis, measured, strict=True):
        item = by_name(".".join(name.split(".")[2:5]))
        if item is not None and value is not None:
            found[item.code] = value.value
    return found


def _asset_of(device: Device) -> str:
    if not device.assets:
        raise DeviceError(f"{device.id}: measures no asset of the site")
    return device.assets[0].id
