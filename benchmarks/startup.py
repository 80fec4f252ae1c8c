"""The platform's start: from nothing to the first dispatched plan, a second start, and the memory of each service.

Run from the root of the repository: ``python -m benchmarks.startup``. docs/performance.md quotes its figures.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 600


def start(home: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start the demo on `home` and wait for its report."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flexergy_pipelines.cli", "up", "--demo", "--json"],
        env={**os.environ, "FLEXERGY_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line)
        if line.rstrip() == "}":
            return process, json.loads("".join(lines))
    raise SystemExit(f"the platform ended with code {process.wait()}; see {home}/logs")


def stop(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, and wait."""
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE_S)


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and its children [MB]; resident where PSS is unknown."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                info = process.memory_full_info()
                total += getattr(info, "pss", info.rss)
    return total / 1e6


def main() -> None:
    """Print the steps of a first start, of a second one, and who needs how much memory."""
    home = Path(tempfile.mkdtemp(prefix="flexergy-startup-"))
    try:
        process, first = start(home)
        services = {name: row["pid"] for name, row in json.loads((home / "run/services.json").read_text()).items()}
        services["postgres"] = int((home / "postgres/postmaster.pid").read_text().splitlines()[0])
        memory = {name: memory_mb(pid) for name, pid in services.items()}
        memory["flexergy up"] = memory_mb(process.pid) - sum(
            memory_mb(p) for n, p in services.items() if n != "postgres"
        )
        stop(process)
        process, second = start(home)
        stop(process)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for name, report in (("first start", first), ("second start", second)):
        print(f"{name}: ready after {report['ready_s']:.1f} s")
        for step, seconds in report["timings_s"].items():
            print(f"  {step:<46} {seconds:7.1f} s")
    print(f"memory (PSS): {sum(memory.values()):.0f} MB in all")
    for name, megabytes in sorted(memory.items(), key=lambda row: -row[1]):
        print(f"  {name:<46} {megabytes:7.0f} MB")


if __name__ == "__main__":
    main()
