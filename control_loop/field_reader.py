"""Reading the field into the process image, one round each cycle; late devices never hold a round up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime

from control_loop.alarms import Alarm, AlarmKey, clock_alarm, fault_alarm
from control_loop.image import PointKey, ProcessImage
from control_loop.pauses import AT_ONCE, breathe
from control_loop.protocols.base import Driver, OwnFaults
from control_loop.source_time import OwnClocks, SourceClock, SourceTimes
from flexergy_pipelines.grid.clock import Clock


class FieldReader:
    """Keeps the image of a site's devices.

    Parameters
    ----------
    clock : Clock
        Source of monotonic time.
    deadline_s : float
        How long a round waits for answers [s, real time]; what comes later is taken in a later round.

    Attributes
    ----------
    image : ProcessImage
        The last sample of every point.
    """

    def __init__(self, clock: Clock, deadline_s: float) -> None:
        self.image = ProcessImage()
        self._clock = clock
        self._deadline_s = deadline_s
        self._drivers: dict[str, Driver] = {}
        self._reads: dict[str, asyncio.Task[Mapping[PointKey, float | None]]] = {}
        self._stamped: dict[str, SourceTimes] = {}
        self._clocks: dict[str, SourceClock] = {}
        self._several: dict[str, OwnClocks] = {}

    @property
    def drivers(self) -> Mapping[str, Driver]:
        """Links that are read, by device."""
        return self._drivers

    def serve(self, drivers: Iterable[Driver]) -> None:
        """Read these devices, too; one that is read already goes on as it is."""
        for driver in drivers:
            if driver.device not in self._drivers and isinstance(driver, SourceTimes):
                self._stamped[driver.device] = driver
                self._clocks[driver.device] = SourceClock()
            if isinstance(driver, OwnClocks):
                self._several[driver.device] = driver
            self._drivers.setdefault(driver.device, driver)

    async def look(self, now: datetime) -> tuple[tuple[str, ...], dict[str, str]]:
        """One round.

        Parameters
        ----------
        now : datetime
            Wall-clock time, aware.

        Returns
        -------
        late : tuple of str
            Devices whose answer did not come in time.
        errors : dict
            Devices that could not be read, with the message.
        """
        for number, (device, driver) in enumerate(list(self._drivers.items()), 1):
            if device not in self._reads:
                self._reads[device] = asyncio.create_task(driver.read(), name=f"read {device}")
            if number % AT_ONCE == 0:
                await breathe()
        if self._reads:
            await asyncio.wait(self._reads.values(), timeout=self._deadline_s)
        errors: dict[str, str] = {}
        for device, task in list(self._reads.items()):
            if not task.done():
                continue
            del self._reads[device]
            error = task.exception()
            if error is None:
                self._take(device, task.result(), now)
            else:
                errors[device] = str(error) or type(error).__name__
                if device in self._clocks:
                    self._clocks[device].lost()
        return tuple(self._reads), errors

    def clock_alarms(self) -> dict[AlarmKey, Alarm]:
        """Devices whose clock is off."""
        found = [
            clock_alarm(device, asset_id, clock.offset_s)
            for device, clock in self._clocks.items()
            for asset_id in sorted(self._drivers[device].assets)[:1]
            if clock.offset_s
        ]
        for device, driver in self._several.items():
            offsets = driver.clock_offsets()
            if offsets:
                worst = max(offsets, key=lambda name: abs(offsets[name]))
                asset_id = min(self._drivers[device].assets)
                found.append(clock_alarm(f"{device} {worst}", asset_id, offsets[worst], others=len(offsets) - 1))
        return {alarm.key: alarm for alarm in found}

    def fault_alarms(self) -> dict[AlarmKey, Alarm]:
        """Devices that say themselves what is wrong with them."""
        told = {device: d.device_faults() for device, d in self._drivers.items() if isinstance(d, OwnFaults)}
        found = [fault_alarm(name, min(self._drivers[name].assets), faults) for name, faults in told.items() if faults]
        return {alarm.key: alarm for alarm in found}

    async def stop(self) -> None:
        """End what is under way; the links stay."""
        reads, self._reads = list(self._reads.values()), {}
        for task in reads:
            task.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    def _take(self, device: str, values: Mapping[PointKey, float | None], now: datetime) -> None:
        monotonic = self._clock.monotonic()
        times: Mapping[PointKey, datetime] = {}
        late: frozenset[PointKey] = frozenset()
        stamped = self._stamped.get(device)
        if stamped is not None:
            times, late = self._clocks[device].judge(stamped.source_times(), now, monotonic)
        self.image.update(values, now, monotonic, source_times=times, late=late)
