"""Hours of cycles leave the loop's memory as it is."""

from __future__ import annotations

import statistics

import pytest

from tests.control_loop.endurance import endure


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_memory_is_flat_over_an_hour_of_cycles() -> None:
    samples = endure(3600)
    settled = samples[len(samples) // 3 :]
    slope = statistics.linear_regression([x for x, _ in settled], [y for _, y in settled]).slope
    assert 3600 * slope < 1.0, f"{3600 * slope:.2f} MB an hour"
