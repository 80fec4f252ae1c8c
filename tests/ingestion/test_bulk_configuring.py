"""Settings sent to several DLMS meters at once, on the wire: taken, refused, away, tried out, logged."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from flexergy_pipelines.grid import Site, parse_site, site_to_dict
from flexergy_pipelines.metering.keys import Credentials
from flexergy_pipelines.settings import Settings, publish_endpoints
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.events import list_events
from flexergy_pipelines.store.readings import read_readings
from flexergy_pipelines.store.sites import list_site_versions, load_site, save_site
from ingestion.meters.bulk import BulkRules
from ingestion.meters.configuring import ConfigureOutcome, WantedSettings, configure_in_bulk
from ingestion.meters.manage import app
from plant_simulator.dlms_server import AUTHENTICATION_KEY, ENCRYPTION_KEY, PASSWORD
from plant_simulator.faults import FaultRequest
from tests.metering.meter_bench import MeterBench, meter_bench

QUICK = BulkRules(attempts=2, timeout_s=5.0, pause_s=0.001)
NAMES = ["load-meter", "second", "third", "fourth"]
BY_DEVICE = {
    "microgrid/load-meter": Credentials(encryption_key=ENCRYPTION_KEY, authentication_key=AUTHENTICATION_KEY),
    "microgrid/second": Credentials(password=PASSWORD),
    "microgrid/third": Credentials(),  # may read what is public, and set nothing
    "microgrid/fourth": Credentials(password=PASSWORD),
}


@dataclass
class Street:
    """Three meters that listen and one that is away."""

    benches: dict[str, MeterBench]
    addresses: dict[str, str]

    def now(self) -> datetime:
        return self.benches["load-meter"].now


@contextmanager
def street() -> Iterator[Street]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    with ExitStack() as stack:
        stack.callback(loop.close)
        stack.callback(thread.join, 10)
        stack.callback(loop.call_soon_threadsafe, loop.stop)
        benches: dict[str, MeterBench] = {}
        for name in NAMES[:3]:
            context = meter_bench()
            benches[name] = wait(context.__aenter__())
            stack.callback(lambda context=context: wait(context.__aexit__(None, None, None)))
        addresses = {f"microgrid/{name}": f"127.0.0.1:{bench.port}" for name, bench in benches.items()}
        yield Street(benches, addresses | {"microgrid/fourth": "127.0.0.1:9"})


@pytest.fixture
def dlms_site(db: TenantStore, site: Site) -> Site:
    """The microgrid with four DLMS meters of loads."""
    data = site_to_dict(site)
    [meter] = [meter for meter in data["meters"] if meter["id"] == "load-meter"]
    meter["connection"]["protocol"] = "dlms"
    for number, name in enumerate(NAMES[1:], start=1):
        port = meter["connection"]["port"] + 100 + number
        more = meter | {"id": name, "role": "sub", "connection": meter["connection"] | {"port": port}}
        data["meters"].append(more)
    changed = parse_site(data)
    save_site(db, changed)
    return changed


def events_of(db: TenantStore) -> dict[str, dict[str, Any]]:
    now = datetime.now(UTC)
    rows = list_events(db, now - timedelta(hours=1), now + timedelta(hours=1)).iter_rows(named=True)
    return {
        row["subject"]: row | {"detail": json.loads(row["detail"])}
        for row in rows
        if row["kind"].startswith("meter_conf")
    }


@pytest.mark.requirement("infra.02.2")
def test_settings_reach_every_meter_that_takes_them_and_each_outcome_is_kept(db: TenantStore, dlms_site: Site) -> None:
    seen: list[str] = []

    def progress(outcome: ConfigureOutcome, done: int, count: int) -> None:
        seen.append(f"{done}/{count}")

    wanted = WantedSettings(capture_minutes=5, clock=True)

    with street() as it:
        skew = FaultRequest(target="microgrid/load-meter", kind="clock_skew", value=93.0)
        it.benches["load-meter"].plant.faults.set(skew)

        def send(*, dry_run: bool = False, meters: list[str] | None = None) -> list[ConfigureOutcome]:
            outcomes = configure_in_bulk(
                db, dlms_site, it.addresses, wanted, actor="ann", meters=meters, dry_run=dry_run, rules=QUICK,
                credentials=lambda device: BY_DEVICE[device.key], progress=progress, now=it.now,
            )  # fmt: skip
            return list(outcomes)

        tried = send(dry_run=True)
        assert [o.success for o in tried] == [True, True, False, False]
        assert [c.text() for c in tried[0].changes] == ["clock +93.0 s off → +0.0 s", "capture period 15 → 5 min"]
        meters = {name: bench.front.meter for name, bench in it.benches.items()}
        assert {meter.period for meter in meters.values()} == {timedelta(minutes=15)}
        assert not events_of(db)
        [kept] = configure_in_bulk(
            db, dlms_site, it.addresses, WantedSettings(capture_minutes=60), actor="ann", meters=["load-meter"],
            rules=QUICK, now=it.now,
        )  # fmt: skip
        assert (kept.success, kept.changes) == (False, ()), "what it holds would be lost"
        assert (kept.error or "").startswith("its load profile cannot be saved: load-meter: 1.0.99.1.0.255")
        assert meters["load-meter"].period == timedelta(minutes=15)
        seen.clear()

        first, second, refusing, away = send()
        assert (first.success, second.success, refusing.success, away.success) == (True, True, False, False)
        assert [(c.setting, c.before, c.after) for c in first.changes] == [
            ("clock", pytest.approx(93.0), pytest.approx(0.0)),
            ("capture period", 15, 5),
        ]
        assert (refusing.attempts, away.attempts) == (1, 2), "a refusal is an answer; who is away is tried again"
        assert refusing.error == "third: 1.0.99.1.0.255 attribute 4: the meter answers 'read write denied'"
        assert away.error == "fourth: no connection to 127.0.0.1:9"
        assert seen == ["1/4", "2/4", "3/4", "4/4"]
        assert [meter.period for meter in meters.values()] == [timedelta(minutes=n) for n in (5, 5, 15)]
        assert meters["load-meter"].profile.maxlen == 35 * 288
        again = send(meters=["second"])
        assert (again[0].success, again[0].changes) == (True, ())
    told = events_of(db)
    assert {name: row["kind"] for name, row in told.items()} == {
        "load-meter": "meter_configured",
        "second": "meter_configured",
        "third": "meter_configuration_failed",
        "fourth": "meter_configuration_failed",
    }
    assert told["load-meter"]["actor"] == "ann"
    assert told["load-meter"]["detail"]["changes"][1] == {"setting": "capture period", "before": 15, "after": 5}
    assert told["fourth"]["reason"] == away.error
    periods = {meter.id: meter.integration_period_minutes for meter in load_site(db, "microgrid").meters}
    assert [periods[name] for name in NAMES] == [5, 5, 15, 15]
    assert list_site_versions(db, "microgrid").height == 3, "all meters in one version"
    # The meters emptied their profiles; what they held was read before.
    held = read_readings(db, "microgrid", it.now() - timedelta(hours=20), it.now(), [("load-1", "active_power_kw")])
    assert held.height == 80


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--capture-period", "7"], "capture period 7 min: allowed are 1, 5, 10, 15, 30, 60"),
        ([], "nothing to set: give a capture period, the clock, or both"),
        (["--set-clock", "--meters", "nobody,second"], "nobody: no meter of microgrid; meters: "),
        (
            ["--set-clock", "--meters", "pcc-meter"],
            "pcc-meter speaks modbus_tcp: only meters that speak dlms can be set",
        ),
    ],
)
def test_what_cannot_be_set_is_refused_before_anything_is_sent(
    dlms_site: Site, store_settings: Settings, monkeypatch: pytest.MonkeyPatch, words: list[str], refusal: str
) -> None:
    monkeypatch.setenv("FLEXERGY_HOME", str(store_settings.home))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", str(store_settings.database_url))
    monkeypatch.setenv("FLEXERGY_TENANT", "demo")
    answer = CliRunner().invoke(app, ["configure", "--site", dlms_site.id, *words])
    assert answer.exit_code == 2
    assert answer.stderr.startswith(f"flexergy meters: {refusal}")


def test_the_command_sets_clocks_and_says_what_became_of_each(
    db: TenantStore, dlms_site: Site, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEXERGY_HOME", str(store_settings.home))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", str(store_settings.database_url))
    monkeypatch.setenv("FLEXERGY_TENANT", "demo")
    path = store_settings.home / "meter_keys.yaml"
    path.write_text(f"'microgrid/load-meter': {{password: '{PASSWORD.decode()}'}}\n")
    path.chmod(0o600)
    with street() as it:
        publish_endpoints(store_settings, it.addresses)
        said = ["configure", "--site", dlms_site.id, "--meters", "load-meter,third", "--set-clock", "--timeout-s", "5"]
        tried = CliRunner().invoke(app, [*said, "--dry-run"])
        assert tried.exit_code == 0
        assert "load-meter: would change: clock " in tried.stdout
        done = CliRunner().invoke(app, said)
        assert done.exit_code == 1
        assert "third: third: 0.0.1.0.0.255 attribute 2: the meter answers 'read write denied'" in done.stdout
        assert "1 of 2 meters are as wanted" in done.stdout
        repeated = CliRunner().invoke(app, [*said[:3], "--meters", "load-meter", "--set-clock", "--timeout-s", "5"])
    assert repeated.exit_code == 0
    assert "load-meter: as wanted" in repeated.stdout
    assert set(events_of(db)) == {"load-meter", "third"}
