"""SunSpec devices on the wire: found by their models, read in kW, limited by percentage."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from control_loop.protocols.base import DriverError
from control_loop.protocols.factory import Shared, driver_of
from control_loop.protocols.sunspec import SunSpecDriver
from flexergy_pipelines.settings import Settings, publish_endpoints
from plant_simulator.fronts import ModbusFront
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import make_plant, run


def on_the_wire(
    device_id: str,
    template: str,
    home: Path,
    talk: Callable[[SunSpecDriver, ModbusFront, Plant], Awaitable[None]],
    served_as: str = "",
) -> None:
    async def check() -> None:
        plant, clock = make_plant()
        device = next(d for d in plant.site.devices() if d.id == device_id)
        link = device.connection.model_copy(update={"template": template, "timeout_s": 5.0})
        device = dataclasses.replace(device, connection=link, assets=device.assets[:1])
        served = link.model_copy(update={"template": served_as or template})
        front = ModbusFront(dataclasses.replace(device, connection=served), plant, 1)
        run(plant, clock, 2)
        await front.refresh()
        await front.start("127.0.0.1")
        settings = Settings(home, None, "demo")
        publish_endpoints(settings, {device.key: front.address})
        driver = driver_of(plant.site, device, settings, Shared())
        assert isinstance(driver, SunSpecDriver)
        try:
            await talk(driver, front, plant)
        finally:
            await driver.close()
            await front.stop()

    asyncio.run(check())


@pytest.mark.requirement("com.01.1")
def test_a_storage_inverter_is_read_and_commanded_in_watts(tmp_path: Path) -> None:
    async def talk(driver: SunSpecDriver, front: ModbusFront, plant: Plant) -> None:
        values = await driver.read()
        assert values["ess-1", "soc"] == pytest.approx(0.5, abs=0.001)
        assert values["ess-1", "soh"] == pytest.approx(0.98, abs=0.001)
        assert values["ess-1", "max_charge_kw"] == pytest.approx(250.0)
        assert values["ess-1", "available"] == 1.0
        await driver.write("ess-1", "active_power_setpoint_kw", -61.234)
        assert plant.orders.in_force("ess-1", "active_power_setpoint_kw") == pytest.approx(-61.234)
        assert plant.orders.ttl_s("ess-1") == plant.site.operation.setpoint_ttl_s
        assert front.registers.read("holding", 40_299, 2) == [1, 1]  # 704.WSetEna, 704.WSetMod in watts
        assert driver.describe()["manufacturer"] == "Flexergy"
        assert driver.describe()["models"] == [1, 701, 702, 704, 713, 802]

    on_the_wire("esc-1", "sunspec_storage", tmp_path, talk)


@pytest.mark.requirement("com.01.1")
def test_an_inverter_is_limited_by_a_percentage_of_its_rating(tmp_path: Path) -> None:
    async def talk(driver: SunSpecDriver, front: ModbusFront, plant: Plant) -> None:
        free = await driver.read()
        produced = plant.measure("pv-1", "active_power_kw")
        assert free["pv-1", "active_power_kw"] == pytest.approx(produced, abs=0.1)
        assert free["pv-1", "available_power_kw"] == free["pv-1", "active_power_kw"]
        await driver.write("pv-1", "active_power_limit_kw", 50.0)
        (percent,) = front.registers.read("holding", 40_155, 1)  # 123.WMaxLimPct, two decimals
        assert percent == 1250  # 50 of 400 kW
        assert plant.orders.in_force("pv-1", "active_power_limit_kw") == pytest.approx(50.0)
        front.registers.refresh()
        limited = await driver.read()
        assert limited["pv-1", "active_power_limit_kw"] == pytest.approx(50.0)
        with pytest.raises(DriverError, match="soc of pv-1 cannot be commanded"):
            await driver.write("pv-1", "soc", 1.0)

    on_the_wire("res-1", "sunspec_inverter", tmp_path, talk)


def test_a_device_without_the_models_says_which_it_has(tmp_path: Path) -> None:
    async def talk(driver: SunSpecDriver, front: ModbusFront, plant: Plant) -> None:
        with pytest.raises(DriverError, match="no SunSpec device: no marker at 40000, 50000, 0"):
            await driver.read()

    on_the_wire("esc-1", "sunspec_storage", tmp_path, talk, "generic_esc")


def test_a_held_back_inverter_does_not_pretend_to_know_what_it_could_give(tmp_path: Path) -> None:
    async def talk(driver: SunSpecDriver, front: ModbusFront, plant: Plant) -> None:
        await driver.write("pv-1", "active_power_limit_kw", 50.0)
        for _ in range(60):
            plant.step(1.0)
        front.registers.refresh()
        values = await driver.read()
        assert values["pv-1", "active_power_kw"] == pytest.approx(50.0, abs=0.1)
        assert values["pv-1", "available_power_kw"] is None

    on_the_wire("res-1", "sunspec_inverter", tmp_path, talk)
