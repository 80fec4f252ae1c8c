"""Physical values to Modbus registers and back."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from flexergy_pipelines.grid.templates.point import WIDTH, TemplatePoint, WordOrder

_RANGE: dict[str, tuple[int, int]] = {
    # The sentinel of "no value" is kept out of each range.
    "int16": (-(2**15) + 1, 2**15 - 1),
    "uint16": (0, 2**16 - 2),
    "int32": (-(2**31) + 1, 2**31 - 1),
    "uint32": (0, 2**32 - 2),
    "int64": (-(2**63) + 1, 2**63 - 1),
    "uint64": (0, 2**64 - 2),
    "bit": (0, 1),
}
_SENTINEL: dict[str, int] = {
    "int16": 0x8000, "uint16": 0xFFFF, "int32": 0x8000_0000, "uint32": 0xFFFF_FFFF, "int64": 1 << 63,
    "uint64": (1 << 64) - 1, "bit": 0,
}  # fmt: skip
"""What stands for no value; a bit always has one."""
LIMIT = "_limit_kw"
FUZZ = 1e-6
"""What a whole number may lack after a division."""
_FLOATS: dict[str, tuple[str, str]] = {"float32": (">f", ">I"), "float64": (">d", ">Q")}


def _words(raw: int, width: int, word_order: WordOrder) -> list[int]:
    words = [(raw >> 16 * i) & 0xFFFF for i in reversed(range(width))]
    return words if word_order == "big" else words[::-1]


def _integer(registers: Sequence[int], word_order: WordOrder) -> int:
    words = registers if word_order == "big" else list(reversed(registers))
    raw = 0
    for word in words:
        raw = (raw << 16) | (word & 0xFFFF)
    return raw


def _bits_of(value: float, kind: str) -> int:
    number, bits = _FLOATS[kind]
    return struct.unpack(bits, struct.pack(number, value))[0]


def _whole(point: TemplatePoint, value: float) -> int:
    """The raw number nearest to a value; a limit is never rounded to more than it says."""
    raw = value / point.scale
    if not point.quantity.endswith(LIMIT) or raw <= 0:
        return round(raw)
    return math.floor(raw + FUZZ)


def encode(point: TemplatePoint, value: float | None) -> list[int]:
    """Registers that hold `value` (None becomes the point's "no value" sentinel).

    Raises
    ------
    ValueError
        The value does not fit the register type, or is not finite.
    """
    width = WIDTH[point.type]
    if point.bit is not None:  # a bit always has a value
        return _words(int(value is not None and value >= 0.5) << point.bit, width, point.word_order)
    if value is None:
        raw = _bits_of(math.nan, point.type) if point.type in _FLOATS else _SENTINEL[point.type]
        return _words(raw, width, point.word_order)
    if not math.isfinite(value):
        raise ValueError(f"{point.quantity}: {value} is not a finite number")
    if point.type in _FLOATS:
        try:
            return _words(_bits_of(value / point.scale, point.type), width, point.word_order)
        except OverflowError:
            raise ValueError(f"{point.quantity}: {value} does not fit {point.type}") from None
    raw = _whole(point, value)
    low, high = _RANGE[point.type]
    if not low <= raw <= high:
        least, most = sorted((low * point.scale, high * point.scale))
        raise ValueError(f"{point.quantity}: {value} is outside {least:g}..{most:g} of {point.type}")
    return _words(raw % (1 << 16 * width), width, point.word_order)


def decode(point: TemplatePoint, registers: Sequence[int]) -> float | None:
    """Physical value in `registers`, None for the sentinel of "no value" (and for NaN or infinity).

    Raises
    ------
    ValueError
        The number of registers is not the point's width (a reply of the wrong length is never interpreted).
    """
    width = WIDTH[point.type]
    if len(registers) != width:
        raise ValueError(f"{point.quantity}: got {len(registers)} registers, expected {width}")
    raw = registers[0] if width == 1 else _integer(registers, point.word_order)
    if point.bit is not None:
        return float(raw >> point.bit & 1)
    if point.type in _FLOATS:
        number, bits = _FLOATS[point.type]
        value = struct.unpack(number, struct.pack(bits, raw))[0]
        return value * point.scale if math.isfinite(value) else None
    if point.type == "bit":
        return float(raw != 0)
    if raw == _SENTINEL[point.type]:
        return None
    if point.type.startswith("int") and raw >= 1 << (16 * width - 1):
        raw -= 1 << 16 * width
    return raw * point.scale


def encode_unsigned32(value: int, word_order: WordOrder = "big") -> list[int]:
    """Two registers that hold an unsigned number such as seconds since 1970."""
    if not 0 <= value < 2**32:
        raise ValueError(f"{value} is outside 0..{2**32 - 1}")
    return _words(value, 2, word_order)


def decode_unsigned32(registers: Sequence[int], word_order: WordOrder = "big") -> int:
    """Unsigned number in two registers."""
    if len(registers) != 2:
        raise ValueError(f"got {len(registers)} registers, expected 2")
    return _integer(registers, word_order)
