"""What operators, markets and the past change in a site's plan, through the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.grid import ReactiveRule, Site
from flexergy_pipelines.grid.grid_code import GridCode, GridLimit
from flexergy_pipelines.operation.grid_orders import give_order, withdraw_order
from flexergy_pipelines.operation.modes import schedule_mode
from flexergy_pipelines.operation.outages import plan_outage
from flexergy_pipelines.optimization import ProblemError, SolveError, planning
from flexergy_pipelines.optimization.planning import PlanningError, plan_site, prepare
from flexergy_pipelines.optimization.planning_state import read_state
from flexergy_pipelines.optimization.problem import Horizon
from flexergy_pipelines.optimization.settings import (
    Function,
    PlanningSettings,
    ServiceOffer,
    read_settings,
    save_settings,
    settings_from_json,
)
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.ancillary import Transaction, write_ancillary_prices, write_transactions
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.commands import pending_replans
from flexergy_pipelines.store.forecasts import ForecastRun, write_forecast
from flexergy_pipelines.store.plans import list_plans, read_active_plan
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.setpoints import write_setpoints
from flexergy_pipelines.store.sites import load_site, save_site
from tests.optimization.test_planning import NOW, give_inputs, sample

START = datetime(2026, 6, 10, 9, 0, tzinfo=UTC)
HORIZON = Horizon(start=START, step_minutes=60, steps=8)


@pytest.fixture
def site(db: TenantStore) -> Site:
    """The sample microgrid, planned by the hour so that its plans are quick."""
    made = sample("microgrid")
    made = made.model_copy(update={"operation": made.operation.model_copy(update={"plan_step_minutes": 60})})
    give_inputs(db, made)
    return made


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@pytest.mark.requirement("energy.09.2", "energy.14.5")
def test_scheduled_modes_and_interventions_bind_in_their_hours(db: TenantStore, site: Site) -> None:
    schedule_mode(
        db,
        site.id,
        "peak_shaving",
        starts_at=at(1),
        ends_at=at(3),
        parameters={"import_kw": 90.0},
        reason="r.r",
        user="o",
    )
    schedule_mode(db, site.id, "zero_flow", starts_at=at(4), ends_at=at(5), reason="r.r", user="o")
    schedule_mode(db, site.id, "idle", starts_at=at(6), reason="r.r", user="o")
    plan_outage(db, site.id, "pv-1", starts_at=at(2), ends_at=at(4), reason="cleaning", user="o")
    problem = prepare(db, site, HORIZON, NOW).problem
    assert problem.grid is not None
    imports, exports = problem.grid.import_limit_kw, problem.grid.export_limit_kw
    assert imports is not None
    assert exports is not None
    assert imports.tolist() == [400.0, 90.0, 90.0, 400.0, 0.0, 400.0, 400.0, 400.0]
    assert exports.tolist() == [300.0] * 4 + [0.0] + [300.0] * 3
    assert (problem.batteries[0].max_charge_kw > 0).tolist() == [True] * 6 + [False] * 2
    pv = next(source for source in problem.renewables if source.id == "pv-1")
    assert (pv.available_kw > 0).tolist() == [True, True, False, False, True, True, True, True]
    schedule_mode(db, site.id, "self_consumption", starts_at=at(0.5), reason="r.r", user="o")
    assert prepare(db, site, HORIZON, NOW).problem.objective.goal == "cost"  # what starts later holds
    schedule_mode(db, site.id, "self_consumption", starts_at=at(6), reason="r.r", user="o")
    schedule_mode(db, site.id, "self_consumption", starts_at=at(1.5), ends_at=at(4), reason="r.r", user="o")
    assert prepare(db, site, HORIZON, NOW).problem.objective.goal == "self_consumption"


@pytest.mark.requirement("energy.11.2", "energy.11.3")
def test_orders_of_the_grid_operator_bind_in_their_hours(db: TenantStore, site: Site) -> None:
    code = GridCode(limits=(GridLimit(asset="pcc", minimum_kw=-250.0, unless_ordered=True),))
    site = site.model_copy(update={"grid_code": code})
    save_site(db, site)
    given: dict[str, Any] = {"reason": "congestion", "user": "o"}
    give_order(db, site.id, "pcc", starts_at=at(1), ends_at=at(3), minimum_kw=-50.0, maximum_kw=120.0, **given)
    give_order(db, site.id, "pcc", starts_at=at(4), ends_at=at(5), setpoint_kw=-80.0, **given)
    give_order(db, site.id, "ess-1", starts_at=at(2), ends_at=at(4), setpoint_kw=40.0, **given)
    give_order(db, site.id, "pv-1", starts_at=at(0), ends_at=at(2), maximum_kw=1.0, **given)
    gone = give_order(db, site.id, "pv-1", starts_at=at(3), maximum_kw=0.0, **given)
    withdraw_order(db, site.id, gone, user="o")
    assert len([r for r in pending_replans(db) if "order" in r.reason]) == 6
    prepared = prepare(db, site, HORIZON, NOW)
    grid, battery = prepared.problem.grid, prepared.problem.batteries[0]
    assert grid is not None
    assert np.asarray(grid.import_limit_kw).tolist() == [400.0, 120.0, 120.0, 400.0, 0.0, 400.0, 400.0, 400.0]
    assert np.asarray(grid.export_limit_kw).tolist() == [250.0, 50.0, 50.0, 250.0, 80.0, 250.0, 250.0, 250.0]
    assert np.asarray(battery.max_charge_kw).tolist() == [250.0, 250.0, 0.0, 0.0, 250.0, 250.0, 250.0, 250.0]
    assert np.asarray(battery.max_discharge_kw).tolist() == [250.0, 250.0, 40.0, 40.0, 250.0, 250.0, 250.0, 250.0]
    pv = next(source for source in prepared.problem.renewables if source.id == "pv-1")
    assert (np.asarray(pv.available_kw) <= 1.0).tolist() == [True, True] + [False] * 6
    assert "pcc: setpoint -80 kW, congestion" in prepared.inputs.sources["grid_orders"]


@pytest.mark.requirement("energy.14.5")
def test_peak_shaving_plans_up_to_the_peak_that_is_paid_for_already(db: TenantStore, site: Site) -> None:
    tariff = site.tariff.model_copy(update={"demand_charge_eur_per_kw_month": 4.0, "billing_day": 1})
    save_site(db, site.model_copy(update={"tariff": tariff}))
    rows = [("pcc", "active_power_kw", NOW - timedelta(days=ago), kw, None) for ago, kw in ((2, 140.0), (20, 300.0))]
    write_clean(db, site.id, pl.DataFrame(rows, schema=["asset_id", "quantity", "time", "value", "flag"], orient="row"))
    until = {"ends_at": at(3), "reason": "r.r", "user": "o"}
    schedule_mode(db, site.id, "peak_shaving", starts_at=at(1), parameters={"import_kw": 90.0}, **until)
    made = load_site(db, site.id)
    for settings in (PlanningSettings(), PlanningSettings(functions=(Function(name="peak_shaving", enabled=False),))):
        save_settings(db, site.id, settings, user="olga")
        problem = prepare(db, made, HORIZON, NOW).problem
        assert problem.grid is not None
        assert problem.grid.import_limit_kw is not None
        assert problem.grid.import_limit_kw.tolist() == [400.0, 140.0, 140.0] + [400.0] * 5
    # A plan of the next billing period starts from nothing.
    july = Horizon(start=datetime(2026, 7, 1, 3, 0, tzinfo=UTC), step_minutes=60, steps=8)
    state, _ = read_state(db, made, july, NOW)
    assert state.peak_so_far_kw == 0.0


@pytest.mark.requirement("energy.13.1", "energy.16.1", "energy.04.1")
def test_functions_their_priorities_and_weights_reach_the_problem(db: TenantStore, site: Site) -> None:
    assert read_settings(db, site.id) == PlanningSettings()
    plain = prepare(db, site, HORIZON, NOW).problem
    settings = PlanningSettings(
        goal="zero_flow",
        functions=(
            Function(name="load_supply", weight=2.0),
            Function(name="ev_charging", weight=0.1),
            Function(name="battery_life", weight=3.0),
            Function(name="peak_shaving", enabled=False),
            Function(name="reserve"),
        ),
    )
    save_settings(db, site.id, settings, user="olga")
    assert read_settings(db, site.id) == settings
    assert "planning settings changed by olga" in [request.reason for request in pending_replans(db)]
    problem = prepare(db, site, HORIZON, NOW).problem
    assert problem.objective.goal == "zero_flow"
    assert problem.objective.wear_weight == pytest.approx(3 * plain.objective.wear_weight)
    assert plain.grid is not None
    assert problem.grid is not None
    assert (len(plain.grid.demand_charges), len(problem.grid.demand_charges)) == (1, 0)
    load, cars = problem.controllable_loads[0], problem.ev_blocks[0]
    assert load.curtailment_cost_eur_per_kwh == pytest.approx(
        max(2 * plain.controllable_loads[0].curtailment_cost_eur_per_kwh, 1.5 * cars.unmet_price_eur_per_kwh)
    )
    assert load.curtailment_cost_eur_per_kwh >= 1.5 * cars.unmet_price_eur_per_kwh
    with pytest.raises(ProblemError, match=r"weight 1000.0 must be at most 100"):
        settings_from_json('{"functions": [{"name": "reserve", "weight": 1000.0}]}')
    with pytest.raises(ProblemError, match="functions: reserve appears more than once"):
        PlanningSettings(functions=(Function(name="reserve"), Function(name="reserve")))


@pytest.mark.requirement("energy.14.4")
def test_spinning_reserve_follows_the_quantiles_of_the_stored_forecasts(db: TenantStore, site: Site) -> None:
    times = [START + timedelta(minutes=15 * k) for k in range(36)]
    run = ForecastRun(site.id, "load-1", "active_power_kw", START, "banded", "1", 0, "")
    band = {"value": 100.0, "p10": 70.0, "p90": 140.0}
    write_forecast(db, run, pl.DataFrame({"time": times, **{name: [value] * 36 for name, value in band.items()}}))
    assert prepare(db, site, HORIZON, NOW).problem.reserve is None
    functions = (Function(name="reserve", weight=1.5),)
    save_settings(db, site.id, PlanningSettings(functions=functions, reserve_with_genset=False), user="olga")
    reserve = prepare(db, site, HORIZON, NOW).problem.reserve
    assert reserve is not None
    np.testing.assert_allclose(reserve.up_kw, 1.5 * 40.0)
    np.testing.assert_allclose(reserve.down_kw, 1.5 * 30.0)
    assert not reserve.with_gensets


@pytest.mark.requirement("energy.15.3", "energy.15.5", "energy.16.3", "energy.10.2", "energy.10.3")
def test_a_plan_offers_services_at_market_prices_and_holds_what_was_sold(db: TenantStore, site: Site) -> None:
    offer = ServiceOffer(
        id="fcr", product="fcr", symmetric=True, block_minutes=240, gate_closes_minutes=60, duration_minutes=30,
        min_bid_kw=10.0, bid_step_kw=10.0,
    )  # fmt: skip
    save_settings(db, site.id, PlanningSettings(services=(offer,)), user="olga")
    local_noon = datetime(2026, 6, 10, 10, 0, tzinfo=UTC)  # 12:00 in Amsterdam
    price = {"product": "fcr", "direction": "both", "resolution_minutes": 240, "activation_price_eur_per_kwh": None}
    blocks = [local_noon + timedelta(hours=4 * k) for k in range(6)]
    frame = pl.DataFrame([{**price, "time": block, "capacity_price_eur_per_kw_h": 0.2} for block in blocks])
    write_ancillary_prices(
        db, site.id, frame.with_columns(pl.col("activation_price_eur_per_kwh").cast(pl.Float64)), NOW
    )
    write_transactions(
        db,
        site.id,
        [Transaction("tso", "1", "fcr", "both", local_noon - timedelta(hours=4), local_noon, 55.0, 0.1, NOW)],
    )
    problem = prepare(db, site, HORIZON, NOW).problem
    rounded = planning.with_rounded_bids(problem).column("fcr", "up_bid_kw")
    assert rounded[0] == pytest.approx(55.0)
    np.testing.assert_allclose(rounded[1:] / 10, np.round(rounded[1:] / 10), atol=1e-6)
    assert rounded[1:].max() >= 10
    record = plan_site(db, site.id, "intraday", NOW, because=["tested"])
    bids = pl.DataFrame(record.inputs["bids"])
    up = bids
    assert bids["direction"].unique().to_list() == ["both"]
    # The block that runs is closed: what was sold in it is held, nothing else; the next blocks are open.
    assert up["bid_kw"][0] == pytest.approx(55.0)
    assert up["start"][1].startswith("2026-06-10T10:00")
    assert up["market_price_eur_per_kw_h"][1] == pytest.approx(0.2)
    assert (up["bid_kw"][2:] >= 10).all()
    assert (up["price_eur_per_kw_h"] >= 0).all()
    units = pl.DataFrame(record.inputs["units"])
    assert units["unit"].unique().to_list() == ["ess-1"]
    assert record.inputs["capacity"]["discharge_kw"] > 0
    assert record.inputs["because"] == ["tested"]
    active = read_active_plan(db, site.id, NOW)
    assert active is not None
    stored = active.values.filter((pl.col("asset_id") == "fcr") & (pl.col("quantity") == "up_bid_kw")).sort("time")
    assert stored["value"][0] == pytest.approx(55.0)
    intervals = record.inputs["intervals"]
    assert len(intervals) == 24
    assert any(one["limits"] for one in intervals)


@pytest.mark.requirement("energy.14.3", "energy.12.4")
def test_reactive_setpoints_are_planned_within_the_rating(db: TenantStore, site: Site) -> None:
    rules = (
        ReactiveRule(asset="ess-1", mode="fixed", kvar=500.0),
        ReactiveRule(asset="pv-1", mode="cos_phi", cos_phi=0.95, supplies=False),
    )
    changed = site.model_copy(update={"grid_code": site.grid_code.model_copy(update={"reactive": rules})})
    save_site(db, changed)
    plan_site(db, site.id, "intraday", NOW)
    active = read_active_plan(db, site.id, NOW)
    assert active is not None

    def series(asset: str, quantity: str) -> np.ndarray:
        own = active.values.filter((pl.col("asset_id") == asset) & (pl.col("quantity") == quantity)).sort("time")
        return own["value"].to_numpy()

    active_kw, kvar = series("ess-1", "active_power_kw"), series("ess-1", "reactive_power_setpoint_kvar")
    np.testing.assert_allclose(kvar, np.minimum(500.0, np.sqrt(275.0**2 - active_kw**2)), atol=1e-3)
    sun = series("pv-1", "active_power_kw")
    np.testing.assert_allclose(
        series("pv-1", "reactive_power_setpoint_kvar"), -sun * np.tan(np.arccos(0.95)), atol=1e-3
    )


@pytest.mark.requirement("energy.04.3")
def test_a_time_out_carries_the_previous_plan_on_and_raises_an_alarm(
    db: TenantStore, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_site(db, site.id, "intraday", NOW)
    before = read_active_plan(db, site.id, NOW)
    assert before is not None

    def too_long(*_: object, **__: object) -> None:
        raise SolveError("time limit", "no plan found: the solver says time limit reached")

    monkeypatch.setattr(planning, "solve", too_long)
    later = NOW + timedelta(hours=20)
    with pytest.raises(PlanningError, match=r"version 1 of the plan is carried on.*time limit"):
        plan_site(db, site.id, "intraday", later)
    assert list_alarms(db, site.id)["code"].to_list() == ["optimization_failed"]
    carried = read_active_plan(db, site.id, later + timedelta(hours=10))
    assert carried is not None
    assert carried.record.status == "shifted"

    def setpoint(values: pl.DataFrame, when: datetime) -> float:
        chosen = values.filter(
            (pl.col("asset_id") == "ess-1")
            & (pl.col("quantity") == "active_power_setpoint_kw")
            & (pl.col("time") == when)
        )
        return float(chosen["value"][0])

    beyond = START + timedelta(hours=30)
    assert setpoint(carried.values, beyond) == setpoint(before.values, beyond - timedelta(days=1))
    with pytest.raises(PlanningError, match="previous plan stays in force"):
        plan_site(db, site.id, "intraday", later)
    assert len(list_plans(db, site.id, 10)) == 2


@pytest.mark.requirement("module.load_controller", "module.genset")
def test_what_happened_before_the_plan_counts(db: TenantStore, site: Site) -> None:
    quarters = [NOW - timedelta(minutes=m) for m in (75, 62)]
    sent = pl.DataFrame(
        {"asset_id": "cold-store", "quantity": "active_power_limit_kw", "time": quarters, "requested": 1.0, "sent": 1.0,
         "readback": 1.0, "layer": "plan", "reason": "", "plan_id": None,
         "valid_until": [q + timedelta(minutes=15) for q in quarters], "status": "ok"},
        schema_overrides={"plan_id": pl.Int64},
    )  # fmt: skip
    write_setpoints(db, site.id, sent)
    ran = [NOW - timedelta(minutes=m) for m in (40, 30)]
    readings = pl.DataFrame(
        {"asset_id": "genset-1", "quantity": "running", "time": ran, "value": [1.0, 0.0], "quality": 0},
        schema_overrides={"quality": pl.Int16},
    )
    write_readings(db, site.id, readings, "test")
    problem = prepare(db, site, HORIZON, NOW).problem
    load, genset = problem.controllable_loads[0], problem.gensets[0]
    most = site.controllable_loads()[0].max_curtailed_minutes
    assert load.max_curtailed_minutes == most - 30
    assert 45 <= load.minutes_since_last <= 62
    assert genset.minutes_in_state == 40
    assert not genset.running_at_start


@pytest.mark.requirement("energy.15.1")
def test_a_day_ahead_plan_over_scenarios_says_what_it_expects(db: TenantStore, site: Site) -> None:
    times = [datetime(2026, 6, 10, tzinfo=UTC) + timedelta(minutes=15 * k) for k in range(4 * 56)]
    band = np.linspace(0.7, 1.3, 9)
    quantiles = {f"p{10 * (k + 1)}": 100.0 * band[k] for k in range(9)}
    for asset in ("load-1", "pv-1"):
        run = ForecastRun(site.id, asset, "active_power_kw", NOW - timedelta(minutes=5), "banded", "1", 0, "")
        frame = pl.DataFrame({"time": times, "value": 100.0, **quantiles})
        write_forecast(db, run, frame)
    save_settings(db, site.id, PlanningSettings(day_ahead="stochastic", scenarios=2, cvar_weight=0.2), user="olga")
    record = plan_site(db, site.id, "day_ahead", NOW)
    told = record.inputs["uncertainty"]
    assert told["kind"] == "stochastic"
    assert told["scenarios"] == 2
    assert told["expected_cost_eur"] <= told["cvar_eur"] <= told["worst_cost_eur"] + 1e-6
    assert plan_site(db, site.id, "intraday", NOW).inputs["uncertainty"] == {"kind": "deterministic"}
