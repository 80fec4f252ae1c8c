"""The Modbus driver against a real Modbus TCP server on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.constants import ExcCodes
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from control_loop.protocols.backoff import Backoff
from control_loop.protocols.base import DriverError
from control_loop.protocols.modbus import ModbusDriver
from control_loop.protocols.modbus_blocks import MAX_BLOCK, coalesce
from control_loop.protocols.modbus_line import TcpLine
from flexergy_pipelines.grid.templates import TemplatePoint, decode, encode, load_template

ESC = load_template("generic_esc")
QUANTITIES = ESC.quantities


@dataclass
class Device:
    """A device's registers, and what was written to it."""

    tables: dict[str, dict[int, int]] = field(default_factory=lambda: {"input": {}, "holding": {}})
    writes: list[tuple[int, list[int]]] = field(default_factory=list)
    refuse: ExcCodes | None = None
    refused_codes: tuple[int, ...] = (3, 4, 16)
    reads: int = 0

    def set(self, quantity: str, value: float | None, asset: int = 0) -> None:
        point = ESC.point(quantity, asset)
        for offset, register in enumerate(encode(point, value)):
            self.tables[point.table][point.address + offset] = register

    def get(self, quantity: str, asset: int = 0) -> float | None:
        point = ESC.point(quantity, asset)
        return decode(point, [self.tables[point.table][point.address + i] for i in range(point.width)])

    async def action(  # noqa: PLR0917 - the server calls it so
        self, code: int, start: int, address: int, count: int, current: list[int], written: Any
    ) -> ExcCodes | None:
        if self.refuse is not None and code in self.refused_codes:
            return self.refuse
        table = self.tables["input" if code == 4 else "holding"]
        if written is None:
            self.reads += 1
            for i in range(count):
                current[address - start + i] = table.get(address + i, 0)
        else:
            self.writes.append((address, list(written)))
            table.update({address + i: int(value) for i, value in enumerate(written)})
        return None


@asynccontextmanager
async def served(
    device: Device, trace: Callable[[bool, ModbusPDU], ModbusPDU] | None = None, port: int = 0
) -> AsyncIterator[int]:
    bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    words = [SimData(0, values=[0] * 9002, datatype=DataType.REGISTERS)]
    server = ModbusTcpServer(
        SimDevice(1, (bits, list(bits), words, list(words)), action=device.action),
        address=("127.0.0.1", port),
        trace_pdu=trace,
    )
    await server.serve_forever(background=True)
    transport: Any = server.transport
    try:
        yield transport.sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


def driver_on(port: int, assets: tuple[str, ...] = ("ess-1",), **options: Any) -> ModbusDriver:
    return ModbusDriver(
        "esc-1",
        TcpLine(lambda: ("127.0.0.1", port)),
        ESC,
        assets,
        dict.fromkeys(assets, QUANTITIES),
        backoff=options.pop("backoff", None) or Backoff(0.0, 0.0),
        **options,
    )


def on_the_wire(talk: Callable[[Device, ModbusDriver], Awaitable[None]], **options: Any) -> Device:
    """Run a conversation between a driver and a device."""
    device = Device()

    async def run() -> None:
        async with served(device) as port:
            driver = driver_on(port, **options)
            try:
                await talk(device, driver)
            finally:
                await driver.close()

    asyncio.run(run())
    return device


@pytest.mark.requirement("com.01.1")
def test_values_arrive_in_their_units_and_setpoints_in_the_registers() -> None:
    async def talk(device: Device, driver: ModbusDriver) -> None:
        driver.health.tracing = True
        device.set("active_power_kw", -123.45)
        device.set("soc", 0.4321)
        device.set("temperature_c", -7.5)
        device.set("max_charge_kw", None)
        device.set("active_power_kw", 8.0, asset=1)
        values = await driver.read()
        assert values["ess-1", "active_power_kw"] == pytest.approx(-123.45)
        assert values["ess-1", "soc"] == pytest.approx(0.4321)
        assert values["ess-1", "temperature_c"] == pytest.approx(-7.5)
        assert values["ess-1", "max_charge_kw"] is None
        assert values["ess-2", "active_power_kw"] == pytest.approx(8.0)
        await driver.write("ess-2", "active_power_setpoint_kw", -55.5)
        assert device.get("active_power_setpoint_kw", asset=1) == pytest.approx(-55.5)
        assert (await driver.read())["ess-2", "active_power_setpoint_kw"] == pytest.approx(-55.5)
        assert driver.health.success_share == 1.0
        assert driver.health.bytes_received > 0
        assert any(words.startswith("-> unit 1 write registers 9001..9001 [") for _, words in driver.health.trace)
        assert any(words.startswith("<- unit 1 read input: ") for _, words in driver.health.trace)

    on_the_wire(talk, assets=("ess-1", "ess-2"))


def test_the_device_gets_its_revert_time_and_a_moving_heartbeat() -> None:
    async def talk(device: Device, driver: ModbusDriver) -> None:
        await driver.write("ess-1", "active_power_setpoint_kw", 1.0)
        await driver.write("ess-1", "active_power_setpoint_kw", 2.0)

    device = on_the_wire(talk, setpoint_ttl_s=45.0)
    assert device.writes[0] == (ESC.setpoint_ttl_address, [45])
    assert [values for address, values in device.writes if address == ESC.heartbeat_address] == [[1], [2]]


@pytest.mark.requirement("energy.12.1")
def test_the_next_hour_is_written_with_its_start_last() -> None:
    start = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)

    async def talk(device: Device, driver: ModbusDriver) -> None:
        await driver.write_schedule("ess-2", start, [10.0, -20.5, 0.0, 250.0])

    device = on_the_wire(talk, assets=("ess-1", "ess-2"))
    schedule = ESC.schedule
    assert schedule is not None
    base = ESC.asset_stride
    address, registers = device.writes[-2]
    values = [decode(schedule.point(i), registers[2 * i : 2 * i + 2]) for i in range(4)]
    assert (address, values) == (base + schedule.address, pytest.approx([10.0, -20.5, 0.0, 250.0]))
    epoch = int(start.timestamp())
    assert device.writes[-1] == (base + schedule.start_address, [epoch >> 16, epoch & 0xFFFF])


def test_a_refusal_is_an_error_that_names_the_device_and_keeps_the_link() -> None:
    async def talk(device: Device, driver: ModbusDriver) -> None:
        await driver.read()
        await driver.write("ess-1", "active_power_setpoint_kw", 4.0)
        device.refuse = ExcCodes.DEVICE_BUSY
        with pytest.raises(DriverError, match=r"esc-1: input 0\+\d+: refused: device busy \(6\)"):
            await driver.read()
        with pytest.raises(DriverError, match=r"esc-1: write 0: refused: device busy \(6\)"):
            await driver.write("ess-1", "active_power_setpoint_kw", 5.0)
        device.refuse = None
        await driver.read()
        assert driver.health.reconnects == 1
        assert driver.health.failures == 3  # both tables, and the write

    on_the_wire(talk)


def test_a_table_that_the_device_refuses_is_missing_and_the_other_still_read() -> None:
    async def talk(device: Device, driver: ModbusDriver) -> None:
        device.set("soc", 0.5)
        device.refuse, device.refused_codes = ExcCodes.ILLEGAL_ADDRESS, (3,)
        values = await driver.read()
        assert values["ess-1", "soc"] == pytest.approx(0.5)
        assert values["ess-1", "active_power_setpoint_kw"] is None

    on_the_wire(talk)


def test_a_value_that_does_not_fit_the_register_is_refused_before_the_wire() -> None:
    async def talk(device: Device, driver: ModbusDriver) -> None:
        with pytest.raises(DriverError, match="active_power_setpoint_kw: inf is not a finite number"):
            await driver.write("ess-1", "active_power_setpoint_kw", float("inf"))
        with pytest.raises(DriverError, match="has no asset pv-1"):
            await driver.write("pv-1", "active_power_setpoint_kw", 1.0)
        assert device.writes == []

    on_the_wire(talk)


@pytest.mark.requirement("com.01.3")
def test_a_device_that_starts_after_the_loop_is_found_by_the_first_retry() -> None:
    async def run() -> None:
        device = Device()
        async with served(device) as port:
            pass
        driver = driver_on(port, backoff=Backoff(0.01, 0.02))
        with pytest.raises(DriverError, match=f"esc-1: .* at 127.0.0.1:{port}"):
            await driver.read()
        async with served(device, port=port):
            async with asyncio.timeout(60):
                while not driver.health.connected:
                    try:
                        await driver.read()
                    except DriverError:
                        await asyncio.sleep(0.01)
            assert driver.health.reconnects == 1
            await driver.close()

    asyncio.run(run())


def test_between_two_tries_a_lost_device_costs_no_time() -> None:
    async def run() -> None:
        async with served(Device()) as port:
            pass
        driver = driver_on(port, backoff=Backoff(60.0, 60.0))
        with pytest.raises(DriverError):
            await driver.read()
        with pytest.raises(DriverError, match=r"esc-1: down, next try in \d+\.\d s"):
            await driver.read()

    asyncio.run(run())


def test_an_answer_with_the_wrong_number_of_registers_is_not_taken_and_the_link_made_anew() -> None:
    shorten = False

    def trace(sending: bool, pdu: ModbusPDU) -> ModbusPDU:
        if sending and shorten and pdu.registers:
            pdu.registers = pdu.registers[:-1]
        return pdu

    async def run() -> None:
        nonlocal shorten
        async with served(Device(), trace) as port:
            driver = driver_on(port)
            await driver.read()
            shorten = True
            with pytest.raises(DriverError, match=r"esc-1: .*: \d+ registers instead of \d+"):
                await driver.read()
            assert not driver.health.connected
            shorten = False
            await driver.read()
            assert driver.health.reconnects == 2
            await driver.close()

    asyncio.run(run())


def test_a_silent_device_ends_in_an_error_after_one_timeout() -> None:
    ended = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async def run() -> None:
        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        driver = driver_on(server.sockets[0].getsockname()[1], timeout_s=0.05)
        async with asyncio.timeout(60):
            with pytest.raises(DriverError, match="esc-1: "):
                await driver.read()
        assert not driver.health.connected
        await driver.close()
        await ended.wait()
        server.close()
        await server.wait_closed()

    asyncio.run(run())


def test_registers_of_one_device_are_read_in_few_requests() -> None:
    async def talk(device: Device, driver: ModbusDriver) -> None:
        await driver.read()
        assert device.reads == len(driver.blocks) == 2

    on_the_wire(talk)


@given(
    st.lists(
        st.tuples(st.sampled_from(["input", "holding"]), st.integers(0, 600), st.sampled_from(["int16", "int32"])),
        unique_by=lambda p: p[:2],
        max_size=60,
    )
)
def test_every_point_lies_in_exactly_one_block_within_the_protocols_size(points: list[tuple[Any, int, Any]]) -> None:
    listed = [
        (("a", f"{table}{address}"), TemplatePoint(quantity="q", table=table, address=address, type=kind))
        for table, address, kind in points
    ]
    blocks = coalesce(listed)
    assert sorted(key for block in blocks for key, _ in block.points) == sorted(key for key, _ in listed)
    for block in blocks:
        assert 1 <= block.count <= MAX_BLOCK
        for _, point in block.points:
            assert point.table == block.table
            assert block.address <= point.address
            assert point.address + point.width <= block.address + block.count
