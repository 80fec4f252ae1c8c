"""The section of forecast quality: days as lines, in the units of the screen, and clear words when there are none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from dashboards import session
from dashboards.charts.forecast_quality import daily_chart
from dashboards.session import CurrentUser
from dashboards.views.forecast import Target
from dashboards.views.forecast_quality import SUBJECTS, newest_words, series_of, unit_of
from flexergy_pipelines.store import Store, TenantStore
from flexergy_pipelines.store.kpis_table import write_kpis
from tests.dashboards.seeding import microgrid, seed, seed_site

NOW = datetime.now(UTC)
PRICE = Target("market", "day_ahead_price_eur_per_kwh", "price", "EUR/MWh", scale=1000.0)


def figures(days: int, scope: str) -> pl.DataFrame:
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    names = {
        "mae_00_06h": 0.01,
        "mae": 0.02,
        "naive_mae": 0.03,
        "bias": -0.005,
        "coverage_80": 0.78,
        "input_quality": 1.0,
    }
    return pl.DataFrame(
        [
            {
                "period_kind": "monitoring", "period_start": midnight - timedelta(days=day), "scope": scope, "kpi": kpi,
                "value": value * (1 + 0.01 * day), "unit": "x", "coverage": 1.0, "reference": None,
            }
            for day in range(1, days + 1) for kpi, value in names.items()
        ],
        schema_overrides={"reference": pl.String},
    )  # fmt: skip


def _draw() -> None:
    from dashboards.screens.forecasts import page

    page()


@pytest.fixture
def drawn(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AppTest]:
    def draw() -> AppTest:
        monkeypatch.setattr(session, "current_user", lambda: CurrentUser("olga", "operator", "demo"))
        monkeypatch.setattr(session, "tenant_store", store.tenant)
        session.forget_sites()
        page = AppTest.from_function(_draw, default_timeout=60)
        page.run()
        assert not page.exception
        return page

    return draw


def test_lines_come_in_the_units_of_the_screen() -> None:
    kpis = figures(3, "market/day_ahead_price_eur_per_kwh")
    by_title = {subject.title: subject for subject in SUBJECTS}
    errors = series_of(kpis, PRICE, by_title["Error by lead time"])
    assert errors["series"].unique(maintain_order=True).to_list() == ["0–6 h ahead", "as last week (simple rule)"]
    assert errors["value"].max() == pytest.approx(30.9)
    coverage = series_of(kpis, PRICE, by_title["Coverage"])
    assert coverage["value"].min() == pytest.approx(78.78)
    assert (unit_of(PRICE, by_title["Coverage"]), unit_of(PRICE, by_title["Bias"])) == ("%", "EUR/MWh")
    assert "20.20 EUR/MWh · 5.05 EUR/MWh too low · 79 % inside the band" in newest_words(kpis, PRICE)
    assert newest_words(kpis.clear(), PRICE) == ""


def test_a_chart_of_one_day_shows_a_point() -> None:
    kpis = figures(1, "market/day_ahead_price_eur_per_kwh")
    chart = daily_chart(
        series_of(kpis, PRICE, SUBJECTS[0]), NOW - timedelta(days=14), NOW, microgrid().zone, unit="EUR/MWh",
        mark=(0.0, "zero"),
    ).to_dict()  # fmt: skip
    assert {layer["mark"]["type"] for layer in chart["layer"]} == {"line", "circle", "rule"}


def test_the_page_draws_days_or_says_when_they_come(drawn: Callable[[], AppTest], db: TenantStore) -> None:
    seed_site(db)
    page = drawn()
    assert any("No figures yet" in info.value for info in page.info)
    seed(db)
    write_kpis(db, "microgrid", figures(5, "load-1/active_power_kw"))
    page = drawn()
    page.selectbox(key="quality_target").select("load-1").run()
    captions = "\n".join(caption.value for caption in page.caption)
    assert "newest day: mean error 0.02 kW" in captions
    page.selectbox(key="quality_subject").select("Drift").run()
    assert any("No figures yet" in info.value for info in page.info)
    assert not page.exception
