"""The service: finds the tenant's sites, follows their configuration, stands by for another instance, and ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from sqlalchemy import make_url

from control_loop import service as service_module
from control_loop.service import ControlService
from control_loop.shared_image import from_text
from control_loop.spool import Spool
from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.settings import Settings, publish_endpoints
from flexergy_pipelines.store import Store
from flexergy_pipelines.store.ballots import StoreBallots
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.sites import save_site

NOWHERE = "127.0.0.1:9"


def faster(site: Site, cycle_s: float) -> Site:
    return site.model_copy(update={"operation": site.operation.model_copy(update={"control_cycle_s": cycle_s})})


class Bench:
    """A store with one tenant, and services that look at it often."""

    def __init__(self, store: Store, home: Path) -> None:
        self.db = store.tenant("demo")
        self.settings = Settings(home=home, database_url=store.app_url, tenant="demo")
        self.site = faster(sample_site("microgrid"), 0.2)
        publish_endpoints(self.settings, {device.key: NOWHERE for device in self.site.devices()})

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.02)

    def commanding(self, service: ControlService) -> bool:
        running = service.running.get("microgrid")
        return running is not None and running.outbox is not None


@pytest.fixture
def bench(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(service_module, "LOOK_S", 0.1)
    assert make_url(store.app_url).database
    return Bench(store, tmp_path)


async def running(
    services: list[ControlService], talk: Callable[[], Awaitable[None]], stops: list[asyncio.Event] | None = None
) -> None:
    """Run services while a conversation lasts, then end them."""
    stops = stops or [asyncio.Event() for _ in services]
    tasks = [asyncio.create_task(s.run(stop)) for s, stop in zip(services, stops, strict=True)]
    try:
        await talk()
    finally:
        for stop in stops:
            stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)


def test_a_site_is_found_when_it_appears_and_started_again_when_it_changes(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    service = ControlService(bench.settings, only=("microgrid", "macrogrid"))

    async def talk() -> None:
        await bench.until(lambda: service.started)
        assert service.running == {}
        await asyncio.to_thread(save_site, bench.db, bench.site)
        await bench.until(lambda: bench.commanding(service))
        first = service.running["microgrid"]
        changed = faster(bench.site, 0.4)
        await asyncio.to_thread(save_site, bench.db, changed)
        await bench.until(lambda: service.running.get("microgrid", first) is not first and bench.commanding(service))
        assert service.running["microgrid"].site.operation.control_cycle_s == 0.4
        assert first.ended

    asyncio.run(running([service], talk))
    assert service.running == {}
    # A name that the store does not have is told of, once and not at each look.
    told = [line for line in "".join(capfd.readouterr()).splitlines() if "waiting for sites" in line]
    assert len(told) == 2
    assert all("macrogrid" in line for line in told)
    assert (bench.settings.spool_dir / "demo-microgrid.sqlite").exists()


@pytest.mark.requirement("sysavailability.01.1")
@pytest.mark.parametrize("lease", ["file", "store"])
def test_a_second_instance_stands_by_and_takes_over(bench: Bench, lease: Literal["file", "store"]) -> None:
    save_site(bench.db, bench.site)
    first, second = (ControlService(bench.settings, lease=lease) for _ in range(2))
    stops: list[asyncio.Event] = []

    async def talk() -> None:
        services = [first, second]
        await bench.until(lambda: any(bench.commanding(s) for s in services))
        await bench.until(lambda: all("microgrid" in s.running for s in services))
        master = next(s for s in services if bench.commanding(s))
        standby = second if master is first else first
        assert not bench.commanding(standby)
        stops[services.index(master)].set()
        await bench.until(lambda: bench.commanding(standby))
        assert not bench.commanding(master)

    async def both() -> None:
        stops.extend(asyncio.Event() for _ in range(2))
        await running([first, second], talk, stops)

    asyncio.run(both())


def test_a_standby_brings_in_what_it_had_left_in_its_spool(bench: Bench) -> None:
    save_site(bench.db, bench.site)
    first = ControlService(bench.settings, lease="store")
    second = ControlService(replace(bench.settings, home=bench.settings.home / "b"), lease="store")
    publish_endpoints(second.settings, {device.key: NOWHERE for device in bench.site.devices()})
    before = datetime(2026, 3, 10, tzinfo=UTC)
    with contextlib.closing(Spool(second.settings.spool_dir / "demo-microgrid.sqlite")) as spool:
        spool.append("readings", [["ess-1", "soc", before, 0.4, 0]])

    def there() -> bool:
        return read_readings(bench.db, "microgrid", before, before + timedelta(hours=1)).height == 1

    async def talk() -> None:
        await bench.until(lambda: bench.commanding(first))
        stops = asyncio.Event()
        standing_by = asyncio.create_task(second.run(stops))
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(there):
                await asyncio.sleep(0.1)
        assert not bench.commanding(second)
        stops.set()
        await standing_by

    asyncio.run(running([first], talk))


@pytest.mark.requirement("sysavailability.01.1")
def test_three_instances_vote_and_a_standby_that_ends_takes_its_ballot_along(bench: Bench) -> None:
    save_site(bench.db, bench.site)
    services = [ControlService(bench.settings, lease="store", vote=3) for _ in range(3)]
    stops: list[asyncio.Event] = [asyncio.Event() for _ in services]

    async def talk() -> None:
        with contextlib.closing(StoreBallots(bench.db, "control-demo-microgrid")) as box:

            async def cycles(count: int) -> None:
                async with asyncio.timeout(60):
                    while len([row for row in await asyncio.to_thread(box.rows) if row.cycle > 5]) != count:
                        await asyncio.sleep(0.05)

            await cycles(2)
            image = box.get("")
            assert image is not None
            assert from_text(image.body).last  # what actuators were told, from which the others go on
            standby = next(s for s in services if not bench.commanding(s))
            stops[services.index(standby)].set()
            await cycles(1)

    asyncio.run(running(services, talk, stops))


def test_only_the_sites_that_were_named_are_run(bench: Bench) -> None:
    save_site(bench.db, bench.site)
    service = ControlService(bench.settings, ["another-site"])

    async def talk() -> None:
        await bench.until(lambda: service.started)
        await asyncio.sleep(0.3)
        assert service.running == {}

    asyncio.run(running([service], talk))
