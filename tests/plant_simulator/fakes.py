"""Series, sites and rigs that the simulator's tests share."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

from flexergy_pipelines.grid import Device, SimulatedClock, Site
from flexergy_pipelines.grid.samples import sample_site
from plant_simulator.fronts import WorkerFront
from plant_simulator.plant import Plant

START = datetime(2026, 6, 3, 10, 0, tzinfo=UTC)


class PlainSeries:
    """A sunny, breezy day: PV as a half sine by the hour of the day (UTC), everything else steady."""

    def __init__(self, site: Site) -> None:
        self._kinds = {asset.id: asset.kind for asset in site.assets()}
        self._loads = {asset.id: asset.rated_kw for asset in site.assets() if asset.kind == "load"}

    def value(self, asset_id: str, t: datetime) -> float:
        hour = t.hour + t.minute / 60 + t.second / 3600
        match self._kinds[asset_id]:
            case "pv":
                return 200.0 * max(0.0, math.sin((hour - 6) / 12 * math.pi))
            case "wind":
                return 60.0
            case "load":
                return 0.35 * self._loads[asset_id]
            case "controllable_load" | "ev":
                return 25.0
            case _:
                return 0.0


def make_plant(site_id: str = "microgrid", seed: int = 1) -> tuple[Plant, SimulatedClock]:
    """A sample site's plant at ten o'clock in June, and the clock that moves it."""
    site = sample_site(site_id)
    clock = SimulatedClock(START)
    return Plant(site, PlainSeries(site), clock, seed), clock


def run(plant: Plant, clock: SimulatedClock, seconds: float, dt_s: float = 1.0) -> None:
    """Let time pass."""
    for _ in range(round(seconds / dt_s)):
        clock.advance(dt_s)
        plant.step(dt_s)


class WorkerBench:
    """The microgrid's storage controller behind a protocol worker, kept running by a task."""

    def __init__(self, protocol: str, make: Callable[[Device, Plant, int], WorkerFront]) -> None:
        self.plant, self.clock = make_plant()
        # Time runs fast here: an order must not run out while a client on a busy machine still looks for its effect.
        self.plant.orders.set_ttl_s("ess-1", 86_400.0)
        device = next(d for d in self.plant.site.devices() if d.id == "esc-1")
        connection = device.connection.model_copy(update={"protocol": protocol, "port": 24_104})
        self.front = make(dataclasses.replace(device, connection=connection), self.plant, 1)
        self._running: asyncio.Task[None] | None = None

    async def _run(self) -> None:
        while True:
            run(self.plant, self.clock, 1)
            await self.front.refresh()
            await asyncio.sleep(0.02)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(60):
            while not condition():
                if self._running is not None and self._running.done():
                    self._running.result()
                await asyncio.sleep(0.02)

    async def __aenter__(self) -> Self:
        await self.front.start("127.0.0.1")
        self._running = asyncio.create_task(self._run())
        await self.until(lambda: self.front.ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self.front.stop()
