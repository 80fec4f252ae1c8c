"""The learned model tells days that are like no other, and leaves ordinary ones alone."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.cleansing import spec_of
from benchmarks.faults import real_series
from flexergy_pipelines.quality.unusual import unusual_days

SERIES = {series.name: series for series in real_series()}


@pytest.mark.requirement("module.ami")
@pytest.mark.parametrize("name", ["demand of Victoria", "business G4-H", "business G0-A"])
def test_days_that_are_like_no_other_are_told(name: str) -> None:
    series = SERIES[name]
    per_day = 1440 // series.step_minutes
    values = series.values[: 300 * per_day].copy()
    before = {day.day for day in unusual_days(values, spec_of(series))}
    assert len(before) <= 5  # holidays and heat waves
    dirty = values.reshape(-1, per_day)
    dirty[100] = dirty[100].mean()
    dirty[150] *= 2.2
    dirty[201] = np.roll(dirty[201], per_day // 2)
    dirty[251] += np.random.default_rng(0).normal(0, dirty[251].std() * 2, per_day)
    after = unusual_days(dirty.ravel(), spec_of(series))
    found = {day.day for day in after}
    assert len(found & {100, 150, 201, 251}) >= 3
    assert len(found - {100, 150, 201, 251}) <= 5
    assert {day.reason for day in after if day.day == 150} <= {"level", "highest", "shape"}


def test_a_short_series_is_not_judged() -> None:
    series = SERIES["business G4-H"]
    assert unusual_days(series.values[: 96 * 20], spec_of(series)) == []
