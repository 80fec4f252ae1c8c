"""Modbus, over TCP, TLS or a serial line: registers of a device as points of its assets, by the device's template."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ModbusException

from control_loop.image import PointKey
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError, LinkHealth
from control_loop.protocols.modbus_line import LineError, ModbusLine
from control_loop.protocols.modbus_words import frame_in_words
from flexergy_pipelines.grid.templates import DeviceTemplate, TemplatePoint, decode, encode, encode_unsigned32

MAX_BLOCK = 120
"""Registers in one request; the protocol allows 125."""
MAX_GAP = 8
"""Unused registers read along rather than asking twice."""
BIT_TABLES = frozenset({"coil", "discrete"})
READS: dict[str, Callable[..., Awaitable[Any]]] = {
    "input": ModbusBaseClient.read_input_registers,
    "holding": ModbusBaseClient.read_holding_registers,
    "coil": ModbusBaseClient.read_coils,
    "discrete": ModbusBaseClient.read_discrete_inputs,
}
"""The library's request for each table."""
POWER, LIMIT, AVAILABLE = "active_power_kw", "active_power_limit_kw", "available_power_kw"
CLEAR_OF_LIMIT = 0.02
"""Share of the limit within which a source may be held back by it."""


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring registers read by one request, with the points in them."""

    table: str
    address: int
    count: int
    points: tuple[tuple[PointKey, TemplatePoint], ...]


def coalesce(points: Sequence[tuple[PointKey, TemplatePoint]]) -> list[Block]:
    """Group points into as few requests as gaps and the protocol's size allow.

    Parameters
    ----------
    points : sequence of (point key, template point)
        In any order; each address is absolute.
    """
    blocks: list[Block] = []
    run: list[tuple[PointKey, TemplatePoint]] = []

    def flush() -> None:
        if run:
            first, last = run[0][1], max(p.address + p.width for _, p in run)
            blocks.append(Block(first.table, first.address, last - first.address, tuple(run)))
            run.clear()

    for key, point in sorted(points, key=lambda item: (item[1].table, item[1].address)):
        if run:
            first, end = run[0][1], max(p.address + p.width for _, p in run)
            apart = point.table != first.table or point.address - end > MAX_GAP
            if apart or point.address + point.width - first.address > MAX_BLOCK:
                flush()
        run.append((key, point))
    flush()
    return blocks


class _RefusedError(DriverError):
    """The device answered, with a refusal."""


class ModbusDriver:
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
        self.device = device
        self.health = LinkHealth()
        self._line = line
        self._template = template
        self._index = {asset: i for i, asset in enumerate(assets)}
        self._unit_id = unit_id
        self._timeout_s = timeout_s
        self._ttl_s = setpoint_ttl_s
        self._backoff = backoff or Backoff()
        self._client: ModbusBaseClient | None = None
        self._greeted = False
        self._heartbeat = 0
        self._ratings = dict(ratings or {})
        self._quantities = quantities
        self._orders: dict[PointKey, TemplatePoint] = {}
        self._blocks: list[Block] = []
        self._place(template.points)

    def _place(self, points: Sequence[TemplatePoint]) -> None:
        """Take up where the device has its points; those of the first asset, the others at the template's stride."""
        shown: list[tuple[PointKey, TemplatePoint]] = []
        for asset, index in self._index.items():
            for point in points:
                moved = point.model_copy(update={"address": point.address + index * self._template.asset_stride})
                moved = moved.for_rating(self._ratings.get(asset, 0.0))
                if point.writable:
                    self._orders[asset, point.quantity] = moved
                if "r" in point.access and point.quantity in self._quantities[asset]:
                    shown.append(((asset, point.quantity), moved))
        self._blocks = coalesce(shown)

    @property
    def assets(self) -> frozenset[str]:
        """Assets behind this device."""
        return frozenset(self._index)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Requests that one reading takes."""
        return tuple(self._blocks)

    async def read(self) -> Mapping[PointKey, float | None]:
        """Read all readable points; see `Driver.read`.

        Points in a block that the device refuses are missing; it is an error when it refuses all.
        """
        await self._connected()
        values: dict[PointKey, float | None] = {}
        refusals: list[_RefusedError] = []
        for block in self._blocks:
            try:
                registers = await self._read_registers(block.table, block.address, block.count)
            except _RefusedError as refusal:
                refusals.append(refusal)
                values |= dict.fromkeys((key for key, _ in block.points), None)
                continue
            for key, point in block.points:
                offset = point.address - block.address
                values[key] = decode(point, registers[offset : offset + point.width])
        if refusals and len(refusals) == len(self._blocks):
            raise refusals[-1]
        if self._template.available_from_active:
            for asset in self._index:
                values[asset, AVAILABLE] = self._available(asset, values)
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
        if self._template.heartbeat_address is not None:
            self._heartbeat = (self._heartbeat + 1) % 0x10000
            await self._write_registers(self._template.heartbeat_address, [self._heartbeat])

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

    async def close(self) -> None:
        """End the link."""
        self._drop()

    async def _connected(self) -> None:
        if self._client is not None and self._client.connected:
            return
        self._drop()
        now = time.monotonic()
        if not self._backoff.ready(now):
            raise DriverError(f"{self.device}: down, next try in {self._backoff.wait_s(now):.1f} s")
        try:
            self._client = await self._line.open(self._timeout_s, self._traced)
        except LineError as error:
            self._backoff.failed(time.monotonic())
            self.health.failed(f"{self.device}: {error} at {self._line.place}")
            raise DriverError(self.health.last_error) from None
        self.health.connected = True
        self.health.reconnects += 1
        await self._look_around()

    async def _ready_for_orders(self) -> None:
        await self._connected()
        if not self._greeted:
            await self._greet()
            self._greeted = True

    async def _look_around(self) -> None:
        """What must be read once after connecting."""

    async def _greet(self) -> None:
        """What a device is told before its first order of a connection: when it shall leave our orders by itself.

        Who only reads, as an instance that stands by, tells it nothing.
        """
        if self._template.setpoint_ttl_address is not None:
            await self._write_registers(self._template.setpoint_ttl_address, [min(0xFFFE, round(self._ttl_s))])

    async def _read_registers(self, table: str, address: int, count: int) -> list[int]:
        """Registers, or bits as 0 and 1, of a table."""

        def request(client: ModbusBaseClient) -> Awaitable[Any]:
            return READS[table](client, address, count=count, device_id=self._unit_id)

        answer = await self._asked(request, f"{table} {address}+{count}", count)
        found = [int(bit) for bit in answer.bits[:count]] if table in BIT_TABLES else list(answer.registers)
        if len(found) != count:
            # A late reply to an older request can carry the newest transaction id.
            raise self._broken(f"{table} {address}: {len(found)} registers instead of {count}")
        return found

    async def _write_registers(self, address: int, registers: list[int], table: str = "holding") -> None:

        def request(client: ModbusBaseClient) -> Awaitable[Any]:
            if table == "coil":
                return client.write_coils(address, [bool(bit) for bit in registers], device_id=self._unit_id)
            return client.write_registers(address, registers, device_id=self._unit_id)

        await self._asked(request, f"write {address}", len(registers))

    async def _asked(self, request: Callable[[ModbusBaseClient], Awaitable[Any]], what: str, registers: int) -> Any:
        """The answer to a request, when it is one."""
        async with self._line.turn(self._traced):
            client = self._open_client()
            began = time.monotonic()
            client.ctx.comm_params.timeout_connect = self._line.patience_s(self._timeout_s, registers)
            try:
                answer = await request(client)
            except (ModbusException, OSError) as error:
                raise self._broken(f"{what}: {error}") from None
        if answer.isError():
            self.health.failed(f"{self.device}: {what}: {answer}")
            raise _RefusedError(self.health.last_error)
        self._backoff.succeeded()
        self.health.answered(time.monotonic() - began)
        return answer

    def _open_client(self) -> ModbusBaseClient:
        if self._client is None:
            raise DriverError(f"{self.device}: link was lost")
        return self._client

    def _broken(self, message: str) -> DriverError:
        """Drop a link whose stream of answers can no longer be trusted."""
        self._drop(lost=True)
        self._backoff.failed(time.monotonic())
        self.health.failed(f"{self.device}: {message}")
        return DriverError(self.health.last_error)

    def _drop(self, *, lost: bool = False) -> None:
        if self._client is not None:
            self._line.drop(self._client, lost=lost)
            self._client = None
        self._greeted = False
        self.health.connected = False

    def _traced(self, sending: bool, data: bytes) -> bytes:
        if sending:
            self.health.bytes_sent += len(data)
        else:
            self.health.bytes_received += len(data)
        if self.health.tracing:
            self.health.note(frame_in_words(sending, data, serial=self._line.serial))
        return data
