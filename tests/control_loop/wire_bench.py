"""The sample microgrid's storage controller behind a protocol worker of the simulator, and the loop's driver for it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable

from control_loop.protocols import iec104, iec61850
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.objects import Addressing, ObjectDriver, ObjectHub
from control_loop.protocols.worker import Worker
from flexergy_pipelines.grid import load_template, points_of
from plant_simulator.fronts import WorkerFront, iec104_front, iec61850_front
from tests.plant_simulator.fakes import make_plant, run


class Bench:
    """The device, kept running by a task, and the driver.

    Parameters
    ----------
    protocol : str
        ``iec104`` or ``iec61850``.
    """

    def __init__(self, protocol: str) -> None:
        self.plant, self.clock = make_plant()
        self.device_id = "esc-1" if protocol == "iec104" else "load-ctl-1"
        self.order = "active_power_setpoint_kw" if protocol == "iec104" else "active_power_limit_kw"
        device = next(d for d in self.plant.site.devices() if d.id == self.device_id)
        connection = device.connection.model_copy(update={"protocol": protocol, "port": 25_104})
        device = dataclasses.replace(device, connection=connection)
        template = load_template(connection.template)
        if protocol == "iec104":
            self.front: WorkerFront = iec104_front(device, self.plant, 1)
            module, addressing = iec104.WORKER, iec104.Iec104Addressing(template.asset_stride)
        else:
            self.front = iec61850_front(device, self.plant, 1)
            module, addressing = iec61850.WORKER, iec61850.Iec61850Addressing(self.device_id, template)
        names: Addressing = addressing
        self.hub = ObjectHub(module)
        self.hub.worker = Worker(module, lambda: [self.driver.spec()], self.hub.take, backoff=Backoff(0.05, 0.2))
        self.driver = ObjectDriver(
            self.hub,
            names,
            self.device_id,
            address=self.address,
            template=template,
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
                    if {"soc", "active_power_kw", "active_power_setpoint_kw", "max_charge_kw"} <= set(
                        read
                    ) and condition(read):
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


def on_the_wire(protocol: str, talk: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a conversation between the driver and the device."""

    async def check() -> None:
        async with Bench(protocol) as bench:
            await talk(bench)

    asyncio.run(check())
