"""Modbus, over TCP, TLS or a serial line: registers of a device as points of its assets, by the device's template."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from control_loop.image import PointKey
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.modbus_blocks import MAX_GAP, Block, ReadPlan, halves
from control_loop.protocols.modbus_line import ModbusLine
from control_loop.protocols.modbus_unit import ILLEGAL_FUNCTION, PARTED, ModbusUnit, RefusedError
from flexergy_pipelines.grid.templates import DeviceTemplate, TemplatePoint, decode, encode, encode_unsigned32
from flexergy_pipelines.logs import get_logger

ADDRESSES = 0x10000
POWER, LIMIT, AVAILABLE = "active_power_kw", "active_power_limit_kw", "available_power_kw"
CLEAR_OF_LIMIT = 0.02
"""Share of the limit within which a source may be held back by it."""


class ModbusDriver(ModbusUnit):
    """Link to one Modbus device.

    Parameters
    ----------
    device : str
        Identity of the device in its site.
    line : ModbusLine
        The way to it.
    template : DeviceTemplate
        Register map.
    assets : sequence of str
        Assets behind the device, in the order of their register blocks.
    quantities : mapping
        Quantities to read of each asset.
    ratings : mapping, optional
        Rated power of each asset [kW], for points that are a share of it.
    timeout_s : float
        Longest wait for one answer [s].
    setpoint_ttl_s : float
        Written to the device's own revert timer, where it has one [s].
    """

    gap = MAX_GAP
    """Most unused registers that are read along."""

    def __init__(
        self,
        device: str,
        line: ModbusLine,
        template: DeviceTemplate,
        assets: Sequence[str],
        quantities: Mapping[str, frozenset[str]],
        *,
        ratings: Mapping[str, float] | None = None,
        unit_id: int = 1,
        timeout_s: float = 0.3,
        setpoint_ttl_s: float = 60.0,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(device, line, unit_id=unit_id, timeout_s=timeout_s, backoff=backoff)
        self._template = template
        self._index = {asset: i for i, asset in enumerate(assets)}
        self._ttl_s = setpoint_ttl_s
        self._heartbeat = 0
        self._ratings = dict(ratings or {})
        self._quantities = quantities
        self._orders: dict[PointKey, TemplatePoint] = {}
        self._shown: dict[PointKey, TemplatePoint] = {}
        self._told: dict[PointKey, tuple[list[int], float]] = {}
        self._plan = ReadPlan(())
        self._place(template.points)

    def _place(self, points: Sequence[TemplatePoint], along: Mapping[PointKey, TemplatePoint] | None = None) -> None:
        """Take up where the device has its points; those of the first asset, the others at the template's stride.

        `along` are registers that are read with them and are no points.
        """
        self._take_up(points)
        self._plan = ReadPlan((*self._shown.items(), *(along or {}).items()), self.gap)

    def _take_up(self, points: Sequence[TemplatePoint]) -> None:
        """Take up how the device shows its points; read on as before."""
        self._orders, self._shown, self._told = {}, {}, {}
        for asset, index in self._index.items():
            for point in points:
                moved = point.model_copy(update={"address": point.address + index * self._template.asset_stride})
                moved = moved.for_rating(self._ratings.get(asset, 0.0))
                if point.writable:
                    self._orders[asset, point.quantity] = moved
                if "r" in point.access and point.quantity in self._quantities[asset]:
                    self._shown[asset, point.quantity] = moved
                if moved.address + moved.width > ADDRESSES:
                    raise ValueError(
                        f"{self.device}: {point.quantity} of {asset} would lie at {moved.table} {moved.address}; "
                        f"addresses end at {ADDRESSES - 1}"
                    )

    @property
    def assets(self) -> frozenset[str]:
        """Assets behind this device."""
        return frozenset(self._index)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Requests that one reading takes."""
        return tuple(self._plan.blocks)

    async def read(self) -> Mapping[PointKey, float | None]:
        """Read all readable points; see `Driver.read`.

        Points in a block that the device refuses are missing; it is an error when it refuses all.
        """
        await self._connected()
        values = self._values(await self._read_blocks())
        self._backoff.succeeded()
        if self._template.available_from_active:
            for asset in self._index:
                values[asset, AVAILABLE] = self._available(asset, values)
        return values

    async def _read_blocks(self) -> dict[PointKey, list[int]]:
        """Registers of every point that the device gives."""
        now = time.monotonic()
        raw: dict[PointKey, list[int]] = {}
        parted: list[Block] = []
        given: list[Block] = []
        refusal: RefusedError | None = None
        for block in self._plan.now(now):
            try:
                raw |= await self._read_block(block)
            except RefusedError as refused:
                refusal = refused
                if refused.code in PARTED | {ILLEGAL_FUNCTION} and self._plan.may_part(now):
                    parted.append(block)
                    given += await self._read_parts(block, raw) if refused.code in PARTED else []
        if parted:
            before = self._plan.refused
            self._plan.learn(parted, given, now)
            self._name_refused(self._plan.refused[len(before) :])
        if refusal is not None and not raw:
            raise refusal
        return raw

    async def _read_block(self, block: Block) -> dict[PointKey, list[int]]:
        registers = await self._read_registers(block.table, block.address, block.count)
        starts = {key: point.address - block.address for key, point in block.points}
        return {key: registers[starts[key] : starts[key] + point.width] for key, point in block.points}

    async def _read_parts(self, block: Block, raw: dict[PointKey, list[int]]) -> list[Block]:
        """What of a block the device does give, and how it was asked for."""
        given: list[Block] = []
        for part in halves(block) if len(block.points) > 1 else ():
            try:
                raw |= await self._read_block(part)
                given.append(part)
            except RefusedError as refusal:
                if refusal.code not in PARTED:
                    raise
                given += await self._read_parts(part, raw)
        return given

    def _name_refused(self, points: Sequence[tuple[PointKey, TemplatePoint]]) -> None:
        if points:
            names = ", ".join(f"{quantity} ({point.table} {point.address})" for (_, quantity), point in points[:10])
            names += ", ..." if len(points) > 10 else ""
            get_logger(__name__).warning("the device refuses points", device=self.device, points=names)
            self.health.last_error = f"{self.device}: refuses {names}"

    def _values(self, raw: Mapping[PointKey, list[int]]) -> dict[PointKey, float | None]:
        """Points in their units; those that the device refused are missing.

        An order stands when the registers hold what was written, however coarse they are.
        """
        values: dict[PointKey, float | None] = {}
        for key, point in self._shown.items():
            registers = raw.get(key)
            written, value = self._told.get(key, (None, None))
            values[key] = None if registers is None else value if registers == written else decode(point, registers)
        return values

    def _available(self, asset: str, values: Mapping[PointKey, float | None]) -> float | None:
        """What a source could give: what it gives, while it stays clear of its limit; else nobody knows."""
        power, limit = values.get((asset, POWER)), values.get((asset, LIMIT))
        if power is None:
            return None
        clear = limit is None or power < limit - CLEAR_OF_LIMIT * max(limit, self._ratings.get(asset, 0.0))
        return max(0.0, power) if clear or (limit or 0.0) >= self._ratings.get(asset, float("inf")) else None

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Write one value, and move the device's heartbeat; see `Driver.write`."""
        if asset_id not in self._index:
            raise DriverError(f"{self.device}: has no asset {asset_id}")
        if self._template.sunspec is not None:
            await self._connected()  # only the device knows where its points are
        point = self._orders.get((asset_id, quantity))
        if point is None:
            raise DriverError(f"{self.device}: {quantity} of {asset_id} cannot be commanded")
        try:
            registers = encode(point, value)
        except ValueError as error:
            raise DriverError(f"{self.device}: {error}") from None
        await self._ready_for_orders()
        await self._write_registers(point.address, registers, point.table)
        self._told[asset_id, quantity] = registers, value
        if self._template.heartbeat_address is not None:
            self._heartbeat = (self._heartbeat + 1) % 0x10000
            await self._write_registers(self._template.heartbeat_address, [self._heartbeat])
        self._backoff.succeeded()

    def takes_schedule(self, asset_id: str) -> bool:
        """Whether the template has room for the next hour's setpoints."""
        return self._template.schedule is not None and asset_id in self._index

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        """Write the next hour's setpoints, their start last; see `Driver.write_schedule`."""
        schedule = self._template.schedule
        if schedule is None or asset_id not in self._index:
            raise DriverError(f"{self.device}: keeps no schedule for {asset_id}")
        if len(values) != schedule.slots:
            raise DriverError(f"{self.device}: schedule of {len(values)} values, the device keeps {schedule.slots}")
        base = self._index[asset_id] * self._template.asset_stride
        registers: list[int] = []
        for slot, value in enumerate(values):
            try:
                registers += encode(schedule.point(slot), value)
            except ValueError as error:
                raise DriverError(f"{self.device}: {error}") from None
        await self._ready_for_orders()
        await self._write_registers(base + schedule.address, registers)
        began = encode_unsigned32(int(start.timestamp()), schedule.word_order)
        await self._write_registers(base + schedule.start_address, began)

    async def _ready_for_orders(self) -> None:
        await self._connected()
        if not self._greeted:
            await self._greet()
            self._greeted = True

    async def _look_around(self) -> None:
        """See `ModbusUnit`; what a device lacked before, it may have now."""
        self._plan.forget()

    async def _greet(self) -> None:
        """What a device is told before its first order of a connection: when it shall leave our orders by itself.

        Who only reads, as an instance that stands by, tells it nothing.
        """
        if self._template.setpoint_ttl_address is not None:
            await self._write_registers(self._template.setpoint_ttl_address, [min(0xFFFE, round(self._ttl_s))])
