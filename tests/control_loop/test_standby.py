"""What a standby keeps ready: workers that only have to dial, and the eyes on devices that serve two masters."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from control_loop import service as service_module
from control_loop.cycle import ControlCycle
from control_loop.field_reader import FieldReader
from control_loop.protocols.base import MemoryDriver
from control_loop.protocols.factory import Shared, driver_of
from control_loop.service import ControlService
from control_loop.standby import KEPT_S, Standby
from control_loop.telemetry import PointPolicy, TelemetryFilter
from flexergy_pipelines.grid import SimulatedClock, parse_site, site_to_dict
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings, publish_endpoints
from flexergy_pipelines.store import Store
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.sites import save_site
from plant_simulator.listening import ModbusFront
from plant_simulator.plant import Plant
from tests.control_loop.harness import MODEL, plan_of
from tests.control_loop.wire_bench import Bench, on_the_wire
from tests.plant_simulator.fakes import START, PlainSeries, run

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SOC, POWER = ("ess-1", "soc"), ("ess-1", "active_power_kw")


def test_what_was_watched_counts_from_the_first_cycle_on_and_its_readings_are_kept() -> None:
    clock = SimulatedClock(NOW)
    meter = MemoryDriver("meter", {("pcc", "active_power_kw"): 20.0})
    battery = MemoryDriver("esc-1", {POWER: 40.0, SOC: 0.5})
    telemetry = TelemetryFilter(lambda *_: PointPolicy(0.9))
    reader = FieldReader(clock, 1.0)
    standby = Standby([meter, battery], ["esc-1"], reader=reader, telemetry=telemetry, clock=clock, cycle_s=1.0)

    async def go() -> None:
        for second in range(30):
            battery.values[SOC] = second / 100
            await standby.look()
            clock.advance(1.0)
        assert ("pcc", "active_power_kw") not in dict(reader.image.items())  # not watched: not touched
        assert [row[3] for row in standby.readings_since(25.0) if row[:2] == SOC] == [0.25, 0.26, 0.27, 0.28, 0.29]
        assert len(standby.readings_since(0.0)) <= 2 * (KEPT_S + 1)
        # The battery answers no more just when this instance takes over: it still knows how it stands.
        battery.values.clear()
        cycle = ControlCycle(MODEL, [meter, battery], clock, reader=reader)
        cycle.plan = plan_of({"ess-1.active_power_setpoint_kw": 40.0}, start=NOW)
        report = await cycle.run_once(clock.now())
        assert report.decisions["ess-1"].value == pytest.approx(40.0)
        assert not [row for row in telemetry.select(reader.image) if row[:2] == SOC]  # each reading once
        await cycle.close()

    asyncio.run(go())


@pytest.mark.requirement("sysavailability.01.1")
def test_a_worker_that_waits_dials_only_when_it_is_needed(tmp_path: Path) -> None:
    async def talk(bench: Bench) -> None:
        await bench.driver.prepare()
        await bench.driver.prepare()
        waiting = bench.hub.worker.pid
        assert waiting is not None
        assert bench.front.line.connections == 0
        await bench.values(lambda v: v["soc"] is not None)
        assert bench.hub.worker.pid == waiting
        assert bench.hub.worker.starts == 1

    on_the_wire("iec104", tmp_path, talk)


@pytest.mark.requirement("sysavailability.01.1")
@pytest.mark.parametrize("template", ["generic_esc", "sunspec_storage"])
def test_who_only_reads_a_device_writes_nothing_to_it(template: str, tmp_path: Path) -> None:
    clock = SimulatedClock(START)
    site = sample_site("microgrid")
    plant = Plant(site, PlainSeries(site), clock, 1)
    found = next(device for device in site.devices() if device.id == "esc-1")
    connection = found.connection.model_copy(update={"template": template, "timeout_s": 10.0})
    device = dataclasses.replace(found, connection=connection)
    front, settings = ModbusFront(device, plant, 1), Settings(tmp_path, None, "demo")

    async def check() -> None:
        await front.start("127.0.0.1")
        publish_endpoints(settings, {device.key: front.address})
        driver = driver_of(site, device, settings, Shared())
        try:
            for _ in range(3):
                assert (await driver.read())[SOC] == pytest.approx(0.5, abs=0.01)
            assert front.statistics()["writes"] == 0
            await driver.write("ess-1", "active_power_setpoint_kw", 30.0)
            assert plant.orders.ttl_s("ess-1") == site.operation.setpoint_ttl_s  # told before the first order
            told = front.statistics()["writes"]
            await driver.write("ess-1", "active_power_setpoint_kw", 31.0)
            assert front.statistics()["writes"] - told < told  # and only once
        finally:
            await driver.close()
            await front.stop()

    asyncio.run(check())


@pytest.mark.requirement("sysavailability.01.1")
def test_a_standby_reads_what_serves_two_and_takes_over_with_what_it_saw(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "LOOK_S", 0.1)
    assert make_url(store.app_url).database
    db = store.tenant("demo")
    raw = site_to_dict(sample_site("microgrid"))
    raw["operation"] |= {"control_cycle_s": 0.2}
    raw["history"] = {"rules": [{"quantity": "active_power_kw", "cyclic_s": 0.1}]}
    meter = next(m for m in raw["meters"] if m["id"] == "pcc-meter")
    meter["connection"] |= {"standby_link": True}
    site = parse_site(raw)
    save_site(db, site)
    clock = SimulatedClock(START)
    plant = Plant(site, PlainSeries(site), clock, 1)
    fronts = {
        device.id: ModbusFront(device, plant, 1, None)
        for device in site.devices()
        if device.connection.protocol == "modbus_tcp"
    }
    a, b = (Settings(home=tmp_path / name, database_url=store.app_url, tenant="demo") for name in ("a", "b"))
    first, second = (ControlService(settings, lease="store") for settings in (a, b))

    def commands(service: ControlService) -> bool:
        running = service.running.get(site.id)
        return running is not None and running.outbox is not None

    async def living() -> None:
        while True:
            run(plant, clock, 1)
            for front in fronts.values():
                await front.refresh()
            await asyncio.sleep(0.05)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.02)

    def stored() -> int:
        end = datetime.now(UTC) + timedelta(seconds=1)
        return read_readings(db, site.id, end - timedelta(hours=1), end, [("pcc", "active_power_kw")]).height

    def links() -> dict[str, int]:
        return {name: front.statistics()["connections"] for name, front in fronts.items()}

    async def check() -> None:
        for front in fronts.values():
            await front.start("127.0.0.1")
        for settings in (a, b):
            publish_endpoints(settings, {f"{site.id}/{name}": front.address for name, front in fronts.items()})
        alive = asyncio.create_task(living())
        stops = asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(first.run(stops[0]))]
        try:
            await until(lambda: commands(first) and set(links().values()) == {1})
            tasks.append(asyncio.create_task(second.run(stops[1])))
            await until(lambda: links() == dict.fromkeys(links(), 1) | {"pcc-meter": 2})  # and no other one
            stops[0].set()
            await until(lambda: commands(second) and set(links().values()) == {1})
            await until(lambda: stored() >= 3)
        finally:
            for stop in stops:
                stop.set()
            await asyncio.wait_for(asyncio.gather(*tasks), 30)
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
            for front in fronts.values():
                await front.stop()

    asyncio.run(check())
