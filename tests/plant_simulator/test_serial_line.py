"""A site whose devices hang on a serial line (Modbus RTU): simulated, and driven by the control loop's drivers."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from control_loop.protocols.base import Driver, DriverError
from control_loop.protocols.factory import Shared, driver_of
from flexergy_pipelines.grid import SimulatedClock, Site
from flexergy_pipelines.grid.connection import SerialLine
from flexergy_pipelines.grid.replay import ReplayedSite, ReplayRule
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings, publish_endpoints
from plant_simulator.faults import FaultRequest
from plant_simulator.field import Field
from tests.plant_simulator.fakes import START

SETPOINT = "active_power_setpoint_kw"
UNITS = {"esc-1": 3, "pcc-meter": 7}
MBPOLL = shutil.which("mbpoll")


def site_on_a_line() -> Site:
    """The microgrid with its storage controller and its meter on one serial line."""
    site = sample_site("microgrid")

    def wired(device: Any) -> Any:
        if device.id not in UNITS:
            return device
        told = {
            "protocol": "modbus_rtu", "port": 0, "unit_id": UNITS[device.id], "timeout_s": 5.0,
            "serial": SerialLine(device="/dev/ttyUSB7"),
        }  # fmt: skip
        return device.model_copy(update={"connection": device.connection.model_copy(update=told)})

    parts = {"controllers": tuple(map(wired, site.controllers)), "meters": tuple(map(wired, site.meters))}
    return Site.model_validate(site.model_copy(update=parts).model_dump())


@dataclasses.dataclass
class Bench:
    """The running field, and a driver for each device on the line."""

    field: Field
    clock: SimulatedClock
    drivers: dict[str, Driver]
    path: str

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            await self.field.step(1.0)

    def fail(self, device: str, kind: str, **more: Any) -> None:
        self.field.fail(FaultRequest(target=f"microgrid/{device}", kind=kind, **more))  # pyright: ignore[reportArgumentType]


def on_the_line(home: Path, talk: Callable[[Bench], Awaitable[None]]) -> None:
    async def check() -> None:
        site, clock, settings = site_on_a_line(), SimulatedClock(START), Settings(home, None, "demo")
        field = Field([(site, ReplayedSite(site, ReplayRule.for_now(START, site.zone)))], clock, 1)
        shared = Shared()
        drivers = {d.id: driver_of(site, d, settings, shared) for d in site.devices() if d.id in UNITS}
        # The drivers are there first: the line's device file is looked up when it is opened.
        addresses = await field.open("127.0.0.1")
        publish_endpoints(settings, addresses)
        assert addresses["microgrid/esc-1"] == addresses["microgrid/pcc-meter"]
        try:
            await talk(Bench(field, clock, drivers, addresses["microgrid/esc-1"]))
        finally:
            for driver in drivers.values():
                await driver.close()
            await field.close()

    asyncio.run(check())


@pytest.mark.requirement("com.01.1")
def test_two_devices_share_the_line_and_the_battery_follows_the_drivers_setpoint(tmp_path: Path) -> None:
    async def talk(it: Bench) -> None:
        await it.pass_time(3)
        storage, meter = await asyncio.gather(it.drivers["esc-1"].read(), it.drivers["pcc-meter"].read())
        plant = it.field.plants["microgrid"]
        assert storage["ess-1", "soc"] == pytest.approx(0.5, abs=0.001)
        assert meter["pcc", "active_power_kw"] == pytest.approx(plant.measure("pcc", "active_power_kw"), abs=0.006)
        await it.drivers["esc-1"].write("ess-1", SETPOINT, -80.0)
        await it.pass_time(3)
        storage = await it.drivers["esc-1"].read()
        assert storage["ess-1", SETPOINT] == -80.0
        assert storage["ess-1", "active_power_kw"] == pytest.approx(-80.0)
        device = it.field.state()["sites"]["microgrid"]["devices"]["microgrid/esc-1"]
        assert (device["protocol"], device["unit_id"]) == ("modbus_rtu", 3)
        assert device["writes"] >= 1

    on_the_line(tmp_path, talk)


@pytest.mark.requirement("com.01.3")
def test_a_silent_unit_leaves_the_line_to_the_others_and_comes_back(tmp_path: Path) -> None:
    async def talk(it: Bench) -> None:
        patient = it.drivers["esc-1"]
        vars(patient)["_timeout_s"] = 0.2
        for kind in ("down", "silent"):
            it.fail("esc-1", kind)
            with pytest.raises(DriverError, match="esc-1"):
                await patient.read()
            assert (await it.drivers["pcc-meter"].read())["pcc", "frequency_hz"] == pytest.approx(50.0, abs=0.2)
            it.field.faults.clear()
            async with asyncio.timeout(30):
                while True:
                    try:
                        assert (await patient.read())["ess-1", "soc"] is not None
                        break
                    except DriverError:
                        await asyncio.sleep(0.02)

    on_the_line(tmp_path, talk)


def test_noise_and_a_broken_frame_before_a_request_do_not_take_it_with_them(tmp_path: Path) -> None:
    async def talk(it: Bench) -> None:
        await it.drivers["pcc-meter"].read()
        # Half a request for 100 registers, as a plug pulled in the middle leaves it.
        line = os.open(it.path, os.O_RDWR | os.O_NOCTTY)
        os.write(line, bytes([3, 16, 0, 0, 0, 100, 200, 1, 2, 3]))
        os.close(line)
        await asyncio.sleep(0.15)  # the pause after which a line counts as quiet is part of the protocol
        assert (await it.drivers["esc-1"].read())["ess-1", "soc"] == pytest.approx(0.5, abs=0.001)

    on_the_line(tmp_path, talk)


@pytest.mark.skipif(MBPOLL is None, reason="mbpoll is not installed (Debian: apt install mbpoll)")
def test_mbpoll_reads_and_commands_over_the_serial_line(tmp_path: Path) -> None:
    async def mbpoll(path: str, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            str(MBPOLL), "-m", "rtu", "-b", "19200", "-P", "even", "-0", "-B", "-1", "-q", *words[:-1], path,
            *words[-1].split(),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def talk(it: Bench) -> None:
        read = await mbpoll(it.path, "-a", "3", "-r", "2", "-t", "3", "")
        assert re.search(r"\[2\]:\s+5000", read)
        await mbpoll(it.path, "-a", "3", "-r", "0", "-t", "4:int", "4200")
        assert it.field.plants["microgrid"].orders.in_force("ess-1", SETPOINT) == 42.0

    on_the_line(tmp_path, talk)
