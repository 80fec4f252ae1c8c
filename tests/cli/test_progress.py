"""Progress of a start: what runs on a terminal, plain lines in a log, and the pipeline's rows passed on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from flexergy_pipelines.cli import chain
from flexergy_pipelines.cli.progress import Progress

ROWS = [
    {"step": "weather", "status": "started", "seconds": 0.0, "detail": ""},
    {"step": "weather", "status": "done", "seconds": 1.5, "detail": "48 intervals [of both]"},
    {"step": "training", "status": "failed", "seconds": 2.0, "detail": "microgrid: no history"},
]


def fake_pipeline(rows: list[dict], code: int) -> list[str]:
    lines = [json.dumps(row) for row in rows]
    return [sys.executable, "-c", f"import sys; print('noise'); print({chr(10).join(lines)!r}); sys.exit({code})"]


def test_each_step_is_shown_and_noise_goes_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chain, "flexergy", lambda *_: fake_pipeline(ROWS[:2], 0))
    progress = Progress()
    chain.run_chain(dict(os.environ), tmp_path / "pipeline.log", progress)
    said = capsys.readouterr().err
    assert "✓ weather" in said
    assert "48 intervals [of both]" in said
    assert "noise" not in said
    assert (tmp_path / "pipeline.log").read_text() == "noise\n"
    assert progress.timings_s == {"weather": 1.5}


def test_a_failed_step_is_named_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "flexergy", lambda *_: fake_pipeline(ROWS, 1))
    with pytest.raises(chain.ChainFailedError, match=r"training: microgrid: no history.*pipeline\.log"):
        chain.run_chain(dict(os.environ), tmp_path / "pipeline.log", Progress(quiet=True))


def test_a_pipeline_that_dies_without_a_word_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "flexergy", lambda *_: fake_pipeline([], 9))
    with pytest.raises(chain.ChainFailedError, match="code 9"):
        chain.run_chain(dict(os.environ), tmp_path / "pipeline.log", Progress(quiet=True))
