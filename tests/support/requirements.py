"""The `requirement` marker: writes which requirements passed, failed and stay unclaimed.

The ids come from `tests/support/requirement_ids.txt`, so that a checkout needs nothing beside it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

_KNOWN = Path(__file__).with_name("requirement_ids.txt").read_text().split()
_REPORT = Path(__file__).resolve().parents[1] / "report" / "requirements.json"


class RequirementReport:
    """Collects the outcome of each marked test under every requirement it names."""

    def __init__(self) -> None:
        self.claimed_by: dict[str, set[str]] = defaultdict(set)
        self.failed: dict[str, set[str]] = defaultdict(set)
        self.passed: dict[str, set[str]] = defaultdict(set)
        self.ids_of: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        unknown: list[str] = []
        for item in items:
            ids = [str(name) for mark in item.iter_markers("requirement") for name in mark.args]
            self.ids_of[item.nodeid] = ids
            for name in ids:
                self.claimed_by[name].add(item.nodeid)
                if name not in _KNOWN:
                    unknown.append(f"{item.nodeid}: unknown requirement '{name}'")
        if unknown:
            raise pytest.UsageError("\n".join(unknown))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name in self.ids_of.get(report.nodeid, ()):
            if report.failed:
                self.failed[name].add(report.nodeid)
            elif report.when == "call" and report.passed:
                self.passed[name].add(report.nodeid)

    def outcome(self) -> dict[str, list[str]]:
        """Ids by state: passed, failed, claimed but not run, unclaimed."""
        passed = [name for name in _KNOWN if name in self.passed and name not in self.failed]
        failed = [name for name in _KNOWN if name in self.failed]
        unclaimed = [name for name in _KNOWN if name not in self.claimed_by]
        not_run = [name for name in _KNOWN if name not in {*passed, *failed, *unclaimed}]
        return {"passed": passed, "failed": failed, "not_run": not_run, "unclaimed": unclaimed}

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        outcome = self.outcome()
        _REPORT.parent.mkdir(exist_ok=True)
        evidence = {name: sorted(tests) for name, tests in sorted(self.claimed_by.items())}
        _REPORT.write_text(json.dumps({**outcome, "tests": evidence}, indent=1))
        counts = ", ".join(f"{len(ids)} {state.replace('_', ' ')}" for state, ids in outcome.items())
        terminalreporter.write_line(f"requirements: {counts} (of {len(_KNOWN)}; tests/report/requirements.json)")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RequirementReport(), "flexergy-requirements")
