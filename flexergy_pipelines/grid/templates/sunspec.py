"""SunSpec devices: where a template's points lie in the chain of models that a device really has.

A device names its models in a chain; their points lie at fixed offsets, and most carry a power of ten that stands in a
register of its own. Offsets, types and names come from the models that pysunspec2 ships.

References
----------
SunSpec Alliance, "SunSpec Device Information Model Specification" 1.2 and the models 1, 101-103, 120, 123,
701-713, 802.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import Field, model_validator

from flexergy_pipelines.grid.base import Many, Model, Scale
from flexergy_pipelines.grid.templates.codec import decode
from flexergy_pipelines.grid.templates.point import RegisterType, TemplatePoint

MARKER = (0x5375, 0x6E53)
"""``SunS``, before the first model."""
BASES = (40_000, 50_000, 0)
"""Addresses at which the chain may begin."""
END = 0xFFFF
COMMON = 1
NO_FACTOR = -32_768
LARGEST_FACTOR = 10
"""Powers of ten lie between its negative and it; a device that shows another gives none."""
_TYPES: dict[str, RegisterType] = {
    "int16": "int16", "uint16": "uint16", "acc16": "uint16", "enum16": "uint16", "count": "uint16", "sunssf": "int16",
    "int32": "int32", "uint32": "uint32", "acc32": "uint32", "enum32": "uint32", "float32": "float32",
    "bitfield16": "uint16", "bitfield32": "uint32", "bitfield64": "uint64", "int64": "int64", "uint64": "uint64",
    "acc64": "uint64", "float64": "float64",
}  # fmt: skip


class SunSpecPoint(Model):
    """A quantity by the names it has in SunSpec models.

    Attributes
    ----------
    at : tuple of str
        ``model.point``; the first whose model the device has is taken.
    scale : float
        Platform's value = value in the model's unit x scale.
    share_of_rating : bool
        The point is a percentage of the device's rated power (``rating`` of the map).
    also : dict
        What is written to other points with each order, such as the one that enables it.
    revert : tuple of str
        Points that take the time after which the device leaves the order by itself [s].
    """

    quantity: str = Field(min_length=1)
    at: Many[str] = Field(min_length=1)
    scale: Scale = 1.0
    access: Literal["r", "rw"] = "r"
    share_of_rating: bool = False
    also: dict[str, int] = Field(default_factory=dict)
    revert: Many[str] = ()

    @model_validator(mode="after")
    def _names_exist(self) -> SunSpecPoint:
        for name in (*self.at, *self.also, *self.revert):
            model, _, point = name.partition(".")
            if not model.isdigit() or point not in model_registers(int(model)):
                raise ValueError(f"{self.quantity}: {name} is no point of a SunSpec model")
        return self


class SunSpecMap(Model):
    """A template by SunSpec models.

    Attributes
    ----------
    rating : tuple of str
        Points that hold the rated power [W].
    layout : tuple of int
        Models of the reference device (what the simulator serves), in their order from 40000 on.
    factors : dict
        Powers of ten of the reference device.
    """

    points: Many[SunSpecPoint] = Field(min_length=1)
    rating: Many[str] = ()
    layout: Many[int] = Field(min_length=1)
    factors: dict[str, int] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Register:
    """A point of a model: its distance from the model's first register, its type there, and its power of ten."""

    offset: int
    size: int
    type: str
    factor: str | int | None


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A model in a device's chain; `length` counts the registers after its number and length."""

    model: int
    address: int
    length: int


@dataclass(frozen=True, slots=True)
class Binding:
    """A template's points at a device's addresses.

    Attributes
    ----------
    also : dict
        By quantity: registers that are written with each order.
    reverts : tuple of TemplatePoint
        Points that take the revert time [s].
    missing : tuple of str
        Quantities whose models the device does not have.
    factors : dict
        Address of each power of ten (``model.point``) that the points depend on.
    """

    points: tuple[TemplatePoint, ...]
    also: Mapping[str, tuple[tuple[TemplatePoint, int], ...]]
    reverts: tuple[TemplatePoint, ...]
    missing: tuple[str, ...]
    factors: Mapping[str, int]


@lru_cache(maxsize=64)
def model_registers(model: int) -> Mapping[str, Register]:
    """Points of a model outside its repeating groups, by name; empty for a model that is not known."""
    source = files("sunspec2") / "models" / "json" / f"model_{model}.json"
    if not source.is_file():
        return {}
    found: dict[str, Register] = {}
    offset = 0
    for point in json.loads(source.read_text(encoding="utf-8"))["group"]["points"]:
        found[point["name"]] = Register(offset, point["size"], point["type"], point.get("sf"))
        offset += point["size"]
    return found


def reference_chain(layout: Sequence[int]) -> list[ModelPlace]:
    """Where the models of a reference device lie."""
    places: list[ModelPlace] = []
    address = BASES[0] + len(MARKER)
    for model in layout:
        registers = model_registers(model)
        length = max(r.offset + r.size for r in registers.values()) - 2
        places.append(ModelPlace(model, address, length))
        address += 2 + length
    return places


def factor_names(spec: SunSpecMap) -> set[str]:
    """Every ``model.point`` that holds a power of ten of the map's points and its rating."""
    names = [*(name for point in spec.points for name in point.at), *spec.rating]
    found: set[str] = set()
    for name in names:
        model, _, point = name.partition(".")
        factor = model_registers(int(model))[point].factor
        if isinstance(factor, str):
            found.add(f"{model}.{factor}")
    return found


def locate(name: str, chain: Sequence[ModelPlace]) -> tuple[int, Register] | None:
    """Address and register of ``model.point`` in a chain; None where the device does not have it."""
    model, _, point = name.partition(".")
    register = model_registers(int(model))[point]
    for place in chain:
        if place.model == int(model) and register.offset + register.size <= 2 + place.length:
            return place.address + register.offset, register
    return None


def implemented(register: Register, raw: Sequence[int]) -> bool:
    """Whether the registers of a point hold a value, and not that the device does not have it."""
    kind = _TYPES.get(register.type)
    return kind is None or decode(TemplatePoint(quantity="any", table="holding", address=0, type=kind), raw) is not None


def bind(
    spec: SunSpecMap,
    chain: Sequence[ModelPlace],
    power_of_ten: Callable[[str], int | None],
    rating_kw: float | None,
    chosen: Mapping[str, str] | None = None,
) -> Binding:
    """Place a template's points in a device's chain.

    Parameters
    ----------
    chosen : mapping, optional
        By quantity: which of the names in `at` is taken where the first that is there is not.
    power_of_ten : callable
        Power of ten that stands at ``model.point``; None when the device does not give it, as for a point it lacks.
    rating_kw : float or None
        Rated power; None leaves `share_of_rating` on the points, for whoever knows the asset.
    """

    def placed(name: str, quantity: str, scale: float, access: Literal["r", "w", "rw"]) -> TemplatePoint | None:
        found = locate(name, chain)
        if found is None or found[1].type not in _TYPES:
            return None
        address, register = found
        factor = register.factor
        exponent = factor if isinstance(factor, int) else 0
        if isinstance(factor, str):
            beside = locate(_beside(name, factor), chain)
            told = None if beside is None else power_of_ten(_beside(name, factor))
            if beside is not None:
                factors[_beside(name, factor)] = beside[0]
            if told is None or abs(told) > LARGEST_FACTOR:
                return None
            exponent = told
        return TemplatePoint(
            quantity=quantity,
            table="holding",
            address=address,
            type=_TYPES[register.type],
            scale=scale * 10.0**exponent,
            access=access,
        )

    factors: dict[str, int] = {}
    points: list[TemplatePoint] = []
    also: dict[str, tuple[tuple[TemplatePoint, int], ...]] = {}
    reverts: list[TemplatePoint] = []
    missing: list[str] = []
    for item in spec.points:
        share = item.share_of_rating
        scale = item.scale / 100.0 * (rating_kw or 1.0) if share else item.scale
        name = next((n for n in item.at if locate(n, chain) is not None), None)
        name = (chosen or {}).get(item.quantity, name)
        point = placed(name, item.quantity, scale, item.access) if name is not None else None
        if name is None or point is None:
            missing.append(item.quantity)
            continue
        points.append(point.model_copy(update={"share_of_rating": share and rating_kw is None}))
        model = name.partition(".")[0]
        beside = [(placed(n, n, 1.0, "w"), value) for n, value in item.also.items() if n.startswith(f"{model}.")]
        also[item.quantity] = tuple((p, value) for p, value in beside if p is not None)
        found = [placed(n, n, 1.0, "w") for n in item.revert if n.startswith(f"{model}.")]
        reverts += [p for p in found if p is not None]
    return Binding(tuple(points), also, tuple(reverts), tuple(missing), factors)


def _beside(name: str, factor: str) -> str:
    return f"{name.partition('.')[0]}.{factor}"
