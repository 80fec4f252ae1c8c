"""Devices whose protocol a worker process speaks: named objects as points, whatever the protocol calls them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from control_loop.image import PointKey
from control_loop.protocols.base import DriverError, LinkHealth
from control_loop.protocols.worker import Worker
from flexergy_pipelines.grid.templates import DeviceTemplate, Schedule, TemplatePoint

ANSWER_S = 2.0
TRIES = 3
READBACK_S = 0.3
SINGLE_POINTS = frozenset({"available", "running"})
"""Quantities that are yes or no."""


class Addressing(Protocol):
    """How a protocol names the objects of a device, from its template."""

    @property
    def ttl(self) -> str:
        """Object that takes the device's revert time [s]."""
        ...

    @property
    def heartbeat(self) -> str:
        """Object that takes the heartbeat."""
        ...

    def measured(self, point: TemplatePoint, index: int) -> str:
        """Object that shows a point of asset number `index`: what is measured, or the order in force; empty: none."""
        ...

    def order(self, point: TemplatePoint, index: int) -> str:
        """Object that takes an order; empty when there is none."""
        ...

    def slot(self, schedule: Schedule, slot: int, index: int) -> str:
        """Object that takes a slot of the next hour's schedule."""
        ...

    def start(self, schedule: Schedule, index: int) -> str:
        """Object that takes the schedule's start."""
        ...


class ObjectHub:
    """All devices of one site that speak one protocol, behind one worker process.

    Parameters
    ----------
    module : str
        The worker's module.
    """

    def __init__(self, module: str) -> None:
        self._drivers: dict[str, ObjectDriver] = {}
        self.worker = Worker(module, lambda: [d.spec() for d in self._drivers.values()], self.take)

    def add(self, driver: ObjectDriver) -> None:
        """Serve one more device; to be called before the worker starts."""
        self._drivers[driver.device] = driver

    def take(self, message: dict[str, Any]) -> None:
        """Pass on what the worker says."""
        if "values" in message:
            driver = self._drivers.get(message["key"])
            if driver is not None:
                driver.take_values(message["values"])
        elif "open" in message:
            for device, driver in self._drivers.items():
                driver.take_state(device in message["open"])

    async def release(self, driver: ObjectDriver) -> None:
        """A driver has closed; with the last one the worker ends."""
        self._drivers.pop(driver.device, None)
        if not self._drivers:
            await self.worker.stop()


class ObjectDriver:
    """Link to one device; see `Driver`.

    Parameters
    ----------
    address : callable
        Gives host and port when the worker starts.
    unit_id : int
        Number of the device on its link (the common address of IEC 104).
    """

    def __init__(
        self,
        hub: ObjectHub,
        addressing: Addressing,
        device: str,
        *,
        address: Callable[[], tuple[str, int]],
        template: DeviceTemplate,
        assets: Sequence[str],
        quantities: Mapping[str, frozenset[str]],
        unit_id: int = 1,
        setpoint_ttl_s: float = 60.0,
    ) -> None:
        self.device = device
        self.health = LinkHealth()
        self.unit_id = unit_id
        self._hub = hub
        self._addressing = addressing
        self._address = address
        self._template = template
        self._index = {asset: i for i, asset in enumerate(assets)}
        self._ttl_s = setpoint_ttl_s
        self._heartbeat = 0
        self._greeted = False
        self._heard = float("-inf")
        self._values: dict[str, float | None] = {}
        self._points: dict[str, PointKey] = {}
        for i, asset in enumerate(assets):
            for point in template.points:
                name = addressing.measured(point, i)
                if name and point.quantity in quantities[asset]:
                    self._points[name] = (asset, point.quantity)
        self._arrived = asyncio.Event()
        hub.add(self)

    @property
    def assets(self) -> frozenset[str]:
        """Assets behind this device."""
        return frozenset(self._index)

    def spec(self) -> dict[str, Any]:
        """What the worker must know of this device."""
        host, port = self._address()
        names, template = self._addressing, self._template
        orders = [names.order(p, i) for i in self._index.values() for p in template.points if p.writable]
        orders = [name for name in orders if name]
        starts: list[str] = []
        if template.schedule is not None:
            for i in self._index.values():
                orders += [names.slot(template.schedule, slot, i) for slot in range(template.schedule.slots)]
                starts.append(names.start(template.schedule, i))
        return {
            "key": self.device,
            "host": host,
            "port": port,
            "unit_id": self.unit_id,
            "monitored": [[name, quantity in SINGLE_POINTS] for name, (_, quantity) in self._points.items()],
            "setpoints": [*orders, names.ttl, names.heartbeat] if orders else [],
            "starts": starts,
        }

    def take_values(self, values: Mapping[str, tuple[float | None, bool]]) -> None:
        """Values that arrived; a bad quality counts as no value."""
        for name, (value, good) in values.items():
            self._values[name] = value if good else None
        self.health.bytes_received += 16 * len(values)
        self._arrived.set()

    def take_state(self, is_open: bool) -> None:
        """What the worker says about the connection; after a loss everything must be heard anew."""
        self._heard = time.monotonic()
        if is_open and not self.health.connected:
            self.health.reconnects += 1
        if not is_open:
            self._values.clear()
            self._greeted = False
        self.health.connected = is_open

    async def read(self) -> Mapping[PointKey, float | None]:
        """The last word on every point, while the connection stands; see `Driver.read`.

        A device may only report changes, so an old value is as good as the connection is.
        """
        await self._hub.worker.ensure()
        if not self.health.connected or time.monotonic() - self._heard > 2.0:
            self.health.failed(f"{self.device}: no connection")
            raise DriverError(self.health.last_error)
        self.health.answered(time.monotonic() - self._heard)
        return {key: self._values[name] for name, key in self._points.items() if name in self._values}

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Send a setpoint and move the heartbeat; see `Driver.write`."""
        if asset_id not in self._index:
            raise DriverError(f"{self.device}: has no asset {asset_id}")
        point = self._template.point(quantity, self._index[asset_id])
        if not self._greeted:
            await self._command(self._addressing.ttl, self._ttl_s)
            self._greeted = True
        self._heartbeat = (self._heartbeat + 1) % 1000
        index = self._index[asset_id]
        if not self._addressing.order(point, index):
            raise DriverError(f"{self.device}: {quantity} of {asset_id} has no object to command")
        await self._command(self._addressing.order(point, index), value, self._addressing.measured(point, index))
        await self._command(self._addressing.heartbeat, float(self._heartbeat))

    def takes_schedule(self, asset_id: str) -> bool:
        """Whether the template has room for the next hour's setpoints."""
        return self._template.schedule is not None and asset_id in self._index

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        """Send the slots, then their start; see `Driver.write_schedule`."""
        schedule = self._template.schedule
        if schedule is None or asset_id not in self._index:
            raise DriverError(f"{self.device}: keeps no schedule for {asset_id}")
        if len(values) != schedule.slots:
            raise DriverError(f"{self.device}: schedule of {len(values)} values, the device keeps {schedule.slots}")
        index = self._index[asset_id]
        for slot, value in enumerate(values):
            await self._command(self._addressing.slot(schedule, slot, index), value)
        await self._command(self._addressing.start(schedule, index), float(int(start.timestamp())))

    async def close(self) -> None:
        """End the link."""
        self.health.connected = False
        await self._hub.release(self)

    async def _command(self, name: str, value: float, in_force: str | None = None) -> None:
        """Send one command; libraries deny some that were taken, so the order in force has the last word."""
        if not self.health.connected:
            raise DriverError(f"{self.device}: no connection")
        for _ in range(TRIES):
            self.health.bytes_sent += 16
            command = {"key": self.device, "object": name, "value": value}
            if await self._hub.worker.ask(command, ANSWER_S):
                return
            if in_force is not None and await self._shows(in_force, value):
                return
        self.health.failed(f"{self.device}: command {value:g} to object {name} was not confirmed")
        raise DriverError(self.health.last_error)

    async def _shows(self, name: str, value: float) -> bool:
        """Whether the object takes the value within a moment."""
        deadline = time.monotonic() + READBACK_S
        while True:
            seen = self._values.get(name)
            if seen is not None and abs(seen - value) <= 1e-3 * max(1.0, abs(value)):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return False
