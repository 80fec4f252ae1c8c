"""Writing setpoints and schedules to the field, a task a device, so that a late device holds up nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime

from control_loop.dispatch import Dispatcher, Setpoint
from control_loop.model import Actuator, SiteModel
from control_loop.pauses import AT_ONCE, breathe
from control_loop.plan_view import PlanView
from control_loop.protocols.base import Driver
from control_loop.schedule import HourSchedule, next_hour, quarter_start
from flexergy_pipelines.grid.clock import Clock


class FieldWriter:
    """Gives a site's devices what was decided.

    Parameters
    ----------
    model : SiteModel
        The site.
    drivers : mapping
        Links by device.
    clock : Clock
        Source of monotonic time.
    deadline_s : float
        How long a cycle waits for acknowledgements [s, real time].
    may_command : callable
        Asked right before each command goes out: whether this loop still holds the lease.
    dispatcher_of : callable
        Who keeps what an actuator was told.

    Attributes
    ----------
    errors : dict
        What the last attempt at each device failed of, while it fails.
    """

    def __init__(
        self,
        model: SiteModel,
        drivers: Mapping[str, Driver],
        clock: Clock,
        *,
        deadline_s: float,
        may_command: Callable[[], bool],
        dispatcher_of: Callable[[Actuator], Dispatcher],
    ) -> None:
        self.errors: dict[str, str] = {}
        self._model = model
        self._drivers = drivers
        self._clock = clock
        self._deadline_s = deadline_s
        self._may_command = may_command
        self._dispatcher_of = dispatcher_of
        self._device_of = {asset: device for device, driver in drivers.items() for asset in driver.assets}
        self._writes: dict[str, asyncio.Task[None]] = {}
        self._scheduled: dict[str, tuple[Hashable, HourSchedule, int]] = {}
        self._hour: tuple[Hashable, list[HourSchedule]] | None = None

    async def write(self, due: Sequence[Setpoint], cycle: int) -> list[Setpoint]:
        """Give setpoints to their devices; one that is still busy with earlier ones gets its own in a later cycle.

        Parameters
        ----------
        cycle : int
            Number of this cycle, by which the effect is checked.

        Returns
        -------
        list of Setpoint
            Those that were given to a device.
        """
        by_device: dict[str, list[Setpoint]] = {}
        for setpoint in due:
            device = self._device_of.get(setpoint.actuator.asset_id)
            if device is not None and device not in self._writes:
                by_device.setdefault(device, []).append(setpoint)
        for number, (device, setpoints) in enumerate(by_device.items(), 1):
            self._writes[device] = asyncio.create_task(
                self._write_device(self._drivers[device], setpoints, cycle), name=f"write {device}"
            )
            if number % AT_ONCE == 0:
                await breathe()
        await self._settle_writes()
        return [setpoint for setpoints in by_device.values() for setpoint in setpoints]

    async def _write_device(self, driver: Driver, setpoints: Sequence[Setpoint], cycle: int) -> None:
        for setpoint in setpoints:
            dispatcher = self._dispatcher_of(setpoint.actuator)
            if not (self._may_command() and dispatcher.may_send(setpoint, self._clock.monotonic())):
                continue
            try:
                await driver.write(setpoint.actuator.asset_id, setpoint.actuator.quantity, setpoint.value)
            except Exception as error:
                self.errors[driver.device] = str(error) or type(error).__name__
                dispatcher.told(setpoint, False, cycle)
            else:
                self.errors.pop(driver.device, None)
                dispatcher.told(setpoint, True, cycle)

    async def push_schedules(self, now: datetime, plans: Sequence[PlanView]) -> list[HourSchedule]:
        """Give the next hour to devices that keep schedules, where it is new to them.

        Parameters
        ----------
        now : datetime
            Wall-clock time, aware.
        plans : sequence of PlanView
            The plan in force and the one that follows, as far as there are any.

        Returns
        -------
        list of HourSchedule
            Those that were taken.
        """
        version = next(((plan.plan_id, plan.version) for plan in plans[:1] if plan.covers(now)), None)
        taken: list[HourSchedule] = []
        by_device: dict[str, list[HourSchedule]] = {}
        for schedule in self._next_hour(now, plans):
            device = self._device_of.get(schedule.asset_id)
            if device is None or device in self._writes:
                continue
            # A device that was away may have forgotten its schedule.
            if self._scheduled.get(schedule.asset_id) == (version, schedule, self._drivers[device].health.reconnects):
                continue
            if self._drivers[device].takes_schedule(schedule.asset_id):
                by_device.setdefault(device, []).append(schedule)
        for device, schedules in by_device.items():
            self._writes[device] = asyncio.create_task(
                self._schedule_device(self._drivers[device], schedules, version, taken), name=f"schedule {device}"
            )
        await self._settle_writes()
        return taken

    def _next_hour(self, now: datetime, plans: Sequence[PlanView]) -> list[HourSchedule]:
        """The schedules of this quarter, made once for each plan."""
        key = (*((plan.plan_id, plan.version) for plan in plans), quarter_start(now))
        if self._hour is None or self._hour[0] != key:
            self._hour = key, next_hour(self._model, plans, now)
        return self._hour[1]

    async def _schedule_device(
        self, driver: Driver, schedules: Sequence[HourSchedule], version: Hashable, taken: list[HourSchedule]
    ) -> None:
        reconnects = driver.health.reconnects
        for schedule in schedules:
            if not self._may_command():
                return
            try:
                await driver.write_schedule(schedule.asset_id, schedule.start, schedule.values)
            except Exception as error:
                self.errors[driver.device] = str(error) or type(error).__name__
                return
            self._scheduled[schedule.asset_id] = version, schedule, reconnects
            taken.append(schedule)

    async def _settle_writes(self) -> None:
        if self._writes:
            await asyncio.wait(self._writes.values(), timeout=self._deadline_s)
        for device, task in list(self._writes.items()):
            if task.done():
                del self._writes[device]
                task.result()

    async def stop(self) -> None:
        """End what is under way; the links stay."""
        pending, self._writes = list(self._writes.values()), {}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
