"""DLMS/COSEM meters read in bulk and on request: load profiles go on where they ended, and fill what is missing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from flexergy_pipelines.grid import Device, Site, parse_site, site_to_dict
from flexergy_pipelines.metering.cosem_time import write_time
from flexergy_pipelines.metering.keys import Credentials
from flexergy_pipelines.settings import Settings, publish_endpoints
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.bulk import reading_statistics
from flexergy_pipelines.store.open_days import open_days
from flexergy_pipelines.store.readings import read_readings, write_readings
from flexergy_pipelines.store.sites import save_site
from ingestion.meters.bulk import BulkRules, read_in_bulk
from ingestion.meters.cli import app
from ingestion.meters.dlms_device import ProfileReading, read_profile
from ingestion.meters.manage import app as meters_app
from plant_simulator.dlms_server import AUTHENTICATION_KEY, ENCRYPTION_KEY, PASSWORD
from tests.metering.meter_bench import MeterBench, meter_bench
from tests.metering.odd_meter import OddMeter, array, column, octets, serving

POINT = ("load-1", "active_power_kw")
PROFILE = BulkRules(attempts=1, timeout_s=5.0, reports=("profile",))


def keys(_device: Device) -> Credentials:
    return Credentials(encryption_key=ENCRYPTION_KEY, authentication_key=AUTHENTICATION_KEY)


@contextmanager
def running() -> Iterator[MeterBench]:
    """The load's meter, served from a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    context = meter_bench()

    def wait(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    try:
        yield wait(context.__aenter__())
    finally:
        wait(context.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def dlms_site(db: TenantStore, site: Site) -> Site:
    """The microgrid with a load meter that speaks DLMS and hangs on a data concentrator."""
    data = site_to_dict(site)
    data["concentrators"] = [{"id": "dc-1"}]
    [meter] = [meter for meter in data["meters"] if meter["id"] == "load-meter"]
    meter["connection"]["protocol"] = "dlms"
    meter["concentrator"] = "dc-1"
    changed = parse_site(data)
    save_site(db, changed)
    return changed


def collect(db: TenantStore, site: Site, it: MeterBench, now: datetime) -> Any:
    addresses = {"microgrid/load-meter": f"127.0.0.1:{it.port}"}
    return read_in_bulk(
        db, site, now, addresses, meters=["load-meter"], rules=PROFILE, job="profiles", credentials=keys
    )


def stored(db: TenantStore, now: datetime) -> pl.DataFrame:
    return read_readings(db, "microgrid", now - timedelta(days=3), now, [POINT])


@pytest.mark.requirement("infra.02.1", "infra.02.3", "infra.02.6", "asset.04.2")
def test_a_job_reads_the_profile_on_from_where_it_ended(db: TenantStore, dlms_site: Site) -> None:
    with running() as it:
        now = it.now.replace(minute=0, second=0, microsecond=0)
        first = collect(db, dlms_site, it, now - timedelta(hours=6))
        assert (first.outcomes[0].received, first.outcomes[0].expected) == (104, 104)
        assert first.written == 104
        second = collect(db, dlms_site, it, now)
    assert (second.outcomes[0].expected, second.written) == (8 * 4, 6 * 4)
    values = stored(db, now)
    assert values["time"].diff().drop_nulls().unique().to_list() == [timedelta(minutes=15)]
    truth = {entry.end - timedelta(minutes=15): entry.import_wh * 4 / 1000 for entry in it.front.meter.profile}
    assert values["value"].to_list() == pytest.approx([truth[time] for time in values["time"]])
    statistics = reading_statistics(
        db, "microgrid", now - timedelta(days=1), now + timedelta(hours=1), by="concentrator"
    )
    assert statistics.select("concentrator", "reads", "success_rate", "completeness").rows() == [("dc-1", 2, 1.0, 1.0)]
    assert open_days(db), "the days of the profile are to be cleansed again"


@pytest.mark.requirement("asset.04.2")
def test_a_profile_fills_an_outage_and_leaves_what_was_measured(db: TenantStore, dlms_site: Site) -> None:
    with running() as it:
        now = it.now.replace(minute=0, second=0, microsecond=0)
        begin = now - timedelta(hours=4)
        minutes = [begin + timedelta(minutes=n) for n in range(240) if not 60 <= n < 120]
        telemetry = pl.DataFrame(
            {"asset_id": [POINT[0]] * 180, "quantity": [POINT[1]] * 180, "time": minutes, "value": [7.0] * 180}
        )
        write_readings(db, "microgrid", telemetry, "control", allow_future=True)
        collect(db, dlms_site, it, now)
    values = stored(db, now).filter(pl.col("time") >= begin)
    filled = values.filter(pl.col("value") != 7.0)
    assert filled["time"].to_list() == [begin + timedelta(minutes=60 + 15 * n) for n in range(4)]
    assert values.height == 184


@pytest.mark.requirement("infra.02.4")
def test_the_load_profile_of_a_period_is_read_on_request(
    db: TenantStore, dlms_site: Site, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEXERGY_HOME", str(store_settings.home))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", str(store_settings.database_url))
    monkeypatch.setenv("FLEXERGY_TENANT", "demo")
    path = store_settings.home / "meter_keys.yaml"
    path.write_text(f"'*': {{password: '{PASSWORD.decode()}'}}\n")
    path.chmod(0o600)
    with running() as it:
        publish_endpoints(store_settings, {"microgrid/load-meter": f"127.0.0.1:{it.port}"})
        end = it.now.replace(minute=0, second=0, microsecond=0)
        words = ["load-meter", "--now", "--json", "--from", (end - timedelta(hours=2)).isoformat()]
        answer = CliRunner().invoke(app, [*words, "--to", end.isoformat()])
        assert answer.exit_code == 0, answer.stderr
        found = json.loads(answer.stdout)["values"]
        assert [row["quantity"] for row in found] == ["active_power_kw"] * 8
        present = json.loads(CliRunner().invoke(app, ["load-meter", "--now", "--json"]).stdout)["values"]
        objects = {
            name: CliRunner().invoke(app, ["load-meter", "--now", "--obis", name, *more])
            for name, more in {"all": [], "1-0:32.7.0": [], "0.0.1.0.0.255": [], "1-0:9.9.9": [], "x": []}.items()
        }
        columns = CliRunner().invoke(app, ["load-meter", "--now", "--obis", "99.1.0", "--attribute", "3", "--json"])
    assert "class   8  0.0.1.0.0.255" in objects["all"].stdout
    assert re.fullmatch(r"1\.0\.32\.7\.0\.255 attribute 2 \(class 3\): 2\d\d\.?\d* V\n", objects["1-0:32.7.0"].stdout)
    assert it.now.astimezone(dlms_site.zone).isoformat(timespec="minutes")[:16] in objects["0.0.1.0.0.255"].stdout
    assert (objects["1-0:9.9.9"].exit_code, objects["x"].exit_code) == (1, 2)
    assert "load-meter: 1.0.9.9.9.255 attribute 2: the meter answers 'object undefined'" in objects["1-0:9.9.9"].stderr
    assert [column[1] for column in json.loads(columns.stdout)["value"]][-1] == "1.0.2.29.0.255"
    by_quantity = {row["quantity"]: row["value"] for row in present}
    phases = [by_quantity[f"active_power_l{n}_kw"] for n in (1, 2, 3)]
    assert sum(phases) == pytest.approx(by_quantity["active_power_kw"])


def test_jobs_and_statistics_are_set_and_shown_on_the_command_line(
    dlms_site: Site, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEXERGY_HOME", str(store_settings.home))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", str(store_settings.database_url))
    monkeypatch.setenv("FLEXERGY_TENANT", "demo")

    publish_endpoints(store_settings, {"microgrid/load-meter": "127.0.0.1:9"})

    def say(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(meters_app, [*words, "--site", "microgrid"])
        return result.exit_code, (result.stdout + result.stderr).strip()

    assert say("job", "list") == (0, "hourly: instant and profile of all meters every 60 min")
    set_night = ["job", "set", "night", "--meter", "load-meter", "--report", "profile", "--period-minutes"]
    assert say(*set_night, "1440") == (0, "night: profile of load-meter every 1440 min")
    assert say(*set_night, "1") == (
        2, "flexergy meters: bulk job night: period_minutes 1 is outside 5 to 10080"
    )  # fmt: skip
    code, text = say("job", "set", "x", "--meter", "nobody")
    assert (code, text.startswith("flexergy meters: nobody: no meter of microgrid; meters: ")) == (2, True)
    code, text = say("collect", "--job", "night", "--timeout-s", "0.2")
    assert code == 1
    code, text = say("stats", "--by", "concentrator", "--last", "1d")
    assert code == 0
    assert text.startswith("dc-1: 0.0% of 1 reads, 0.0% complete; last error: load-meter: no connection to 127.0.0.1:9")
    assert say("job", "delete", "night") == (0, "night: deleted")


STATUS, COUNTER = "0.0.96.10.1.255", "1.0.1.8.0.255"


def counting(begin: datetime, statuses: list[int], watt_hours: list[int]) -> OddMeter:
    """A meter whose profile holds a status word and a counter, as many meters of the trade do."""
    ends = [begin + n * timedelta(minutes=15) for n in range(len(statuses))]
    rows = [
        b"\x02\x03" + octets(write_time(end)) + bytes([0x11, status]) + b"\x06" + value.to_bytes(4)
        for end, status, value in zip(ends, statuses, watt_hours, strict=True)
    ]
    return OddMeter({
        ("0.0.1.0.0.255", 2): octets(write_time(ends[-1])),
        ("1.0.99.2.0.255", 2): lambda _selection: array(rows),
        ("1.0.99.2.0.255", 3): array([column(8, "0.0.1.0.0.255"), column(1, STATUS), column(3, COUNTER)]),
        ("1.0.99.2.0.255", 4): b"\x06" + (900).to_bytes(4),
        (COUNTER, 3): b"\x02\x02\x0f\x01\x16\x1e",
    })  # fmt: skip


@pytest.mark.requirement("infra.02.6")
def test_a_profile_of_counters_gives_counters_at_their_time_and_means_between_them(site: Site) -> None:
    begin = datetime(2026, 3, 29, tzinfo=UTC)
    device = next(d for d in site.devices() if d.id == "load-meter")
    names = {"protocol": "dlms", "load_profile": "1.0.99.2.0.255", "profile_status": "idis"}
    device = dataclasses.replace(device, connection=device.connection.model_copy(update=names))
    # Summer time and a power failure are told, too; only the fourth entry is not valid. The counter begins anew once.
    meter = counting(begin, [0x00, 0x08, 0x80, 0x04, 0x00, 0x00], [100, 350, 350, 600, 10, 35])

    async def ask() -> ProfileReading:
        async with serving(meter) as port:
            end = begin + timedelta(minutes=75)
            keys = Credentials(password=PASSWORD)
            return await read_profile(device, "127.0.0.1", port, 5.0, keys, start=begin, end=end, zone=site.zone)

    found = asyncio.run(ask())
    quarters = [(row.time - begin) // timedelta(minutes=15) for row in found.rows]
    assert list(zip(quarters, [(row.value, row.quality) for row in found.rows], strict=True)) == [
        (0, (10.0, 0)),
        (1, (0.0, 0)),
        (2, (10.0, 1)),
        (4, (1.0, 0)),
    ]
    assert [(round(row.value, 9), (row.time - begin) // timedelta(minutes=15)) for row in found.counters] == [
        (3.5, 1), (3.5, 2), (6.0, 3), (0.1, 4), (0.35, 5)
    ]  # fmt: skip
    assert (found.expected, found.received) == (5, 4)
