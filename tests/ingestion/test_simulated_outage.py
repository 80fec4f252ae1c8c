"""The simulated weather service fails in every way that the fault command knows: weather stays, alarms come and go."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from flexergy_pipelines.grid import SimulatedClock, Site
from flexergy_pipelines.grid.replay import ReplayedSite, ReplayRule
from flexergy_pipelines.settings import Settings, publish_endpoints
from flexergy_pipelines.store import TenantStore
from ingestion.weather import COLUMNS, OpenMeteo, fetch_weather
from ingestion.weather.service import ALARM_CODE
from ingestion.weather.transport import RetryRules
from plant_simulator.cli import app
from plant_simulator.faults import SERVICE_FAULTS
from plant_simulator.field import Field
from plant_simulator.http_app import build_app
from plant_simulator.service import bind_http
from tests.ingestion.test_weather_outage import NOW, active, history

PATIENT, IMPATIENT = RetryRules(attempts=1, timeout_s=60.0), RetryRules(attempts=1, timeout_s=0.3)


@contextlib.contextmanager
def simulated_services(site: Site, clock: SimulatedClock, home: Path) -> Iterator[str]:
    """The simulator's HTTP side with its address published."""
    field = Field([(site, ReplayedSite(site, ReplayRule.for_now(NOW, site.zone)))], clock, 1)
    with bind_http("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(build_app(field), log_config=None, access_log=False, lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        publish_endpoints(Settings(home, None, "demo"), {"simulator": url})
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(60)


def simulate(*words: str) -> None:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output


@pytest.mark.requirement("energy.01.3")
def test_weather_outlasts_every_fault_of_its_service_and_recovers(
    db: TenantStore, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEXERGY_HOME", str(tmp_path))
    history(db, site)
    clock = SimulatedClock(NOW)
    with simulated_services(site, clock, tmp_path) as url:
        patient, impatient = (OpenMeteo(url, rules, "simulated") for rules in (PATIENT, IMPATIENT))
        assert fetch_weather(db, site.id, clock.now(), [patient]).provider == "simulated"
        for kind in SERVICE_FAULTS:
            clock.advance(80 * 3600)  # no earlier forecast reaches so far
            simulate("fault", "weather", kind, *(("--delay", "1.5") if kind == "slow" else ()))
            out = fetch_weather(db, site.id, clock.now(), [impatient if kind == "slow" else patient])
            assert (out.provider, out.fallback) == ("similar_day", True), kind
            assert out.frame.select(*COLUMNS).null_count().sum_horizontal()[0] == 0
            assert out.frame.height >= 48
            assert active(db, site) == {ALARM_CODE: 3}
            simulate("heal", "weather")
            clock.advance(timedelta(hours=1).total_seconds())
            back = fetch_weather(db, site.id, clock.now(), [patient])
            assert (back.provider, back.fallback) == ("simulated", False), kind
            assert active(db, site) == {}
