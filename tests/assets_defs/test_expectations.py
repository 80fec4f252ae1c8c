"""Great Expectations with the declared values: a wrong unit is a warning, a day of broken structure an error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from assets_defs.expectations import validate_sites
from assets_defs.resources import StoreResource
from flexergy_pipelines.grid import Site
from flexergy_pipelines.quality.expectations import raw_readings
from flexergy_pipelines.settings import Settings
from flexergy_pipelines.store import TenantStore

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
STORE = StoreResource(as_of=NOW.isoformat())


def day(scale: float, minutes_old: int) -> pl.DataFrame:
    count = 96
    return pl.DataFrame(
        {
            "asset_id": ["pcc"] * count,
            "quantity": ["active_power_kw"] * count,
            "time": [NOW - timedelta(minutes=minutes_old + 15 * i) for i in range(count)],
            "value": [scale * (10.0 + i % 5) for i in range(count)],
            "quality": [0] * count,
            "age_minutes": [float(minutes_old + 15 * i) for i in range(count)],
        }
    )


def checked(frame: pl.DataFrame) -> dg.AssetCheckResult:
    def read(_db: TenantStore, _site: Site, _now: datetime) -> pl.DataFrame:
        return frame

    return validate_sites(STORE, "raw_meter_readings", read, raw_readings)


def problems(result: dg.AssetCheckResult) -> str:
    return str(result.metadata["list"].value) if "list" in result.metadata else ""


@pytest.mark.requirement("module.ami")
def test_a_good_day_passes_strange_content_warns_and_broken_structure_is_an_error(installation: Settings) -> None:
    good = checked(day(1.0, 5))
    assert good.passed, problems(good)

    watts = checked(day(1000.0, 5))
    assert (watts.passed, watts.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "expect_column_values_to_be_in_set position" in problems(watts)
    assert "pcc/active_power_kw 20 Nov 09:55Z = 10000" in problems(watts)
    page = Path(str(watts.metadata["data_docs"].value))
    text = page.read_text()
    assert page.is_relative_to(installation.home)
    assert "96 of 96 not as expected" in text
    assert "http" not in text, "the page loads nothing from elsewhere"
    assert f"raw_meter_readings/{page.name}" in (page.parents[1] / "index.html").read_text()

    stale = checked(day(1.0, 300))
    assert (stale.passed, stale.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "age_minutes" in problems(stale)

    repeated = checked(pl.concat([day(1.0, 5)] * 2))
    assert (repeated.passed, repeated.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "expect_compound_columns_to_be_unique" in problems(repeated)

    empty = checked(day(1.0, 5).clear())
    assert (empty.passed, empty.severity) == (False, dg.AssetCheckSeverity.ERROR)
