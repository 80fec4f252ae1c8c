"""After a power cut: every process killed at once, and the next start goes on where things were (runs last)."""

from __future__ import annotations

import signal
from contextlib import suppress
from datetime import UTC, datetime

import psutil
import pytest

from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.plans import list_plans
from flexergy_pipelines.store.sites import list_sites
from tests.system.conftest import STOP_PATIENCE_S, Stack, start_platform
from tests.system.test_running_stack import postgres_processes

pytestmark = pytest.mark.timeout(900)


@pytest.mark.requirement("module.operation")
def test_everything_killed_at_once_comes_back(stack: Stack, stack_db: TenantStore) -> None:
    plans_before = {site: list_plans(stack_db, site, 1)[0].plan_id for site in list_sites(stack_db)}
    victims = [*stack.tree(), *postgres_processes(stack)]
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    stack.process.wait(STOP_PATIENCE_S)
    psutil.wait_procs(victims, timeout=STOP_PATIENCE_S)

    process, report = start_platform(stack.settings.home)
    try:
        assert {site["site"] for site in report["sites"]} == set(plans_before)
        assert "admin_password" not in report, "the password is shown once"
        for site in report["sites"]:
            assert site["dispatch"], f"nothing dispatched at {site['site']} after the restart"
        stack_db.engine.dispose()
        for site, plan_id in plans_before.items():
            newest = list_plans(stack_db, site, 1)[0]
            assert newest.plan_id >= plan_id
            assert newest.record.created_at <= datetime.now(UTC)
    finally:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_PATIENCE_S) == 0
        if process.stdout is not None:
            process.stdout.close()
        _, alive = psutil.wait_procs(tree, timeout=60)
        assert alive == [], "processes were left running"
