"""Devices whose protocol a worker process speaks: named objects as points, whatever the protocol calls them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from control_loop.image import PointKey
from control_loop.protocols.addressing import NamedObject, ObjectMap
from control_loop.protocols.base import DriverError, LinkHealth
from control_loop.protocols.worker import Answer, Worker
from flexergy_pipelines.logs import get_logger

ANSWER_S = 3.0
"""Longest wait for the worker's answer, beside twice the link's own time: a command may be selected first."""
TRIES = 3
READBACK_S = 0.3
USUAL_BYTES = 16
"""Of one value or command, where the worker does not count what goes over the link."""
UNHEARD_S = 10.0
"""An object of which nothing was heard for so long after connecting is one that the device does not have."""


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
        elif "trouble" in message:
            driver = self._drivers.get(message["key"])
            if driver is not None:
                driver.take_trouble(message["trouble"])
        elif "moved" in message:
            driver = self._drivers.get(message["key"])
            if driver is not None:
                sent, received = message["moved"]
                driver.take_traffic(sent, received, message["rtt_s"])
        elif "note" in message:
            driver = self._drivers.get(message["key"])
            if driver is not None:
                driver.take_note(message["note"])
        elif "frame" in message:
            driver = self._drivers.get(message["key"])
            if driver is not None:
                driver.take_frame(message["frame"])

    async def release(self, driver: ObjectDriver) -> None:
        """A driver has closed; with the last one the worker ends."""
        self._drivers.pop(driver.device, None)
        if not self._drivers:
            await self.worker.stop()


class ObjectDriver:
    """Link to one device; see `Driver`.

    Parameters
    ----------
    objects : ObjectMap
        What the device calls its points.
    address : callable
        Gives host and port when the worker starts.
    unit_id : int
        Number of the device on its link (the common address of IEC 104).
    timeout_s : float
        Longest wait for the confirmation of a command, where it is longer than the worker's own [s].
    more : mapping, optional
        What else the worker must know of the link, such as its transport security.
    """

    def __init__(
        self,
        hub: ObjectHub,
        device: str,
        objects: ObjectMap,
        *,
        address: Callable[[], tuple[str, int]],
        assets: Sequence[str],
        unit_id: int = 1,
        setpoint_ttl_s: float = 60.0,
        timeout_s: float = 0.0,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.device = device
        self.health = LinkHealth()
        self.unit_id = unit_id
        self._hub = hub
        self._objects = objects
        self._address = address
        self._assets = frozenset(assets)
        self._more = dict(more or {})
        self._ttl_s = setpoint_ttl_s
        self._timeout_s = timeout_s
        self._heartbeat = 0
        self._greeted = False
        self._heard = float("-inf")
        self._opened = float("inf")
        self._unheard: frozenset[str] = frozenset()
        self._trouble = "no connection"
        self._note = ""
        self._moved: tuple[int, int] | None = None
        self._values: dict[str, float | None] = {}
        self._stamps: dict[str, float] = {}
        self._read_stamps: dict[PointKey, datetime] = {}
        self._arrived = asyncio.Event()
        hub.add(self)

    @property
    def assets(self) -> frozenset[str]:
        """Assets behind this device."""
        return self._assets

    def spec(self) -> dict[str, Any]:
        """What the worker must know of this device."""
        host, port = self._address()
        return {
            "key": self.device,
            "host": host,
            "port": port,
            "unit_id": self.unit_id,
            "timeout_s": self._timeout_s,
            "monitored": [[item.name, item.kind] for item in dict.fromkeys(self._objects.shown.values())],
            "orders": [[item.name, item.kind, item.select] for item in dict.fromkeys(self._objects.commanded)],
            **self._more,
        }

    def take_values(self, values: Mapping[str, tuple[float | None, bool, float | None]]) -> None:
        """Values that arrived, with the device's time stamp [s since 1970]; a bad quality counts as no value."""
        for name, (value, good, stamp) in values.items():
            self._values[name] = value if good else None
            if stamp is not None:
                self._stamps[name] = stamp
        if self._moved is None:
            self.health.bytes_received += USUAL_BYTES * len(values)
        self._arrived.set()

    def take_traffic(self, sent: int, received: int, rtt_s: float) -> None:
        """Octets that went over the link since its worker began, and the connection's round trip [s]."""
        if self._moved is None:
            self.health.bytes_sent = self.health.bytes_received = 0
            self._moved = 0, 0
        before = self._moved if sent >= self._moved[0] and received >= self._moved[1] else (0, 0)
        self.health.bytes_sent += sent - before[0]
        self.health.bytes_received += received - before[1]
        self._moved = sent, received
        self.health.took(rtt_s)

    def take_state(self, is_open: bool) -> None:
        """What the worker says about the connection; after a loss everything must be heard anew."""
        self._heard = time.monotonic()
        if is_open and not self.health.connected:
            self.health.reconnects += 1
            self._opened = self._heard
            self._say_note()
        if not is_open:
            self._values.clear()
            self._stamps.clear()
            self._greeted = False
        self.health.connected = is_open

    def take_trouble(self, reason: str) -> None:
        """Why there is no connection."""
        self._trouble = reason

    def take_note(self, note: str) -> None:
        """What is less than wanted though the link works; it is said when the link is up."""
        self._note = note
        if self.health.connected:
            self._say_note()

    def _say_note(self) -> None:
        if self._note:
            self.health.last_error = f"{self.device}: {self._note}"
            get_logger(__name__).warning("link works with less than wanted", device=self.device, note=self._note)

    def take_frame(self, frame: str) -> None:
        """Something that went over the line, in words."""
        self.health.note(frame)

    async def prepare(self) -> None:
        """Have the worker ready, without a word to the device."""
        await self._hub.worker.prepare()

    async def read(self) -> Mapping[PointKey, float | None]:
        """The last word on every point, while the connection stands; see `Driver.read`.

        A device may only report changes, so an old value is as good as the connection is.
        """
        await self._hub.worker.ensure()
        if not self.health.connected or time.monotonic() - self._heard > 2.0:
            self.health.connected = False
            self.health.failed(f"{self.device}: {self._trouble}")
            raise DriverError(self.health.last_error)
        self.health.counted()
        self._look_for_unheard()
        self._read_stamps = {
            key: datetime.fromtimestamp(self._stamps[item.name], UTC)
            for key, item in self._objects.shown.items()
            if item.name in self._stamps
        }
        return {
            key: _scaled(self._values[item.name], item.scale)
            for key, item in self._objects.shown.items()
            if item.name in self._values
        }

    def _look_for_unheard(self) -> None:
        """Say once which objects the device does not seem to have: a wrong name is no error to the protocol."""
        if time.monotonic() - self._opened < UNHEARD_S:
            return
        unheard = frozenset(item.name for item in self._objects.shown.values()) - self._values.keys()
        if unheard != self._unheard:
            self._unheard = unheard
            if unheard:
                names = ", ".join(sorted(unheard)[:10]) + (", ..." if len(unheard) > 10 else "")
                self.health.failed(f"{self.device}: nothing is heard of the objects {names}")
                get_logger(__name__).warning("objects are not there", device=self.device, objects=names)

    def source_times(self) -> Mapping[PointKey, datetime]:
        """See `SourceTimes`."""
        return self._read_stamps

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Send a setpoint and move the heartbeat; see `Driver.write`."""
        if asset_id not in self._assets:
            raise DriverError(f"{self.device}: has no asset {asset_id}")
        order = self._objects.orders.get((asset_id, quantity))
        if order is None:
            raise DriverError(f"{self.device}: {quantity} of {asset_id} has no object to command")
        if not self._greeted:
            if self._objects.ttl is not None:
                await self._command(self._objects.ttl, self._ttl_s)
            self._greeted = True
        self._heartbeat = (self._heartbeat + 1) % 1000
        await self._command(order, value, self._objects.shown.get((asset_id, quantity)))
        if self._objects.heartbeat is not None:
            await self._command(self._objects.heartbeat, float(self._heartbeat))

    def takes_schedule(self, asset_id: str) -> bool:
        """Whether the device has objects for the next hour's setpoints."""
        return asset_id in self._objects.slots

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        """Send the slots, then their start; see `Driver.write_schedule`."""
        kept = self._objects.slots.get(asset_id)
        if kept is None:
            raise DriverError(f"{self.device}: keeps no schedule for {asset_id}")
        slots, begin = kept
        if len(values) != len(slots):
            raise DriverError(f"{self.device}: schedule of {len(values)} values, the device keeps {len(slots)}")
        for item, value in zip(slots, values, strict=True):
            await self._command(item, value)
        await self._command(begin, float(int(start.timestamp())))

    async def tell_trace(self, wanted: bool) -> None:
        """Have the worker tell what goes over the line, or no more."""
        self._hub.worker.tell({"key": self.device, "trace": wanted})

    async def close(self) -> None:
        """End the link."""
        self.health.connected = False
        await self._hub.release(self)

    async def _command(self, order: NamedObject, value: float, in_force: NamedObject | None = None) -> None:
        """Send one command; libraries deny some that were taken, so the order in force has the last word."""
        if not self.health.connected:
            raise DriverError(f"{self.device}: {self._trouble}")
        raw = value / order.scale
        answer: Answer | None = None
        for attempt in range(TRIES):
            self.health.bytes_sent += USUAL_BYTES if self._moved is None else 0
            self.health.retries += min(attempt, 1)
            command = {"key": self.device, "object": order.name, "value": raw}
            began = time.monotonic()
            answer = await self._hub.worker.ask(command, ANSWER_S + 2 * self._timeout_s)
            if answer:
                self.health.answered(time.monotonic() - began)
                return
            if answer.reason:
                break  # it says why, and would say so again
            if in_force is not None and await self._shows(in_force, value):
                return
        why = f": {answer.reason}" if answer is not None and answer.reason else ""
        self.health.failed(f"{self.device}: command {raw:g} to object {order.name} was not confirmed{why}")
        raise DriverError(self.health.last_error)

    async def _shows(self, item: NamedObject, value: float) -> bool:
        """Whether the object takes the value within a moment."""
        deadline = time.monotonic() + READBACK_S
        while True:
            seen = _scaled(self._values.get(item.name), item.scale)
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


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
