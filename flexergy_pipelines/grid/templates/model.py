"""Register maps of field devices, one YAML file each: shipped, or in `<home>/templates`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from flexergy_pipelines.grid.base import Many, Model, Positive, Scale
from flexergy_pipelines.grid.templates.alarm_words import load_alarm_word
from flexergy_pipelines.grid.templates.files import read_yaml, yaml_files
from flexergy_pipelines.grid.templates.point import WIDTH, RegisterType, TemplatePoint, WordOrder
from flexergy_pipelines.grid.templates.sunspec import SunSpecMap, bind, reference_chain

Obis = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){5}$")]


class TalqAttribute(Model):
    """A measured attribute of TALQ devices: function type, attribute name, and the scale to the platform's unit."""

    function: str = Field(min_length=1)
    attribute: str = Field(min_length=1)
    scale: Positive = 1.0


class TemplateError(ValueError):
    """A template that does not exist or does not hold together."""


class Schedule(Model):
    """Setpoints of the next hour, in holding registers relative to the asset's base.

    ``slots`` values of `quantity` lie one after the other from `address`; the start of the first slot stands as
    seconds since 1970-01-01 UTC in a uint32 at `start_address` and is written last, so that a half-written schedule
    never starts.
    """

    quantity: str
    address: int = Field(ge=0, le=65535)
    start_address: int = Field(ge=0, le=65535)
    slots: int = Field(default=4, ge=1, le=96)
    slot_minutes: int = Field(default=15, ge=1, le=60)
    type: RegisterType = "int32"
    scale: Scale = 1.0
    word_order: WordOrder = "big"

    def point(self, slot: int) -> TemplatePoint:
        """The slot's value as a point of the register map (address relative to the asset's base)."""
        if not 0 <= slot < self.slots:
            raise ValueError(f"slot {slot} is outside 0..{self.slots - 1}")
        return TemplatePoint(
            quantity=self.quantity,
            table="holding",
            address=self.address + slot * WIDTH[self.type],
            type=self.type,
            scale=self.scale,
            access="rw",
            word_order=self.word_order,
        )


class DeviceTemplate(Model):
    """Register map of one kind of device.

    Attributes
    ----------
    asset_stride : int
        Distance between the register blocks of two assets behind the same device.
    heartbeat_address, setpoint_ttl_address : int or None
        uint16 holding registers of the whole device (not per asset): a counter that the master keeps changing, and the
        time in seconds after which the device itself leaves a setpoint that was not renewed.
    sunspec : SunSpecMap or None
        The points by their names in SunSpec models; `points` then hold where the reference device has them.
    obis : dict
        DLMS/COSEM registers by quantity (``1.0.16.7.0.255``); of several the first less the others counts.
    talq : dict
        TALQ attributes by quantity, each the sum over the gateway's devices that have it.
    alarm_words : dict
        Quantities whose bits are alarms, and what each kind of word means (see `alarm_words`).
    available_from_active : bool
        The device does not say what it could give: while its limit does not bind, that is what it gives.
    """

    name: str
    description: str = ""
    word_order: WordOrder = "big"
    asset_stride: int = Field(default=0, ge=0, le=65535)
    points: Many[TemplatePoint] = Field(min_length=1)
    schedule: Schedule | None = None
    heartbeat_address: int | None = Field(default=None, ge=0, le=65535)
    setpoint_ttl_address: int | None = Field(default=None, ge=0, le=65535)
    sunspec: SunSpecMap | None = None
    available_from_active: bool = False
    alarm_words: dict[str, str] = Field(default_factory=dict)
    obis: dict[str, Many[Obis]] = Field(default_factory=dict)
    talq: dict[str, TalqAttribute] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_overlap(self) -> DeviceTemplate:
        taken: dict[tuple[str, int], TemplatePoint] = {}
        seen: set[str] = set()
        for point in self.points:
            if point.quantity in seen:
                raise ValueError(f"quantity {point.quantity} is given twice")
            seen.add(point.quantity)
            for register in range(point.address, point.address + point.width):
                other = taken.setdefault((point.table, register), point)
                if other is not point and (other.bit is None or other.bit == point.bit or point.bit is None):
                    raise ValueError(
                        f"{point.table} register {register} holds both {other.quantity} and {point.quantity}"
                    )
                if self.asset_stride and register >= self.asset_stride:
                    raise ValueError(
                        f"{point.quantity}: register {register} is outside asset_stride {self.asset_stride}"
                    )
        for quantity, word in self.alarm_words.items():
            if quantity not in seen:
                raise ValueError(f"alarm_words: {quantity} is no point of the template")
            load_alarm_word(word)
        return self

    @property
    def quantities(self) -> frozenset[str]:
        derived = {"available_power_kw"} if self.available_from_active else set[str]()
        return frozenset(point.quantity for point in self.points) | derived

    def point(self, quantity: str, asset_index: int = 0) -> TemplatePoint:
        """The point of `quantity` with its address moved to asset number `asset_index` of the device.

        Raises
        ------
        TemplateError
            The template does not provide the quantity.
        """
        for point in self.points:
            if point.quantity == quantity:
                return point.model_copy(update={"address": point.address + asset_index * self.asset_stride})
        raise TemplateError(
            f"template {self.name} does not provide {quantity}, only {', '.join(sorted(self.quantities))}"
        )


def template_names() -> tuple[str, ...]:
    """Names of all templates: those that ship with the platform, and those of the installation."""
    return tuple(sorted(yaml_files()))


def load_template(name: str) -> DeviceTemplate:
    """Read the register map `name`.

    Raises
    ------
    TemplateError
        There is no such template, or its file does not hold together.
    """
    known = yaml_files()
    if name not in known:
        raise TemplateError(f"template {name} is unknown, known are {', '.join(sorted(known))}")
    return _read(known[name], known[name].stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, changed_ns: int) -> DeviceTemplate:
    """The template in a file as it was when it was last changed."""
    del changed_ns
    name = path.stem
    try:
        raw = read_yaml(path)
        if not isinstance(raw, dict):
            raise ValueError("is no mapping of fields")
        word_order = raw.get("word_order", "big")
        if "sunspec" in raw:
            raw |= _reference(SunSpecMap.model_validate(raw["sunspec"]))
        for part in [*raw.get("points", ()), *([raw["schedule"]] if raw.get("schedule") else [])]:
            part.setdefault("word_order", word_order)
        return DeviceTemplate.model_validate({"name": name, **raw})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TemplateError(f"template {name}: {where + ': ' if where else ''}{first['msg']}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise TemplateError(f"template {name}: {error}") from None


def _reference(spec: SunSpecMap) -> dict[str, Any]:
    """Where the reference device has the points, and the time after which it leaves an order."""
    bound = bind(spec, reference_chain(spec.layout), lambda name: spec.factors.get(name, 0), None)
    reverts = [point.address + point.width - 1 for point in bound.reverts]
    return {
        "points": [point.model_dump() for point in bound.points],
        "setpoint_ttl_address": reverts[0] if reverts else None,
    }
