"""A simulated DLMS/COSEM meter on a free port, for the tests of whoever talks to one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from datetime import datetime

from flexergy_pipelines.grid import SimulatedClock
from plant_simulator.fronts import DlmsFront
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import make_plant, run


@dataclasses.dataclass
class MeterBench:
    """The load's meter of a simulated plant."""

    plant: Plant
    clock: SimulatedClock
    front: DlmsFront

    @property
    def port(self) -> int:
        return self.front.server.port

    @property
    def now(self) -> datetime:
        return self.clock.now()

    async def pass_time(self, seconds: float) -> None:
        run(self.plant, self.clock, seconds, 1.0)
        await self.front.refresh()


@contextlib.asynccontextmanager
async def meter_bench(meter: str = "load-meter") -> AsyncIterator[MeterBench]:
    """The meter, listening."""
    plant, clock = make_plant()
    device = next(d for d in plant.site.devices() if d.id == meter)
    connection = device.connection.model_copy(update={"protocol": "dlms", "port": 24_259})
    front = DlmsFront(dataclasses.replace(device, connection=connection), plant, 1)
    await front.start("127.0.0.1")
    await front.refresh()
    try:
        yield MeterBench(plant, clock, front)
    finally:
        await front.stop()
