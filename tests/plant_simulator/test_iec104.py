"""IEC 60870-5-104 on the wire: interrogation, values, setpoints direct and selected, faults of line and worker."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import struct
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flexergy_pipelines.grid import SimulatedClock
from plant_simulator.faults import FaultRequest
from plant_simulator.fronts import iec104_front
from plant_simulator.iec104 import HEARTBEAT_IOA, ORDER_BASE, SELECT_BASE, TTL_IOA, Iec104Device
from plant_simulator.plant import Plant
from tests.control_loop.rtu import ACTIVATION, CONFIRMED, DEACTIVATION, NEGATIVE, Asdu, short
from tests.plant_simulator.fakes import WorkerBench, make_plant, run

CLIENT = Path(__file__).with_name("iec104_client.py")


def storage_controller() -> tuple[Iec104Device, Plant, SimulatedClock]:
    plant, clock = make_plant()
    device = next(d for d in plant.site.devices() if d.id == "esc-1")
    return Iec104Device(device, plant), plant, clock


def test_addresses_follow_the_register_template() -> None:
    image, _, _ = storage_controller()
    values = image.values()
    assert values[1] == 0.0
    assert values[3] == pytest.approx(0.5)
    assert values[30_001] == 0.0
    spec = image.spec()
    assert {"ioa": 6, "kind": "single", "stamped": None} in spec["monitored"]
    assert {ORDER_BASE, TTL_IOA, HEARTBEAT_IOA} <= set(spec["setpoints"])
    assert SELECT_BASE in spec["selectable"]


def test_only_what_changed_is_passed_on() -> None:
    image, plant, clock = storage_controller()
    assert set(image.changes()) == set(image.values())
    assert image.changes() == {}
    plant.command("ess-1", "active_power_setpoint_kw", 30.0)
    run(plant, clock, 1)
    image.signals.refresh()
    assert {1, 30_001} <= set(image.changes())


def test_a_schedule_comes_slot_by_slot_and_holds_from_its_start() -> None:
    image, plant, _ = storage_controller()
    start = datetime(2026, 6, 3, 11, 0, tzinfo=UTC)
    for slot, value in enumerate((1.0, 2.0, 3.0, 4.0)):
        image.take(ORDER_BASE + 20 + 2 * slot, value)
    assert plant.schedule("ess-1") is None
    image.take(ORDER_BASE + 28, start.timestamp())
    assert plant.schedule("ess-1") == (start, (1.0, 2.0, 3.0, 4.0))


def test_the_revert_time_can_be_set() -> None:
    image, plant, clock = storage_controller()
    image.take(TTL_IOA, 5.0)
    image.take(ORDER_BASE, 25.0)
    run(plant, clock, 3)
    assert plant.measure("ess-1", "active_power_kw") == pytest.approx(25.0)
    run(plant, clock, 4)
    assert plant.measure("ess-1", "active_power_kw") == 0.0


def test_a_client_interrogates_and_commands_directly_and_by_selection() -> None:
    async def check() -> None:
        async with WorkerBench("iec104", iec104_front) as it:
            port = it.front.address.split(":")[1]
            client = await asyncio.create_subprocess_exec(
                sys.executable, str(CLIENT), port, str(ORDER_BASE), str(SELECT_BASE), "-42.5",
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            output, _ = await asyncio.wait_for(client.communicate(), 200)
            report = json.loads(output.decode().splitlines()[-1])
            assert report.pop("soc") == pytest.approx(0.5, abs=0.05)
            assert report == dict.fromkeys(
                ("open", "interrogated", "clock", "direct", "power_followed", "selected"), True
            )
            assert it.front.statistics()["writes"] >= 2

    asyncio.run(check())


def test_an_order_that_is_cancelled_or_refused_has_no_effect() -> None:
    async def check() -> None:
        async with WorkerBench("iec104", iec104_front) as it:
            host, port = it.front.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"\x68\x04\x07\x00\x00\x00")  # STARTDT act
            sent = heard = 0

            async def answered(cause: int, address: int, value: float, quality: int = 0) -> int:
                """Send a setpoint; returns the cause of the station's answer to it."""
                nonlocal sent, heard
                asdu = Asdu(50, cause, 1, address, short(value, quality)).encoded()
                writer.write(bytes([0x68, 4 + len(asdu)]) + struct.pack("<HH", sent << 1, heard << 1) + asdu)
                sent += 1
                async with asyncio.timeout(60):
                    while True:
                        _, length = await reader.readexactly(2)
                        frame = await reader.readexactly(length)
                        if frame[0] & 1:
                            continue
                        heard += 1  # acknowledged at once, or the station falls silent after k frames
                        writer.write(struct.pack("<BBHH", 0x68, 4, 1, heard << 1))
                        if frame[4] == 50:
                            return Asdu.decoded(frame[4:]).cause

            assert await answered(ACTIVATION, SELECT_BASE, 30.0, 0x80) == CONFIRMED
            assert await answered(DEACTIVATION, SELECT_BASE, 30.0) == CONFIRMED | NEGATIVE
            assert await answered(DEACTIVATION, ORDER_BASE, 40.0) == CONFIRMED | NEGATIVE
            assert await answered(ACTIVATION, ORDER_BASE, math.nan) == CONFIRMED | NEGATIVE
            assert await answered(ACTIVATION, ORDER_BASE, 20.0) == CONFIRMED
            await it.until(lambda: it.front.image.writes > 0)
            assert it.front.image.writes == 1
            assert it.plant.orders.in_force("ess-1", "active_power_setpoint_kw") == 20.0
            writer.close()

    asyncio.run(check())


def test_a_killed_worker_comes_back_by_itself() -> None:
    async def check() -> None:
        async with WorkerBench("iec104", iec104_front) as it:
            first = it.front.worker.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await it.until(lambda: not it.front.ready)
            await it.until(lambda: it.front.ready)
            assert it.front.worker.pid != first

    asyncio.run(check())


def test_a_cut_and_a_silent_line() -> None:
    async def check() -> None:
        async with WorkerBench("iec104", iec104_front) as it:
            host, port = it.front.address.split(":")
            start_frame = bytes([0x68, 0x04, 0x07, 0x00, 0x00, 0x00])  # STARTDT act
            it.plant.faults.set(FaultRequest(target="microgrid/esc-1", kind="silent"))
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(start_frame)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(6), 0.3)
            it.plant.faults.clear()
            writer.write(start_frame)
            assert await asyncio.wait_for(reader.readexactly(6), 30) == bytes([0x68, 0x04, 0x0B, 0x00, 0x00, 0x00])
            it.plant.faults.set(FaultRequest(target="microgrid/esc-1", kind="down"))
            await it.until(lambda: it.front.line.connections == 0)
            with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the system likes
                await asyncio.open_connection(host, int(port))
            writer.close()

    asyncio.run(check())


def test_a_frozen_worker_gets_no_endless_backlog_and_the_newest_values_later() -> None:
    async def check() -> None:
        async with WorkerBench("iec104", iec104_front) as it:
            pid = it.front.worker.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                big = {"key": "microgrid/esc-1", "values": {}, "padding": "x" * 200_000}
                taken = [it.front.worker.send(big) for _ in range(20)]
            finally:
                os.kill(pid, signal.SIGCONT)
            assert taken[0]
            assert not taken[-1]
            await it.until(lambda: it.front.worker.send(big))

    asyncio.run(check())
