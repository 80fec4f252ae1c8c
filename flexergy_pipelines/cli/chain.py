"""Runs the pipeline's chain as a process of its own and passes its progress on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from flexergy_pipelines.cli.progress import Progress
from flexergy_pipelines.cli.services import flexergy


class ChainFailedError(RuntimeError):
    """The chain ended with an error; the message says which step."""


def run_chain(env: Mapping[str, str], log_path: Path, progress: Progress) -> None:
    """Run ingest → clean → train → forecast → plan → KPIs once and show each step as it ends.

    Raises
    ------
    ChainFailedError
        When a step failed.
    """
    failed: list[str] = []
    with (
        log_path.open("ab") as log,
        subprocess.Popen(
            flexergy("pipeline", "run", "--once", "--progress-json"),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
        progress.running("pipeline") as show,
    ):
        if process.stdout is None:
            raise ChainFailedError("the pipeline has no output to read")
        try:
            for line in process.stdout:
                row = _progress_row(line)
                if row is None:
                    log.write(line.encode())
                    continue
                if row["status"] == "started":
                    show(f"pipeline: {row['step']}")
                elif row["status"] == "failed":
                    failed.append(f"{row['step']}: {row.get('detail', '')}")
                    progress.failed(row["step"], row.get("detail", ""))
                elif row["status"] == "done":
                    progress.done(row["step"], row.get("seconds", 0.0), row.get("detail", ""))
        except BaseException:
            process.terminate()
            raise
    if failed or process.returncode:
        raise ChainFailedError(
            f"the pipeline failed ({'; '.join(failed) or f'code {process.returncode}'}); see {log_path}"
        )


def _progress_row(line: str) -> dict | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and {"step", "status"} <= row.keys() else None
