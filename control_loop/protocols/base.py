"""The interface of every driver, and what a link says about itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from control_loop.image import PointKey


class DriverError(Exception):
    """A device did not answer, or not what it should; the message names the device and what went wrong."""


TRACE_FRAMES = 200


@dataclass(slots=True)
class LinkHealth:
    """Statistics of one link since it was made.

    Attributes
    ----------
    requests, failures, retries, reconnects : int
        Counts.
    bytes_sent, bytes_received : int
        Payload on the wire.
    latency_s : float
        Moving average of the answer time.
    worst_latency_s : float
        Longest answer time.
    last_error : str
        Message of the last failure, empty when none.
    connected : bool
        Whether the link is up now.
    trace : deque
        The last frames in words, each with its time; only kept while `tracing`.
    """

    requests: int = 0
    failures: int = 0
    retries: int = 0
    reconnects: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    latency_s: float = 0.0
    worst_latency_s: float = 0.0
    last_error: str = ""
    connected: bool = False
    tracing: bool = False
    trace: deque[tuple[datetime, str]] = field(default_factory=lambda: deque(maxlen=TRACE_FRAMES))

    def note(self, frame: str) -> None:
        """Keep a frame for trouble-shooting."""
        if self.tracing:
            self.trace.append((datetime.now(UTC), frame))

    def answered(self, latency_s: float) -> None:
        """Count a request that was answered."""
        self.requests += 1
        self.took(latency_s)

    def took(self, latency_s: float) -> None:
        """Note how long an answer, or a round trip of the connection, took."""
        self.worst_latency_s = max(self.worst_latency_s, latency_s)
        self.latency_s = latency_s if self.latency_s == 0.0 else 0.9 * self.latency_s + 0.1 * latency_s

    def counted(self) -> None:
        """Count a request that was answered from what the device told by itself, which has no answer time."""
        self.requests += 1

    def failed(self, message: str) -> None:
        """Count a request that failed."""
        self.requests += 1
        self.failures += 1
        self.last_error = message

    @property
    def success_share(self) -> float | None:
        """Share of requests answered; None before the first."""
        return None if self.requests == 0 else 1.0 - self.failures / self.requests


class Driver(Protocol):
    """One link to one device, which may serve several assets."""

    device: str
    health: LinkHealth

    @property
    def assets(self) -> frozenset[str]:
        """Assets behind this device."""
        ...

    async def read(self) -> Mapping[PointKey, float | None]:
        """Read all readable points once.

        Raises
        ------
        DriverError
            When the device gives no usable answer.
        """
        ...

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        """Write one value [unit of the quantity]; returns when the device has acknowledged it.

        Raises
        ------
        DriverError
            When it was not acknowledged.
        """
        ...

    def takes_schedule(self, asset_id: str) -> bool:
        """Whether the device keeps a schedule of the next hour for the asset."""
        ...

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        """Write the next hour's setpoints, one a quarter from `start` on.

        Raises
        ------
        DriverError
            When it was not acknowledged.
        """
        ...

    async def close(self) -> None:
        """End the link."""
        ...


@runtime_checkable
class Obeying(Protocol):
    """A driver that takes orders of an operator beside setpoints, each done once."""

    async def obey(self, order: str) -> str:
        """Do what a command's quantity says; returns what became of it, in words.

        Raises
        ------
        DriverError
            The device does not do it.
        ValueError
            There is no such order.
        """
        ...


@runtime_checkable
class OwnFaults(Protocol):
    """A driver whose devices say in words what is wrong with them."""

    def device_faults(self) -> Mapping[str, str]:
        """What is wrong now, by the name of the part that says so; empty when nothing is."""
        ...


class AbsentDriver:
    """A device that cannot be talked to as it is configured: no data, and the reason, until its site is mended.

    One such device must not keep the others from being controlled.

    Parameters
    ----------
    reason : str
        What is wrong with its configuration.
    """

    def __init__(self, device: str, assets: Sequence[str], reason: str) -> None:
        self.device = device
        self.health = LinkHealth(last_error=reason)
        self._assets = frozenset(assets)
        self._reason = reason if reason.startswith(device) else f"{device}: {reason}"

    @property
    def assets(self) -> frozenset[str]:
        return self._assets

    async def read(self) -> Mapping[PointKey, float | None]:
        self.health.failed(self._reason)
        raise DriverError(self._reason)

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        raise DriverError(f"{self._reason} ({asset_id}: {quantity} {value:g} was not sent)")

    def takes_schedule(self, asset_id: str) -> bool:
        del asset_id
        return False

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        raise DriverError(f"{self._reason} (schedule of {asset_id}, {len(values)} values from {start}, was not sent)")

    async def close(self) -> None:
        self.health.connected = False


@dataclass
class MemoryDriver:
    """A device inside this process: a dictionary of values. For simulated days and tests.

    Attributes
    ----------
    values : dict
        Readable points.
    writes : list
        Every accepted write, ``(asset id, quantity, value)``.
    schedules : dict
        Last schedule of each asset.
    """

    device: str
    values: dict[PointKey, float | None] = field(default_factory=dict)
    schedule_assets: frozenset[str] = frozenset()
    writes: list[tuple[str, str, float]] = field(default_factory=list)
    schedules: dict[str, tuple[datetime, tuple[float, ...]]] = field(default_factory=dict)
    health: LinkHealth = field(default_factory=LinkHealth)

    @property
    def assets(self) -> frozenset[str]:
        return frozenset(asset for asset, _ in self.values)

    async def read(self) -> Mapping[PointKey, float | None]:
        return dict(self.values)

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        self.values[asset_id, quantity] = value
        self.writes.append((asset_id, quantity, value))

    def takes_schedule(self, asset_id: str) -> bool:
        return asset_id in self.schedule_assets

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        self.schedules[asset_id] = (start, tuple(values))

    async def close(self) -> None:
        self.health.connected = False
