"""IEC 60870-5-104: information objects of a station as points of its assets, spoken by a worker process.

Addresses follow from the device's template; with `a` the register address of an asset's point: measured values are at
1 + a, orders at 20001 + a (C_SE_NC_1), the order in force at 30001 + a, the schedule's slots at 20001 + a and its start
at 20001 + a (C_BO_NA_1), the device's revert time at 40001 and its heartbeat at 40002.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from control_loop.image import PointKey
from control_loop.protocols.base import DriverError, LinkHealth
from control_loop.protocols.worker import Worker
from flexergy_pipelines.grid.templates import DeviceTemplate

MEASURED_BASE = 1
ORDER_BASE = 20_001
IN_FORCE_BASE = 30_001
TTL_IOA = 40_001
HEARTBEAT_IOA = 40_002
SINGLE_POINTS = frozenset({"available", "running"})

WORKER = "control_loop.protocols.iec104_worker"
ANSWER_S = 2.0
TRIES = 3
READBACK_S = 0.3


class Iec104Hub:
    """All stations of one site, behind one worker process."""

    def __init__(self) -> None:
        self._drivers: dict[str, Iec104Driver] = {}
        self.worker = Worker(WORKER, lambda: [d.spec() for d in self._drivers.values()], self.take)

    def add(self, driver: Iec104Driver) -> None:
        """Serve one more station; to be called before the worker starts."""
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

    async def release(self, driver: Iec104Driver) -> None:
        """A driver has closed; with the last one the worker ends."""
        self._drivers.pop(driver.device, None)
        if not self._drivers:
            await self.worker.stop()


class Iec104Driver:
    """Link to one station; see `Driver`.

    Parameters
    ----------
    address : callable
        Gives host and port when the worker starts.
    common_address : int
        The station's address.
    """

    def __init__(
        self,
        hub: Iec104Hub,
        device: str,
        address: Callable[[], tuple[str, int]],
        *,
        template: DeviceTemplate,
        assets: Sequence[str],
        quantities: Mapping[str, frozenset[str]],
        common_address: int = 1,
        setpoint_ttl_s: float = 60.0,
    ) -> None:
        self.device = device
        self.health = LinkHealth()
        self._hub = hub
        self._address = address
        self._template = template
        self._index = {asset: i for i, asset in enumerate(assets)}
        self._common_address = max(1, common_address)
        self._ttl_s = setpoint_ttl_s
        self._heartbeat = 0
        self._greeted = False
        self._heard = float("-inf")
        self._values: dict[int, float | None] = {}
        self._points: dict[int, PointKey] = {}
        for i, asset in enumerate(assets):
            for point in template.points:
                if point.quantity in quantities[asset]:
                    base = IN_FORCE_BASE if point.writable else MEASURED_BASE
                    self._points[base + point.address + i * template.asset_stride] = (asset, point.quantity)
        self._arrived = asyncio.Event()
        hub.add(self)

    @property
    def assets(self) -> frozenset[str]:
        """Assets behind this station."""
        return frozenset(self._index)

    def spec(self) -> dict[str, Any]:
        """What the worker must know of this station."""
        host, port = self._address()
        orders = [
            ORDER_BASE + point.address + i * self._template.asset_stride
            for i in self._index.values()
            for point in self._template.points
            if point.writable
        ]
        starts: list[int] = []
        if self._template.schedule is not None:
            for i in self._index.values():
                base = ORDER_BASE + i * self._template.asset_stride
                schedule = self._template.schedule
                orders += [base + schedule.point(slot).address for slot in range(schedule.slots)]
                starts.append(base + schedule.start_address)
        return {
            "key": self.device,
            "host": host,
            "port": port,
            "common_address": self._common_address,
            "monitored": [[ioa, quantity in SINGLE_POINTS] for ioa, (_, quantity) in self._points.items()],
            "setpoints": [*orders, TTL_IOA, HEARTBEAT_IOA] if orders else [],
            "bitstrings": starts,
        }

    def take_values(self, values: Mapping[str, tuple[float | None, bool]]) -> None:
        """Values that arrived; a bad quality counts as no value."""
        for ioa, (value, good) in values.items():
            self._values[int(ioa)] = value if good else None
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

        A station only reports changes, so an old value is as good as the connection is.
        """
        await self._hub.worker.ensure()
        if not self.health.connected or time.monotonic() - self._heard > 2.0:
            self.health.failed(f"{self.device}: no IEC 104 connection")
            raise DriverError(self.health.last_error)
        self.health.answered(time.monotonic() - self._heard)
        return {key: self._values[ioa] for ioa, key in self._points.items() if ioa in self._values}

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Send a setpoint and move the heartbeat; see `Driver.write`."""
        if asset_id not in self._index:
            raise DriverError(f"{self.device}: has no asset {asset_id}")
        point = self._template.point(quantity, self._index[asset_id])
        if not self._greeted:
            await self._command(TTL_IOA, self._ttl_s)
            self._greeted = True
        self._heartbeat = (self._heartbeat + 1) % 1000
        await self._command(ORDER_BASE + point.address, value, IN_FORCE_BASE + point.address)
        await self._command(HEARTBEAT_IOA, float(self._heartbeat))

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
        base = ORDER_BASE + self._index[asset_id] * self._template.asset_stride
        for slot, value in enumerate(values):
            await self._command(base + schedule.point(slot).address, value)
        await self._command(base + schedule.start_address, float(int(start.timestamp())))

    async def close(self) -> None:
        """End the link."""
        self.health.connected = False
        await self._hub.release(self)

    async def _command(self, ioa: int, value: float, in_force: int | None = None) -> None:
        """Send one command; the library denies some that were taken, so the order in force has the last word."""
        if not self.health.connected:
            raise DriverError(f"{self.device}: no IEC 104 connection")
        for _ in range(TRIES):
            self.health.bytes_sent += 16
            command = {"key": self.device, "ioa": ioa, "value": value, "select": False}
            if await self._hub.worker.ask(command, ANSWER_S):
                return
            if in_force is not None and await self._shows(in_force, value):
                return
        self.health.failed(f"{self.device}: command {value:g} to object {ioa} was not confirmed")
        raise DriverError(self.health.last_error)

    async def _shows(self, ioa: int, value: float) -> bool:
        """Whether the object takes the value within a moment."""
        deadline = time.monotonic() + READBACK_S
        while True:
            seen = self._values.get(ioa)
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
