"""Physical values to Modbus registers and back."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from flexergy_pipelines.grid.templates.model import WIDTH, TemplatePoint, WordOrder

_RANGE: dict[str, tuple[int, int]] = {
    # The sentinel of "no value" is kept out of each range.
    "int16": (-(2**15) + 1, 2**15 - 1),
    "uint16": (0, 2**16 - 2),
    "int32": (-(2**31) + 1, 2**31 - 1),
    "uint32": (0, 2**32 - 2),
}
_SENTINEL: dict[str, int] = {"int16": 0x8000, "uint16": 0xFFFF, "int32": 0x8000_0000, "uint32": 0xFFFF_FFFF}


def _words(raw: int, width: int, word_order: WordOrder) -> list[int]:
    words = [(raw >> 16 * i) & 0xFFFF for i in reversed(range(width))]
    return words if word_order == "big" else words[::-1]


def _integer(registers: Sequence[int], word_order: WordOrder) -> int:
    words = registers if word_order == "big" else list(reversed(registers))
    raw = 0
    for word in words:
        raw = (raw << 16) | (word & 0xFFFF)
    return raw


def encode(point: TemplatePoint, value: float | None) -> list[int]:
    """Registers that hold `value` (None becomes the point's "no value" sentinel).

    Raises
    ------
    ValueError
        The value does not fit the register type, or is not finite.
    """
    width = WIDTH[point.type]
    if value is None:
        raw = struct.unpack(">I", struct.pack(">f", math.nan))[0] if point.type == "float32" else _SENTINEL[point.type]
        return _words(raw, width, point.word_order)
    if not math.isfinite(value):
        raise ValueError(f"{point.quantity}: {value} is not a finite number")
    if point.type == "float32":
        try:
            return _words(struct.unpack(">I", struct.pack(">f", value / point.scale))[0], width, point.word_order)
        except OverflowError:
            raise ValueError(f"{point.quantity}: {value} does not fit float32") from None
    raw = round(value / point.scale)
    low, high = _RANGE[point.type]
    if not low <= raw <= high:
        raise ValueError(
            f"{point.quantity}: {value} is outside {low * point.scale:g}..{high * point.scale:g} of {point.type}"
        )
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
    raw = _integer(registers, point.word_order)
    if point.type == "float32":
        value = struct.unpack(">f", struct.pack(">I", raw))[0]
        return value * point.scale if math.isfinite(value) else None
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
