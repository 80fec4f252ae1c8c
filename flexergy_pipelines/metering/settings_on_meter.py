"""Settings of a DLMS/COSEM meter: its clock and the capture period of its load profile, read and written.

References
----------
DLMS UA, "COSEM interface classes and OBIS identification system" (Blue Book): class 8 (clock) attribute 2, class 7
(profile) attribute 4; date and time 4.1.6.1. Changing a profile's capture period empties its buffer (class 7).
"""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from flexergy_pipelines.metering.dlms import CLOCK, CLOCK_OBIS, PROFILE, PROFILE_OBIS, DlmsClient, MeterError

_TIME, _PERIOD = 2, 4
_OCTETS, _UNSIGNED_32 = 0x09, 0x06


async def read_clock(meter: DlmsClient) -> datetime:
    """What the meter's clock shows, in UTC; a clock without deviation counts as UTC.

    Raises
    ------
    MeterError
        No answer, a refusal, or no readable time.
    """
    from dlms_cosem.time import datetime_from_bytes

    raw = await meter.get(CLOCK, CLOCK_OBIS, _TIME)
    try:
        shown, _ = datetime_from_bytes(bytes(raw))
    except (TypeError, ValueError) as error:
        raise MeterError(f"{CLOCK_OBIS}: the clock shows no readable time") from error
    return shown.replace(tzinfo=UTC) if shown.tzinfo is None else shown.astimezone(UTC)


async def set_clock(meter: DlmsClient, time: datetime, zone: ZoneInfo) -> None:
    """Set the meter's clock to `time` (aware), told as local time of `zone` with its deviation from UTC.

    Raises
    ------
    MeterError
        No answer, or a refusal.
    """
    from dlms_cosem.time import ClockStatus, datetime_to_bytes

    local = time.astimezone(zone)
    content = datetime_to_bytes(local, ClockStatus(daylight_saving_active=bool(local.dst())))
    await meter.set(CLOCK, CLOCK_OBIS, _TIME, bytes([_OCTETS, len(content)]) + content)


async def read_capture_period(meter: DlmsClient) -> int:
    """Length of an interval of the load profile [s].

    Raises
    ------
    MeterError
        No answer, a refusal, or no number.
    """
    raw = await meter.get(PROFILE, PROFILE_OBIS, _PERIOD)
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise MeterError(f"{PROFILE_OBIS}: the capture period is no number")
    return raw


async def set_capture_period(meter: DlmsClient, seconds: int) -> None:
    """Set the length of an interval of the load profile [s]; the meter empties its profile.

    Raises
    ------
    MeterError
        No answer, or a refusal.
    """
    await meter.set(PROFILE, PROFILE_OBIS, _PERIOD, bytes([_UNSIGNED_32]) + seconds.to_bytes(4, "big"))
