"""Meters read themselves, over real Modbus TCP: on request and in bulk, with statistics."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from flexergy_pipelines.grid import Site, encode, load_template
from flexergy_pipelines.settings import Settings, publish_endpoints
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.readings import read_readings
from ingestion.meters.bulk import BulkRules, MeterOutcome, read_in_bulk
from ingestion.meters.cli import app
from plant_simulator.modbus_server import ModbusDevice
from plant_simulator.modbus_unit import ModbusUnit

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
QUICK = BulkRules(attempts=2, timeout_s=0.5, pause_s=0.001)


@dataclass
class Line:
    down: bool = False
    silent: bool = False
    delay_s: float = 0.0


@dataclass
class MeterRegisters:
    """A meter by the generic template that measures what it is told."""

    values: dict[str, float | None]
    sizes: dict[str, int] = field(default_factory=lambda: {"holding": 1, "input": 32})

    def read(self, table: str, address: int, count: int) -> list[int]:  # noqa: ARG002 - the interface of a device
        words = [0] * 200
        for point in load_template("generic_meter").points:
            words[point.address : point.address + point.width] = encode(point, self.values.get(point.quantity))
        return words[address : address + count]

    def write(self, address: int, values: list[int], table: str = "holding") -> list[int] | None:  # noqa: ARG002
        return None


@contextmanager
def meter(line: Line, **values: float | None) -> Iterator[str]:
    """A running meter; gives its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    device = ModbusDevice(ModbusUnit(1, MeterRegisters(values), line))
    try:
        host, port = asyncio.run_coroutine_threadsafe(device.start("127.0.0.1", 0), loop).result(10)
        yield f"{host}:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(device.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


FULL = {
    "active_power_kw": -12.5,
    "reactive_power_kvar": 3.0,
    "frequency_hz": 50.01,
    "voltage_l1_v": 230.1,
    "voltage_l2_v": 231.2,
    "voltage_l3_v": 229.9,
    "import_energy_kwh": 12345.6,
    "export_energy_kwh": 7.0,
}


@pytest.mark.requirement("infra.02.1", "infra.02.3", "infra.02.5")
def test_meters_are_read_in_bulk_stored_and_counted(db: TenantStore, site: Site) -> None:
    seen: list[tuple[str, int, int]] = []

    def progress(outcome: MeterOutcome, done: int, count: int) -> None:
        seen.append((outcome.meter, done, count))

    with meter(Line(), **FULL) as pcc, meter(Line(silent=True)) as dead:
        addresses = {"microgrid/pcc-meter": pcc, "microgrid/load-meter": dead}
        report = read_in_bulk(db, site, NOW, addresses, rules=QUICK, progress=progress)
    pcc_outcome, load_outcome = report.outcomes
    assert (pcc_outcome.success, pcc_outcome.attempts, pcc_outcome.received, pcc_outcome.expected) == (True, 1, 8, 8)
    assert (load_outcome.success, load_outcome.attempts, load_outcome.received) == (False, 2, 0)
    assert "load-meter: no answer from 127.0.0.1:" in (load_outcome.error or "")
    assert report.success_rate == 0.5
    assert sorted(seen) == [("load-meter", 2, 2), ("pcc-meter", 1, 2)]
    [row] = report.by_concentrator().rows(named=True)
    assert (row["meters"], row["completeness"]) == (2, 0.5)
    stored = read_readings(db, "microgrid", NOW, NOW + timedelta(seconds=1))
    assert dict(stored.select("quantity", "value").iter_rows()) == pytest.approx(FULL)


def test_a_value_the_meter_does_not_have_is_not_made_up(db: TenantStore, site: Site) -> None:
    with meter(Line(), active_power_kw=1.0) as pcc:
        report = read_in_bulk(db, site, NOW, {"microgrid/pcc-meter": pcc}, meters=["pcc-meter"], rules=QUICK)
    assert (report.outcomes[0].received, report.outcomes[0].expected, report.written) == (1, 8, 1)


def test_reading_again_at_the_same_time_stores_nothing_twice(db: TenantStore, site: Site) -> None:
    with meter(Line(), **FULL) as pcc:
        for written in (8, 0):
            report = read_in_bulk(db, site, NOW, {"microgrid/pcc-meter": pcc}, meters=["pcc-meter"], rules=QUICK)
            assert report.written == written


def test_an_unknown_meter_is_refused_before_anything_is_read(db: TenantStore, site: Site) -> None:
    with pytest.raises(ValueError, match="nope: no meter of microgrid; meters: pcc-meter"):
        read_in_bulk(db, site, NOW, {}, meters=["pcc-meter", "nope"])


@pytest.mark.requirement("infra.02.4")
def test_a_person_asks_the_meter_itself(
    db: TenantStore, site: Site, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store_settings.database_url is not None
    monkeypatch.setenv("FLEXERGY_HOME", str(store_settings.home))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", store_settings.database_url)
    monkeypatch.setenv("FLEXERGY_TENANT", "demo")
    with meter(Line(), **FULL) as pcc:
        publish_endpoints(store_settings, {"microgrid/pcc-meter": pcc})
        answer = CliRunner().invoke(app, ["pcc-meter", "--now", "--json"])
    values = {row["quantity"]: row["value"] for row in json.loads(answer.stdout)["values"]}
    assert values == pytest.approx(FULL)
    gone = CliRunner().invoke(app, ["pcc-meter", "--now"])
    assert gone.exit_code == 1
    assert "pcc-meter: no " in gone.stderr
