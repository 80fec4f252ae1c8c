"""A loop with everything behind it, over hours of simulated seconds: what its memory does."""

from __future__ import annotations

import asyncio
import gc
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from control_loop.alarms import Alarm, AlarmKey
from control_loop.cycle import ControlCycle
from control_loop.model import SiteModel
from control_loop.news import News
from control_loop.outbox import Outbox
from control_loop.protocols.base import MemoryDriver
from control_loop.site_loop import SiteLoop
from control_loop.spool import Spool
from control_loop.telemetry import PointPolicy, TelemetryFilter
from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.clock import SimulatedClock
from tests.control_loop.harness import ESS, NOW, SETPOINT, plan_of

# ruff: noqa: ARG002 - a sink has the store's parameters and no use for them

BATTERIES = 30


class Sink:
    """A store that takes everything and keeps nothing; it is away for a while now and then."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock

    def _there(self) -> None:
        if self.clock.monotonic() % 900 > 600:
            raise ConnectionError("the database is restarting")

    def load_site(self) -> Site:
        raise LookupError("the loop was given its site")

    def news(self, at: datetime) -> News:
        self._there()
        start = at.replace(minute=at.minute - at.minute % 15, second=0, microsecond=0)
        wish = 40.0 * math.sin(start.timestamp())
        return News(plan_of({f"ess-{i}.{SETPOINT}": wish for i in range(BATTERIES)}, start=start, hours=0.25))

    def acknowledge(self, command_id: int, status: str, message: str) -> None:
        self._there()

    def write_live(self, rows: Sequence[Sequence[Any]]) -> None:
        self._there()

    def write_readings(self, rows: Sequence[Sequence[Any]]) -> None:
        self._there()

    def write_setpoints(self, rows: Sequence[Sequence[Any]]) -> None:
        self._there()

    def raise_alarm(self, alarm: Alarm) -> None:
        self._there()

    def clear_alarm(self, key: AlarmKey) -> None:
        self._there()

    def standing_alarms(self) -> set[AlarmKey]:
        self._there()
        return set()

    def request_replan(self, reason: str) -> None:
        self._there()


def resident_mb() -> float:
    """Resident memory of this process [MB]."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError("this system does not tell a process's memory")


def endure(cycles: int) -> list[tuple[float, float]]:
    """Run `cycles` seconds; the resident memory [MB] by time [s], each minute.

    Batteries follow, meters move, devices go silent in turn, the store is away a third of the time.
    """
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_endure(cycles, Path(folder)))


async def _endure(cycles: int, folder: Path) -> list[tuple[float, float]]:
    clock = SimulatedClock(NOW)
    actuators = tuple(replace(ESS, asset_id=f"ess-{i}", controller=f"esc-{i}") for i in range(BATTERIES))
    model = SiteModel("site", actuators, 1e5, 1e5, ramp_kw_per_s=10.0)
    drivers = [
        MemoryDriver(a.controller, {(a.asset_id, "soc"): 0.5, (a.asset_id, SETPOINT): 0.0}) for a in model.actuators
    ]
    meter = MemoryDriver("meter", {("pcc", "active_power_kw"): 0.0})
    cycle = ControlCycle(model, [*drivers, meter], clock)
    spool = Spool(folder / "spool.sqlite")
    told = asyncio.Event()

    def take(news: News) -> None:
        loop.take_news(news)
        told.set()

    outbox = Outbox(Sink(clock), spool, clock, take)
    loop = SiteLoop(cycle, outbox, TelemetryFilter(lambda *_: PointPolicy(60.0, 0.5)), clock)
    samples: list[tuple[float, float]] = []
    for second in range(cycles):
        for number, (actuator, driver) in enumerate(zip(model.actuators, drivers, strict=True)):
            key = (actuator.asset_id, "active_power_kw")
            silent = (second // 60) % (2 * BATTERIES) == number
            driver.values[key] = None if silent else driver.values.get((actuator.asset_id, SETPOINT))
            driver.writes.clear()
        meter.values["pcc", "active_power_kw"] = 100.0 * math.sin(second / 60) + 0.01 * second
        outbox.work()
        await loop.step(clock.now())
        outbox.to_disk()
        clock.advance(1.0)
        if second % 60 == 59:
            gc.collect()
            samples.append((float(second), resident_mb()))
    await cycle.close()
    spool.close()
    assert told.is_set()
    assert timedelta(seconds=cycles) == clock.now() - NOW
    return samples
