"""Dates and times as DLMS/COSEM meters write them: local time with, or without, its deviation from UTC.

References
----------
DLMS UA, "COSEM interface classes and OBIS identification system" (Blue Book), 4.1.6.1: date-time; deviation is in
minutes from local time to UTC (-60 in central Europe in winter), 0x8000 says that it is not specified; bit 7 of the
clock status says that daylight saving is active.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

LENGTH: Final = 12
_NO_DEVIATION: Final = -0x8000
_LARGEST_DEVIATION_MIN: Final = 960
_SUMMER, _INVALID, _DOUBTFUL = 0x80, 0x01, 0x02
_NO_STATUS: Final = 0xFF
_ANY: Final = 0xFF


@dataclass(frozen=True, slots=True)
class MeterTime:
    """A moment as a meter told it.

    Attributes
    ----------
    time : datetime
        UTC.
    deviation : timedelta or None
        From UTC to the local time in which it was told; None where the meter left that open.
    reliable : bool
        Whether the meter vouches for it: its clock is neither invalid nor doubtful.
    """

    time: datetime
    deviation: timedelta | None
    reliable: bool = True


def read_time(raw: bytes, zone: tzinfo, after: datetime | None = None) -> MeterTime:
    """A date and time of 12 bytes.

    Parameters
    ----------
    raw : bytes
        As it came.
    zone : tzinfo
        Time zone of the meter, for times without deviation.
    after : datetime, optional
        Aware; of the two moments that an hour repeated in autumn may mean, where the clock's status does not tell
        either, the first that comes after this.

    Raises
    ------
    ValueError
        It is no date and time, or a part of it is left open.
    """
    if len(raw) != LENGTH:
        raise ValueError(f"a date and time has {LENGTH} bytes, not {len(raw)}")
    year, month, day = int.from_bytes(raw[:2], "big"), raw[2], raw[3]
    hour, minute, second, hundredths = (
        0 if part == _ANY and place > 1 else part for place, part in enumerate(raw[5:9])
    )
    deviation, status = int.from_bytes(raw[9:11], "big", signed=True), raw[11]
    local = datetime(year, month, day, hour, minute, second, 10_000 * min(hundredths, 99))  # noqa: DTZ001 - made so
    reliable = status == _NO_STATUS or not status & (_INVALID | _DOUBTFUL)
    if deviation != _NO_DEVIATION:
        if abs(deviation) > _LARGEST_DEVIATION_MIN:
            raise ValueError(f"a deviation of {deviation} min is none")
        ahead = timedelta(minutes=-deviation)
        return MeterTime((local - ahead).replace(tzinfo=UTC), ahead, reliable)
    first, second_time = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    late = after is not None and first <= after if status == _NO_STATUS else not status & _SUMMER
    repeated = first < second_time  # in spring it is the other way round, for an hour that does not exist
    return MeterTime(second_time if repeated and late else first, None, reliable)


def write_time(time: datetime, *, with_deviation: bool = True) -> bytes:
    """A date and time of 12 bytes.

    Parameters
    ----------
    time : datetime
        Aware; told as it is, in its own zone.
    with_deviation : bool
        Whether its deviation from UTC is told as well.
    """
    offset = time.utcoffset() or timedelta()
    minutes = -round(offset.total_seconds() / 60) if with_deviation else _NO_DEVIATION
    return (
        time.year.to_bytes(2, "big")
        + bytes([time.month, time.day, time.isoweekday(), time.hour, time.minute, time.second])
        + bytes([time.microsecond // 10_000])
        + minutes.to_bytes(2, "big", signed=True)
        + bytes([_SUMMER if time.dst() else 0])
    )


def zone_shown(shown: MeterTime, zone: tzinfo) -> tzinfo:
    """The zone in which a meter tells times: its site's where that fits its clock, else a fixed deviation from UTC."""
    if shown.deviation is None or shown.time.astimezone(zone).utcoffset() == shown.deviation:
        return zone
    return timezone(shown.deviation)
