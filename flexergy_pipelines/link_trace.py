"""What goes over a field device's link, decoded, on demand: asked for and given by files, beside the control loop.

Whoever wants to listen puts a file into the run folder; the control loop of the same machine then keeps the last frames
and writes them beside it, until the file is gone.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

from flexergy_pipelines.settings import Settings

LOOK_S = 0.2


def trace_files(settings: Settings, site_id: str, device_id: str) -> tuple[Path, Path]:
    """Files by which a trace is asked for, and given."""
    name = f"trace-{settings.tenant}-{site_id}-{device_id}"
    return settings.run_dir / f"{name}.wanted", settings.run_dir / f"{name}.txt"


def listen(settings: Settings, site_id: str, device_id: str, seconds: float) -> Generator[list[str]]:
    """Frames of a link as they come, for some seconds.

    Parameters
    ----------
    seconds : float
        How long to listen [s].

    Yields
    ------
    list of str
        Each time what is new, also when that is nothing; a line a frame, with its time of day in UTC.
    """
    request, answer = trace_files(settings, site_id, device_id)
    request.parent.mkdir(parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    request.touch()
    last: list[str] = []
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            time.sleep(LOOK_S)
            lines = answer.read_text(encoding="utf-8").splitlines() if answer.exists() else []
            yield lines[_known(last, lines) :]
            last = lines
    finally:
        request.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)


def _known(before: list[str], lines: list[str]) -> int:
    """How many of `lines` were there before; old ones fall out at the front when there are too many."""
    if not before:
        return 0
    for dropped in range(len(before)):
        if lines[: len(before) - dropped] == before[dropped:]:
            return len(before) - dropped
    return 0
