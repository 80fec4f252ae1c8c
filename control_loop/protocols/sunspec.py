"""SunSpec over Modbus: the device's chain of models is read at each connect, and the template's points found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control_loop.protocols.base import DriverError
from control_loop.protocols.modbus import MAX_BLOCK, ModbusDriver
from control_loop.protocols.modbus_line import LineError
from flexergy_pipelines.grid.templates import TemplatePoint, encode
from flexergy_pipelines.grid.templates.sunspec import (
    BASES,
    COMMON,
    END,
    MARKER,
    NO_FACTOR,
    ModelPlace,
    bind,
    factor_names,
    locate,
)

MOST_MODELS = 100
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

    _also: Mapping[str, tuple[tuple[TemplatePoint, int], ...]] = {}
    _reverts: tuple[TemplatePoint, ...] = ()
    found: SunSpecDevice | None = None

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
        while len(chain) < MOST_MODELS:
            model, length = await self._read_registers("holding", address, 2)
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
        return device, await self._rating_kw(device, await self._factors(device))

    async def _factors(self, device: SunSpecDevice) -> dict[str, int]:
        """Powers of ten of the template's points, where the device gives them."""
        spec = self._template.sunspec
        factors: dict[str, int] = {}
        for name in factor_names(spec) if spec is not None else ():
            where = locate(name, device.chain)
            if where is not None:
                (raw,) = await self._read_registers("holding", where[0], 1)
                factor = raw - 0x10000 if raw & 0x8000 else raw
                if factor != NO_FACTOR:
                    factors[name] = factor
        return factors

    async def _look_around(self) -> None:
        """Find the template's points."""
        spec = self._template.sunspec
        if spec is None:
            raise DriverError(f"{self.device}: template {self._template.name} names no SunSpec models")
        device = await self.scan()
        factors = await self._factors(device)
        bound = bind(spec, device.chain, factors.get, await self._rating_kw(device, factors))
        powers = [point for point in bound.points if point.quantity == "active_power_kw"]
        if not powers:
            models = ", ".join(str(place.model) for place in device.chain)
            raise DriverError(f"{self.device}: template {self._template.name} does not fit a device of models {models}")
        self._place(bound.points)
        self._also, self._reverts, self.found = bound.also, bound.reverts, device

    async def _greet(self) -> None:
        """Tell the device when to leave our orders by itself."""
        for point in self._reverts:
            await self._write_registers(point.address, encode(point, float(round(self._ttl_s))))

    async def _rating_kw(self, device: SunSpecDevice, factors: Mapping[str, int]) -> float | None:
        """The device's own rated power, which its percentages are of; the site's where it gives none."""
        spec = self._template.sunspec
        for name in spec.rating if spec is not None else ():
            where = locate(name, device.chain)
            if where is None:
                continue
            (raw,) = await self._read_registers("holding", where[0], 1)
            if raw not in {0, 0xFFFF}:
                return raw * 10.0 ** factors.get(f"{name.partition('.')[0]}.{where[1].factor}", 0) / 1000.0
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
