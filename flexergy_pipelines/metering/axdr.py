"""Values of DLMS/COSEM attributes from their encoding (A-XDR), all types of it.

The protocol's library leaves out floating point numbers, bit strings, decimals and compact arrays, and takes what is
cut off for zero; a value that is not whole is refused here.

References
----------
DLMS UA, "DLMS/COSEM architecture and protocols" (Green Book), 9.5, type Data; "COSEM interface classes and OBIS
identification system" (Blue Book), 4.1.5 (types) and 4.1.6.2 (floating point).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

NULL, ARRAY, STRUCTURE, BIT_STRING, COMPACT_ARRAY = 0, 1, 2, 4, 19
OCTETS: Final = 9
_DONT_CARE: Final = 255
_DEEPEST: Final = 16
_MOST_EMPTY: Final = 100_000
_LONG_LENGTH: Final = 0x80


def _signed(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


def _unsigned(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


_FIXED: Final[dict[int, tuple[int, Callable[[bytes], Any]]]] = {
    3: (1, lambda raw: raw != b"\x00"),
    5: (4, _signed),
    6: (4, _unsigned),
    13: (1, lambda raw: 10 * (raw[0] >> 4) + (raw[0] & 0x0F)),
    15: (1, _signed),
    16: (2, _signed),
    17: (1, _unsigned),
    18: (2, _unsigned),
    20: (8, _signed),
    21: (8, _unsigned),
    22: (1, _unsigned),
    23: (4, lambda raw: struct.unpack(">f", raw)[0]),
    24: (8, lambda raw: struct.unpack(">d", raw)[0]),
    25: (12, bytes),
    26: (5, bytes),
    27: (4, bytes),
}
"""Length [bytes] and reading of the types that always have the same length."""
_VARIABLE: Final[dict[int, Callable[[bytes], Any]]] = {
    OCTETS: bytes,
    10: lambda raw: raw.decode("ascii", "replace"),
    12: lambda raw: raw.decode("utf-8", "replace"),
}


class AxdrError(ValueError):
    """The bytes are no whole value."""


def decode(data: bytes) -> Any:
    """The one value that `data` encodes.

    Parameters
    ----------
    data : bytes
        A type, and what is of it.

    Returns
    -------
    Any
        None (null data), bool, int, float (NaN and infinities as they come), str, bytes (octet strings, dates and
        times, bit strings) or a list (arrays and structures).

    Raises
    ------
    AxdrError
        It is cut off, longer than the value, of an unknown type, or nested without end.
    """
    reader = _Reader(data)
    value = reader.value(reader.byte(), 0)
    if reader.place != len(data):
        raise AxdrError(f"{len(data) - reader.place} bytes follow the value")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0

    def take(self, count: int) -> bytes:
        part = self._data[self.place : self.place + count]
        if len(part) < count:
            raise AxdrError(f"cut off: {count} bytes are wanted at {self.place}, there are {len(part)}")
        self.place += count
        return part

    def byte(self) -> int:
        return self.take(1)[0]

    def length(self) -> int:
        first = self.byte()
        return first if first < _LONG_LENGTH else _unsigned(self.take(first - _LONG_LENGTH))

    def count(self) -> int:
        """Number of elements; each has a byte at least, but for those of structures without any."""
        number = self.length()
        if number > max(_MOST_EMPTY, len(self._data) - self.place):
            raise AxdrError(f"cut off: {number} elements are told, {len(self._data) - self.place} bytes are left")
        return number

    def value(self, kind: int, depth: int) -> Any:
        if depth > _DEEPEST:
            raise AxdrError(f"nested more than {_DEEPEST} deep")
        if kind in _FIXED:
            size, read = _FIXED[kind]
            return read(self.take(size))
        if kind in _VARIABLE:
            return _VARIABLE[kind](self.take(self.length()))
        match kind:
            case 0 | 255:
                return None
            case 1 | 2:
                return [self.value(self.byte(), depth + 1) for _ in range(self.count())]
            case 4:
                return self.take((self.length() + 7) // 8)
            case 19:
                return self._compact_array(depth + 1)
            case _:
                raise AxdrError(f"type {kind} is none of DLMS/COSEM")

    def _compact_array(self, depth: int) -> list[Any]:
        """Elements of one type, which is told once."""
        kind = self._description(0)
        end = self.length() + self.place
        if end > len(self._data):
            raise AxdrError("cut off: a compact array is shorter than it tells")
        found: list[Any] = []
        while self.place < end:
            before = self.place
            found.append(self._described(kind, depth))
            if self.place == before:
                raise AxdrError("a compact array of nothing")
        if self.place != end:
            raise AxdrError("a compact array does not end with an element")
        return found

    def _description(self, depth: int) -> tuple[int, Any]:
        """Type of the elements: a simple one, one with a number of elements, or one with a type for each element."""
        kind = self.byte()
        if depth > _DEEPEST:
            raise AxdrError(f"nested more than {_DEEPEST} deep")
        if kind == ARRAY:
            number = _unsigned(self.take(2))
            return kind, (number, self._description(depth + 1))
        if kind == STRUCTURE:
            return kind, [self._description(depth + 1) for _ in range(self.count())]
        return kind, None

    def _described(self, kind: tuple[int, Any], depth: int) -> Any:
        tag, inner = kind
        if tag == ARRAY:
            number, element = inner
            return [self._described(element, depth + 1) for _ in range(number)]
        if tag == STRUCTURE:
            return [self._described(element, depth + 1) for element in inner]
        return self.value(tag, depth)
