"""From a plan in the store to the register of an IEC 61850 device, and back to what the store says of the links."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from control_loop import service as service_module
from control_loop.image import ProcessImage
from control_loop.protocols.base import LinkHealth, MemoryDriver
from control_loop.protocols.clerk import FieldClerk
from control_loop.protocols.ocpp16 import OcppDriver
from control_loop.protocols.ocpp_journal import Journal
from control_loop.protocols.ocpp_post import Post
from control_loop.service import ControlService
from flexergy_pipelines.grid import Site, SystemClock
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.link_trace import trace_files
from flexergy_pipelines.settings import Settings, publish_endpoints
from flexergy_pipelines.store import Store, TenantStore
from flexergy_pipelines.store.charging_access import new_charge_point_key, save_id_tag
from flexergy_pipelines.store.ev_sessions import read_sessions
from flexergy_pipelines.store.field_devices import list_proposals
from flexergy_pipelines.store.link_statistics import link_summary
from flexergy_pipelines.store.plans import PlanRecord, write_plan
from flexergy_pipelines.store.sites import save_site
from plant_simulator.fronts import Front, make_front
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import PlainSeries

SETPOINT = "active_power_setpoint_kw"


def with_61850(site: Site) -> Site:
    """The storage controller speaks IEC 61850 and wants its orders selected first; the loop runs fast."""
    controllers = tuple(
        c.model_copy(
            update={"connection": c.connection.model_copy(update={"protocol": "iec61850", "control": "select"})}
        )
        if c.id == "esc-1"
        else c
        for c in site.controllers
    )
    operation = site.operation.model_copy(update={"control_cycle_s": 0.2})
    return site.model_copy(update={"controllers": controllers, "operation": operation})


def plan_for(db: TenantStore, site: Site, kw: float) -> None:
    """A plan over the next three hours that holds the battery at a power."""
    now = datetime.now(UTC)
    start = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
    end = start + timedelta(hours=3)
    times = [start + timedelta(minutes=15 * i) for i in range(12)]
    values = pl.DataFrame({"asset_id": "ess-1", "quantity": SETPOINT, "time": times, "value": kw})
    write_plan(db, PlanRecord(site.id, "intraday", now, start, end, 15, "optimal"), values)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


@pytest.mark.requirement("com.01.1", "energy.12.1", "energy.16.2")
def test_a_plan_reaches_an_iec61850_device_as_setpoint_and_as_next_hours_schedule(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "LOOK_S", 0.2)
    db = store.tenant("demo")
    site = with_61850(sample_site("microgrid"))
    save_site(db, site)
    plan_for(db, site, -40.0)
    settings = Settings(home=tmp_path, database_url=store.app_url, tenant="demo")

    async def check() -> None:
        plant = Plant(site, PlainSeries(site), SystemClock(), 1)
        fronts: dict[str, Front] = {
            d.key: make_front(
                dataclasses.replace(d, connection=d.connection.model_copy(update={"port": 25_900})), plant, 1
            )
            for d in site.devices()
        }
        for front in fronts.values():
            await front.start("127.0.0.1")
        publish_endpoints(settings, {key: front.address for key, front in fronts.items()})

        async def live() -> None:
            while True:
                plant.step(0.1)
                for front in fronts.values():
                    await front.refresh()
                await asyncio.sleep(0.1)

        living = asyncio.create_task(live())
        stop = asyncio.Event()
        running = asyncio.create_task(ControlService(settings).run(stop))
        try:
            await until(lambda: plant.orders.in_force("ess-1", SETPOINT) == -40.0)
            await until(lambda: plant.schedule("ess-1") is not None)
            kept = plant.schedule("ess-1")
            assert kept is not None
            assert set(kept[1]) == {-40.0}
            await until(lambda: plant.measure("ess-1", "active_power_kw") == pytest.approx(-40.0, abs=0.5))
            await asyncio.to_thread(plan_for, db, site, 25.0)
            await until(lambda: plant.orders.in_force("ess-1", SETPOINT) == 25.0)
            await until(lambda: set((plant.schedule("ess-1") or (None, ()))[1]) == {25.0})
        finally:
            stop.set()
            await asyncio.wait_for(running, 30)
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            for front in fronts.values():
                await front.stop()

    asyncio.run(check())


@pytest.mark.requirement("asset.03.1")
def test_the_clerk_stores_links_strangers_and_sessions_and_takes_up_access(
    store: Store, db: TenantStore, tmp_path: Path
) -> None:
    site = sample_site("microgrid")
    save_site(db, site)
    settings = Settings(home=tmp_path, database_url=store.app_url, tenant="demo")
    meter = MemoryDriver("pcc-meter", {("pcc", "active_power_kw"): 1.0}, health=LinkHealth(connected=True))
    posts = [Post("cp-01", 11.0)]
    charger = OcppDriver("ev-1", "ev-1", host="127.0.0.1", port=0, posts=posts, journal=Journal())
    start, image = datetime.now(UTC), ProcessImage()
    image.update({("pcc", "signal_dbm"): -87.0}, start, 0.0)
    clerk = FieldClerk(site, [meter, charger], settings, db, image)

    async def check() -> None:
        for _ in range(9):
            meter.health.answered(0.02)
        meter.health.failed("pcc-meter: no answer")
        meter.health.bytes_received += 500
        await clerk.report()
        charger.strangers["new-one"] = {"charge_point_vendor": "Acme"}
        number = charger.journal.start("cp-01", 1, "TAG", "2026-06-03T08:00:00Z", 1000)
        charger.journal.stop("cp-01", number, "2026-06-03T10:30:00Z", 8500, reason="Local")
        for told, meter_wh in (("soon", 9000), ("2026-06-03T07:00:00", 9000), ("2026-06-03T11:00:00", 10)):
            liar = charger.journal.start("cp-01", 1, "LIAR", "2026-06-03T08:00:00Z", meter_wh - 100)
            charger.journal.stop("cp-01", liar, told, meter_wh if meter_wh > 10 else -500)
        await asyncio.to_thread(save_id_tag, db, "tag", actor="anna", status="blocked")
        await asyncio.to_thread(new_charge_point_key, db, "microgrid", "cp-01", actor="anna")
        there = charger.journal.start("cp-01", 1, "TAG", (start - timedelta(hours=1)).isoformat(), 20_000)
        charger.journal.start("cp-01", 1, "TAG", "2026-05-30T08:00:00Z", 500)  # nobody told of its end
        posts[0].transactions[1] = there
        posts[0].meters_wh[there] = 24_000.0
        await clerk.exchange()
        await clerk.exchange()
        assert charger.access.verdict("TAG") == "Blocked"
        assert set(charger.access.keys) == {"cp-01"}
        wanted, given = trace_files(settings, "microgrid", "pcc-meter")
        wanted.parent.mkdir(parents=True, exist_ok=True)
        wanted.touch()
        await clerk.trace()
        meter.health.note("-> unit 1 read input 0..11")
        await clerk.trace()
        assert given.read_text().strip().endswith("-> unit 1 read input 0..11")
        wanted.unlink()
        await clerk.trace()
        meter.health.note("nobody hears this")
        assert not meter.health.trace
        await charger.close()

    asyncio.run(check())
    rows = {row["device_id"]: row for row in link_summary(db, "microgrid", start, datetime.now(UTC)).rows(named=True)}
    assert (rows["pcc-meter"]["requests"], rows["pcc-meter"]["success"]) == (10, pytest.approx(0.9))
    assert rows["pcc-meter"]["last_error"] == "pcc-meter: no answer"
    assert rows["pcc-meter"]["latency_s"] == pytest.approx(0.02)
    assert (rows["pcc-meter"]["signal_dbm"], rows["ev-1"]["signal_dbm"]) == (-87.0, None)
    (stranger,) = list_proposals(db)
    assert (stranger.protocol, stranger.address, stranger.identity["manager"]) == ("ocpp16", "new-one", "ev-1")
    (session,) = read_sessions(
        db, "microgrid", datetime(2026, 6, 3, tzinfo=UTC), datetime(2026, 6, 4, tzinfo=UTC)
    ).rows(named=True)
    assert (session["energy_kwh"], session["departure"]) == (7.5, datetime(2026, 6, 3, 10, 30, tzinfo=UTC))
    # The car that is there has a departure ahead, by which the planner knows it.
    (going,) = read_sessions(db, "microgrid", start - timedelta(days=1), start).rows(named=True)
    assert going["energy_kwh"] == 4.0
    assert timedelta(minutes=10) < going["departure"] - start <= timedelta(minutes=16)
