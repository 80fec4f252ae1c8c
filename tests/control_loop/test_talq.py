"""TALQ on the wire: lamps dimmed by group, by the next hour's calendar, and back by themselves; cabinets as meters."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_loop.protocols import talq
from control_loop.protocols.base import DriverError
from control_loop.protocols.factory import CERTIFICATES, Shared, driver_of
from control_loop.protocols.talq import LIMIT, TalqDriver
from control_loop.protocols.talq_messages import level_for
from flexergy_pipelines.grid import SimulatedClock
from flexergy_pipelines.grid.certificates import create_authority, issue
from flexergy_pipelines.grid.connection import TlsFiles
from flexergy_pipelines.settings import Settings, publish_endpoints
from plant_simulator import talq_front
from plant_simulator.fronts import make_front
from plant_simulator.plant import Plant
from plant_simulator.talq_front import TalqFront
from tests.plant_simulator.fakes import make_plant, run

POWER = "active_power_kw"


@dataclasses.dataclass
class Bench:
    plant: Plant
    clock: SimulatedClock
    front: TalqFront
    driver: TalqDriver

    async def pass_time(self, seconds: float) -> None:
        run(self.plant, self.clock, seconds)
        await self.front.refresh()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)


def with_gateway(
    home: Path, talk: Callable[[Bench], Awaitable[None]], device_id: str = "load-ctl-1", **connection: Any
) -> None:
    """A conversation with the gateway of a device of the sample microgrid."""

    async def check() -> None:
        plant, clock = make_plant()
        device = next(d for d in plant.site.devices() if d.id == device_id)
        template = "talq_lamps" if device_id == "load-ctl-1" else "talq_cabinet"
        told = {"protocol": "talq", "template": template, "port": 26_100, **connection}
        device = dataclasses.replace(device, connection=device.connection.model_copy(update=told))
        front = make_front(device, plant, 1, home / CERTIFICATES)
        assert isinstance(front, TalqFront)
        await front.start("127.0.0.1")
        settings = Settings(home, None, "demo")
        publish_endpoints(settings, {device.key: front.address})
        driver = driver_of(plant.site, device, settings, Shared())
        assert isinstance(driver, TalqDriver)
        bench = Bench(plant, clock, front, driver)
        try:
            await bench.pass_time(5)
            await talk(bench)
        finally:
            await driver.close()
            await front.stop()

    asyncio.run(check())


@pytest.mark.requirement("com.01.2")
def test_lamps_are_dimmed_by_group_and_go_back_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(it: Bench) -> None:
        class Now:
            @staticmethod
            def now(_zone: object) -> object:
                return it.clock.now()

        monkeypatch.setattr(talq, "datetime", Now)  # the order's expiration is told in the plant's time
        (asset,) = it.driver.assets
        free = await it.driver.read()
        assert free[asset, POWER] == pytest.approx(it.plant.measure(asset, POWER), abs=0.01)
        rated_kw = it.front.gateway.rated_kw
        assert free[asset, LIMIT] == pytest.approx(rated_kw)
        assert set(it.front.gateway.groups[it.driver.group]["members"][0]) == {"resource", "address"}
        await it.driver.write(asset, LIMIT, 0.255 * rated_kw)
        await it.pass_time(10)
        dimmed = await it.driver.read()
        # Lamps dim by whole percents: at 25 % they hold the limit that was asked for, and nothing is amiss.
        assert dimmed[asset, LIMIT] == pytest.approx(0.255 * rated_kw)
        assert (dimmed[asset, POWER] or 0.0) <= 0.25 * rated_kw + 0.01
        await it.pass_time(it.plant.site.operation.setpoint_ttl_s + 1)
        assert (await it.driver.read())[asset, LIMIT] == pytest.approx(rated_kw)
        await it.driver.write(asset, LIMIT, 0.5 * rated_kw)
        await it.driver.write(asset, LIMIT, rated_kw)
        assert it.front.gateway.override is None
        with pytest.raises(DriverError, match="cannot be commanded"):
            await it.driver.write(asset, POWER, 1.0)

    with_gateway(tmp_path, talk)


@pytest.mark.requirement("com.01.2", "energy.12.1")
def test_the_next_hour_dims_by_calendar(tmp_path: Path) -> None:
    async def talk(it: Bench) -> None:
        (asset,) = it.driver.assets
        rated_kw = it.front.gateway.rated_kw
        start = it.clock.now().replace(minute=15, second=0, microsecond=0)
        await it.driver.write_schedule(asset, start, [rated_kw, 0.5 * rated_kw, 0.0, 0.8 * rated_kw])
        levels = []
        for minute in (5, 16, 31, 46, 61, 76):
            it.clock.advance((start.replace(minute=0) + timedelta(minutes=minute) - it.clock.now()).total_seconds())
            await it.front.refresh()
            levels.append(it.front.gateway.level())
        assert levels == [100, 100, 50, 0, 80, 100]
        await it.driver.write_schedule(asset, start, [0.1 * rated_kw] * 4)
        (program,) = it.front.gateway.programs.values()
        assert [c["command"]["state"]["value"] for c in program["fixedTimeControls"]] == [100, 10, 10, 10, 10, 100]

    with_gateway(tmp_path, talk)


@pytest.mark.requirement("com.01.2")
def test_a_cabinet_is_a_meter_and_reports_by_itself_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talq_front, "REPORT_S", 0.1)
    folder = tmp_path / CERTIFICATES
    create_authority(folder)
    issue(folder, "simulator", common_name="simulator", hosts=["127.0.0.1"])
    issue(folder, "manager", common_name="manager", hosts=["127.0.0.1"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tls = TlsFiles(ca="ca.pem", certificate="manager.pem", key="manager.key")

    async def talk(it: Bench) -> None:
        (asset,) = it.driver.assets
        first = await it.driver.read()
        assert first[asset, POWER] == pytest.approx(it.plant.measure(asset, POWER), abs=0.01)
        await it.until(lambda: it.front.reports >= 1)
        asked = it.driver.health.requests
        assert (await it.driver.read())[asset, POWER] is not None
        assert it.driver.health.requests == asked  # what was reported needs no asking
        for ahead_s in (3600.0, 0.0):  # the gateway's clock ends the override commands: it is watched
            stamp = (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat()
            it.driver.take_reports([{"entries": [{"data": {"type": "AttributeLogData", "timestamp": stamp}}]}])
            known = it.driver.clock_offsets().get("gateway", 0.0)
            assert known == pytest.approx(ahead_s, abs=60.0)
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient(verify=True, trust_env=False) as stranger:
                await stranger.post(f"https://127.0.0.1:{port}/log-reports", json=[])

    with_gateway(tmp_path, talk, "load-meter", listen_port=port, tls=tls)


@pytest.mark.requirement("com.01.3")
def test_a_gateway_that_is_away_is_told_and_found_again(tmp_path: Path) -> None:
    async def talk(it: Bench) -> None:
        it.driver._calls._backoff.first_s = 0.0
        await it.driver.read()
        await it.front.server.stop()
        with pytest.raises(DriverError, match="load-ctl-1: GET /devices"):
            await it.driver.read()
        assert not it.driver.health.connected
        await it.front.server.start("127.0.0.1", it.front.server.port)
        publish_endpoints(Settings(tmp_path, None, "demo"), {"microgrid/load-ctl-1": it.front.address})
        assert (await it.driver.read())["cold-store", POWER] is not None

    with_gateway(tmp_path, talk)


def test_levels_never_allow_more_than_the_limit() -> None:
    assert [level_for(kw, 10.0) for kw in (-1.0, 0.0, 0.999, 2.55, 10.0, 12.0)] == [0, 0, 9, 25, 100, 100]
    assert level_for(0.29 * 100, 100.0) == 29
