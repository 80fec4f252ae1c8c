"""Data quality and history as their users see them: meters over time, checks, bulk reading, energy, data docs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest
from starlette.applications import Starlette
from streamlit.testing.v1 import AppTest

from dashboards.data_docs import DataDocs
from dashboards.web import COOKIE
from flexergy_pipelines import access
from flexergy_pipelines.store import Store, TenantStore
from flexergy_pipelines.store.bulk import MeterRead, list_bulk_jobs, write_meter_reads
from flexergy_pipelines.store.energy import write_energy
from flexergy_pipelines.store.events import record_event
from flexergy_pipelines.store.quality import replace_findings, write_quality
from tests.dashboards.test_pages import open_page, words

__all__ = ["open_page"]

Open = Callable[..., AppTest]
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


def quality_rows(db: TenantStore) -> None:
    rows = [
        {"asset_id": asset, "quantity": "active_power_kw", "day": YESTERDAY - timedelta(days=back), "expected": 96}
        | {"measured": measured, "wrong": 0, "estimated": 0, "empty": 96 - measured}
        for asset, measured in (("pcc", 96), ("load-1", 48))
        for back in range(3)
    ]
    write_quality(db, "microgrid", pl.DataFrame(rows))


@pytest.fixture
def site(db: TenantStore) -> TenantStore:
    from flexergy_pipelines.store.sites import save_site
    from tests.dashboards.seeding import microgrid

    save_site(db, microgrid())
    quality_rows(db)
    return db


@pytest.mark.requirement("infra.02.3")
def test_meters_come_worst_first_with_their_coverage(site: TenantStore, open_page: Open) -> None:
    page = open_page("quality")
    text = words(page)
    assert text.index("load-meter") < text.index("pcc-meter")
    assert "50.0 %" in text
    assert page.multiselect(key="dq_meters").value == ["load-meter", "pcc-meter"]


def test_findings_of_the_checks_are_shown_with_both_numbers(site: TenantStore, open_page: Open) -> None:
    assert "The nightly checks found nothing" in words(open_page("quality"))
    row = {"check_name": "balance", "day": YESTERDAY, "subject": "all assets", "expected": 100.0, "found": 90.0}
    rows = pl.DataFrame([row | {"deviation": 0.1, "detail": "90.0 kW found, 100.0 expected: 10.0% off"}])
    replace_findings(site, "microgrid", ["balance"], YESTERDAY, YESTERDAY, rows)
    text = words(open_page("quality"))
    assert "90.0 kW found, 100.0 expected: 10.0% off" in text
    assert "sum of assets against main meter" in text
    assert "/data-docs/index.html" in text


@pytest.mark.requirement("infra.02.2", "infra.02.3")
def test_an_operator_sets_a_job_and_sees_how_reading_went(site: TenantStore, open_page: Open) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    good = MeterRead("pcc-meter", None, at, True, 1, 0.02, 8, 8)
    bad = MeterRead("load-meter", "dc-1", at, False, 3, None, 1, 0, "load-meter: no answer")
    write_meter_reads(site, "microgrid", "hourly", [good, bad])
    page = open_page("quality")
    text = words(page)
    assert "load-meter: no answer" in text
    assert "every meter is read once an hour" in text
    page.text_input[0].set_value("profiles")
    next(box for box in page.multiselect if box.label == "What").set_value(["profile"])
    next(box for box in page.selectbox if box.label == "Every").set_value(15)
    next(button for button in page.button if button.label == "Save").click().run()
    assert not page.exception
    [job] = list_bulk_jobs(site, "microgrid")
    assert (job.name, job.reports, job.period_minutes, job.meters) == ("profiles", ("profile",), 15, ())
    assert "reads load profile of all meters every 15 min" in words(page)


@pytest.mark.requirement("infra.02.2")
def test_what_became_of_settings_sent_to_meters_is_shown(site: TenantStore, open_page: Open) -> None:
    changes = [
        {"setting": "clock", "before": 93.0, "after": 0.1},
        {"setting": "capture period", "before": 15, "after": 5},
    ]
    sent = {"actor": "ann", "site_id": "microgrid"}
    record_event(
        site, **sent, kind="meter_configured", subject="load-meter", detail={"attempts": 1, "changes": changes}
    )
    failed = {"kind": "meter_configuration_failed", "subject": "pcc-meter", "reason": "pcc-meter: no connection"}
    record_event(site, **sent, **failed, detail={"attempts": 3, "changes": []})
    text = words(open_page("quality"))
    assert text.index("pcc-meter: no connection") < text.index("clock, was +93.0 s off; capture period 15 → 5 min")


def test_a_viewer_sees_no_form_for_jobs(site: TenantStore, open_page: Open) -> None:
    page = open_page("quality", role="viewer")
    assert not [button for button in page.button if button.label == "Save"]


def test_energy_of_a_period_is_summed_by_the_sites_calendar(site: TenantStore, open_page: Open) -> None:
    start = datetime(YESTERDAY.year, YESTERDAY.month, YESTERDAY.day, 6, tzinfo=UTC)
    rows = [
        {"asset_id": "pcc", "time": start + timedelta(minutes=15 * n), "forward_kwh": 3.0, "reverse_kwh": 1.0}
        | {"basis": 1, "estimated": False}
        for n in range(8)
    ]
    write_energy(site, "microgrid", pl.DataFrame(rows))
    text = words(open_page("history"))
    assert "imported" in text
    assert "24.0" in text
    assert "exported" in text
    assert "100.0%" in text


def test_data_docs_are_shown_to_their_own_tenant_only(store: Store, tmp_path: Path) -> None:
    for tenant in ("demo", "other"):
        folder = tmp_path / tenant / "clean_readings"
        folder.mkdir(parents=True)
        (folder / "page.html").write_text(f"docs of {tenant}")
        (tmp_path / tenant / "index.html").write_text(f"index of {tenant}")
    (tmp_path / "secret.html").write_text("secret")
    access.create_user(store.tenant("demo"), "olga", "a long password", "viewer")
    token = access.authenticate(store, "olga", "a long password")
    assert token is not None
    served = Starlette(routes=DataDocs(store, tmp_path).routes())

    def get(path: str, cookie: str | None = token) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=served)
            cookies = {COOKIE: cookie} if cookie else {}
            async with httpx.AsyncClient(transport=transport, base_url="http://x", cookies=cookies) as client:
                return await client.get(path)

        return asyncio.run(ask())

    assert get("/data-docs/index.html", None).status_code == 401
    assert get("/data-docs").headers["location"] == "/data-docs/index.html"
    assert get("/data-docs/clean_readings/page.html").text == "docs of demo"
    for path in ("../other/index.html", "%2e%2e/other/index.html", "..%2fsecret.html", "/etc/passwd", "x.html"):
        assert get(f"/data-docs/{path}").status_code == 404, path


def test_days_of_a_period_end_yesterday() -> None:
    from dashboards.views.metering import first_day

    assert first_day(date(2026, 3, 1), 7) == date(2026, 2, 23)
