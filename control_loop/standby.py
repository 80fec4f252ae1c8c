"""What an instance that stands by keeps ready, so that little is missed when it takes over.

Worker processes wait with their library loaded and only have to dial. Devices that serve two masters at a time
(`Connection.standby_link`) are read all along: their values are there in the first cycle, and what they showed since
the other instance fell silent is not lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from control_loop.field_reader import FieldReader
from control_loop.protocols.base import Driver, DriverError
from control_loop.telemetry import ReadingRow, TelemetryFilter
from flexergy_pipelines.grid.clock import Clock

KEPT_S = 10.0
"""How long readings are remembered; a takeover takes less."""


@runtime_checkable
class Preparing(Protocol):
    """A driver that can get ready without touching its device."""

    async def prepare(self) -> None:
        """Get ready."""
        ...


class Standby:
    """One site's links while another instance commands.

    Parameters
    ----------
    drivers : sequence of Driver
        Links to all devices; they are not used before the takeover, but for those that are watched.
    watched : iterable of str
        Devices that are read meanwhile.
    reader : FieldReader
        Reads them, and all devices after the takeover.
    telemetry : TelemetryFilter
        What readings are kept.
    cycle_s : float
        Period of the readings [s].
    """

    def __init__(
        self,
        drivers: Sequence[Driver],
        watched: Iterable[str],
        *,
        reader: FieldReader,
        telemetry: TelemetryFilter,
        clock: Clock,
        cycle_s: float,
    ) -> None:
        self.reader = reader
        self.drivers = tuple(drivers)
        chosen = frozenset(watched)
        reader.serve(driver for driver in drivers if driver.device in chosen)
        self._telemetry = telemetry
        self._clock = clock
        self._cycle_s = cycle_s
        self._readings: deque[tuple[float, ReadingRow]] = deque()

    async def run(self) -> None:
        """Watch until this is cancelled."""
        for driver in self.drivers:
            if isinstance(driver, Preparing):
                # What does not start now is started, and told, when it is needed.
                with contextlib.suppress(DriverError, OSError):
                    await driver.prepare()
        while self.reader.drivers:
            began = self._clock.monotonic()
            await self.look()
            await asyncio.sleep(max(0.0, began + self._cycle_s - self._clock.monotonic()))

    async def look(self) -> None:
        """Read the watched devices once."""
        await self.reader.look(self._clock.now())
        monotonic = self._clock.monotonic()
        self._readings += [(monotonic, row) for row in self._telemetry.select(self.reader.image)]
        while self._readings and monotonic - self._readings[0][0] > KEPT_S:
            self._readings.popleft()

    def readings_since(self, monotonic: float) -> list[ReadingRow]:
        """What the watched devices showed since a time [s, monotonic]."""
        return [row for at, row in self._readings if at >= monotonic]

    async def close(self) -> None:
        """Give up all links: this instance does not take over."""
        await self.reader.stop()
        await asyncio.gather(*(driver.close() for driver in self.drivers), return_exceptions=True)
