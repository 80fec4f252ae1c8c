"""New prices and forecasts ask for a new plan where they differ enough from what the plan in force was made from."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from flexergy_pipelines.grid import Site
from flexergy_pipelines.optimization.replanning import replan_on_news
from flexergy_pipelines.optimization.settings import PlanningSettings, save_settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.commands import close_replan, pending_replans
from flexergy_pipelines.store.forecasts import ForecastRun, write_forecast
from flexergy_pipelines.store.plans import PlanRecord, write_plan
from flexergy_pipelines.store.prices import read_prices, write_prices
from tests.optimization.test_planning import NOW, give_inputs, sample

HOUR = timedelta(hours=1)
LATER = NOW + HOUR


@pytest.fixture
def site(db: TenantStore) -> Site:
    """The sample microgrid with a plan in force for the coming day."""
    made = sample("microgrid")
    give_inputs(db, made)
    start = NOW.replace(minute=0)
    record = PlanRecord(
        site_id=made.id, kind="intraday", created_at=NOW, start=start, end=start + 24 * HOUR, step_minutes=15,
        status="optimal",
    )  # fmt: skip
    times = [start + timedelta(minutes=15 * k) for k in range(96)]
    values = pl.DataFrame({"asset_id": "ess-1", "quantity": "active_power_setpoint_kw", "time": times, "value": 0.0})
    write_plan(db, record, values)
    return made


def requote(db: TenantStore, at: datetime, change_eur_per_kwh: float) -> None:
    """The market moves the price of one hour."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    price = read_prices(db, "microgrid", hour, hour + HOUR)["price_eur_per_kwh"].item()
    frame = pl.DataFrame({"time": [hour], "price_eur_per_kwh": [price + change_eur_per_kwh], "resolution_minutes": 60})
    write_prices(db, "microgrid", "day_ahead", frame, LATER)


@pytest.mark.requirement("energy.11.2", "energy.12.2")
def test_a_changed_price_within_the_plan_asks_for_a_new_one_once(db: TenantStore, site: Site) -> None:
    assert replan_on_news(db, site.id, LATER) == []
    requote(db, NOW - 3 * HOUR, 0.5)  # is over
    requote(db, NOW + 30 * HOUR, 0.5)  # beyond the plan
    requote(db, NOW + 5 * HOUR, 0.0005)  # too little
    assert replan_on_news(db, site.id, LATER) == []
    requote(db, NOW + 6 * HOUR, 0.05)
    [reason] = replan_on_news(db, site.id, LATER)
    assert reason.startswith("day-ahead prices changed: 4 quarters of an hour of the plan, most at 15:00 UTC from")
    assert replan_on_news(db, site.id, LATER) == []  # it waits
    [request] = pending_replans(db)
    assert (request.site_id, request.reason) == (site.id, reason)


@pytest.mark.requirement("energy.12.2")
def test_a_price_published_against_its_forecast_counts_too(db: TenantStore, site: Site) -> None:
    hour = NOW.replace(minute=0) + 20 * HOUR
    run = ForecastRun(site.id, "market", "day_ahead_price_eur_per_kwh", NOW - HOUR, "test")
    write_forecast(db, run, pl.DataFrame({"time": [hour], "value": [0.2]}))
    with db.begin() as connection:
        connection.exec_driver_sql("DELETE FROM prices WHERE time >= %s", (hour,))
    assert replan_on_news(db, site.id, LATER) == []
    published = pl.DataFrame({"time": [hour], "price_eur_per_kwh": [0.09], "resolution_minutes": 60})
    write_prices(db, site.id, "day_ahead", published, LATER)
    [reason] = replan_on_news(db, site.id, LATER)
    assert reason.endswith("from 200.0 to 90.0 EUR/MWh")


@pytest.mark.requirement("energy.12.2")
def test_a_materially_changed_forecast_asks_for_a_new_plan(db: TenantStore, site: Site) -> None:
    start = LATER.replace(minute=0)

    def forecast(issued: datetime, load_kw: float) -> None:
        times = [start + timedelta(minutes=15 * k) for k in range(4 * 12)]
        run = ForecastRun(site.id, "load-1", "active_power_kw", issued, "test")
        write_forecast(db, run, pl.DataFrame({"time": times, "value": load_kw}))

    forecast(NOW - HOUR, 300.0)
    forecast(LATER, 303.0)
    assert replan_on_news(db, site.id, LATER) == []
    forecast(LATER + timedelta(seconds=1), 100.0)
    at = LATER + timedelta(seconds=2)
    [reason] = replan_on_news(db, site.id, at)
    assert "of the energy of the next 6 h, most of load-1 (-1200 kWh)" in reason
    for request in pending_replans(db):
        close_replan(db, request.id)
    save_settings(db, site.id, PlanningSettings(replan_forecast_change=5.0), user="olga")
    assert replan_on_news(db, site.id, at) == []
    save_settings(db, site.id, PlanningSettings(replan_forecast_change=None), user="olga")
    assert replan_on_news(db, site.id, at) == []
