"""What ``make bench`` runs is there, and an unknown name is told so."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import MEASURES


@pytest.mark.parametrize("name", MEASURES)
def test_each_benchmark_can_be_run_alone(name: str) -> None:
    spec = importlib.util.find_spec(f"benchmarks.{name}")

    assert spec is not None
    assert spec.origin is not None
    assert '\nif __name__ == "__main__":' in Path(spec.origin).read_text(encoding="utf-8")


def test_an_unknown_benchmark_is_named_beside_the_known() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "fleet"], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 1
    assert "no benchmark 'fleet'; known: cleansing, control_loop" in done.stderr
