"""Modbus TCP on the wire: values, writes, refusals, and what a failing line looks like to a client."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from flexergy_pipelines.grid import SimulatedClock, decode, encode
from plant_simulator.device import DeviceRegisters
from plant_simulator.faults import FaultRequest
from plant_simulator.modbus_server import ModbusDevice
from plant_simulator.modbus_unit import ModbusUnit
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import make_plant, run

SETPOINT = "active_power_setpoint_kw"


@dataclass
class Bench:
    """A storage controller listening on a free port, and a client connected to it."""

    plant: Plant
    clock: SimulatedClock
    registers: DeviceRegisters
    server: ModbusDevice
    client: AsyncModbusTcpClient

    def run(self, seconds: int) -> None:
        run(self.plant, self.clock, seconds)
        self.registers.refresh()

    async def value(self, quantity: str) -> float | None:
        point = self.registers.template.point(quantity)
        read = self.client.read_input_registers if point.table == "input" else self.client.read_holding_registers
        reply = await read(point.address, count=point.width, device_id=1)
        assert not reply.isError()
        return decode(point, reply.registers)

    async def order(self, value: float) -> bool:
        point = self.registers.template.point(SETPOINT)
        reply = await self.client.write_registers(point.address, encode(point, value), device_id=1)
        return not reply.isError()

    def fail(self, kind: str, **more: float) -> None:
        self.plant.faults.set(FaultRequest.model_validate({"target": "microgrid/esc-1", "kind": kind, **more}))


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    plant, clock = make_plant()
    device = next(d for d in plant.site.devices() if d.id == "esc-1")
    registers = DeviceRegisters(device, plant)
    server = ModbusDevice(ModbusUnit(1, registers, registers.signals))
    await server.start("127.0.0.1", 0)
    client = AsyncModbusTcpClient("127.0.0.1", port=server.port, timeout=20.0, retries=0, reconnect_delay=0.05)
    await client.connect()
    try:
        yield Bench(plant, clock, registers, server, client)
    finally:
        client.close()
        await server.stop()


def on_the_wire(check: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        async with bench() as it:
            await check(it)

    asyncio.run(body())


def test_a_round_trip_of_values_and_setpoints() -> None:
    async def check(it: Bench) -> None:
        assert await it.value("soc") == pytest.approx(0.5)
        assert await it.order(-75.25)
        assert await it.value(SETPOINT) == -75.25
        it.run(3)
        assert await it.value("active_power_kw") == pytest.approx(-75.25)
        assert it.server.unit.writes == 1

    on_the_wire(check)


def test_what_is_not_there_is_refused_by_the_right_exception() -> None:
    async def check(it: Bench) -> None:
        assert (await it.client.read_input_registers(200, count=2, device_id=1)).exception_code == 2
        assert (await it.client.read_coils(0, count=1, device_id=1)).exception_code == 1
        assert (await it.client.read_input_registers(0, count=2, device_id=9)).exception_code == 11
        nan = encode(it.registers.template.point(SETPOINT), None)
        assert (await it.client.write_registers(0, nan, device_id=1)).exception_code == 3

    on_the_wire(check)


def test_every_request_of_one_segment_is_answered_under_its_own_id() -> None:
    async def check(it: Bench) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.server.port)
        requests = [struct.pack(">HHHBBHH", number, 0, 6, 1, 4, 2, 1) for number in (11, 12, 13)]
        writer.write(b"".join(requests)[:-3])
        await writer.drain()
        first = await reader.readexactly(22)
        writer.write(requests[-1][-3:])
        last = await reader.readexactly(11)
        writer.close()
        await writer.wait_closed()
        replies = first + last
        assert [struct.unpack_from(">H", replies, 11 * i)[0] for i in range(3)] == [11, 12, 13]
        assert {struct.unpack_from(">H", replies, 11 * i + 9)[0] for i in range(3)} == {5000}

    on_the_wire(check)


def test_a_silent_device_lets_requests_time_out_and_then_answers_again() -> None:
    async def check(it: Bench) -> None:
        hasty = AsyncModbusTcpClient("127.0.0.1", port=it.server.port, timeout=0.1, retries=0)
        await hasty.connect()
        it.fail("silent")
        with pytest.raises(ModbusIOException):
            await hasty.read_input_registers(0, count=2, device_id=1)
        hasty.close()
        it.plant.faults.clear()
        assert await it.value("soc") is not None

    on_the_wire(check)


def test_a_slow_device_answers_late_but_rightly() -> None:
    async def check(it: Bench) -> None:
        loop = asyncio.get_running_loop()
        it.fail("slow", delay_s=0.1)
        begun = loop.time()
        assert await it.value("soc") == pytest.approx(0.5)
        assert loop.time() - begun >= 0.09

    on_the_wire(check)


def test_a_device_that_is_down_closes_its_port_and_comes_back_on_the_same_one() -> None:
    async def check(it: Bench) -> None:
        port = it.server.port
        it.fail("down", duration_s=30.0)
        await it.server.obey_line()
        with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the system likes
            await asyncio.open_connection("127.0.0.1", port)
        it.run(31)
        await it.server.obey_line()
        assert it.server.port == port
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

    on_the_wire(check)


def test_a_taken_port_means_the_next_free_one() -> None:
    async def check(it: Bench) -> None:
        second = ModbusDevice(ModbusUnit(1, it.registers, it.registers.signals))
        _, port = await second.start("127.0.0.1", it.server.port)
        await second.stop()
        assert port > it.server.port

    on_the_wire(check)


@pytest.mark.skipif(shutil.which("mbpoll") is None, reason="mbpoll is not installed (Debian package mbpoll)")
def test_mbpoll_reads_and_writes_the_storage_controller() -> None:
    async def check(it: Bench) -> None:
        async def mbpoll(*options: str, values: tuple[str, ...] = ()) -> str:
            command = [
                "mbpoll",
                "-m",
                "tcp",
                "-p",
                str(it.server.port),
                "-a",
                "1",
                "-0",
                "-1",
                *options,
                "--",
                "127.0.0.1",
            ]
            done = await asyncio.to_thread(
                subprocess.run, [*command, *values], capture_output=True, text=True, timeout=30, check=True
            )
            return done.stdout

        assert "5000" in await mbpoll("-t", "3", "-r", "2", "-c", "1")
        await mbpoll("-t", "4:int", "-B", "-r", "0", values=("-4000",))
        it.run(3)
        assert it.plant.measure("ess-1", "active_power_kw") == pytest.approx(-40.0)
        assert "-4000" in await mbpoll("-t", "3:int", "-B", "-r", "0", "-c", "1")

    on_the_wire(check)
