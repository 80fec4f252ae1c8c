"""Plans of the sample sites through the store: what is read, what is written, and what happens when it fails."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.grid import Site, load_site_file
from flexergy_pipelines.grid.samples import examples_dir
from flexergy_pipelines.optimization.planning import PlanningError, horizon_of, plan_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.forecasts import ForecastRun, write_forecast
from flexergy_pipelines.store.live import write_live
from flexergy_pipelines.store.plans import read_active_plan
from flexergy_pipelines.store.prices import write_prices
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.sites import save_site

NOW = datetime(2026, 6, 10, 9, 7, tzinfo=UTC)
FROM = datetime(2026, 6, 10, tzinfo=UTC)


def sample(name: str) -> Site:
    return load_site_file(examples_dir() / "sites" / f"{name}.yaml")


def give_inputs(db: TenantStore, site: Site, *, price_hours: int = 48, since: datetime = FROM) -> None:
    """Forecasts for two days from `since` on, day-ahead prices for `price_hours` and a live SoC."""
    save_site(db, site)
    times = [since + timedelta(minutes=15 * k) for k in range(4 * 56)]
    day = np.arange(len(times)) / 96 * 2 * np.pi
    shapes = {"pv": np.maximum(-np.cos(day), 0), "wind": 0.3 + 0.1 * np.sin(day), "load": 0.5 - 0.2 * np.cos(day)}
    for asset in [*site.sources(), *site.loads, *site.controllable_loads(), *site.ev_blocks()]:
        shape = shapes.get(asset.kind, np.full(len(times), 0.3))
        run = ForecastRun(site.id, asset.id, "active_power_kw", FROM, "test", "1", 0, "")
        write_forecast(db, run, pl.DataFrame({"time": times, "value": shape * asset.rated_kw}))
    hours = [FROM - timedelta(days=7) + timedelta(hours=k) for k in range(7 * 24 + price_hours)]
    price = 0.06 + 0.05 * np.sin(np.arange(len(hours)) / 24 * 2 * np.pi * 2)
    frame = pl.DataFrame({"time": hours, "price_eur_per_kwh": price, "resolution_minutes": 60})
    write_prices(db, site.id, "day_ahead", frame, FROM - timedelta(hours=12))
    live = pl.DataFrame(
        {
            "asset_id": [e.id for e in site.ess()],
            "quantity": "soc",
            "time": NOW - timedelta(seconds=3),
            "value": 0.42,
            "quality": 0,
        }
    )
    write_live(db, site.id, live)


@pytest.mark.parametrize("name", ["microgrid", "hybrid_park"])
@pytest.mark.requirement("energy.12.1", "energy.12.3", "energy.04.2", "asset.04.1")
def test_intraday_plan_is_stored_with_its_next_hour(db: TenantStore, name: str):
    site = sample(name)
    give_inputs(db, site)
    record = plan_site(db, site.id, "intraday", NOW)
    assert record.status == "optimal"
    assert record.objective_eur is not None
    assert record.no_storage_cost_eur is not None
    assert record.objective_eur <= record.no_storage_cost_eur + 1e-3
    assert record.timings["solve"] < 20
    active = read_active_plan(db, site.id, NOW)
    assert active is not None
    start = datetime(2026, 6, 10, 9, 0, tzinfo=UTC)
    assert active.record.start == start
    assert active.record.end == start + timedelta(hours=24)
    values = active.values
    wide = values.with_columns((pl.col("asset_id") + "." + pl.col("quantity")).alias("name")).pivot(
        "name", index="time", values="value"
    )
    assert wide.height == 96
    assert wide["time"].to_list()[:4] == [start + timedelta(minutes=15 * k) for k in range(4)]
    assert wide.sort("time")["ess-1.soc"][0] == pytest.approx(0.42)
    into = [a.id for a in [*site.sources(), *site.gensets(), *site.ess(), site.grid_connection]]
    out = [a.id for a in [*site.loads, *site.controllable_loads(), *site.ev_blocks()]]
    balance = sum((wide[f"{a}.active_power_kw"] for a in into), pl.Series(np.zeros(96)))
    balance -= sum((wide[f"{a}.active_power_kw"] for a in out), pl.Series(np.zeros(96)))
    assert balance.abs().max() == pytest.approx(0.0, abs=1e-4)
    for ess in site.ess():
        assert (wide[f"{ess.id}.active_power_setpoint_kw"] == wide[f"{ess.id}.active_power_kw"]).all()
        assert wide[f"{ess.id}.marginal_value_eur_per_kwh"].null_count() == 0
    assert wide["market.import_price_eur_per_kwh"].null_count() == 0


def test_a_new_site_plans_the_running_step_by_what_it_measures_now(db: TenantStore):
    site = sample("microgrid")
    give_inputs(db, site, since=datetime(2026, 6, 10, 9, 15, tzinfo=UTC))  # as forecasts of a first run begin
    with pytest.raises(PlanningError, match="no power for 1 of 96 steps"):
        plan_site(db, site.id, "intraday", NOW)
    assets = [*site.sources(), *site.loads, *site.controllable_loads(), *site.ev_blocks()]
    rows = [(a.id, "active_power_kw", NOW - timedelta(minutes=m), 10.0 * m, 0) for a in assets for m in (1, 2, 3)]
    schema = ["asset_id", "quantity", "time", "value", "quality"]
    write_readings(db, site.id, pl.DataFrame(rows, schema=schema, orient="row"), "control")
    record = plan_site(db, site.id, "intraday", NOW)
    assert record.inputs["load-1"]["steps"] == {"forecast": 95, "measured": 1}
    active = read_active_plan(db, site.id, NOW)
    assert active is not None
    first = active.values.filter((pl.col("asset_id") == "load-1") & (pl.col("quantity") == "active_power_kw"))
    assert first.sort("time")["value"][0] == pytest.approx(20.0)


def test_day_ahead_plan_starts_from_the_soc_that_the_active_plan_expects(db: TenantStore):
    site = sample("microgrid")
    give_inputs(db, site)
    plan_site(db, site.id, "intraday", NOW)
    first = read_active_plan(db, site.id, NOW)
    record = plan_site(db, site.id, "day_ahead", NOW)
    # The local day in Amsterdam, two hours ahead of UTC in June.
    assert record.start == datetime(2026, 6, 10, 22, tzinfo=UTC)
    assert record.end == datetime(2026, 6, 11, 22, tzinfo=UTC)
    assert record.inputs["state"]["ess-1.soc"] == "active plan"
    second = read_active_plan(db, site.id, record.start)
    assert first is not None
    assert second is not None

    def soc(plan: pl.DataFrame) -> float:
        picked = (pl.col("quantity") == "soc") & (pl.col("time") == record.start) & (pl.col("asset_id") == "ess-1")
        return plan.filter(picked)["value"].item()

    assert soc(second.values) == pytest.approx(soc(first.values), abs=1e-5)


def test_price_not_yet_published_comes_from_its_forecast_or_last_week(db: TenantStore):
    site = sample("microgrid")
    give_inputs(db, site, price_hours=24)
    times = [FROM + timedelta(hours=24 + k) for k in range(4)]
    run = ForecastRun(site.id, "market", "day_ahead_price_eur_per_kwh", FROM, "test", "1", 0, "")
    write_forecast(db, run, pl.DataFrame({"time": times, "value": [0.123] * 4}))
    record = plan_site(db, site.id, "intraday", NOW)
    assert record.inputs["price"]["steps"] == {"day ahead": 60, "forecast": 16, "last week": 20}


@pytest.mark.requirement("energy.04.3")
def test_failure_raises_an_alarm_keeps_the_plan_and_the_next_success_clears_it(db: TenantStore):
    site = sample("microgrid")
    give_inputs(db, site)
    plan_site(db, site.id, "intraday", NOW)
    before = read_active_plan(db, site.id, NOW)
    later = NOW + timedelta(days=20)
    with pytest.raises(PlanningError, match=r"no earlier plan is there: .*no power for 96 of 96 steps"):
        plan_site(db, site.id, "intraday", later)
    alarms = list_alarms(db, site.id)
    assert alarms.select("code", "severity").rows() == [("optimization_failed", 2)]
    after = read_active_plan(db, site.id, NOW)
    assert before is not None
    assert after is not None
    assert after.plan_id == before.plan_id
    plan_site(db, site.id, "intraday", NOW)
    assert list_alarms(db, site.id).is_empty()


@pytest.mark.parametrize(
    ("now", "kind", "day", "hours"),
    [
        ("2026-03-29T00:30+01:00", "day_ahead", None, 22.5),  # the short day has begun half an hour ago
        ("2026-03-28T15:00+01:00", "day_ahead", None, 23),
        ("2026-10-24T15:00+02:00", "day_ahead", None, 25),
        ("2026-10-24T15:00+02:00", "day_ahead", date(2026, 10, 26), 24),
        ("2026-10-25T00:05+02:00", "intraday", None, 25),
        ("2026-06-10T18:10+02:00", "intraday", None, 24),
    ],
)
def test_horizon_follows_the_local_day(now, kind, day, hours):
    horizon = horizon_of(sample("microgrid"), kind, datetime.fromisoformat(now), day)
    assert horizon.steps * horizon.hours == hours
    assert horizon.start <= max(datetime.fromisoformat(now), horizon.start)
