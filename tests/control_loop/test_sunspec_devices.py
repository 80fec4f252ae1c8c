"""SunSpec devices as they are: without values, with powers of ten that move, with models that nobody expects."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

import pytest

from control_loop.discovery.sunspec import template_for
from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.sunspec import SunSpecDriver
from flexergy_pipelines.grid.templates import load_template
from flexergy_pipelines.grid.templates.sunspec import END, MARKER, locate, reference_chain
from tests.control_loop.odd_modbus import Odd, served

NOT_IMPLEMENTED = 0x8000


class Memory:
    """Registers of a device with these models, all of whose points are zero until they are set."""

    def __init__(self, *models: int, end: bool = True) -> None:
        self.chain = reference_chain(models)
        last = self.chain[-1]
        self.last = last.address + 2 + last.length
        self.device = Odd(written=dict.fromkeys(range(40_000, self.last + 2), 0))
        self.device.written |= {40_000: MARKER[0], 40_001: MARKER[1], self.last: END}
        self.device.holes = {0, 1, 50_000, 50_001, *([] if end else [self.last, self.last + 1])}
        for place in self.chain:
            self.device.written |= {place.address: place.model, place.address + 1: place.length}

    def set(self, **points: int | float) -> None:
        """Set points such as ``m103_W``."""
        for name, value in points.items():
            found = locate(name[1:].replace("_", ".", 1), self.chain)
            assert found is not None, name
            address, register = found
            raw = (
                struct.pack(">f", value)
                if register.type == "float32"
                else int(value).to_bytes(2 * register.size, signed=value < 0)
            )
            words = [int.from_bytes(raw[i : i + 2]) for i in range(0, len(raw), 2)]
            self.device.written |= {address + i: word for i, word in enumerate(words)}


def talking_to(memory: Memory, template: str, talk: Callable[[SunSpecDriver], Awaitable[None]]) -> None:
    async def check() -> None:
        async with served(memory.device) as line:
            wanted = {"a": load_template(template).quantities}
            driver = SunSpecDriver(
                "roof", line, load_template(template), ["a"], wanted, ratings={"a": 10.0}, timeout_s=20.0,
                backoff=Backoff(0.0, 0.0),
            )  # fmt: skip
            try:
                await talk(driver)
            finally:
                await driver.close()

    asyncio.run(check())


async def read(driver: SunSpecDriver) -> dict[str, float | None]:
    return {quantity: value for (_, quantity), value in (await driver.read()).items()}


@pytest.mark.requirement("com.01.1")
def test_a_power_of_ten_counts_as_it_is_with_the_value() -> None:
    memory = Memory(1, 103, 120, 123)
    memory.set(m103_W=500, m103_W_SF=1, m120_WRtg=1000, m120_WRtg_SF=1, m123_WMaxLimPct_SF=-2)

    async def talk(driver: SunSpecDriver) -> None:
        assert (await read(driver))["active_power_kw"] == pytest.approx(5.0)
        requests = len(memory.device.requests)
        memory.set(m103_W=4999, m103_W_SF=0, m123_WMaxLimPct_SF=0)
        assert (await read(driver))["active_power_kw"] == pytest.approx(4.999)
        assert len(memory.device.requests) - requests == len(driver.blocks)
        await driver.write("a", "active_power_limit_kw", 2.5)
        assert memory.device.written[locate("123.WMaxLimPct", memory.chain)[0]] == 25  # type: ignore[index]
        for nonsense in (NOT_IMPLEMENTED, 77):
            memory.set(m103_W_SF=nonsense)
            assert (await read(driver))["active_power_kw"] is None
        memory.set(m103_W_SF=2)
        assert (await read(driver))["active_power_kw"] == pytest.approx(499.9)

    talking_to(memory, "sunspec_inverter", talk)


def test_a_point_that_the_device_does_not_have_is_taken_from_where_it_has_it() -> None:
    memory = Memory(1, 701, 702, 704, 713, end=False)
    absent = 0xFFFF
    memory.set(m702_WChaRteMax=absent, m702_WChaRteMaxRtg=8000, m702_WDisChaRteMax=7000, m702_WDisChaRteMaxRtg=8000)
    memory.set(m702_WMaxRtg=9000, m713_SoC=55, m713_SoH=absent, m701_TmpCab=NOT_IMPLEMENTED, m701_W=-1500)

    async def talk(driver: SunSpecDriver) -> None:
        values = await read(driver)
        assert values["max_charge_kw"] == pytest.approx(8.0)
        assert values["max_discharge_kw"] == pytest.approx(7.0)
        assert values["active_power_kw"] == pytest.approx(-1.5)
        assert values["soc"] == pytest.approx(0.55)
        assert values["soh"] is None
        assert values["temperature_c"] is None
        assert "bms_alarm_word" not in values

    talking_to(memory, "sunspec_storage", talk)


@pytest.mark.requirement("com.01.1")
def test_an_inverter_of_floating_point_models_is_read() -> None:
    memory = Memory(1, 112, 120, 123)
    memory.set(m112_W=7321.5, m112_VAr=-100.0, m120_WRtg=20_000)

    async def talk(driver: SunSpecDriver) -> None:
        values = await read(driver)
        assert values["active_power_kw"] == pytest.approx(7.3215)
        assert values["reactive_power_kvar"] == pytest.approx(-0.1)
        memory.set(m112_W=float("nan"))
        assert (await read(driver))["active_power_kw"] is None

    talking_to(memory, "sunspec_inverter", talk)


def test_a_device_that_does_not_fit_gives_no_values_however_often_it_is_asked() -> None:
    memory = Memory(1, 203)

    async def talk(driver: SunSpecDriver) -> None:
        for _ in range(3):
            with pytest.raises(DriverError, match="template sunspec_inverter does not fit a device of models 1, 203"):
                await driver.read()
            assert not driver.health.connected

    talking_to(memory, "sunspec_inverter", talk)


@pytest.mark.requirement("com.01.1", "infra.01.2")
@pytest.mark.parametrize("model", [203, 213])
def test_a_meter_is_found_and_read(model: int) -> None:
    memory = Memory(1, model)
    values = {"W": -250, "Hz": 5001, "PhVphA": 2301, "TotWhImp": 12_345}
    factors = {"W_SF": 1, "Hz_SF": -2, "V_SF": -1, "TotWh_SF": 2} if model == 203 else {}
    scales = {"W": 10.0, "Hz": 0.01, "PhVphA": 0.1, "TotWhImp": 100.0}
    shown = values | factors if factors else {name: value * scales[name] for name, value in values.items()}
    memory.set(**{f"m{model}_{name}": value for name, value in shown.items()})

    async def talk(driver: SunSpecDriver) -> None:
        read_values = await read(driver)
        wished = {"active_power_kw": -2.5, "frequency_hz": 50.01, "voltage_l1_v": 230.1, "import_energy_kwh": 1234.5}
        assert {quantity: read_values[quantity] for quantity in wished} == pytest.approx(wished)
        assert template_for([place.model for place in memory.chain]) == "sunspec_meter"

    talking_to(memory, "sunspec_meter", talk)


def test_a_device_without_the_optional_revert_time_takes_orders() -> None:
    memory = Memory(1, 103, 120, 123)
    memory.set(m120_WRtg=10_000)
    found = locate("123.WMaxLimPct_RvrtTms", memory.chain)
    assert found is not None
    memory.device.locked = {found[0]}

    async def talk(driver: SunSpecDriver) -> None:
        await driver.write("a", "active_power_limit_kw", 2.0)
        wanted = {name: locate(name, memory.chain) for name in ("123.WMaxLimPct", "123.WMaxLim_Ena")}
        assert [memory.device.written[place[0]] for place in wanted.values() if place is not None] == [20, 1]

    talking_to(memory, "sunspec_inverter", talk)
