"""A device of the sample microgrid behind a protocol worker of the simulator, and the loop's driver for it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import Driver, DriverError
from control_loop.protocols.factory import CERTIFICATES, Shared, driver_of
from control_loop.protocols.objects import ObjectDriver
from control_loop.protocols.worker import Worker
from flexergy_pipelines.settings import Settings, publish_endpoints
from plant_simulator.fronts import WorkerFront, make_front
from tests.plant_simulator.fakes import make_plant, run


async def commanded(driver: Driver, quantity: str, value: float, asset_id: str = "ess-1") -> None:
    """Give a command as the loop does: what was not confirmed in time is sent again in the next cycle."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(DriverError):
                return await driver.write(asset_id, quantity, value)
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def serving(script: str, *arguments: str) -> AsyncIterator[int]:
    """A device that a script of this folder serves in a process of its own; gives its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name(script)), str(port), *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert served.stdout is not None
    while (await served.stdout.readline()).strip() != b"ready":
        assert served.returncode is None
    try:
        yield port
    finally:
        served.kill()
        await served.communicate()


async def shown(driver: Driver, wished: dict[str, float | None]) -> None:
    """Wait until the driver shows just this."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(DriverError):
                if {quantity: value for (_, quantity), value in (await driver.read()).items()} == wished:
                    return
            await asyncio.sleep(0.05)


class Bench:
    """The device, kept running by a task, and the driver.

    Parameters
    ----------
    protocol : str
        ``iec104`` or ``iec61850``.
    home : Path
        Where the simulator publishes its address, and where certificates are.
    connection : dict
        What else the connection says.
    """

    device_id = "esc-1"
    order = "active_power_setpoint_kw"

    def __init__(self, protocol: str, home: Path, connection: dict[str, Any]) -> None:
        self.plant, self.clock = make_plant()
        device = next(d for d in self.plant.site.devices() if d.id == self.device_id)
        link = device.connection.model_copy(update={"protocol": protocol, "port": 25_104, **connection})
        device = dataclasses.replace(device, connection=link)
        self.settings = Settings(home, None, "demo")
        self.device_key = device.key
        front = make_front(device, self.plant, 1, home / CERTIFICATES)
        assert isinstance(front, WorkerFront)
        self.front = front
        shared = Shared()
        driver = driver_of(self.plant.site, device, self.settings, shared)
        assert isinstance(driver, ObjectDriver)
        self.driver = driver
        self.hub = shared.hubs[protocol, False]
        module = self.hub.worker.module
        self.hub.worker = Worker(module, lambda: [self.driver.spec()], self.hub.take, backoff=Backoff(0.05, 0.2))

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
                    if {"soc", "active_power_kw", self.order, "max_charge_kw"} <= set(read) and condition(read):
                        return read
                await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, reading on as the loop does."""
        async with asyncio.timeout(60):
            while not condition():
                with contextlib.suppress(DriverError):
                    await self.driver.read()
                await asyncio.sleep(0.05)

    async def __aenter__(self) -> Bench:
        await self.front.start("127.0.0.1")
        publish_endpoints(self.settings, {self.device_key: self.front.address})
        self._living = asyncio.create_task(self._live())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.driver.close()
        self._living.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._living
        await self.front.stop()


def on_the_wire(protocol: str, home: Path, talk: Callable[[Bench], Awaitable[None]], **connection: Any) -> None:
    """Run a conversation between the driver and the device."""

    async def check() -> None:
        async with Bench(protocol, home, connection) as bench:
            await talk(bench)

    asyncio.run(check())
