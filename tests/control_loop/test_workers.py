"""IEC 60870-5-104 between the loop's worker and the simulator's, both real processes on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from datetime import UTC, datetime

import pytest

from control_loop.protocols.base import DriverError
from plant_simulator.faults import FaultRequest
from tests.control_loop.wire_bench import Bench, on_the_wire

SETPOINT = "active_power_setpoint_kw"
START = datetime(2026, 6, 3, 11, 0, tzinfo=UTC)
PROTOCOLS = pytest.mark.parametrize("protocol", ["iec104"])


@pytest.mark.requirement("com.01.1")
def test_values_of_a_station_are_interrogated_and_setpoints_take_effect() -> None:
    async def talk(bench: Bench) -> None:
        first = await bench.values(lambda v: v["soc"] is not None)
        assert first["soc"] == pytest.approx(0.5, abs=0.01)
        assert first["available"] == 1.0
        assert first["max_charge_kw"] == pytest.approx(250.0)
        await bench.driver.write("ess-1", SETPOINT, -60.25)
        after = await bench.values(lambda v: v["active_power_kw"] == pytest.approx(-60.25, abs=0.1))
        assert after[SETPOINT] == pytest.approx(-60.25)
        assert bench.plant.orders.ttl_s("ess-1") == 600.0
        await bench.driver.write_schedule("ess-1", START, [10.0, -20.5, 0.0, 250.0])
        async with asyncio.timeout(20):
            while bench.plant.schedule("ess-1") is None:
                await asyncio.sleep(0.02)
        assert bench.plant.schedule("ess-1") == (START, (10.0, -20.5, 0.0, 250.0))
        with pytest.raises(DriverError, match="has no asset pv-1"):
            await bench.driver.write("pv-1", SETPOINT, 1.0)

    on_the_wire("iec104", talk)


@pytest.mark.requirement("com.01.3")
@PROTOCOLS
def test_a_lost_line_is_no_data_until_everything_was_heard_anew(protocol: str) -> None:
    async def talk(bench: Bench) -> None:
        await bench.values(lambda v: v["active_power_kw"] is not None)
        bench.plant.faults.set(FaultRequest(target=f"microgrid/{bench.device_id}", kind="down"))
        async with asyncio.timeout(60):
            while bench.driver.health.connected:
                await asyncio.sleep(0.02)
        with pytest.raises(DriverError, match="no connection"):
            await bench.driver.read()
        with pytest.raises(DriverError, match="no connection"):
            await bench.driver.write(next(iter(bench.driver.assets)), bench.order, 5.0)
        bench.plant.faults.clear()
        await bench.values(lambda v: v["active_power_kw"] is not None)
        assert bench.driver.health.reconnects >= 2

    on_the_wire(protocol, talk)


@pytest.mark.requirement("com.01.3")
@pytest.mark.parametrize(("protocol", "fatal"), [("iec104", signal.SIGKILL), ("iec104", signal.SIGSTOP)])
def test_a_worker_that_dies_or_hangs_is_started_again(protocol: str, fatal: signal.Signals) -> None:
    async def talk(bench: Bench) -> None:
        await bench.values(lambda v: v["active_power_kw"] is not None)
        pid = bench.hub.worker.pid
        assert pid is not None
        os.kill(pid, fatal)
        async with asyncio.timeout(60):
            while bench.hub.worker.pid in {pid, None}:
                with contextlib.suppress(DriverError):
                    await bench.driver.read()
                await asyncio.sleep(0.05)
        await bench.values(lambda v: v["active_power_kw"] is not None)
        assert bench.hub.worker.pid != pid

    on_the_wire(protocol, talk)
