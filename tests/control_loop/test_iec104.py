"""IEC 60870-5-104 between the loop's worker and the simulator's, both real processes on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.iec104 import Iec104Driver, Iec104Hub
from control_loop.protocols.worker import Worker
from flexergy_pipelines.grid import load_template, points_of
from plant_simulator.faults import FaultRequest
from plant_simulator.fronts import Iec104Front
from tests.plant_simulator.fakes import make_plant, run

SETPOINT = "active_power_setpoint_kw"
START = datetime(2026, 6, 3, 11, 0, tzinfo=UTC)


class Bench:
    """The sample microgrid's storage controller as an IEC 104 station, and the loop's driver for it."""

    def __init__(self) -> None:
        self.plant, self.clock = make_plant()
        device = next(d for d in self.plant.site.devices() if d.id == "esc-1")
        connection = device.connection.model_copy(update={"protocol": "iec104", "port": 25_104})
        self.front = Iec104Front(dataclasses.replace(device, connection=connection), self.plant, 1)
        self.hub = Iec104Hub()
        self.hub.worker = Worker(
            "control_loop.protocols.iec104_worker",
            lambda: [self.driver.spec()],
            self.hub.take,
            backoff=Backoff(0.05, 0.2),
        )
        self.driver = Iec104Driver(
            self.hub,
            "esc-1",
            self.address,
            template=load_template(connection.template),
            assets=[asset.id for asset in device.assets],
            quantities={a.id: frozenset(p.quantity for p in points_of(a)) for a in device.assets},
            setpoint_ttl_s=600.0,
        )

    def address(self) -> tuple[str, int]:
        host, _, port = self.front.address.partition(":")
        return host, int(port)

    async def _live(self) -> None:
        while True:
            run(self.plant, self.clock, 1)
            await self.front.refresh()
            await asyncio.sleep(0.02)

    async def values(self, condition: Callable[[dict[str, float | None]], bool]) -> dict[str, float | None]:
        """Read until the values are as wanted; a link that is away is asked again."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(DriverError):
                    read = {quantity: value for (_, quantity), value in (await self.driver.read()).items()}
                    if len(read) == 8 and condition(read):
                        return read
                await asyncio.sleep(0.05)

    async def __aenter__(self) -> Bench:
        await self.front.start("127.0.0.1")
        self._living = asyncio.create_task(self._live())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.driver.close()
        self._living.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._living
        await self.front.stop()


def on_the_wire(talk: Callable[[Bench], Awaitable[None]]) -> None:
    async def check() -> None:
        async with Bench() as bench:
            await talk(bench)

    asyncio.run(check())


@pytest.mark.requirement("com.01.1")
def test_values_are_interrogated_and_setpoints_take_effect() -> None:
    async def talk(bench: Bench) -> None:
        first = await bench.values(lambda v: v["soc"] is not None)
        assert first["soc"] == pytest.approx(0.5, abs=0.01)
        assert first["available"] == 1.0
        assert first["max_charge_kw"] == pytest.approx(250.0)
        await bench.driver.write("ess-1", SETPOINT, -60.25)
        after = await bench.values(lambda v: v["active_power_kw"] == pytest.approx(-60.25, abs=0.1))
        assert after[SETPOINT] == pytest.approx(-60.25)
        assert bench.plant.orders.ttl_s("ess-1") == 600.0
        await bench.driver.write_schedule("ess-1", START, [10.0, -20.5, 0.0, 250.0])
        async with asyncio.timeout(20):
            while bench.plant.schedule("ess-1") is None:
                await asyncio.sleep(0.02)
        assert bench.plant.schedule("ess-1") == (START, (10.0, -20.5, 0.0, 250.0))
        with pytest.raises(DriverError, match="has no asset pv-1"):
            await bench.driver.write("pv-1", SETPOINT, 1.0)

    on_the_wire(talk)


@pytest.mark.requirement("com.01.3")
def test_a_lost_line_is_no_data_until_everything_was_heard_anew() -> None:
    async def talk(bench: Bench) -> None:
        await bench.values(lambda v: v["soc"] is not None)
        bench.plant.faults.set(FaultRequest(target="microgrid/esc-1", kind="down"))
        async with asyncio.timeout(60):
            while bench.driver.health.connected:
                await asyncio.sleep(0.02)
        with pytest.raises(DriverError, match="esc-1: no IEC 104 connection"):
            await bench.driver.read()
        with pytest.raises(DriverError, match="esc-1: no IEC 104 connection"):
            await bench.driver.write("ess-1", SETPOINT, 5.0)
        bench.plant.faults.clear()
        await bench.values(lambda v: v["soc"] is not None)
        assert bench.driver.health.reconnects >= 2

    on_the_wire(talk)


@pytest.mark.requirement("com.01.3")
def test_a_worker_that_dies_or_hangs_is_started_again_and_costs_the_loop_no_time() -> None:
    async def talk(bench: Bench) -> None:
        await bench.values(lambda v: v["soc"] is not None)
        for fatal in (signal.SIGKILL, signal.SIGSTOP):
            pid = bench.hub.worker.pid
            assert pid is not None
            os.kill(pid, fatal)
            async with asyncio.timeout(30):
                while bench.hub.worker.pid in {pid, None}:
                    began = time.perf_counter()
                    with contextlib.suppress(DriverError):
                        await bench.driver.read()
                    assert time.perf_counter() - began < 5.0
                    await asyncio.sleep(0.05)
            await bench.values(lambda v: v["soc"] is not None)
            assert bench.hub.worker.pid != pid

    on_the_wire(talk)
