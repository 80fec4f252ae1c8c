"""What goes wrong on demand in the simulated plant arrives over every protocol, and goes away when it is healed."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from control_loop.protocols.base import Driver, DriverError
from control_loop.protocols.factory import Shared, driver_of
from flexergy_pipelines.grid import Device, Site
from flexergy_pipelines.grid.clock import SimulatedClock
from flexergy_pipelines.grid.connection import Connection, SerialLine
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.metering.keys import FILE_NAME
from flexergy_pipelines.settings import Settings, publish_endpoints
from plant_simulator import ocpp_charger, signals
from plant_simulator.dlms_server import PASSWORD
from plant_simulator.faults import FaultRequest, device_faults
from plant_simulator.fronts import Front, make_front
from plant_simulator.modbus_serial import SerialLineServer
from plant_simulator.plant import Plant
from tests.control_loop.wire_bench import commanded
from tests.plant_simulator.fakes import START, PlainSeries, run

POWER, SETPOINT, LIMIT = "active_power_kw", "active_power_setpoint_kw", "active_power_limit_kw"


@dataclasses.dataclass(frozen=True)
class Case:
    """A device, how it is talked to, and two powers that the plant can be brought to [kW].

    Time runs fast in the plant. One that `lives_now` runs ahead, which a driver takes for a wrong clock; stamps of
    another month would be thought to tell of the past. Orders that carry the time at which they end want it behind.
    """

    device: str
    asset: str
    order: str | None
    told: dict[str, Any]
    levels: tuple[float, float] = (-80.0, 40.0)
    lives_now: bool = False


CASES = {
    "modbus_tcp": Case("esc-1", "ess-1", SETPOINT, {}),
    "modbus_rtu": Case("esc-1", "ess-1", SETPOINT, {"port": 0, "serial": SerialLine(device="/dev/ttyS7")}),
    "sunspec": Case("esc-1", "ess-1", SETPOINT, {"protocol": "modbus_tcp", "template": "sunspec_storage"}),
    "iec104": Case("esc-1", "ess-1", SETPOINT, {}),
    "iec61850": Case("esc-1", "ess-1", SETPOINT, {}),
    "ocpp16": Case("ev-1", "ev-1", LIMIT, {}, (12.0, 6.0), lives_now=True),
    "dlms": Case("load-meter", "load-1", None, {}, (120.0, 60.0)),
    "talq": Case("load-ctl-1", "cold-store", LIMIT, {"template": "talq_lamps"}, (30.0, 15.0)),
}


QUICK = {"modbus_tcp", "dlms", "talq"}
"""Protocols whose faults are tried in every run; the others take a quarter of a minute each and belong to the soak."""


class Offered(PlainSeries):
    """Loads that take what the test wants."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.loads_kw: dict[str, float] = {}

    def value(self, asset_id: str, t: datetime) -> float:
        return self.loads_kw.get(asset_id) or super().value(asset_id, t)


class Wire:
    """One device of a plant that runs, and the control loop's driver of it."""

    def __init__(self, case: Case, protocol: str, home: Path) -> None:
        self.case, self.site = case, sample_site("microgrid")
        self.clock = SimulatedClock(datetime.now(UTC) if case.lives_now else START)
        self.offered = Offered(self.site)
        self.plant = Plant(self.site, self.offered, self.clock, 1)
        self.driven_kw: float | None = None
        device = next(d for d in self.site.devices() if d.id == case.device)
        told = {"protocol": protocol, "port": free_port(), "timeout_s": 5.0, **case.told}
        connection = Connection.model_validate(device.connection.model_dump() | told)
        self.device: Device = dataclasses.replace(device, connection=connection)
        self.settings = Settings(home, None, "demo")
        self.front: Front = make_front(self.device, self.plant, 1, None, dict[str, SerialLineServer]())
        self.driver: Driver
        self.steps = 0

    async def talk(self, check: Callable[[Wire], Awaitable[None]]) -> None:
        await self.front.start("127.0.0.1")
        if self.front.address:
            publish_endpoints(self.settings, {self.device.key: self.front.address})
        keys = self.settings.home / FILE_NAME
        keys.write_text(f'"*": {{password: "{PASSWORD.decode()}"}}')
        keys.chmod(0o600)
        self.driver = driver_of(self.site, self.device, self.settings, Shared())
        living = asyncio.create_task(self._live())
        try:
            await check(self)
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            await self.driver.close()
            await self.front.stop()

    async def _live(self) -> None:
        while True:
            if self.driven_kw is not None:  # again and again: drivers set the device's revert timer, and time runs fast
                self.plant.command(self.case.asset, self.case.order or "", self.driven_kw)
            run(self.plant, self.clock, 1)
            await self.front.refresh()
            self.steps += 1
            await asyncio.sleep(0.02)

    def drive(self, level_kw: float) -> None:
        """Bring the plant itself to a power, past the wire."""
        if self.case.device in {"esc-1", "ev-1"}:
            self.driven_kw = level_kw
        else:
            self.offered.loads_kw[self.case.asset] = level_kw

    def fail(self, kind: str, **more: float) -> None:
        self.plant.faults.set(FaultRequest.model_validate({"target": self.device.key, "kind": kind, **more}))

    def heal(self) -> None:
        self.plant.faults.clear()

    @property
    def true_kw(self) -> float:
        return self.plant.measure(self.case.asset, POWER)

    def order_in_force(self) -> float | None:
        return self.plant.orders.in_force(self.case.asset, self.case.order or "")

    async def values(self) -> dict[str, float | None]:
        """What the driver sees; nothing while the device cannot be read."""
        try:
            read = await self.driver.read()
        except DriverError:
            await asyncio.sleep(0.02)
            return {}
        return {quantity: value for (_, quantity), value in read.items()}

    async def until(self, condition: Callable[[dict[str, float | None]], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition(await self.values()):
                await asyncio.sleep(0.02)

    async def shows(self, level_kw: float) -> None:
        """Wait until the driver sees a power."""
        await self.until(lambda seen: near(seen.get(POWER), level_kw))

    async def settles(self, level_kw: float) -> None:
        """Bring the plant to a power and wait until the driver sees it."""
        self.drive(level_kw)
        await self.shows(level_kw)

    async def steps_pass(self, number: int) -> None:
        end = self.steps + number
        while self.steps < end:
            await asyncio.sleep(0.02)


def near(value: float | None, wanted_kw: float) -> bool:
    return value is not None and value == pytest.approx(wanted_kw, rel=0.06)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def cut_and_silent(it: Wire) -> None:
    first, second = it.case.levels
    for kind in ("down", "silent"):
        await it.settles(first)
        it.fail(kind)
        await it.steps_pass(3)
        it.drive(second)
        if kind == "down":
            await it.until(lambda seen: seen.get(POWER) is None)
        else:
            await it.steps_pass(25)
        assert not near((await asyncio.wait_for(it.values(), 60)).get(POWER), second)
        it.heal()
        await it.shows(second)


async def slow(it: Wire) -> None:
    first, second = it.case.levels
    await it.settles(first)
    it.fail("slow", delay_s=0.4)
    await it.steps_pass(3)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await it.settles(second)
    assert loop.time() - begun >= 0.4
    it.heal()
    await it.settles(first)


async def wrong_values(it: Wire) -> None:
    first, second = it.case.levels
    await it.settles(first)
    it.fail("frozen")
    await it.steps_pass(3)
    it.drive(second)
    await it.steps_pass(25)
    assert near(it.true_kw, second)
    assert near((await it.values()).get(POWER), first)
    it.heal()
    await it.shows(second)
    it.fail("nan")
    await it.until(lambda seen: bool(seen) and seen[POWER] is None)
    it.heal()
    await it.shows(second)
    it.fail("wrong_scale", value=3.0)
    await it.shows(3.0 * second)
    it.heal()
    await it.shows(second)
    it.fail("spikes")
    await it.until(lambda seen: any(v is not None and wild(it, quantity, v) for quantity, v in seen.items()))
    it.heal()
    await it.shows(second)


def wild(it: Wire, quantity: str, value: float) -> bool:
    """Whether a value is ten times what is true; what a charge point says alone is a part of its block."""
    true = it.plant.measure(it.case.asset, quantity)
    if it.case.asset == "ev-1":
        return quantity == POWER and value > 2.0 * true + 1.0
    return abs(value) > 5.0 and value == pytest.approx(10.0 * (true + 1.0), rel=0.1)


async def orders_without_effect(it: Wire) -> None:
    assert it.case.order is not None
    first, second = it.case.levels
    await it.settles(first)
    # From here on the last order stands by itself, for as long as a busy machine may need.
    it.plant.orders.set_ttl_s(it.case.asset, 86_400.0)
    await it.steps_pass(2)
    it.driven_kw = None
    before = it.order_in_force()
    it.fail("ack_without_effect")
    await commanded(it.driver, it.case.order, second, it.case.asset)
    await it.steps_pass(25)
    assert near(it.true_kw, first)
    if it.case.asset == "ess-1":
        assert it.order_in_force() == before
        await it.until(lambda seen: near(seen.get(SETPOINT), first))
    it.heal()
    it.fail("stuck_output")
    await commanded(it.driver, it.case.order, 0.9 * second, it.case.asset)
    await it.steps_pass(25)
    assert near(it.true_kw, first)
    if it.case.asset == "ess-1":
        await it.until(lambda seen: near(seen.get(SETPOINT), 0.9 * second))
    it.heal()
    if it.case.asset == "ev-1":
        return  # what a healthy block makes of a limit depends on its cars, and stands in the tests of its protocol
    seen: dict[str, float | None] = {}
    while not near(seen.get(POWER), 0.8 * second):  # again and again, for the device's own timer runs here
        await commanded(it.driver, it.case.order, 0.8 * second, it.case.asset)
        seen = await it.values()


@pytest.mark.requirement("com.01.3")
@pytest.mark.parametrize(
    "protocol",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in CASES],
)
def test_every_fault_arrives_over_the_wire_and_heals(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (signals, ocpp_charger):
        monkeypatch.setattr(module, "SPIKE_PROBABILITY", 1.0)

    async def check(it: Wire) -> None:
        await cut_and_silent(it)
        await slow(it)
        await wrong_values(it)
        if it.case.order is not None:
            await orders_without_effect(it)

    spoken = str(CASES[protocol].told.get("protocol", protocol))

    async def all_of_it() -> None:
        async with asyncio.timeout(240):
            await Wire(CASES[protocol], spoken, tmp_path).talk(check)

    asyncio.run(all_of_it())
    tried = {"down", "silent", "slow", "frozen", "nan", "wrong_scale", "spikes"}
    if CASES[protocol].order is not None:
        tried |= {"ack_without_effect", "stuck_output"}
    possible = set(device_faults(spoken, takes_orders=CASES[protocol].order is not None))
    assert possible - tried <= {"clock_skew", "ack_without_effect"}  # both stand beside each protocol's own tests
