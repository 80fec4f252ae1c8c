"""What benchmarks share: percentiles, lines of a table, and children that end with them."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def percentile(values: list[float], share: float) -> float:
    """Value that `share` of `values` do not exceed."""
    return sorted(values)[min(len(values) - 1, round(share * len(values)))]


def show(name: str, lengths: list[float], bound_ms: float = 1000.0, bound: str = "a cycle") -> None:
    """One line of the table, with how many of `lengths` are longer than a bound of that name."""
    print(
        f"  {name:<28} median {statistics.median(lengths):7.1f} ms   p99 {percentile(lengths, 0.99):7.1f} ms"
        f"   worst {max(lengths):7.1f} ms   longer than {bound}: {sum(v > bound_ms for v in lengths)}"
    )


@contextmanager
def process(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A child of this benchmark and the first line it prints; ended with all its own children afterwards."""
    child = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        if child.stdout is None:
            raise RuntimeError("the child has no output")
        yield child, child.stdout.readline()
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
