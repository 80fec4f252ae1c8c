"""Alarm and status words of devices: what each bit of a point means, one YAML file a kind of word.

A template names the word that a quantity of its devices is (`alarm_words` of `DeviceTemplate`), so that a device with
other bits is data.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, TypeAdapter, ValidationError

from flexergy_pipelines.grid.base import Model, Slug
from flexergy_pipelines.grid.templates.files import read_yaml, yaml_files

FOLDER = "alarm_words"
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
    """Names of all alarm words: those that ship with the platform, and those of the installation."""
    return tuple(sorted(yaml_files(FOLDER)))


def load_alarm_word(name: str) -> tuple[AlarmBit, ...]:
    """Bits of the word `name`.

    Raises
    ------
    ValueError
        There is no such word, its file does not hold together, or a bit or a name is there twice.
    """
    known = yaml_files(FOLDER)
    if name not in known:
        raise ValueError(f"alarm word {name} is unknown, known are {', '.join(sorted(known))}")
    return _read(known[name], known[name].stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, changed_ns: int) -> tuple[AlarmBit, ...]:
    """The word in a file as it was when it was last changed."""
    del changed_ns
    name = path.stem
    try:
        bits = TypeAdapter(list[AlarmBit]).validate_python(read_yaml(path))
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
