"""DLMS meters in the loop: values in our units over an open association, keys from the home, and a meter that goes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from control_loop.protocols.base import DriverError
from control_loop.protocols.dlms import DlmsDriver
from control_loop.protocols.factory import Shared, driver_of
from flexergy_pipelines.settings import Settings, publish_endpoints
from plant_simulator.dlms_server import AUTHENTICATION_KEY, ENCRYPTION_KEY, PASSWORD
from plant_simulator.fronts import DlmsFront
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import make_plant, run

KEYS = f"""
"microgrid/pcc-meter": {{encryption_key: "{ENCRYPTION_KEY.hex()}", authentication_key: "{AUTHENTICATION_KEY.hex()}"}}
"*": {{password: "{PASSWORD.decode()}"}}
"""


def with_a_meter(
    home: Path, talk: Callable[[DlmsDriver, DlmsFront, Plant], Awaitable[None]], device_id: str = "pcc-meter"
) -> None:
    async def check() -> None:
        plant, clock = make_plant()
        device = next(d for d in plant.site.devices() if d.id == device_id)
        link = device.connection.model_copy(update={"protocol": "dlms", "timeout_s": 2.0})
        device = dataclasses.replace(device, connection=link)
        run(plant, clock, 3)
        front = DlmsFront(device, plant, 1)
        await front.refresh()
        await front.start("127.0.0.1")
        settings = Settings(home, None, "demo")
        publish_endpoints(settings, {device.key: front.address})
        (home / "meter_keys.yaml").write_text(KEYS)
        (home / "meter_keys.yaml").chmod(0o600)
        driver = driver_of(plant.site, device, settings, Shared())
        assert isinstance(driver, DlmsDriver)
        try:
            await talk(driver, front, plant)
        finally:
            await driver.close()
            await front.stop()

    asyncio.run(check())


@pytest.mark.requirement("com.01.2", "infra.02.5")
@pytest.mark.parametrize("device_id", ["pcc-meter", "load-meter"])
def test_a_meter_is_read_in_the_platforms_units(device_id: str, tmp_path: Path) -> None:
    async def talk(driver: DlmsDriver, front: DlmsFront, plant: Plant) -> None:
        (asset,) = driver.assets
        await driver.read()
        values = await driver.read()
        for quantity in {quantity for _, quantity in values}:
            measured = plant.measure(asset, quantity)
            assert values[asset, quantity] == pytest.approx(measured, abs=0.06), quantity
        assert (asset, "active_power_kw") in values
        assert driver.health.reconnects == 1
        if asset == "pcc":
            assert values[asset, "frequency_hz"] == pytest.approx(50.0, abs=0.5)
        with pytest.raises(DriverError, match="a meter takes no orders"):
            await driver.write(asset, "active_power_setpoint_kw", 1.0)

    with_a_meter(tmp_path, talk, device_id)


@pytest.mark.requirement("com.01.3")
def test_a_meter_that_goes_and_comes_back_is_asked_again(tmp_path: Path) -> None:
    async def talk(driver: DlmsDriver, front: DlmsFront, plant: Plant) -> None:
        driver._backoff.first_s = 0.0
        await driver.read()
        await front.stop()
        with pytest.raises(DriverError, match="pcc-meter"):
            await driver.read()
        with pytest.raises(DriverError, match="no connection"):
            await driver.read()
        assert driver.health.connected is False
        host, _, port = front.address.partition(":")
        await front.server.start(host, int(port))
        assert (await driver.read())["pcc", "frequency_hz"] is not None

    with_a_meter(tmp_path, talk)


def test_a_meter_that_nobody_gave_a_key_for_says_so_and_takes_one_up(tmp_path: Path) -> None:
    async def talk(driver: DlmsDriver, front: DlmsFront, plant: Plant) -> None:
        driver._backoff.first_s = 0.0
        keys = tmp_path / "meter_keys.yaml"
        told = keys.read_text()
        keys.write_text("{}")
        with pytest.raises(DriverError, match="pcc-meter: no register can be read without a password or key"):
            await driver.read()
        assert "meter_keys.yaml" in driver.health.last_error
        keys.write_text(told)
        values = await driver.read()
        assert values["pcc", "active_power_kw"] is not None

    with_a_meter(tmp_path, talk)


def test_wrong_keys_are_told(tmp_path: Path) -> None:
    async def talk(driver: DlmsDriver, front: DlmsFront, plant: Plant) -> None:
        (tmp_path / "meter_keys.yaml").write_text(KEYS.replace(ENCRYPTION_KEY.hex(), "ff" * 16))
        with pytest.raises(DriverError, match=r"pcc-meter: .*key"):
            await driver.read()

    with_a_meter(tmp_path, talk)
