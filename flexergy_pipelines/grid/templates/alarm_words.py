"""Alarm and status words of devices: what each bit of a point means, one YAML file a kind of word.

A template names the word that a quantity of its devices is (`alarm_words` of `DeviceTemplate`), so that a device with
other bits is data.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from flexergy_pipelines.grid.base import Model, Slug

FOLDER = Path(__file__).parent / "alarm_words"
Forbidden = Literal["nothing", "charge", "discharge", "all"]


class AlarmBit(Model):
    """One bit.

    Attributes
    ----------
    bit : int
        Its number, 0 the least significant.
    name : str
        What the alarm is called; the alarm's code is ``device_`` and this.
    text : str
        What the operator reads.
    severity : int
        1 critical .. 4 low.
    forbids : str
        What the device must not be told while the bit stands: to charge, to discharge, or any power at all.
    """

    bit: int = Field(ge=0, le=63)
    name: Slug
    text: str = Field(min_length=1)
    severity: int = Field(default=3, ge=1, le=4)
    forbids: Forbidden = "nothing"


def alarm_word_names() -> tuple[str, ...]:
    """Names of all alarm words that ship with the platform."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@lru_cache(maxsize=64)
def load_alarm_word(name: str) -> tuple[AlarmBit, ...]:
    """Bits of the word `name`.

    Raises
    ------
    ValueError
        There is no such word, its file does not hold together, or a bit or a name is there twice.
    """
    if name not in alarm_word_names():
        raise ValueError(f"alarm word {name} is unknown, known are {', '.join(alarm_word_names())}")
    raw = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    try:
        bits = TypeAdapter(list[AlarmBit]).validate_python(raw)
    except ValidationError as error:
        raise ValueError(f"alarm word {name}: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
    for what in ("bit", "name"):
        values = [getattr(bit, what) for bit in bits]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"alarm word {name}: {what} {twice} is given twice")
    return tuple(bits)


def standing_bits(bits: tuple[AlarmBit, ...], value: float) -> tuple[AlarmBit, ...]:
    """Bits that stand in a word as it was read; a value that is no such word has none."""
    if value < 0 or value != int(value):
        return ()
    return tuple(bit for bit in bits if int(value) >> bit.bit & 1)
