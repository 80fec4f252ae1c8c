"""The `requirement` marker: writes which requirements passed, failed and stay unclaimed.

The ids come from `tests/support/requirement_ids.txt`, so that a checkout needs nothing beside it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from xdist.workermanage import WorkerController

_KNOWN = Path(__file__).with_name("requirement_ids.txt").read_text().split()
_REPORT = Path(__file__).resolve().parents[1] / "report" / "requirements.json"


class RequirementReport:
    """Collects the outcome of each marked test under every requirement it names."""

    def __init__(self) -> None:
        self.claimed_by: dict[str, set[str]] = defaultdict(set)
        self.failed: set[str] = set()
        self.passed: set[str] = set()
        self.ids_of: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        unknown: list[str] = []
        for item in items:
            ids = [str(name) for mark in item.iter_markers("requirement") for name in mark.args]
            unknown += [f"{item.nodeid}: unknown requirement '{name}'" for name in ids if name not in _KNOWN]
            self._claim(item.nodeid, ids)
        if unknown:
            raise pytest.UsageError("\n".join(unknown))

    def _claim(self, nodeid: str, ids: list[str]) -> None:
        self.ids_of[nodeid] = ids
        for name in ids:
            self.claimed_by[name].add(nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["requirements"] = {nodeid: ids for nodeid, ids in self.ids_of.items() if ids}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController) -> None:
        # Only the workers of a spread run collect; what they claim reaches the report with their last word.
        for nodeid, ids in getattr(node, "workeroutput", {}).get("requirements", {}).items():
            self._claim(nodeid, ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.add(report.nodeid)

    def outcome(self) -> dict[str, list[str]]:
        """Ids by state: passed, failed, claimed but not run, unclaimed."""
        failed = [name for name in _KNOWN if self.claimed_by[name] & self.failed]
        passed = [name for name in _KNOWN if self.claimed_by[name] & self.passed and name not in failed]
        unclaimed = [name for name in _KNOWN if not self.claimed_by[name]]
        not_run = [name for name in _KNOWN if name not in {*passed, *failed, *unclaimed}]
        return {"passed": passed, "failed": failed, "not_run": not_run, "unclaimed": unclaimed}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        outcome = self.outcome()
        _REPORT.parent.mkdir(exist_ok=True)
        evidence = {name: sorted(tests) for name, tests in sorted(self.claimed_by.items()) if tests}
        _REPORT.write_text(json.dumps({**outcome, "tests": evidence}, indent=1))
        counts = ", ".join(f"{len(ids)} {state.replace('_', ' ')}" for state, ids in outcome.items())
        terminalreporter.write_line(f"requirements: {counts} (of {len(_KNOWN)}; tests/report/requirements.json)")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RequirementReport(), "flexergy-requirements")
