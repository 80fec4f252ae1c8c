"""What a station of IEC 60870-5-104 says, read from the frame: the library keeps to one type for each object.

Stations send the same object without a time tag when they are interrogated and with one when it changes, as
IEC 60870-5-101 wants it (7.2.6 and 7.4.5); a reader that knows one type of it would miss the other.

References
----------
IEC 60870-5-101:2003, 7.2 (elements) and 7.3.1 (types in monitor direction); IEC 60870-5-104:2006, 5.1 (frames).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

APCI = 6
HEAD = 6
ADDRESS = 3
GENERAL_INTERROGATION, COUNTER_INTERROGATION, CLOCK = 100, 101, 103
END_OF_INITIALIZATION = 70
COMMANDS = frozenset(range(45, 70))
"""Types of process commands."""
QUALIFIER = {45: 0, 46: 0, 47: 0, 48: 2, 49: 2, 50: 4, 58: 0, 59: 0, 60: 0, 61: 2, 62: 2, 63: 4}
"""Where commands have the octet whose highest bit says that they only select."""
CONFIRMATION = 7
NEGATIVE, TEST = 0x40, 0x80
CAUSES: Mapping[int, str] = MappingProxyType({
    44: "unknown type",
    45: "unknown cause of transmission",
    46: "unknown common address",
    47: "unknown object address",
})  # fmt: skip
"""Why a station does not understand (IEC 60870-5-101, 7.2.3)."""

INVALID, NOT_TOPICAL, SUBSTITUTED, BLOCKED, OVERFLOW = 0x80, 0x40, 0x20, 0x10, 0x01
WITHOUT_FAULT = INVALID | NOT_TOPICAL | SUBSTITUTED | BLOCKED
"""Bits of the quality that must not be set: what nobody measures now is not to be controlled by."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An information object as the station tells it.

    Attributes
    ----------
    address : int
        Of the object.
    value : float or None
        None for a double point that is between its states, and for a number that is none.
    good : bool
        Whether its quality says that it is measured now.
    stamp_s : float or None
        The station's time of it [s since 1970]; None without a time tag, or with one that is not valid.
    """

    address: int
    value: float | None
    good: bool
    stamp_s: float | None


@dataclass(frozen=True, slots=True)
class Told:
    """One application service data unit.

    Attributes
    ----------
    kind : int
        Number of its type.
    cause : int
        Why it is sent.
    negative : bool
        Whether it refuses.
    station : int
        Common address.
    address : int
        Of its first object.
    selects : bool
        Whether it is a command that selects, and does not execute yet.
    seen : tuple of Seen
        Its objects, where it is one that monitors and no test.
    """

    kind: int
    cause: int
    negative: bool
    station: int
    address: int
    selects: bool = False
    seen: tuple[Seen, ...] = ()

    @property
    def confirms(self) -> bool:
        """Whether it says that a command was taken for execution."""
        return self.kind in COMMANDS and self.cause == CONFIRMATION and not self.negative and not self.selects

    @property
    def refusal(self) -> str:
        """Why it refuses, in words; empty when it does not."""
        if self.cause in CAUSES:
            return CAUSES[self.cause]
        return "refused" if self.negative else ""


_Element = tuple[float | None, bool]


def _single(octets: bytes) -> _Element:
    return float(octets[0] & 1), not octets[0] & WITHOUT_FAULT


def _double(octets: bytes) -> _Element:
    return {1: 0.0, 2: 1.0}.get(octets[0] & 3), not octets[0] & WITHOUT_FAULT


def _step(octets: bytes) -> _Element:
    # The transformer is between two positions while its eighth bit is set; its seven others are the position.
    position = (octets[0] & 0x7F) - (0x80 if octets[0] & 0x40 else 0)
    return float(position), not octets[1] & (WITHOUT_FAULT | OVERFLOW)


def _word(octets: bytes) -> _Element:
    return float(int.from_bytes(octets[:4], "little")), not octets[4] & (WITHOUT_FAULT | OVERFLOW)


def _normalized(octets: bytes) -> _Element:
    (value,) = struct.unpack("<h", octets[:2])
    return value / 32768.0, len(octets) == 2 or not octets[2] & (WITHOUT_FAULT | OVERFLOW)


def _scaled(octets: bytes) -> _Element:
    (value,) = struct.unpack("<h", octets[:2])
    return float(value), not octets[2] & (WITHOUT_FAULT | OVERFLOW)


def _short(octets: bytes) -> _Element:
    (value,) = struct.unpack("<f", octets[:4])
    return float(value), not octets[4] & (WITHOUT_FAULT | OVERFLOW)


def _counter(octets: bytes) -> _Element:
    (value,) = struct.unpack("<i", octets[:4])
    return float(value), not octets[4] & INVALID


_ELEMENTS: tuple[tuple[Callable[[bytes], _Element], int, tuple[int, int, int]], ...] = (
    (_single, 1, (1, 2, 30)),
    (_double, 1, (3, 4, 31)),
    (_step, 2, (5, 6, 32)),
    (_word, 5, (7, 8, 33)),
    (_normalized, 3, (9, 10, 34)),
    (_scaled, 3, (11, 12, 35)),
    (_short, 5, (13, 14, 36)),
    (_counter, 5, (15, 16, 37)),
)
"""How an element is read, its octets, and its types without time tag, with three and with seven octets of one."""

MONITORED: Mapping[int, tuple[Callable[[bytes], _Element], int, int]] = MappingProxyType({
    **{
        kind: (read, octets, tag)
        for read, octets, kinds in _ELEMENTS
        for kind, tag in zip(kinds, (0, 3, 7), strict=True)
    },
    21: (_normalized, 2, 0),
})  # fmt: skip
"""By type: how an element is read, its octets, and those of its time tag."""


def told(frame: bytes, now: datetime) -> Told | None:
    """What a frame says; None for one without application data, or that is none.

    Parameters
    ----------
    frame : bytes
        Whole frame, from its start octet on.
    now : datetime
        Time of receipt, aware; time tags of three octets tell their place in the hour only.
    """
    body = frame[APCI:]
    if len(body) < HEAD + ADDRESS or frame[0] != 0x68 or frame[2] & 1 or frame[1] + 2 != len(frame):
        return None
    kind, structure, cause, _, station = struct.unpack("<BBBBH", body[:HEAD])
    address = int.from_bytes(body[HEAD : HEAD + ADDRESS], "little")
    at = HEAD + ADDRESS + QUALIFIER.get(kind, len(body))
    selects = at < len(body) and bool(body[at] & 0x80)
    seen: tuple[Seen, ...] = ()
    if kind in MONITORED and not cause & TEST:
        seen = _objects(kind, structure, body[HEAD:], now)
    return Told(kind, cause & 0x3F, bool(cause & NEGATIVE), station, address, selects, seen)


def _objects(kind: int, structure: int, octets: bytes, now: datetime) -> tuple[Seen, ...]:
    """Objects with an address each, or a sequence of them from the first address on; nothing where octets lack."""
    read, size, tag = MONITORED[kind]
    count, in_sequence = structure & 0x7F, bool(structure & 0x80)
    step = size + tag + (0 if in_sequence else ADDRESS)
    if len(octets) != count * step + (ADDRESS if in_sequence else 0):
        return ()
    first = int.from_bytes(octets[:ADDRESS], "little")
    found: list[Seen] = []
    for number in range(count):
        at = ADDRESS + number * step
        address = first + number if in_sequence else int.from_bytes(octets[at - ADDRESS : at], "little")
        value, good = read(octets[at : at + size])
        number_told = value is not None and math.isfinite(value)
        found.append(
            Seen(address, value if number_told else None, good, _stamp_s(octets[at + size : at + size + tag], now))
        )
    return tuple(found)


def _stamp_s(tag: bytes, now: datetime) -> float | None:
    """A time tag as seconds since 1970: three octets are minute and second of the hour that is nearest to `now`."""
    if not tag or tag[2] & 0x80:  # the station says itself that its time is not valid
        return None
    seconds, minute = int.from_bytes(tag[:2], "little") / 1000.0, tag[2] & 0x3F
    try:
        if len(tag) == 7:
            day, month, year = tag[4] & 0x1F, tag[5] & 0x0F, 2000 + (tag[6] & 0x7F)
            whole = datetime(year, month, day, tag[3] & 0x1F, minute, tzinfo=UTC)
            return whole.timestamp() + seconds
        within = now.astimezone(UTC).replace(minute=minute, second=0, microsecond=0) + timedelta(seconds=seconds)
    except ValueError:
        return None
    turns = (within - now) / timedelta(hours=1)
    return (within - timedelta(hours=round(turns))).timestamp()
