"""The page Devices: links as the operator sees them, listening, and found devices that an administrator decides on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.views.devices import link_history, link_table
from flexergy_pipelines.link_trace import trace_files
from flexergy_pipelines.settings import load_settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.events import list_events
from flexergy_pipelines.store.field_devices import list_proposals, propose_device
from flexergy_pipelines.store.link_statistics import (
    LinkRow,
    link_summary,
    read_link_statistics,
    write_link_statistics,
)
from flexergy_pipelines.store.sites import load_site, save_site
from tests.dashboards.seeding import microgrid
from tests.dashboards.test_pages import open_page, words

__all__ = ["open_page"]

Open = Callable[..., AppTest]


def told(device_id: str, at: datetime, *, failures: int = 0, up: bool = True, dbm: float | None = None) -> LinkRow:
    counts = (60, failures, 2, 1, 40_000, 60_000)
    error = f"{device_id}: no answer within 1 s" if failures else ""
    return LinkRow(device_id, at, up, *counts, 0.012, 0.3, "iec104", "LTE", error, dbm)


@pytest.fixture
def field(db: TenantStore) -> TenantStore:
    save_site(db, microgrid())
    now = datetime.now(UTC)
    rows = [told("pcc-meter", now - timedelta(minutes=m), dbm=-70.0 - m) for m in range(1, 30)]
    rows += [told("esc-1", now - timedelta(minutes=m), failures=30, up=False) for m in range(1, 30)]
    rows.append(told("res-1", now - timedelta(minutes=50)))
    write_link_statistics(db, "microgrid", rows)
    return db


@pytest.mark.requirement("asset.03.1")
def test_what_is_wrong_comes_first_and_says_why(field: TenantStore) -> None:
    now = datetime.now(UTC)
    table = link_table(microgrid(), link_summary(field, "microgrid", now - timedelta(hours=1), now), now)
    rows = {row["device"]: row for row in table.iter_rows(named=True)}
    assert table["device"][0] == "esc-1"
    assert (rows["esc-1"]["link"], rows["esc-1"]["answered"]) == ("down", "50.00 % of 1\u202f740")
    assert rows["esc-1"]["last error"] == "esc-1: no answer within 1 s"
    assert (rows["pcc-meter"]["link"], rows["pcc-meter"]["signal"]) == ("up", "−71 dBm, weakest −99 dBm")
    assert rows["res-1"]["link"] == "no word for 50 min"
    silent = {device.id for device in microgrid().devices()} - {"esc-1", "pcc-meter", "res-1"}
    assert {rows[name]["link"] for name in silent} == {"not heard of"}


def test_a_long_history_is_drawn_with_few_points(field: TenantStore) -> None:
    now = datetime.now(UTC)
    start = now - timedelta(days=7)
    history = link_history(read_link_statistics(field, "microgrid", start, now), ["esc-1"], start, now)
    assert 1 <= history.height <= 2
    assert history["answered"].to_list() == [pytest.approx(0.5)] * history.height
    assert history["latency_ms"].to_list() == [pytest.approx(12.0)] * history.height


def test_the_page_tells_of_links_and_hears_them(field: TenantStore, open_page: Open) -> None:
    wanted, given = trace_files(load_settings(), "microgrid", "esc-1")
    frames = [f"10:00:0{n}.000 -> unit 1 read input {n}" for n in range(3)]

    def loop() -> None:
        """The control loop, which answers once a trace is asked for."""
        pause = threading.Event()
        while not wanted.exists():
            pause.wait(0.05)
        given.write_text("\n".join(frames) + "\n")

    page = open_page("devices")
    text = words(page)
    assert "1 of" in text
    assert "esc-1: no answer within 1 s" in text
    answering = threading.Thread(target=loop, daemon=True)
    answering.start()
    page.selectbox(key="dev_trace").set_value("esc-1").run()
    page.button(key="dev_listen").click().run(timeout=120)
    answering.join(60)
    assert [code.value.splitlines() for code in page.code] == [frames]
    assert not wanted.exists()


def test_a_site_whose_loop_never_ran_says_so(db: TenantStore, open_page: Open, tmp_path: Path) -> None:
    save_site(db, microgrid())
    text = words(open_page("devices", role="viewer"))
    assert "Nothing was heard of any link" in text
    assert "Listen" not in text


@pytest.mark.requirement("infra.01.2")
def test_an_administrator_registers_a_found_device_and_nobody_else(field: TenantStore, open_page: Open) -> None:
    identity = {"manufacturer": "Acme", "model": "Sun 50", "rated_kw": 50.0}
    found = propose_device(
        field, "microgrid", protocol="modbus_tcp", address="10.0.0.4:502 unit 1", identity=identity,
        template="sunspec_inverter",
    )  # fmt: skip
    page = open_page("devices", role="operator")
    assert "Acme Sun 50" in words(page)
    assert "An administrator registers them" in words(page)
    page = open_page("devices", role="administrator")

    def press(label: str, device_id: str, fields: str) -> str:
        page.text_input[0].set_value(device_id)
        page.text_area[0].set_value(fields)
        next(button for button in page.button if button.label == label).click().run()
        return " ".join([words(page), *(said.value for said in (*page.error, *page.success))])

    assert "give each name once, as name=value" in press("Register", "roof-2", "tilt 15")
    assert "Nothing was changed" in press("Register", "roof-2", "tilt_deg=500")
    assert [waiting.proposal_id for waiting in list_proposals(field)] == [found.proposal_id]
    assert "roof-2 is registered (version 2 of the site)" in press("Register", "roof-2", "tilt_deg=15")
    assert "roof-2" in {device.id for device in load_site(field, "microgrid").devices()}
    assert list_proposals(field) == []
    now = datetime.now(UTC)
    events = list_events(field, now - timedelta(minutes=5), now + timedelta(minutes=1))
    assert "device_approved" in events["kind"].to_list()
