"""The whole platform, started as a user starts it, once for all tests of this folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from flexergy_pipelines.settings import Settings, read_endpoints
from flexergy_pipelines.store import Store, TenantStore, open_store

STOP_PATIENCE_S = 60


@dataclass
class Stack:
    """A running `flexergy up --demo` and what it printed."""

    process: subprocess.Popen[str]
    settings: Settings
    report: dict[str, Any]
    log: Path

    def url(self, name: str) -> str:
        return self.report["addresses"][name]

    def endpoint(self, device: str) -> tuple[str, int]:
        host, port = read_endpoints(self.settings)[device].rsplit(":", 1)
        return host, int(port)

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


def start_platform(home: Path, *words: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start the platform and wait for its report."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flexergy_pipelines.cli", "up", "--demo", "--json", *words],
            env={**os.environ, "FLEXERGY_HOME": str(home), "FLEXERGY_TENANT": "demo"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.rstrip() == "}":
            return process, json.loads("".join(lines))
    process.stdout.close()
    process.wait(STOP_PATIENCE_S)
    pipeline = home / "logs" / "pipeline.log"
    why = pipeline.read_text()[-8000:] if pipeline.exists() else ""
    pytest.fail(f"the platform did not start:\n{(home / 'up.log').read_text()[-4000:]}\n{why}")


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("platform") / "home"
    process, report = start_platform(home)
    settings = Settings(home=home, database_url=None, tenant="demo")
    running = Stack(process, settings, report, home / "up.log")
    tree = running.tree()
    yield running
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_PATIENCE_S) == 0, running.log.read_text()[-2000:]
    if process.stdout is not None:
        process.stdout.close()
    _, alive = psutil.wait_procs(tree, timeout=60)
    assert alive == [], "processes were left running"


@pytest.fixture(scope="package")
def stack_store(stack: Stack) -> Iterator[Store]:
    with open_store(stack.settings) as store:
        yield store


@pytest.fixture(scope="package")
def stack_db(stack_store: Store) -> TenantStore:
    return stack_store.tenant("demo")
