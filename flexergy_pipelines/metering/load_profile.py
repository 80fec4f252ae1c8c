"""Load profiles of DLMS/COSEM meters: by range of time, by entry where a meter does not select by range, or whole.

References
----------
DLMS UA, "COSEM interface classes and OBIS identification system" (Blue Book): class 7 (profile generic), attributes 2
to 7 and selective access by range (1) and by entry (2); 6.2.x status objects 0-b:96.10.e.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from flexergy_pipelines.metering.axdr import ARRAY, OCTETS, STRUCTURE
from flexergy_pipelines.metering.cosem_time import read_time, write_time, zone_shown
from flexergy_pipelines.metering.dlms import (
    CLOCK,
    CLOCK_OBIS,
    DATA,
    DEMAND_REGISTER,
    EXTENDED_REGISTER,
    PROFILE,
    REGISTER,
    DlmsClient,
    Measured,
    MeterError,
    MeterRefusal,
    measured,
)

_BUFFER, _COLUMNS, _PERIOD, _ENTRIES_IN_USE = 2, 3, 4, 7
_BY_RANGE, _BY_ENTRY = 1, 2
_LONG_UNSIGNED, _DOUBLE_LONG_UNSIGNED, _INTEGER = 18, 6, 15
_SECONDS: Final = "0.0.1.1.0.255"
"""Clock as seconds since 1970."""
_STATUS: Final = "96.10"
"""Groups C and D of status words."""
_REGISTERS: Final = frozenset({REGISTER, EXTENDED_REGISTER, DEMAND_REGISTER})
_ENTRIES_AT_ONCE: Final = 200
_SLACK: Final = timedelta(hours=2)
"""How much more is asked for where an hour of local time may be told twice."""


@dataclass(frozen=True, slots=True)
class Column:
    """What a column of a profile holds: an attribute of an object, or one element of it (`index`, 0: all of it)."""

    interface: int
    obis: str
    attribute: int
    index: int

    def encoded(self) -> bytes:
        """As a capture object of the protocol."""
        groups = bytes(int(group) for group in self.obis.split("."))
        return (
            bytes([STRUCTURE, 4, _LONG_UNSIGNED])
            + self.interface.to_bytes(2, "big")
            + bytes([OCTETS, 6])
            + groups
            + bytes([_INTEGER])
            + self.attribute.to_bytes(1, "big", signed=True)
            + bytes([_LONG_UNSIGNED])
            + self.index.to_bytes(2, "big")
        )

    @property
    def is_stamp(self) -> bool:
        """Whether it tells when."""
        return self.interface == CLOCK or (self.interface == DATA and self.obis == _SECONDS)

    @property
    def is_status(self) -> bool:
        """Whether it is a status word."""
        return ".".join(self.obis.split(".")[2:4]) == _STATUS

    @property
    def is_value(self) -> bool:
        """Whether it is a measured value."""
        last_average = self.interface == DEMAND_REGISTER and self.attribute == 3
        return self.interface in _REGISTERS and self.index == 0 and (self.attribute == _BUFFER or last_average)


@dataclass(frozen=True, slots=True)
class Profile:
    """Entries of a load profile.

    Attributes
    ----------
    obis : tuple of str
        Identifiers of the value columns.
    period_s : int
        Length of an interval [s]; 0 for a profile that is not written at a period.
    rows : tuple of (datetime, tuple)
        Stamp of each entry (aware; the *end* of its interval) and its values, None where there is none; oldest first.
    statuses : tuple of (int or None)
        Status word of each entry, as the meter tells it; None where the profile has none.
    """

    obis: tuple[str, ...]
    period_s: int
    rows: tuple[tuple[datetime, tuple[Measured | None, ...]], ...]
    statuses: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class ByRange:
    """Entries whose stamps lie between two moments, given in the protocol's encoding."""

    column: Column
    first: bytes
    last: bytes

    def to_bytes(self) -> bytes:
        """Selector and parameters; all columns."""
        return bytes([_BY_RANGE, STRUCTURE, 4]) + self.column.encoded() + self.first + self.last + bytes([ARRAY, 0])


@dataclass(frozen=True, slots=True)
class ByEntry:
    """Entries by number, from 1 on; `last` 0 means up to the highest there is."""

    first: int
    last: int

    def to_bytes(self) -> bytes:
        """Selector and parameters; all columns."""
        numbers = b"".join(
            bytes([_DOUBLE_LONG_UNSIGNED]) + number.to_bytes(4, "big") for number in (self.first, self.last)
        )
        columns = b"".join(bytes([_LONG_UNSIGNED]) + number.to_bytes(2, "big") for number in (1, 0))
        return bytes([_BY_ENTRY, STRUCTURE, 4]) + numbers + columns


async def read_profile(meter: DlmsClient, obis: str, start: datetime, end: datetime) -> Profile:
    """Entries of a load profile whose stamps lie between `start` and `end`, both included.

    Parameters
    ----------
    meter : DlmsClient
        An open association.
    obis : str
        Of the profile, such as ``1.0.99.1.0.255``.
    start, end : datetime
        Aware.

    Raises
    ------
    MeterError
        No answer, a refusal, or a profile that makes no sense.

    Notes
    -----
    A meter that does not select by range is asked by entries from the newest one back, one that does not do that either
    for all it has. Stamps without deviation are local time of the meter's zone.
    """
    columns = _columns(await meter.get(PROFILE, obis, _COLUMNS), obis)
    stamps = [place for place, column in enumerate(columns) if column.is_stamp]
    if not stamps:
        raise MeterError(f"{obis}: the profile has no clock among its columns")
    period_s = await meter.get(PROFILE, obis, _PERIOD)
    if isinstance(period_s, bool) or not isinstance(period_s, int):
        raise MeterError(f"{obis}: its capture period {period_s!r} is no number")
    reading = _Reading(meter, obis, columns, stamps[0], period_s, await _zone(meter))
    entries = await _entries(reading, start, end)
    values = [place for place, column in enumerate(columns) if column.is_value]
    status = next((place for place, column in enumerate(columns) if column.is_status), None)
    scales = {place: await meter.scale(columns[place].interface, columns[place].obis) for place in values}
    kept = {
        stamp: (tuple(measured(entry[place], *scales[place]) for place in values), _word(entry, status))
        for stamp, entry in entries
        if start <= stamp <= end
    }
    ordered = sorted(kept.items())
    return Profile(
        tuple(columns[place].obis for place in values),
        period_s,
        tuple((stamp, row) for stamp, (row, _) in ordered),
        tuple(word for _, (_, word) in ordered),
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is read: a profile, its columns, where its stamps stand and in which zone they are told."""

    meter: DlmsClient
    obis: str
    columns: Sequence[Column]
    stamp: int
    period_s: int
    zone: tuple[tzinfo, bool]

    def dated(self, entries: Any) -> list[tuple[datetime, list[Any]]]:
        """Entries with their stamps; one without follows the one before by a period (compressed profiles)."""
        if not isinstance(entries, list):
            raise MeterError(f"{self.obis}: its buffer is no list of entries")
        found: list[tuple[datetime, list[Any]]] = []
        for entry in entries:
            if not isinstance(entry, list) or len(entry) != len(self.columns):
                told = len(entry) if isinstance(entry, list) else "no"
                raise MeterError(f"{self.obis}: an entry has {told} values, the profile {len(self.columns)} columns")
            before = found[-1][0] if found else None
            found.append((self._moment(entry[self.stamp], before), entry))
        return found

    def _moment(self, raw: Any, before: datetime | None) -> datetime:
        if raw is None and before is not None:
            return before + timedelta(seconds=self.period_s)
        try:
            if isinstance(raw, bytes):
                return read_time(raw, self.zone[0], before).time
            if isinstance(raw, int) and not isinstance(raw, bool) and self.columns[self.stamp].interface == DATA:
                return datetime.fromtimestamp(raw, UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise MeterError(f"{self.obis}: an entry has no readable stamp: {error}") from error
        raise MeterError(f"{self.obis}: an entry has no readable stamp")

    def bound(self, moment: datetime) -> bytes:
        """A moment as the profile's own stamps tell it, for a range."""
        if self.columns[self.stamp].interface == DATA:
            return bytes([_DOUBLE_LONG_UNSIGNED]) + int(moment.timestamp()).to_bytes(4, "big")
        zone, deviates = self.zone
        content = write_time(moment.astimezone(zone), with_deviation=deviates)
        return bytes([OCTETS, len(content)]) + content


async def _zone(meter: DlmsClient) -> tuple[tzinfo, bool]:
    """The zone in which the meter tells times, and whether it tells their deviation."""
    try:
        raw = await meter.get(CLOCK, CLOCK_OBIS, 2)
        shown = read_time(bytes(raw), meter.zone)
    except (MeterRefusal, TypeError, ValueError):
        return meter.zone, True
    return zone_shown(shown, meter.zone), shown.deviation is not None


async def _entries(reading: _Reading, start: datetime, end: datetime) -> list[tuple[datetime, list[Any]]]:
    meter, obis = reading.meter, reading.obis
    if meter.link.selects:
        slack = timedelta() if reading.zone[1] else _SLACK
        by_range = ByRange(reading.columns[reading.stamp], reading.bound(start - slack), reading.bound(end + slack))
        try:
            return reading.dated(await meter.get(PROFILE, obis, _BUFFER, by_range))
        except MeterRefusal:
            pass
        try:
            return await _by_entries(reading, start)
        except MeterRefusal:
            pass
    return reading.dated(await meter.get(PROFILE, obis, _BUFFER))


async def _by_entries(reading: _Reading, start: datetime) -> list[tuple[datetime, list[Any]]]:
    """Entries from the newest back to `start`; the newest is the last one, or the first where the meter sorts so."""
    meter, obis = reading.meter, reading.obis
    number = await meter.get(PROFILE, obis, _ENTRIES_IN_USE)
    if isinstance(number, bool) or not isinstance(number, int):
        raise MeterRefusal(f"{obis}: its number of entries {number!r} is no number")
    found: list[tuple[datetime, list[Any]]] = []
    for taken in range(0, number, _ENTRIES_AT_ONCE):
        first = max(1, number - taken - _ENTRIES_AT_ONCE + 1)
        part = reading.dated(await meter.get(PROFILE, obis, _BUFFER, ByEntry(first, number - taken)))
        found = part + found
        newest_last = len(part) < 2 or part[0][0] <= part[-1][0]
        if part and newest_last and part[0][0] < start:
            break
    return found


def _columns(told: Any, obis: str) -> list[Column]:
    try:
        return [
            Column(int(interface), ".".join(map(str, bytes(name))), int(attribute), int(index))
            for interface, name, attribute, index in told
        ]
    except (TypeError, ValueError) as error:
        raise MeterError(f"{obis}: its columns make no sense") from error


def _word(entry: Sequence[Any], place: int | None) -> int | None:
    raw = None if place is None else entry[place]
    if isinstance(raw, bytes):
        return int.from_bytes(raw, "big")
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else None
