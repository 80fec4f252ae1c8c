"""IEC 61850 on the wire: reading, all four control models, schedule, reports; and a worker that comes back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plant_simulator.fronts import iec61850_front
from plant_simulator.iec61850 import Iec61850Device
from tests.plant_simulator.fakes import WorkerBench, make_plant

CLIENT = Path(__file__).with_name("iec61850_client.py")


def test_the_model_follows_the_register_template() -> None:
    plant, _ = make_plant("hybrid-park")
    device = next(d for d in plant.site.devices() if d.id == "res-1")
    image = Iec61850Device(device, plant)
    names = {f"{o['node']}.{o['name']}": o["kind"] for o in image.spec()["objects"]}
    for number in range(1, len(device.assets) + 1):
        assert names[f"GGIO{number}.AnIn1"] == "mv"
        assert names[f"GGIO{number}.AnOut2"] == "select"
    assert image.logical_device == "res1"
    image.take("GGIO2.AnOut1", 700.0)
    assert plant.measure(device.assets[1].id, "active_power_limit_kw") == 700.0


def test_a_client_reads_operates_and_is_reported_to() -> None:
    async def check() -> None:
        async with WorkerBench("iec61850", iec61850_front) as it:
            port = it.front.address.split(":")[1]
            client = await asyncio.create_subprocess_exec(
                sys.executable, str(CLIENT), port, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await asyncio.wait_for(client.communicate(), 200)
            report = json.loads(output.decode().splitlines()[-1])
            assert report.pop("soc") == pytest.approx(0.5, abs=0.05)
            assert report.pop("without_select") is False
            assert report == dict.fromkeys(("AnOut1", "AnOut2", "AnOut3", "AnOut4", "start", "ttl", "reported"), True)
            assert it.plant.orders.ttl_s("ess-1") == 33.0
            start = datetime(2026, 6, 3, 11, 0, tzinfo=UTC)
            assert it.plant.schedule("ess-1") == (start, (0.0, 5.0, 10.0, 15.0))

    asyncio.run(check())


def test_a_killed_worker_comes_back_by_itself() -> None:
    async def check() -> None:
        async with WorkerBench("iec61850", iec61850_front) as it:
            first = it.front.worker.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await it.until(lambda: not it.front.ready)
            await it.until(lambda: it.front.ready)

    asyncio.run(check())
