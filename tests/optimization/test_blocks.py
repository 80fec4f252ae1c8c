"""What each block promises beside its cost: named violations, limits kept, and the figures that a plan shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flexergy_pipelines.optimization import (
    Battery,
    Branch,
    ControllableLoad,
    DeclaredProfile,
    EfficiencyPoint,
    EnergyTier,
    EvGroup,
    EvSession,
    FuelPoint,
    Genset,
    Inverter,
    Investment,
    Load,
    Network,
    Objective,
    Plan,
    Problem,
    ReactivePoint,
    ReactiveSupport,
    Renewable,
    SharePoint,
    ShiftableLoad,
    TieredTariff,
    solve,
)
from tests.optimization.support import assert_physical, battery, grid, hours


def codes(plan: Plan) -> set[tuple[str, str]]:
    return {(violation.asset_id, violation.code) for violation in plan.violations}


def store(**fields: Any) -> Battery:
    """A battery of 50 kW and 100 kWh without losses, empty at the start."""
    return battery(
        **{"energy_capacity_kwh": 100.0, "max_charge_kw": 50.0, "max_discharge_kw": 50.0, "terminal": "free", **fields}
    )


def test_charging_power_falls_with_the_soc_and_the_state_of_health():
    taper = (SharePoint(at=0.5, share=1.0), SharePoint(at=1.0, share=0.0))
    aged = (SharePoint(at=0.8, share=0.5), SharePoint(at=1.0, share=1.0))
    problem = Problem(
        horizon=hours(4),
        grid=grid(-0.1),
        batteries=(store(soh=0.8, max_discharge_kw=0.0, max_charge_by_soc=taper, max_charge_by_soh=aged),),
    )
    plan = solve(problem)
    # 25 kW by health; from SoC 0.5 on the taper leaves half of what is missing to full.
    assert plan.column("ess-1", "active_power_kw") == pytest.approx([-25.0, -25.0, -25.0, -12.5])
    assert_physical(problem, plan)


def test_ramps_hold_and_a_given_operation_beyond_one_is_named():
    price = np.array([0.0, 0.0, 1.0, 1.0])
    ramped = store(soc_start=0.5, ramp_kw_per_minute=1.0, power_start_kw=0.0)
    plan = solve(Problem(horizon=hours(4, 15), grid=grid(price), batteries=(ramped,)))
    power = plan.column("ess-1", "active_power_kw")
    assert np.abs(np.diff(power, prepend=0.0)).max() == pytest.approx(15.0)
    assert plan.violations == []
    forced = store(soc_start=1.0, ramp_kw_per_minute=1.0, power_start_kw=0.0, fixed_power_kw=[0.0, 40.0])
    plan = solve(Problem(horizon=hours(2, 15), grid=grid(0.1), batteries=(forced,)))
    assert [(v.asset_id, v.code, round(v.largest, 6)) for v in plan.violations] == [("ess-1", "ramp", 25.0)]


def test_cap_on_cycles_binds_by_the_day_and_a_given_operation_beyond_it_is_named():
    price = np.array([0.0, 1.0] * 12)
    capped = store(max_cycles_per_day=1.0, cycles_today=0.25)
    plan = solve(Problem(horizon=hours(24), grid=grid(price), batteries=(capped,)))
    assert np.maximum(plan.column("ess-1", "active_power_kw"), 0).sum() == pytest.approx(75.0)
    forced = store(max_cycles_per_day=0.2, soc_start=1.0, fixed_power_kw=[50.0, 0.0])
    plan = solve(Problem(horizon=hours(2), grid=grid(0.1), batteries=(forced,)))
    assert [(v.code, round(v.largest, 6)) for v in plan.violations] == [("cycle_cap", 30.0)]


def test_power_dependent_efficiency_holds_also_where_losses_pay():
    """At negative prices the relaxation would use the worst piece first; the curve has to be followed."""
    curve = (EfficiencyPoint(power_kw=10.0, efficiency=0.5), EfficiencyPoint(power_kw=50.0, efficiency=0.9))
    problem = Problem(
        horizon=hours(3),
        grid=grid([-1.0, -1.0, -1.0]),
        batteries=(store(charge_efficiency_curve=curve, max_discharge_kw=0.0),),
    )
    plan = solve(problem)
    power = -plan.column("ess-1", "active_power_kw")
    soc = np.append(plan.column("ess-1", "soc"), plan.final_state["ess-1.soc"])
    stored = np.interp(power, [0.0, 10.0, 50.0], [0.0, 5.0, 45.0])
    np.testing.assert_allclose(np.diff(soc) * 100.0, stored, atol=1e-6)


def test_cyclic_store_and_bought_capacity_report_their_soc():
    price = np.array([0.0, 1.0, 0.0, 1.0])
    round_trip = battery(energy_capacity_kwh=100.0, max_charge_kw=50.0, max_discharge_kw=50.0, terminal="cyclic")
    plan = solve(Problem(horizon=hours(4), grid=grid(price[::-1]), batteries=(round_trip,)))
    # Selling first is possible because the store may begin with what it ends with.
    assert plan.objective_eur == pytest.approx(-100.0)
    assert plan.column("ess-1", "soc")[0] == pytest.approx(plan.final_state["ess-1.soc"])
    bought = battery(
        energy_capacity_kwh=0.0, max_charge_kw=1000.0, max_discharge_kw=1000.0, max_c_rate=0.5,
        investment=Investment(cost_eur_per_kwh=0.1, max_kwh=80.0),
    )  # fmt: skip
    plan = solve(Problem(horizon=hours(4), grid=grid(price), batteries=(bought,)))
    assert plan.column("ess-1", "invested_kwh")[0] == pytest.approx(80.0)
    assert plan.objective_eur == pytest.approx(8.0 - 80.0)
    assert plan.column("ess-1", "soc").max() == pytest.approx(0.5)


def test_limits_hold_whatever_the_prices():
    """Prices in another unit must not outweigh the limits: defaults of soft limits grow with them."""
    price = np.array([10.0, 50.0, 10.0, 5000.0, 10.0])
    problem = Problem(
        horizon=hours(5),
        grid=grid(price, import_limit_kw=20.0, export_limit_kw=20.0),
        batteries=(battery(terminal="equal", terminal_price_eur_per_kwh=None, self_discharge_per_day=0.01),),
    )
    plan = solve(problem)
    assert plan.violations == []
    assert plan.final_state["ess-1.soc"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.requirement("module.genset")
def test_genset_follows_its_fuel_curve_and_its_tank():
    curve = tuple(FuelPoint(power_kw=p, litres_per_h=f) for p, f in ((20.0, 8.0), (40.0, 12.0), (60.0, 20.0)))
    unit = Genset(id="g", min_kw=20.0, max_kw=60.0, fuel_curve=curve, fuel_price_eur_per_l=1.5, tank_l=30.0)
    problem = Problem(horizon=hours(4), grid=grid(2.0, 0.0), loads=(Load(id="load", power_kw=50.0),), gensets=(unit,))
    plan = solve(problem, mip_gap=0.0)
    power, fuel = plan.column("g", "active_power_kw"), plan.column("g", "fuel_l_per_h")
    running = power > 0
    np.testing.assert_allclose(
        fuel[running], np.interp(power[running], [20.0, 40.0, 60.0], [8.0, 12.0, 20.0]), atol=1e-6
    )
    assert fuel.sum() <= 30.0 + 1e-6
    assert plan.costs["fuel"] == pytest.approx(1.5 * fuel.sum())
    assert plan.violations == []
    forced = unit.model_copy(
        update={"tank_l": 4.0, "running_at_start": True, "min_up_minutes": 120, "minutes_in_state": 30}
    )
    plan = solve(problem.model_copy(update={"gensets": (forced,)}))
    assert ("g", "tank") in codes(plan)  # a run that is forced from before needs more than there is


@pytest.mark.requirement("module.genset")
def test_an_island_sheds_load_before_it_burns_fuel_that_is_not_there():
    curve = (FuelPoint(power_kw=0.0, litres_per_h=0.0), FuelPoint(power_kw=50.0, litres_per_h=12.5))
    unit = Genset(id="g", min_kw=0.0, max_kw=50.0, fuel_curve=curve, fuel_price_eur_per_l=1.5, tank_l=25.0)
    plan = solve(Problem(horizon=hours(4), loads=(Load(id="load", power_kw=50.0),), gensets=(unit,)))
    assert codes(plan) == {("busbar", "unserved_load")}
    assert plan.column("g", "fuel_l_per_h").sum() == pytest.approx(25.0)


def test_genset_ramps_while_it_runs_and_a_start_takes_what_it_is_allowed():
    unit = Genset(
        id="g", min_kw=10.0, max_kw=100.0, fuel_cost_eur_per_kwh=0.1, ramp_kw_per_minute=1.0, start_kw=20.0,
        stop_kw=30.0,
    )  # fmt: skip
    load = np.array([0.0, 0.0, 100.0, 100.0, 100.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    problem = Problem(horizon=hours(10, 30), grid=grid(1.0, 0.0), loads=(Load(id="l", power_kw=load),), gensets=(unit,))
    power = solve(problem, mip_gap=0.0).column("g", "active_power_kw")
    first, last = np.flatnonzero(power > 0)[[0, -1]]
    assert power[first] <= 20.0 + 1e-6
    assert power[last] <= 30.0 + 1e-6
    assert np.abs(np.diff(power[first : last + 1])).max() <= 30.0 + 1e-6


@pytest.mark.requirement("module.load_controller")
def test_curtailment_rebounds_and_goes_by_priority():
    cold = ControllableLoad(
        id="cold", power_kw=20.0, steps=(1.0,), recovery_share=1.2, recovery_minutes=120, max_curtailed_minutes=60
    )
    price = np.array([0.1, 5.0, 0.1, 0.1, 0.1])
    problem = Problem(horizon=hours(5), grid=grid(price), controllable_loads=(cold,))
    plan = solve(problem)
    assert plan.column("cold", "active_power_kw") == pytest.approx([20.0, 0.0, 32.0, 32.0, 20.0])
    assert_physical(problem, plan)
    pair = tuple(
        ControllableLoad(id=name, power_kw=20.0, steps=(1.0,), priority=priority, curtailment_cost_eur_per_kwh=0.5)
        for name, priority in (("first", 1), ("last", 9))
    )
    plan = solve(Problem(horizon=hours(1), grid=grid(0.1, import_limit_kw=20.0), controllable_loads=pair))
    assert plan.column("first", "active_power_kw")[0] == pytest.approx(20.0)
    assert plan.column("last", "active_power_kw")[0] == pytest.approx(0.0)


@pytest.mark.requirement("module.load_controller")
def test_shiftable_loads_run_in_their_window_in_one_piece_or_say_what_is_missing():
    price = np.array([0.0, 0.3, 0.1, 0.5, 0.1, 0.2, 0.4, 0.4])
    window = [0, 1, 1, 1, 1, 1, 1, 1]
    pump = ShiftableLoad(id="pump", power_kw=10.0, energy_kwh=20.0, allowed=window)
    whole = ShiftableLoad(id="whole", power_kw=10.0, energy_kwh=20.0, allowed=window, max_starts=1)
    wash = ShiftableLoad(id="wash", profile_kw=(2.0, 1.0), runs=2, allowed=window)
    late = ShiftableLoad(id="late", power_kw=5.0, energy_kwh=20.0, allowed=[0, 0, 0, 0, 0, 0, 1, 1])
    problem = Problem(horizon=hours(8), grid=grid(price), shiftable_loads=(pump, whole, wash, late))
    plan = solve(problem, mip_gap=0.0)
    assert np.flatnonzero(plan.column("pump", "active_power_kw")).tolist() == [2, 4]
    assert np.flatnonzero(plan.column("whole", "active_power_kw")).tolist() == [4, 5]
    assert sorted(plan.column("wash", "active_power_kw")) == pytest.approx([0, 0, 0, 0, 1, 1, 2, 2])
    assert {(v.asset_id, v.code, round(v.largest, 6)) for v in plan.violations} == {("late", "load_unmet", 10.0)}


@pytest.mark.requirement("energy.13.2", "energy.13.4")
def test_tied_vehicles_are_served_emptier_first_at_no_cost_and_share_chargers():
    def car(name: str, soc: float) -> EvSession:
        return EvSession(
            id=name, connected=1.0, capacity_kwh=50.0, soc_start=soc, soc_target=1.0, phases=1, max_current_a=50.0,
            unmet_price_eur_per_kwh=2.0,
        )  # fmt: skip

    cars = tuple(car(name, soc) for name, soc in (("a", 0.5), ("b", 0.2), ("c", 0.4)))
    problem = Problem(horizon=hours(2), grid=grid(0.0, import_limit_kw=11.5), ev_sessions=cars)
    plan = solve(problem)
    charged = {name: plan.column(name, "active_power_kw").sum() for name in "abc"}
    assert charged == pytest.approx({"a": 0.0, "b": 23.0, "c": 0.0}, abs=1e-4)
    # The choice among equals is free: what is missing is priced as given.
    assert plan.costs["ev_unmet"] == pytest.approx(2.0 * (95.0 - 23.0))
    one = EvGroup(id="posts", sessions=("a", "b", "c"), max_active=1)
    plan = solve(problem.model_copy(update={"ev_groups": (one,), "grid": grid(0.0)}), mip_gap=0.0)
    at_once = sum((plan.column(name, "active_power_kw") > 1e-6).astype(int) for name in "abc")
    assert np.max(at_once) == 1


def test_falling_tiers_are_filled_in_order_and_taxes_are_billed():
    tiers = TieredTariff(
        id="tiers",
        used_so_far_kwh=10.0,
        tiers=(EnergyTier(up_to_kwh=30.0, price_eur_per_kwh=0.5), EnergyTier(price_eur_per_kwh=0.1)),
    )
    problem = Problem(
        horizon=hours(2),
        grid=grid(0.2, 0.0, tiers=(tiers,), import_tax_eur_per_kwh=0.05, vat=0.2),
        loads=(Load(id="load", power_kw=25.0),),
    )
    plan = solve(problem)
    assert plan.costs["energy_tiers"] == pytest.approx(20 * 0.5 + 30 * 0.1)
    assert plan.costs["taxes"] == pytest.approx(50 * 0.05 + 0.2 * (50 * 0.25 + 13.0))


@pytest.mark.requirement("energy.14.6")
def test_feed_in_limit_as_a_share_of_installed_power_curtails():
    problem = Problem(
        horizon=hours(2),
        grid=grid(0.3, 0.1, feed_in_limit_share=0.6),
        renewables=(Renewable(id="pv", available_kw=[50.0, 100.0], rated_kw=100.0),),
        loads=(Load(id="load", power_kw=10.0),),
    )
    plan = solve(problem)
    assert plan.column("pv", "curtailed_kw") == pytest.approx([0.0, 30.0])
    assert plan.violations == []


def feeders(limit_kw: float, *, tie: bool) -> Network:
    branches = [
        Branch(id="trafo", from_bus="mv", to_bus="lv", limit_kw=limit_kw),
        Branch(id="feeder", from_bus="lv", to_bus="hall", limit_kw=30.0),
    ]
    if tie:
        branches.append(Branch(id="second", from_bus="lv", to_bus="hall", limit_kw=30.0, reactance_pu=3.0))
    return Network(branches=tuple(branches), pcc_bus="mv", bus_of={"pv": "hall", "load": "lv", "ess-1": "hall"})


def test_a_transformer_and_a_feeder_limit_what_flows_and_the_battery_helps():
    problem = Problem(
        horizon=hours(2),
        grid=grid([0.1, 0.2], 0.05),
        loads=(Load(id="load", power_kw=[10.0, 60.0]),),
        renewables=(Renewable(id="pv", available_kw=[50.0, 0.0]),),
        batteries=(store(),),
        network=feeders(40.0, tie=False),
    )
    plan = solve(problem)
    assert plan.violations == []
    assert np.abs(plan.column("feeder", "flow_kw")).max() <= 30.0 + 1e-6
    assert np.abs(plan.column("trafo", "flow_kw")).max() <= 40.0 + 1e-6
    assert plan.column("ess-1", "active_power_kw")[1] >= 20.0 - 1e-6
    alone = solve(problem.model_copy(update={"batteries": (), "network": feeders(40.0, tie=False).model_copy(
        update={"bus_of": {"pv": "hall", "load": "lv"}})}))  # fmt: skip
    assert codes(alone) == {("trafo", "branch_limit")}
    assert alone.violations[0].largest == pytest.approx(20.0)


def test_flows_in_a_mesh_divide_by_reactance():
    problem = Problem(
        horizon=hours(1),
        grid=grid(0.1, 0.05),
        renewables=(Renewable(id="pv", available_kw=60.0),),
        network=Network(branches=feeders(100.0, tie=True).branches, pcc_bus="mv", bus_of={"pv": "hall"}),
    )
    plan = solve(problem)
    # The branch of a third of the reactance takes three quarters, so that its rating holds the source to 40 kW.
    assert plan.column("feeder", "flow_kw")[0] == pytest.approx(-30.0)
    assert plan.column("second", "flow_kw")[0] == pytest.approx(-10.0)
    assert plan.column("pv", "curtailed_kw")[0] == pytest.approx(20.0)


CURVE = (
    ReactivePoint(at=-1.0, reactive=0.3),
    ReactivePoint(at=0.0, reactive=0.0),
    ReactivePoint(at=1.0, reactive=-0.5),
)


@pytest.mark.requirement("energy.12.4", "energy.15.2")
@pytest.mark.parametrize(
    ("support", "expected"),
    [
        ({"mode": "fixed", "fixed_kvar": 30.0}, [30.0, 30.0]),
        ({"mode": "cos_phi", "cos_phi": 0.8}, [45.0, 7.5]),
        ({"mode": "cos_phi", "cos_phi": 0.8, "supplies": False}, [-45.0, -7.5]),
        ({"mode": "q_of_p", "curve": CURVE, "rated_kw": 100.0}, [-30.0, 3.0]),
        ({"mode": "q_of_u", "curve": (ReactivePoint(at=0.95, reactive=0.2), ReactivePoint(at=1.05, reactive=-0.2)),
          "rated_kw": 100.0, "voltage_pu": [0.975, 1.05]}, [10.0, -20.0]),
    ],
)  # fmt: skip
def test_reactive_power_asked_for_is_met_within_the_capability(support: dict[str, Any], expected: list[float]):
    problem = Problem(
        horizon=hours(2),
        grid=grid(0.2, 0.1),
        loads=(Load(id="load", power_kw=10.0, reactive_kvar=5.0),),
        renewables=(Renewable(id="pv", available_kw=[70.0, 0.0], inverter=Inverter(apparent_power_kva=100.0)),),
        reactive=ReactiveSupport.model_validate(support),
    )
    plan = solve(problem)
    assert plan.violations == []
    assert plan.column("reactive", "delivered_kvar") == pytest.approx(expected, abs=1e-6)
    assert plan.column("pv", "reactive_power_kvar") == pytest.approx([value + 5.0 for value in expected], abs=1e-6)


def test_reactive_power_takes_active_power_away_within_the_stated_error():
    unit = Inverter(apparent_power_kva=100.0, corners=32)
    problem = Problem(
        horizon=hours(1),
        grid=grid(0.2, 0.1),
        renewables=(Renewable(id="pv", available_kw=100.0, inverter=unit),),
        reactive=ReactiveSupport(fixed_kvar=60.0),
    )
    plan = solve(problem)
    power = plan.column("pv", "active_power_kw")[0]
    assert np.hypot(power, 60.0) <= 100.0 + 1e-6
    assert power >= 80.0 - 100.0 * unit.error_share / 0.8 - 1e-6
    beyond = solve(problem.model_copy(update={"reactive": ReactiveSupport(fixed_kvar=130.0)}))
    assert ("reactive", "reactive_support") in codes(beyond)


@pytest.mark.requirement("energy.14.1", "energy.13.1")
def test_peak_shaving_and_profile_following_are_goals_before_money():
    load = np.array([10.0, 60.0, 20.0, 10.0])
    price = np.array([0.9, 0.1, 0.9, 0.9])  # money alone would import in the peak
    flat = Problem(
        horizon=hours(4),
        objective=Objective(goal="peak_shaving"),
        grid=grid(price, 0.0),
        loads=(Load(id="load", power_kw=load),),
        batteries=(store(),),
    )
    assert solve(flat).column("pcc", "active_power_kw").max() == pytest.approx(35.0, abs=1e-3)
    declared = DeclaredProfile(power_kw=[0.0, 20.0, 0.0, 0.0], over_price_eur_per_kwh=0.0, under_price_eur_per_kwh=0.0)
    park = Problem(
        horizon=hours(4),
        objective=Objective(goal="profile"),
        grid=grid(price, price, profile=declared),
        renewables=(Renewable(id="pv", available_kw=[20.0, 0.0, 0.0, 0.0]),),
        batteries=(store(),),
    )
    assert solve(park).column("pcc", "active_power_kw") == pytest.approx([0.0, -20.0, 0.0, 0.0], abs=1e-3)


def test_rules_on_the_origin_of_energy():
    price = np.array([0.0, 1.0, 1.0])
    sun = Renewable(id="pv", available_kw=[20.0, 0.0, 0.0])
    base = Problem(
        horizon=hours(3), grid=grid(price), renewables=(sun,), loads=(Load(id="load", power_kw=[5.0, 10.0, 0.0]),),
        batteries=(store(charge_from="renewables", discharge_to="site"),),
    )  # fmt: skip
    plan = solve(base)
    assert plan.column("ess-1", "active_power_kw").min() >= -20.0 - 1e-6
    assert plan.column("pcc", "active_power_kw")[1:] == pytest.approx([0.0, 0.0])
    surplus = base.model_copy(update={"grid": grid(price[::-1], export_from="surplus"), "batteries": ()})
    assert solve(surplus).column("pcc", "active_power_kw")[0] == pytest.approx(-15.0)
