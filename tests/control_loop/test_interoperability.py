"""The simulator and the loop's driver beside clients that nobody here wrote: `mbpoll` (over libmodbus), pysunspec2."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from control_loop.protocols.factory import Shared, driver_of
from flexergy_pipelines.settings import Settings, publish_endpoints
from plant_simulator.fronts import ModbusFront
from tests.plant_simulator.fakes import make_plant, run

MBPOLL = shutil.which("mbpoll")
SETPOINT = "active_power_setpoint_kw"


async def mbpoll(port: str, kind: str, address: int, *values: int) -> list[int]:
    """Ask once, or write; returns the values that were read."""
    assert MBPOLL is not None
    options = ["-m", "tcp", "-p", port, "-a", "1", "-0", "-r", str(address), "-t", kind, "-B", "-1", "-q"]
    process = await asyncio.create_subprocess_exec(
        MBPOLL,
        *options,
        "127.0.0.1",
        *map(str, values),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    rows = [line for line in output.decode().splitlines() if line.startswith("[")]
    return [int(row.split(":")[1].split()[0]) for row in rows]


@pytest.mark.requirement("com.01.1")
@pytest.mark.skipif(MBPOLL is None, reason="mbpoll is not installed (Debian: apt install mbpoll)")
def test_mbpoll_and_our_driver_see_and_command_the_same_device(tmp_path: Path) -> None:
    async def check() -> None:
        plant, clock = make_plant()
        device = next(d for d in plant.site.devices() if d.id == "esc-1")
        front = ModbusFront(device, plant, 1)
        await front.start("127.0.0.1")
        port = front.address.split(":")[1]
        settings = Settings(tmp_path, None, "demo")
        publish_endpoints(settings, {device.key: front.address})
        link = device.connection.model_copy(update={"timeout_s": 5.0})
        driver = driver_of(plant.site, dataclasses.replace(device, connection=link), settings, Shared())
        try:
            run(plant, clock, 5)
            await front.refresh()
            ours = await driver.read()
            assert await mbpoll(port, "3", 2) == [round(1e4 * (ours["ess-1", "soc"] or 0.0))]
            assert await mbpoll(port, "3:int", 6) == [25_000]
            await driver.write("ess-1", SETPOINT, -60.25)
            assert await mbpoll(port, "4:int", 0) == [-6025]
            await mbpoll(port, "4:int", 0, 3000)
            assert plant.orders.in_force("ess-1", SETPOINT) == 30.0
            await front.refresh()
            assert (await driver.read())["ess-1", SETPOINT] == 30.0
        finally:
            await driver.close()
            await front.stop()

    asyncio.run(check())


@pytest.mark.requirement("com.01.1")
def test_the_sunspec_alliances_client_finds_the_models_and_commands_the_battery() -> None:
    def talk(port: int) -> tuple[set[int], dict[str, Any], float]:
        client = SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port, timeout=20)
        try:
            client.scan()
            models: dict[Any, Any] = client.models
            shown = {n: models[m][0].points[n].value for m, n in ((701, "Alrm"), (802, "Evt1"), (713, "SoC"))}
            controls = models[704][0]
            shown["WSetRvrtTms"] = controls.points["WSetRvrtTms"].value
            controls.points["WSet"].cvalue = 30_000
            controls.points["WSetEna"].value = 1
            controls.write()
            controls.read()
            return {key for key in models if isinstance(key, int)}, shown, controls.points["WSet"].cvalue
        finally:
            client.close()

    async def check() -> None:
        plant, clock = make_plant()
        found = next(d for d in plant.site.devices() if d.id == "esc-1")
        link = found.connection.model_copy(update={"template": "sunspec_storage"})
        front = ModbusFront(dataclasses.replace(found, connection=link), plant, 1)
        await front.start("127.0.0.1")
        try:
            models, shown, held_w = await asyncio.to_thread(talk, int(front.address.split(":")[1]))
            assert models >= {1, 701, 704, 713, 802}
            assert shown == {"Alrm": None, "Evt1": 0, "SoC": 5000, "WSetRvrtTms": 60}
            assert held_w == 30_000
            run(plant, clock, 10)
            assert plant.measure("ess-1", "active_power_kw") == pytest.approx(30.0, abs=0.5)
        finally:
            await front.stop()

    asyncio.run(check())


BITS = """
points:
  - {quantity: active_power_kw, table: input, address: 2, type: float64, scale: -1.0}
  - {quantity: available, table: discrete, address: 19, type: bit}
  - {quantity: temperature_c, table: holding, address: 9, type: uint16, bit: 3}
  - {quantity: max_charge_kw, table: holding, address: 9, type: uint16, bit: 5}
  - {quantity: active_power_setpoint_kw, table: coil, address: 5, type: bit, access: rw}
"""


@pytest.mark.requirement("com.01.1")
def test_a_device_of_ones_own_template_is_simulated_with_its_bits_and_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEXERGY_HOME", str(tmp_path))
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "onoff_esc.yaml").write_text(BITS)

    async def check() -> None:
        plant, clock = make_plant()
        found = next(d for d in plant.site.devices() if d.id == "esc-1")
        link = found.connection.model_copy(update={"template": "onoff_esc", "timeout_s": 5.0})
        device = dataclasses.replace(found, connection=link)
        front = ModbusFront(device, plant, 1)
        await front.start("127.0.0.1")
        settings = Settings(tmp_path, None, "demo")
        publish_endpoints(settings, {device.key: front.address})
        driver = driver_of(plant.site, device, settings, Shared())
        try:
            before = await driver.read()
            assert (before["ess-1", "available"], before["ess-1", SETPOINT]) == (1.0, 0.0)
            assert (before["ess-1", "temperature_c"], before["ess-1", "max_charge_kw"]) == (1.0, 1.0)  # above one half
            await driver.write("ess-1", SETPOINT, 1.0)
            run(plant, clock, 5)
            await front.refresh()
            after = await driver.read()
            assert after["ess-1", SETPOINT] == 1.0
            assert after["ess-1", "active_power_kw"] == pytest.approx(1.0, abs=0.1)
            assert front.registers.read("input", 2, 1)[0] & 0x8000, "the device counts the other way"
            if MBPOLL is not None:
                port = front.address.split(":")[1]
                assert await mbpoll(port, "1", 19) == [1]
                assert await mbpoll(port, "0", 5) == [1]
                await mbpoll(port, "0", 5, 0)
                assert plant.orders.in_force("ess-1", SETPOINT) == 0.0
        finally:
            await driver.close()
            await front.stop()

    asyncio.run(check())
