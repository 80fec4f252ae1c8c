"""Run all benchmarks, or those named, one after the other: ``python -m benchmarks [NAME...]``.

Each runs in a process of its own with its default size, so that one that fails or fills the memory costs no other. All
together take an hour or more; ``python -m benchmarks.NAME --help`` tells what each can do alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

MEASURES = (
    "cleansing",
    "control_loop",
    "data",
    "fault_matrix",
    "forecasting",
    "hard_microgrids",
    "optimization",
    "startup",
)
"""Modules of this package that measure something on their own; the others serve them."""


def main() -> None:
    """Run what the command line names, all of `MEASURES` when it names nothing; ends with 1 when one failed."""
    wanted = sys.argv[1:] or list(MEASURES)
    unknown = [name for name in wanted if name not in MEASURES]
    if unknown:
        sys.exit(f"no benchmark '{unknown[0]}'; known: {', '.join(MEASURES)}")
    failed: list[str] = []
    for name in wanted:
        print(f"== {name} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)", flush=True)
        began = time.perf_counter()
        code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        print(f"== {name}: {time.perf_counter() - began:.0f} s" + (f", failed ({code})" if code else ""), flush=True)
        failed += [name] if code else []
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
