"""The operator's screen in a real browser: log in, and watch the battery's state of charge move."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.system.conftest import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.timeout(900)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update")  # fmt: skip
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine; on Debian and Ubuntu: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield running
        running.close()


def log_in(browser: Browser, stack: Stack, width: int, height: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(stack.url("dashboards"))
    page.fill("input[name=name]", "admin")
    page.fill("input[name=password]", stack.report["admin_password"])
    page.click("button[type=submit]")
    page.wait_for_selector("[data-testid=live-soc]")
    return page


@pytest.mark.requirement("module.dashboard", "energy.16.2")
def test_the_live_state_of_charge_moves(browser: Browser, stack: Stack) -> None:
    """An operator's command goes through store, control loop, Modbus and physics, and shows on the screen."""
    page = log_in(browser, stack, 1440, 900)
    page.get_by_text("Sample microgrid").first.wait_for()
    before = shown_soc(page)
    assert 0.0 <= before <= 100.0
    command_battery(stack, -200.0 if before < 60.0 else 200.0)
    page.wait_for_function(
        "before => Math.abs(before - parseFloat("
        "document.querySelector('[data-testid=live-soc]').innerText.match(/[0-9.]+/)[0])) > 0.05",
        arg=before,
        timeout=PATIENCE_MS,
    )
    moved = shown_soc(page) - before
    assert moved > 0 if before < 60.0 else moved < 0
    page.wait_for_function(
        "document.querySelector('[data-testid=control-layer]').innerText.includes('test of the converter')"
        " || document.body.innerText.includes('test of the converter')",
        timeout=PATIENCE_MS,
    )
    page.close()


@pytest.mark.requirement("module.dashboard")
def test_a_phone_shows_the_same_without_sideways_scrolling(browser: Browser, stack: Stack, tmp_path: Path) -> None:
    page = log_in(browser, stack, 390, 844)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
    page.screenshot(path=tmp_path / "phone.png")
    page.close()


def test_a_wrong_password_stays_outside(browser: Browser, stack: Stack) -> None:
    page = browser.new_page()
    page.goto(stack.url("dashboards"))
    page.fill("input[name=name]", "admin")
    page.fill("input[name=password]", "guess")
    page.click("button[type=submit]")
    page.wait_for_selector("[role=alert]", timeout=PATIENCE_MS)
    assert page.query_selector("[data-testid=live-soc]") is None
    page.close()


def shown_soc(page: Page) -> float:
    text = page.inner_text("[data-testid=live-soc]")
    share = re.search(r"(\d+(?:\.\d+)?)\s*%", text)
    assert share is not None, text
    return float(share.group(1))


def command_battery(stack: Stack, power_kw: float) -> None:
    """Positive discharges."""
    until = datetime.now(UTC) + timedelta(seconds=60)
    body = {
        "asset_id": "ess-1",
        "quantity": "active_power_setpoint_kw",
        "value": power_kw,
        "reason": "test of the converter",
        "valid_until": until.isoformat(),
    }
    with httpx.Client(base_url=stack.url("api"), timeout=30.0, trust_env=False) as client:
        login = client.post("/login", json={"name": "admin", "password": stack.report["admin_password"]})
        token = login.raise_for_status().json()["token"]
        client.post(
            "/sites/microgrid/commands", json=body, headers={"Authorization": f"Bearer {token}"}
        ).raise_for_status()
