"""SunSpec over Modbus: the device's chain of models is read at each connect, and the template's points found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from control_loop.image import PointKey
from control_loop.protocols.base import DriverError
from control_loop.protocols.modbus import ADDRESSES, ModbusDriver
from control_loop.protocols.modbus_blocks import MAX_BLOCK
from control_loop.protocols.modbus_line import LineError
from control_loop.protocols.modbus_unit import RefusedError
from flexergy_pipelines.grid.templates import TemplatePoint, encode
from flexergy_pipelines.grid.templates.sunspec import (
    BASES,
    COMMON,
    END,
    LARGEST_FACTOR,
    MARKER,
    Binding,
    ModelPlace,
    SunSpecMap,
    bind,
    factor_names,
    implemented,
    locate,
)
from flexergy_pipelines.logs import get_logger

MOST_MODELS = 100
ALONG = ""
"""Stands for the asset in the keys of registers that are no points."""
IDENTITY = {"manufacturer": "1.Mn", "model": "1.Md", "version": "1.Vr", "serial": "1.SN"}


@dataclass(frozen=True, slots=True)
class SunSpecDevice:
    """What a device says of itself.

    Attributes
    ----------
    chain : tuple of ModelPlace
        Its models and where they lie.
    identity : dict
        Manufacturer, model, version and serial number.
    """

    chain: tuple[ModelPlace, ...]
    identity: Mapping[str, str]


class SunSpecDriver(ModbusDriver):
    """Link to a SunSpec device; see `ModbusDriver` and `Driver`."""

    gap = MAX_BLOCK
    """Every register of a model is there, so a request reads along what lies between."""
    found: SunSpecDevice | None = None
    _also: Mapping[str, tuple[tuple[TemplatePoint, int], ...]] = {}
    _reverts: tuple[TemplatePoint, ...] = ()
    _factors: Mapping[str, int | None] = {}
    _chosen: Mapping[str, str] = {}
    _known: frozenset[PointKey] = frozenset()
    _rated_kw: float | None = None

    async def scan(self) -> SunSpecDevice:
        """Read the chain of models and who made the device.

        Raises
        ------
        DriverError
            There is no SunSpec device.
        """
        for base in BASES:
            try:
                marker = await self._read_registers("holding", base, len(MARKER))
            except DriverError:
                if self._client is None:
                    raise
                continue
            if tuple(marker) == MARKER:
                return await self._scan_from(base + len(MARKER))
        raise DriverError(f"{self.device}: no SunSpec device: no marker at {', '.join(map(str, BASES))}")

    async def _scan_from(self, address: int) -> SunSpecDevice:
        chain: list[ModelPlace] = []
        identity: dict[str, str] = {}
        while len(chain) < MOST_MODELS and address + 2 <= ADDRESSES:
            try:
                model, length = await self._read_registers("holding", address, 2)
            except RefusedError:
                if not chain:
                    raise
                break  # a chain that ends without its end
            if model == END:
                break
            chain.append(ModelPlace(model, address, length))
            if model == COMMON and not identity:
                identity = await self._identity(chain[-1])
            address += 2 + length
        return SunSpecDevice(tuple(chain), identity)

    async def _identity(self, place: ModelPlace) -> dict[str, str]:
        registers = await self._read_registers("holding", place.address, min(2 + place.length, MAX_BLOCK))
        found: dict[str, str] = {}
        for key, name in IDENTITY.items():
            where = locate(name, [place])
            if where is not None:
                start = where[0] - place.address
                octets = b"".join(r.to_bytes(2) for r in registers[start : start + where[1].size])
                found[key] = octets.split(b"\0")[0].decode("latin-1").strip()
        return found

    async def identify(self) -> tuple[SunSpecDevice, float | None]:
        """Who is there, and its rated power [kW] where it tells; nothing is written.

        Raises
        ------
        DriverError
            Nobody, or no SunSpec device.
        """
        try:
            self._client = await self._line.open(self._timeout_s, self._traced)
        except LineError as error:
            raise DriverError(f"{self.device}: {error}") from None
        device = await self.scan()
        return device, await self._rating_kw(device)

    async def _raw(self, name: str, device: SunSpecDevice) -> list[int] | None:
        """Registers of ``model.point``; None where the device does not have it."""
        where = locate(name, device.chain)
        if where is None:
            return None
        try:
            return await self._read_registers("holding", where[0], where[1].size)
        except RefusedError:
            return None

    async def _factor(self, name: str, device: SunSpecDevice) -> int | None:
        """The power of ten at ``model.point``; None where the device gives none."""
        raw = await self._raw(name, device)
        return None if raw is None else _power_of_ten(raw)

    async def _choose(self, spec: SunSpecMap, device: SunSpecDevice) -> dict[str, str]:
        """Of the names that a quantity can have, the first whose value the device gives."""
        chosen: dict[str, str] = {}
        for item in spec.points:
            names = [name for name in item.at if locate(name, device.chain) is not None]
            for name in names if len(names) > 1 else ():
                where, raw = locate(name, device.chain), await self._raw(name, device)
                if where is not None and raw is not None and implemented(where[1], raw):
                    chosen[item.quantity] = name
                    break
        return chosen

    async def _look_around(self) -> None:
        """Find the template's points."""
        spec = self._template.sunspec
        if spec is None:
            raise DriverError(f"{self.device}: template {self._template.name} names no SunSpec models")
        device = self.found = await self.scan()
        self._rated_kw = await self._rating_kw(device)
        self._chosen = await self._choose(spec, device)
        self._factors = {name: await self._factor(name, device) for name in sorted(factor_names(spec))}
        self._known = frozenset()
        bound = self._bind(spec, device)
        along = {
            (ALONG, name): TemplatePoint(quantity=name, table="holding", address=address, type="int16")
            for name, address in bound.factors.items()
        }
        self._place(bound.points, along)
        if not any(point.quantity == "active_power_kw" for point in bound.points):
            models = ", ".join(str(place.model) for place in device.chain)
            raise DriverError(f"{self.device}: template {self._template.name} does not fit a device of models {models}")

    def _bind(self, spec: SunSpecMap, device: SunSpecDevice) -> Binding:
        bound = bind(spec, device.chain, self._factors.get, self._rated_kw, self._chosen)
        self._also, self._reverts = bound.also, bound.reverts
        return bound

    def _values(self, raw: Mapping[PointKey, list[int]]) -> dict[PointKey, float | None]:
        """See `ModbusDriver`; powers of ten count as they were read with the values, for some devices change them."""
        read = {name: _power_of_ten(registers) for (kind, name), registers in raw.items() if kind == ALONG}
        self._known = self._known | self._shown.keys()
        spec = self._template.sunspec
        if any(self._factors.get(name) != factor for name, factor in read.items()) and spec and self.found:
            self._factors = {**self._factors, **read}
            self._take_up(self._bind(spec, self.found).points)
        lost: dict[PointKey, float | None] = dict.fromkeys(self._known - self._shown.keys())  # without a power of ten
        return super()._values(raw) | lost

    async def _greet(self) -> None:
        """Tell the device when to leave our orders by itself, where it has that: the points are optional."""
        for point in self._reverts:
            try:
                await self._write_registers(point.address, encode(point, float(round(self._ttl_s))))
            except RefusedError as refusal:
                get_logger(__name__).warning(
                    "the device takes no revert time", device=self.device, point=point.quantity, error=str(refusal)
                )

    async def _rating_kw(self, device: SunSpecDevice) -> float | None:
        """The device's own rated power, which its percentages are of; the site's where it gives none."""
        spec = self._template.sunspec
        for name in spec.rating if spec is not None else ():
            where, raw = locate(name, device.chain), await self._raw(name, device)
            if where is None or raw is None or raw == [0] or not implemented(where[1], raw):
                continue
            factor = where[1].factor
            exponent = await self._factor(f"{name.partition('.')[0]}.{factor}", device) if factor else 0
            if exponent is not None:
                return raw[0] * 10.0**exponent / 1000.0
        return next(iter(self._ratings.values()), None)

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Write one value, and what puts it in force; see `Driver.write`."""
        await super().write(asset_id, quantity, value)
        for point, wanted in self._also.get(quantity, ()):
            await self._write_registers(point.address, encode(point, float(wanted)))

    def describe(self) -> dict[str, Any]:
        """Identity and models of the device that was last found."""
        if self.found is None:
            return {}
        return {**self.found.identity, "models": [place.model for place in self.found.chain]}


def _power_of_ten(registers: Sequence[int]) -> int | None:
    """A power of ten in its register; None for one that is not there, or none that SunSpec knows."""
    factor = registers[0] - 0x10000 if registers[0] & 0x8000 else registers[0]
    return factor if abs(factor) <= LARGEST_FACTOR else None
