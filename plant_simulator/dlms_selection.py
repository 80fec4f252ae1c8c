"""Which entries of a load profile a client asks for: by range of time or by number, and of which columns.

References
----------
DLMS UA, "COSEM interface classes and OBIS identification system" (Blue Book): class 7, selective access 1 and 2;
4.1.6.1, date-time: a deviation of 0x8000 is not specified, the time then is local.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from dlms_cosem import time as dlms_time
from dlms_cosem.utils import parse_as_dlms_data

BY_RANGE, BY_ENTRY = 1, 2
GET_NORMAL = 1
NO_DEVIATION = b"\x80\x00"
_WHERE = 12
"""Bytes of a get request before its selection: service, kind, invoke id, class, name and attribute."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Entries stamped within two moments, given as date and time of 12 bytes; and columns by their names, none: all."""

    first: bytes
    last: bytes
    columns: tuple[str, ...] = ()

    def holds(self, moment: datetime, zone: tzinfo) -> bool:
        """Whether a moment lies within, for a meter in `zone`."""
        return moment_of(self.first, zone) <= moment <= moment_of(self.last, zone)


@dataclass(frozen=True, slots=True)
class EntryRange:
    """Entries and columns by first and last number, from 1 on; last 0: up to the highest."""

    first: int
    last: int
    first_column: int = 1
    last_column: int = 0


def moment_of(raw: bytes, zone: tzinfo) -> datetime:
    """A date and time of 12 bytes; without deviation it is local time of `zone`.

    Raises
    ------
    ValueError
        It is none.
    """
    shown, _ = dlms_time.datetime_from_bytes(raw)
    if raw[9:11] == NO_DEVIATION:
        return shown.replace(tzinfo=zone).astimezone(UTC)
    behind = timedelta(minutes=int.from_bytes(raw[9:11], "big", signed=True))
    return shown.replace(tzinfo=UTC) + behind


def selection_of(apdu: bytes) -> tuple[bytes, TimeRange | EntryRange | None]:
    """A get request without its selection, and the selection.

    Raises
    ------
    ValueError, TypeError, LookupError
        The selection makes no sense.
    """
    if apdu[1] != GET_NORMAL or len(apdu) <= _WHERE + 1 or not apdu[_WHERE]:
        return apdu, None
    plain, kind, told = apdu[:_WHERE] + b"\x00", apdu[_WHERE + 1], parse_as_dlms_data(apdu[_WHERE + 2 :])
    if kind == BY_RANGE:
        _object, first, last, *columns = told
        names = tuple(".".join(map(str, column[1])) for column in (columns[0] if columns else ()))
        return plain, TimeRange(bytes(first), bytes(last), names)
    if kind == BY_ENTRY:
        return plain, EntryRange(*(int(number) for number in told))
    raise ValueError(f"selection {kind} is none of a profile")


def columns_of(selection: TimeRange | EntryRange | None, names: Sequence[str]) -> list[int]:
    """Places of the columns that are asked for."""
    every = list(range(len(names)))
    if isinstance(selection, TimeRange) and selection.columns:
        return [place for place in every if names[place] in selection.columns]
    if isinstance(selection, EntryRange):
        return every[selection.first_column - 1 : selection.last_column or None]
    return every


def chosen(selection: TimeRange | EntryRange | None, rows: Iterable[Any], zone: tzinfo) -> list[Any]:
    """Entries (with their stamp in `end`) that are asked for."""
    if isinstance(selection, EntryRange):
        return list(rows)[max(0, selection.first - 1) : selection.last or None]
    return [row for row in rows if selection is None or selection.holds(row.end, zone)]
