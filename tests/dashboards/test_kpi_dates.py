"""How indices and KPIs evolve between the dates that the user sets, on the page and through the API's query."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.kpis_table import write_kpis
from flexergy_pipelines.store.sites import save_site
from tests.dashboards.seeding import microgrid
from tests.dashboards.test_pages import open_page, words

__all__ = ["open_page"]

Open = Callable[..., AppTest]
SITE = microgrid()
TODAY = datetime.now(UTC).astimezone(SITE.zone).date()


def moment(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=SITE.zone).astimezone(UTC)


@pytest.fixture
def seeded(db: TenantStore) -> TenantStore:
    """Ninety days: `back` days ago 100 + back EUR of cost, and back kWh of imported energy."""
    save_site(db, SITE)
    rows: list[dict[str, Any]] = [
        {
            "period_kind": "day", "period_start": moment(TODAY - timedelta(days=back)), "scope": "site", "kpi": kpi,
            "value": value, "unit": unit, "coverage": 1.0, "reference": None,
        }
        for back in range(1, 91)
        for kpi, value, unit in (("cost", 100.0 + back, "EUR"), ("grid_import", float(back), "kWh"))
    ]  # fmt: skip
    write_kpis(db, SITE.id, pl.DataFrame(rows, schema_overrides={"reference": pl.String}))
    return db


def drawn(page: AppTest) -> list[list[float]]:
    """Values that each chart of the page draws, from the oldest on."""
    series: list[list[float]] = []
    for chart in [*page.get("vega_lite_chart"), *page.get("arrow_vega_lite_chart")]:
        for dataset in chart.proto.datasets:
            frame = pl.read_ipc_stream(io.BytesIO(dataset.data.data))
            series.append(frame["value"].to_list())
    return series


@pytest.mark.requirement("energy.05.4", "energy.06.2")
def test_indices_and_kpis_evolve_between_the_dates_that_the_user_sets(seeded: TenantStore, open_page: Open) -> None:
    page = open_page("kpis")
    assert sorted(len(values) for values in drawn(page)) == [31, 31]
    first, last = TODAY - timedelta(days=60), TODAY - timedelta(days=51)
    page.date_input(key="kpi_dates_day").set_value((first, last)).run()
    assert not page.exception
    assert sorted(drawn(page)) == [
        [float(back) for back in range(60, 50, -1)],
        [100.0 + back for back in range(60, 50, -1)],
    ]
    options = page.selectbox(key="kpi_period_day").options
    assert (options[0], options[-1], len(options)) == (f"{last:%Y-%m-%d}", f"{first:%Y-%m-%d}", 10)
    assert "151.00 EUR" in words(page)
    page.date_input(key="kpi_dates_day").set_value((TODAY - timedelta(days=400), TODAY - timedelta(days=300))).run()
    assert "No indicators by day in these dates" in words(page)
