"""`flexergy control` whose wall clock is off by what a file says [s].

``python -m benchmarks.skewed_control FILE [OPTION...]``
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from control_loop.cli import app
from flexergy_pipelines.grid import SystemClock


def skew(file: Path) -> None:
    """Let every clock of this process show the wall time moved by the file's number."""

    def now(self: SystemClock) -> datetime:  # noqa: ARG001 - replaces a method
        text = file.read_text() if file.exists() else ""
        return datetime.now(UTC) + timedelta(seconds=float(text or 0.0))

    SystemClock.now = now


if __name__ == "__main__":
    skew(Path(sys.argv[1]))
    app(sys.argv[2:])
