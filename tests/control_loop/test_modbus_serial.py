"""Modbus RTU on a serial line (a pair of pseudo terminals) that two devices share; and bits and wide numbers."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.modbus import ModbusDriver
from control_loop.protocols.modbus_line import SerialBus
from flexergy_pipelines.grid.connection import SerialLine
from flexergy_pipelines.grid.templates import DeviceTemplate, TemplatePoint

ABSENT = 9
TEMPLATE = DeviceTemplate(
    name="feeder",
    points=(
        TemplatePoint(quantity="active_power_kw", table="input", address=0, type="float64", scale=0.001),
        TemplatePoint(quantity="import_energy_kwh", table="input", address=4, type="uint64", scale=0.001),
        TemplatePoint(quantity="running", table="discrete", address=3, type="bit"),
        TemplatePoint(quantity="active_power_setpoint_kw", table="holding", address=0, type="int64", access="rw"),
        TemplatePoint(quantity="start", table="coil", address=2, type="bit", access="rw"),
    ),
)


class CrossedWire:
    """Two pseudo terminals with everything that goes into one coming out of the other."""

    def __init__(self) -> None:
        self.noise: list[Callable[[bytes], bytes]] = []
        pairs = [os.openpty() for _ in range(2)]
        self._masters = [master for master, _ in pairs]
        self._slaves = [slave for _, slave in pairs]
        for slave in self._slaves:
            tty.setraw(slave)
        self.ends = [os.ttyname(slave) for slave in self._slaves]
        loop = asyncio.get_running_loop()
        for here, there in (self._masters, self._masters[::-1]):
            loop.add_reader(here, self._carry, here, there)

    def _carry(self, here: int, there: int) -> None:
        """What is said to the unit that is not there reaches nobody, so nobody answers for it."""
        said = os.read(here, 4096)
        if here == self._masters[0] and self.noise:
            said = self.noise.pop(0)(said)
        if said and said[0] != ABSENT:
            os.write(there, said)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for master in self._masters:
            loop.remove_reader(master)
        for end in self._masters + self._slaves:
            os.close(end)


def device(unit: int) -> SimDevice:
    power = SimData(0, values=1000.0 * unit, datatype=DataType.FLOAT64)
    energy = SimData(4, values=5_000_000_000_000 + unit, datatype=DataType.UINT64)
    bits = [SimData(0, values=[False, False, True, True, False, True, False, False], datatype=DataType.BITS)]
    holding = [SimData(0, values=[0] * 8, datatype=DataType.REGISTERS)]
    return SimDevice(unit, (list(bits), list(bits), holding, [power, energy]))


def on_a_serial_line(
    talk: Callable[[Callable[[int], ModbusDriver]], Awaitable[None]], *noise: Callable[[bytes], bytes]
) -> None:
    """A conversation with units 3 and 4 of one line, whose first answers the noise spoils."""

    async def check() -> None:
        wire = CrossedWire()
        wire.noise += noise
        server = ModbusSerialServer([device(3), device(4)], port=wire.ends[0], baudrate=19200, parity="N")
        await server.serve_forever(background=True)
        bus = SerialBus(SerialLine(device=wire.ends[1], parity="N"))
        drivers: list[ModbusDriver] = []

        def driver_of(unit: int) -> ModbusDriver:
            asset = f"feeder-{unit}"
            wanted = {asset: TEMPLATE.quantities}
            options: dict[str, Any] = {"unit_id": unit, "timeout_s": 0.2, "backoff": Backoff(0.0, 0.0)}
            drivers.append(ModbusDriver(asset, bus, TEMPLATE, [asset], wanted, **options))
            return drivers[-1]

        try:
            await talk(driver_of)
        finally:
            for driver in drivers:
                await driver.close()
            await server.shutdown()
            wire.close()

    asyncio.run(check())


@pytest.mark.requirement("com.01.1")
def test_devices_share_a_serial_line_and_keep_bits_and_wide_numbers_apart() -> None:
    async def talk(driver_of: Callable[[int], ModbusDriver]) -> None:
        third, fourth = driver_of(3), driver_of(4)
        both = await asyncio.gather(third.read(), fourth.read())
        for unit, values in zip((3, 4), both, strict=True):
            asset = f"feeder-{unit}"
            assert values[asset, "active_power_kw"] == pytest.approx(float(unit))
            assert values[asset, "import_energy_kwh"] == pytest.approx(5e9 + unit / 1000, abs=1e-6)
            assert values[asset, "running"] == 1.0
            assert values[asset, "start"] == 1.0
        await fourth.write("feeder-4", "start", 0.0)
        await fourth.write("feeder-4", "active_power_setpoint_kw", -7_000_000_000.0)
        assert (await fourth.read())["feeder-4", "start"] == 0.0
        assert (await fourth.read())["feeder-4", "active_power_setpoint_kw"] == -7_000_000_000.0
        assert (await third.read())["feeder-3", "start"] == 1.0

    on_a_serial_line(talk)


@pytest.mark.requirement("com.01.3")
def test_a_silent_device_does_not_take_the_line_from_the_others() -> None:
    async def talk(driver_of: Callable[[int], ModbusDriver]) -> None:
        third, absent = driver_of(3), driver_of(ABSENT)
        for _ in range(3):
            with pytest.raises(DriverError, match=r"feeder-9: .*no answer within|down, next try"):
                await absent.read()
            assert (await third.read())["feeder-3", "active_power_kw"] == pytest.approx(3.0)
        assert third.health.failures == 0

    on_a_serial_line(talk)


@pytest.mark.requirement("com.01.3")
@pytest.mark.parametrize(
    "noise",
    [
        lambda said: said[:-1] + bytes([said[-1] ^ 0x10]),
        lambda said: b"\x00\x55" + said,
        lambda said: said[:4],
        lambda said: bytes([said[0] ^ 0x40]) + said[1:],
    ],
    ids=["checksum", "before", "cut", "unit"],
)
def test_an_answer_that_noise_has_spoilt_is_asked_for_again(noise: Callable[[bytes], bytes]) -> None:
    async def talk(driver_of: Callable[[int], ModbusDriver]) -> None:
        third = driver_of(3)
        assert (await third.read())["feeder-3", "active_power_kw"] == pytest.approx(3.0)
        assert (third.health.retries, third.health.failures) == (2, 0)

    on_a_serial_line(talk, noise, noise)


def test_a_line_that_only_makes_noise_is_no_link() -> None:
    async def talk(driver_of: Callable[[int], ModbusDriver]) -> None:
        third = driver_of(3)
        with pytest.raises(DriverError, match=r"feeder-3: .*the answers are garbled"):
            await third.read()

    on_a_serial_line(talk, *[lambda said: said[::-1]] * 9)


def test_a_line_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def check() -> None:
        bus = SerialBus(SerialLine(device=str(tmp_path / "ttyUSB7")))
        driver = ModbusDriver("feeder", bus, TEMPLATE, ["a"], {"a": TEMPLATE.quantities})
        with pytest.raises(DriverError, match=r"feeder: .*ttyUSB7"):
            await driver.read()

    asyncio.run(check())
