"""IEC 60870-5-104 and IEC 61850 between the loop's workers and the simulator's, all real processes on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_loop.field_reader import FieldReader
from control_loop.protocols import objects, worker
from control_loop.protocols.base import DriverError
from flexergy_pipelines.grid import SystemClock
from flexergy_pipelines.grid.connection import ObjectPoint
from plant_simulator.faults import FaultRequest
from tests.control_loop.wire_bench import Bench, commanded, on_the_wire

SETPOINT, REACTIVE = "active_power_setpoint_kw", "reactive_power_setpoint_kvar"
START = datetime(2026, 6, 3, 11, 0, tzinfo=UTC)
PROTOCOLS = pytest.mark.parametrize("protocol", ["iec104", "iec61850"])


@pytest.mark.requirement("com.01.1")
@PROTOCOLS
def test_values_are_reported_and_setpoints_and_schedules_take_effect(protocol: str, tmp_path: Path) -> None:
    async def talk(bench: Bench) -> None:
        first = await bench.values(lambda v: v["soc"] is not None)
        assert first["soc"] == pytest.approx(0.5, abs=0.01)
        assert first["available"] == 1.0
        assert first["max_charge_kw"] == pytest.approx(250.0)
        await commanded(bench.driver, SETPOINT, -60.25)
        await commanded(bench.driver, REACTIVE, 12.5)
        after = await bench.values(
            lambda v: (
                v["active_power_kw"] == pytest.approx(-60.25, abs=0.1)
                and v.get(REACTIVE) == pytest.approx(12.5)
                and v[SETPOINT] == pytest.approx(-60.25)
            )
        )
        assert after["reactive_power_kvar"] == pytest.approx(12.5, abs=0.1)
        assert bench.plant.orders.ttl_s("ess-1") == bench.plant.site.operation.setpoint_ttl_s
        if protocol == "iec61850":  # the simulator's IEC 104 objects of these values carry no time
            stamp = bench.driver.source_times()["ess-1", "active_power_kw"]
            assert abs((datetime.now(UTC) - stamp).total_seconds()) < 60
        await bench.driver.write_schedule("ess-1", START, [10.0, -20.5, 0.0, 250.0])
        await bench.until(lambda: bench.plant.schedule("ess-1") is not None)
        assert bench.plant.schedule("ess-1") == (START, (10.0, -20.5, 0.0, 250.0))

    # Orders of IEC 104 are selected first; its schedule, revert time and heartbeat are always direct.
    on_the_wire(protocol, tmp_path, talk, control="select" if protocol == "iec104" else "direct")


@pytest.mark.requirement("com.01.1")
def test_iec61850_orders_take_effect_in_every_control_model(tmp_path: Path) -> None:
    async def talk(bench: Bench) -> None:
        await bench.values(lambda v: v["soc"] is not None)
        for number, value in ((1, 30.0), (2, -45.5), (3, 12.25), (4, -7.0), (2, 8.0)):
            order = {"key": "esc-1", "object": f"FLXesc1/GGIO1.AnOut{number}", "value": value}
            assert await bench.hub.worker.ask(order, 5.0)
            await bench.until(lambda value=value: bench.plant.orders.in_force("ess-1", SETPOINT) == value)
        nothing = {"key": "esc-1", "object": "FLXesc1/GGIO1.AnOut99", "value": 1.0}
        assert not await bench.hub.worker.ask(nothing, 5.0)
        with pytest.raises(DriverError, match="has no asset pv-1"):
            await bench.driver.write("pv-1", SETPOINT, 1.0)

    on_the_wire("iec61850", tmp_path, talk)


@pytest.mark.requirement("com.01.3")
@PROTOCOLS
def test_a_wrong_clock_is_seen_on_the_wire(protocol: str, tmp_path: Path) -> None:
    stamped = {"iec104": "M_ME_TF_1:10001", "iec61850": "FLXesc1/GGIO1.AnIn1"}[protocol]

    async def talk(bench: Bench) -> None:
        reader = FieldReader(SystemClock(), 1.0)
        reader.serve([bench.driver])
        power_kw = 0.0

        async def look() -> str | None:
            nonlocal power_kw
            power_kw = 60.0 - power_kw  # a new value has a new stamp
            bench.plant.command("ess-1", SETPOINT, power_kw)
            await asyncio.sleep(0.1)
            await reader.look(datetime.now(UTC))
            alarm = reader.clock_alarms().get(("device_clock_off", "ess-1"))
            return None if alarm is None else alarm.message

        async with asyncio.timeout(60):
            while reader.image.sample("ess-1", "active_power_kw") is None:
                assert await look() is None
            bench.plant.faults.set(FaultRequest(target="microgrid/esc-1", kind="clock_skew", value=3600.0))
            while (said := await look()) is None:
                continue
            assert "esc-1: its clock is 3" in said
            assert "s ahead of" in said
            bench.plant.faults.clear()
            while await look() is not None:
                continue

    on_the_wire(protocol, tmp_path, talk, objects=(ObjectPoint(quantity="active_power_kw", read=stamped),))


@pytest.mark.requirement("energy.07.2")
@PROTOCOLS
def test_every_bit_of_an_alarm_word_arrives(protocol: str, tmp_path: Path) -> None:
    async def talk(bench: Bench) -> None:
        await bench.values(lambda v: v.get("bms_alarm_word") == 0.0)
        # Together these do not fit a short float.
        for fault in ({"kind": "bms_alarm", "value": 30}, {"kind": "hot_cells", "value": 60.0}):
            bench.plant.faults.set(FaultRequest.model_validate({"target": "microgrid/ess-1", **fault}))
        await bench.values(lambda v: v.get("bms_alarm_word") == 2.0**30 + 2.0)

    on_the_wire(protocol, tmp_path, talk)


@PROTOCOLS
def test_objects_that_the_device_does_not_have_are_named(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "UNHEARD_S", 1.0)
    there, wrong = {"iec104": ("1", "9999"), "iec61850": ("FLXesc1/GGIO1.AnIn1", "FLXesc1/MMXU9.TotW")}[protocol]
    told = (
        ObjectPoint(quantity="active_power_kw", read=there),
        ObjectPoint(quantity="temperature_c", read=wrong),
    )

    async def talk(bench: Bench) -> None:
        seen: set[str] = set()

        async def said() -> None:
            while f"nothing is heard of the objects {wrong}" not in bench.driver.health.last_error:
                with contextlib.suppress(DriverError):
                    seen.update(quantity for _, quantity in await bench.driver.read())
                await asyncio.sleep(0.05)

        await asyncio.wait_for(said(), 60)
        assert seen == {"active_power_kw"}

    on_the_wire(protocol, tmp_path, talk, objects=told)


@pytest.mark.requirement("com.01.3")
@pytest.mark.parametrize("protocol", [pytest.param("iec104", marks=pytest.mark.soak), "iec61850"])
def test_a_lost_line_is_no_data_until_everything_was_heard_anew(protocol: str, tmp_path: Path) -> None:
    async def talk(bench: Bench) -> None:
        await bench.values(lambda v: v["active_power_kw"] is not None)
        bench.plant.faults.set(FaultRequest(target=f"microgrid/{bench.device_id}", kind="down"))
        await bench.until(lambda: not bench.driver.health.connected)
        with pytest.raises(DriverError, match=bench.device_id):
            await bench.driver.read()
        with pytest.raises(DriverError, match=bench.device_id):
            await bench.driver.write("ess-1", SETPOINT, 5.0)
        bench.plant.faults.clear()
        await bench.values(lambda v: v["active_power_kw"] is not None)
        assert bench.driver.health.reconnects >= 2

    on_the_wire(protocol, tmp_path, talk)


@pytest.mark.requirement("com.01.3")
@pytest.mark.parametrize(
    ("protocol", "fatal"),
    [
        ("iec104", signal.SIGKILL),
        pytest.param("iec104", signal.SIGSTOP, marks=pytest.mark.soak),
        ("iec61850", signal.SIGSTOP),
        pytest.param("iec61850", signal.SIGKILL, marks=pytest.mark.soak),
    ],
)
def test_a_worker_that_dies_or_hangs_is_started_again(
    protocol: str, fatal: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SILENCE_S", 1.0)

    async def talk(bench: Bench) -> None:
        await bench.values(lambda v: v["active_power_kw"] is not None)
        pid = bench.hub.worker.pid
        assert pid is not None
        os.kill(pid, fatal)
        await bench.until(lambda: bench.hub.worker.pid not in {pid, None})
        await bench.values(lambda v: v["active_power_kw"] is not None)
        assert bench.hub.worker.pid != pid

    on_the_wire(protocol, tmp_path, talk)
