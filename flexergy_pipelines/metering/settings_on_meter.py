"""Settings of a DLMS/COSEM meter: its clock and the capture period of its load profile, read and written.

References
----------
DLMS UA, "COSEM interface classes and OBIS identification system" (Blue Book): class 8 (clock) attribute 2, class 7
(profile) attribute 4. Changing a profile's capture period empties its buffer (class 7).
"""

from __future__ import annotations

from datetime import datetime, tzinfo

from flexergy_pipelines.metering.axdr import OCTETS
from flexergy_pipelines.metering.cosem_time import read_time, write_time
from flexergy_pipelines.metering.dlms import CLOCK, CLOCK_OBIS, PROFILE, PROFILE_OBIS, DlmsClient, MeterError

_TIME, _PERIOD = 2, 4
_UNSIGNED_32 = 0x06


async def read_clock(meter: DlmsClient) -> datetime:
    """What the meter's clock shows, in UTC; without deviation it counts as local time of the meter's zone.

    Raises
    ------
    MeterError
        No answer, a refusal, or no readable time.
    """
    raw = await meter.get(CLOCK, CLOCK_OBIS, _TIME)
    try:
        return read_time(bytes(raw), meter.zone).time
    except (TypeError, ValueError) as error:
        raise MeterError(f"{CLOCK_OBIS}: the clock shows no readable time: {error}") from error


async def set_clock(meter: DlmsClient, time: datetime, zone: tzinfo) -> None:
    """Set the meter's clock to `time` (aware), told as local time of `zone` with its deviation from UTC.

    Raises
    ------
    MeterError
        No answer, or a refusal.
    """
    content = write_time(time.astimezone(zone))
    await meter.set(CLOCK, CLOCK_OBIS, _TIME, bytes([OCTETS, len(content)]) + content)


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
