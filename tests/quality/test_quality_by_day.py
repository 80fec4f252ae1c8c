"""Quality of a point's days: what is expected of it, and what of that was there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from flexergy_pipelines.quality import flags
from flexergy_pipelines.quality.site import quality_by_day

START, END = datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 30, 16, tzinfo=UTC)  # the first day has 23 hours


def clean_of(asset_id: str, since: datetime, empty: int = 0) -> pl.DataFrame:
    """Quarters from a point's first value on, the last `empty` of them an outage."""
    times = pl.datetime_range(since, END, "15m", closed="left", time_zone="UTC", eager=True)
    reasons = [None] * (times.len() - empty) + [flags.OUTAGE] * empty
    return pl.DataFrame({"asset_id": asset_id, "quantity": "active_power_kw", "time": times, "flag": reasons})


@pytest.mark.requirement("module.ami")
def test_nothing_is_expected_of_a_meter_before_its_first_value() -> None:
    clean = pl.concat([clean_of("old", START, empty=8), clean_of("new", END - timedelta(hours=2))])
    found = quality_by_day(clean, "Europe/Amsterdam", START, END)
    rows = [
        (*r,) for r in found.select("asset_id", pl.col("day").dt.day(), "expected", "measured", "empty").iter_rows()
    ]
    assert rows == [("new", 30, 8, 8, 0), ("old", 29, 92, 92, 0), ("old", 30, 72, 64, 8)]
