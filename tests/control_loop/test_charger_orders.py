"""An operator's orders for single charge points: as typed, through store and loop, to the charge point and back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from control_loop.cycle import ControlCycle
from control_loop.gateway import StoreGateway
from control_loop.outbox import Outbox
from control_loop.protocols.charger_orders import ACTIONS, ChargerOrder, order_of
from control_loop.protocols.cli import app
from control_loop.site_loop import SiteLoop
from control_loop.site_model import model_of, telemetry_filter
from control_loop.spool import Spool
from flexergy_pipelines.grid import SystemClock
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import Store, TenantStore
from flexergy_pipelines.store.events import list_events
from flexergy_pipelines.store.sites import save_site
from tests.control_loop.test_ocpp import Bench, bench

SITE = sample_site("microgrid")


@pytest.fixture
def home(store: Store, db: TenantStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEXERGY_HOME", str(tmp_path))
    monkeypatch.setenv("FLEXERGY_DATABASE_URL", store.app_url)
    save_site(db, SITE)
    return tmp_path


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, ["charger", "microgrid", *words])


@pytest.mark.requirement("com.01.2", "asset.03.1")
def test_orders_are_typed_done_once_answered_and_audited(db: TenantStore, home: Path) -> None:
    async def says(*words: str) -> str:
        result = await asyncio.to_thread(typed, *words)
        assert result.exit_code == 0, result.output
        return result.output.strip().splitlines()[-1]  # before it stands what the loop here logs

    async def refused(*words: str) -> str:
        result = await asyncio.to_thread(typed, *words)
        assert result.exit_code == 1, result.output
        return result.output

    async def orders(it: Bench) -> None:
        await it.until(lambda: it.busy)
        name = it.busy[0].name
        number = next(iter(it.busy[0].transactions.values()))
        assert "NumberOfConnectors=1" in await says(name, "configuration")
        assert await says(name, "configure", "MeterValueSampleInterval", "5") == f"{name}: MeterValueSampleInterval=5"
        assert await says(name, "configuration", "MeterValueSampleInterval") == "MeterValueSampleInterval=5"
        assert "NumberOfConnectors=2 is answered with Rejected" in await refused(
            name, "configure", "NumberOfConnectors", "2"
        )
        assert await says(name, "trigger", "MeterValues") == f"{name} sends MeterValues"
        assert "must be one of" in await refused(name, "trigger", "Nonsense")
        assert " kW" in await says(name, "schedule", "600")
        assert await says(name, "stop", "--reason", "wrong car") == f"{name} stops transaction {number}"
        await it.until(lambda: number not in it.driver.posts[name].transactions.values())
        assert "does not start for TAG-X" in await refused(name, "start", "TAG-X")  # no car is there now
        assert await says(name, "unlock") == f"{name}: the cable is released"
        assert await says(name, "availability", "inoperative") == f"{name}: inoperative, accepted"
        assert "diagnostics.txt to https://logs/a" in await says(name, "diagnostics", "https://logs/a")
        assert await says(name, "firmware", "https://fw/1.bin") == f"{name} fetches its firmware from https://fw/1.bin"
        assert await says(name, "reset", "hard") == f"{name} restarts"
        now = datetime.now(UTC)
        events = list_events(db, now - timedelta(hours=1), now + timedelta(hours=1)).iter_rows(named=True)
        assert any(e["reason"] == "wrong car" and f"{name}/stop" in e["subject"] for e in events)

    async def check() -> None:
        async with bench() as it:
            cycle = ControlCycle(model_of(SITE), [it.driver], SystemClock())
            outbox: Outbox
            event_loop = asyncio.get_running_loop()

            def news(told: Any) -> None:
                event_loop.call_soon_threadsafe(loop.take_news, told)

            outbox = Outbox(StoreGateway(db, SITE.id), Spool(home / "spool.sqlite"), SystemClock(), news)
            loop = SiteLoop(cycle, outbox, telemetry_filter(SITE), SystemClock())

            async def carry() -> None:
                while True:
                    outbox.look()
                    await asyncio.to_thread(outbox.work)
                    await asyncio.sleep(0.02)

            carrying = asyncio.create_task(carry())
            try:
                await orders(it)
            finally:
                carrying.cancel()
                await asyncio.gather(carrying, return_exceptions=True)

    asyncio.run(check())


def test_what_cannot_be_is_refused_before_anything_is_asked(db: TenantStore, home: Path) -> None:
    del db, home
    for words, message in (
        (("cp-99", "unlock"), "no charge point cp-99, there are cp-01"),
        (("cp-01", "explode"), "no such action; there are start, stop"),
        (("cp-01", "configure", "one"), "configure: takes KEY VALUE, got 1"),
    ):
        result = typed(*words)
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())


@given(
    st.sampled_from([name for name, action in ACTIONS.items() if action.most >= 1]),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_any_argument_arrives_as_it_was_typed(action: str, argument: str) -> None:
    arguments = (argument, "2") if ACTIONS[action].least == 2 else (argument,)
    order = ChargerOrder("cp-01", action, arguments)
    assert order_of(order.quantity) == order


@pytest.mark.parametrize(
    "text", ["", "charge_point/", "charge_point/a/unlock/{", "charge_point/a/unlock/[1]", "x/y/z/[]"]
)
def test_what_is_no_order_is_said_so(text: str) -> None:
    with pytest.raises(ValueError, match=r"no order for a charge point|no list of words"):
        order_of(text)
