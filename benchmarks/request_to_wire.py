"""Time from a request in the store until the device has the setpoint, for `benchmarks.control_loop`."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from benchmarks.fleet import fleet_site
from benchmarks.tables import percentile, process
from control_loop.protocols.modbus import ModbusDriver
from flexergy_pipelines.grid import SystemClock
from flexergy_pipelines.settings import Settings, publish_endpoints

SETPOINT = "active_power_setpoint_kw"


def request(count: int) -> None:
    """Time from an operator's command, and from a new plan, in the store until the device has the setpoint."""
    print(f"{count} commands and {count} plans, by the store, until the device acknowledged the setpoint; cycle 1 s")
    with tempfile.TemporaryDirectory() as home, process("-m", "benchmarks.fleet", "modbus_tcp", "1") as (_, line):
        settings = Settings(Path(home), None, "demo")
        publish_endpoints(settings, json.loads(line))
        asyncio.run(_request(count, settings))


async def _request(count: int, settings: Settings) -> None:
    import polars as pl

    from control_loop.service import ControlService
    from flexergy_pipelines.store import open_store
    from flexergy_pipelines.store.commands import write_command
    from flexergy_pipelines.store.plans import PlanRecord, write_plan
    from flexergy_pipelines.store.sites import save_site

    told: dict[float, float] = {}
    write = ModbusDriver.write

    async def noted(self: ModbusDriver, asset_id: str, quantity: str, value: float) -> None:
        await write(self, asset_id, quantity, value)
        if quantity == SETPOINT:
            told.setdefault(round(value, 3), time.perf_counter())

    ModbusDriver.write = noted
    site = fleet_site("modbus_tcp", 1)
    schema = {"asset_id": pl.String, "quantity": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64}

    with open_store(settings) as store:
        store.migrate()
        store.create_tenant("demo")
        db = store.tenant("demo")
        save_site(db, site)

        def by_plan(value: float) -> None:
            now = SystemClock().now()
            start = now.replace(second=0, microsecond=0)
            record = PlanRecord(site.id, "intraday", now, start, start + timedelta(minutes=15), 15, "optimal")
            write_plan(db, record, pl.DataFrame([("ess-0", SETPOINT, start, value)], schema=schema, orient="row"))

        def by_command(value: float) -> None:
            write_command(db, site.id, "ess-0", SETPOINT, value, "benchmark", "olga")

        service, stop = ControlService(settings), asyncio.Event()
        running = asyncio.create_task(service.run(stop))
        for name, act in (("new plan", by_plan), ("operator's command", by_command)):
            lengths: list[float] = []
            for number in range(count + 3):
                value = round(1.0 + number / 10 + (30.0 if act is by_command else 0.0), 3)
                await asyncio.sleep(0.1 + 0.137 * (number % 9))
                began = time.perf_counter()
                await asyncio.to_thread(act, value)
                while value not in told and time.perf_counter() - began < 30:
                    await asyncio.sleep(0.005)
                lengths.append(1000 * (told.get(value, time.perf_counter()) - began))
            kept = lengths[3:]  # the first ones wait for the start
            print(
                f"  {name:<28} median {statistics.median(kept):7.1f} ms   p95 {percentile(kept, 0.95):7.1f} ms"
                f"   worst {max(kept):7.1f} ms"
            )
        stop.set()
        await running
