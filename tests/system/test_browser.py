"""The operator's screen in a real browser: log in, and watch the battery's state of charge move."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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


@pytest.mark.requirement("module.dashboard")
def test_the_live_state_of_charge_moves(browser: Browser, stack: Stack) -> None:
    page = log_in(browser, stack, 1440, 900)
    first = shown_values(page)
    page.wait_for_function(
        "before => [...document.querySelectorAll('[data-testid^=live-]')].map(e => e.innerText).join('|') !== before",
        arg=first,
        timeout=PATIENCE_MS,
    )
    text = page.inner_text("[data-testid=live-soc]")
    share = re.search(r"(\d+(?:\.\d+)?)\s*%", text)
    assert share is not None, text
    assert 0.0 <= float(share.group(1)) <= 100.0
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


def shown_values(page: Page) -> str:
    return page.evaluate("[...document.querySelectorAll('[data-testid^=live-]')].map(e => e.innerText).join('|')")
