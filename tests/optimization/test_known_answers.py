"""Dispatch problems whose optimum is known from elsewhere, verified by independent models."""

from __future__ import annotations

import numpy as np
import pytest

from flexergy_pipelines.optimization import (
    DemandCharge,
    Genset,
    Load,
    Objective,
    Problem,
    Renewable,
    solve,
)
from tests.optimization.support import assert_physical, battery, grid, hours

EXACT = 1e-9


@pytest.mark.parametrize(
    ("price", "limits", "states", "objective"),
    [
        ([10, 10, 10], (4, 6, 1.0), (0, 0), 0.0),
        ([20, 15, 10], (4, 6, 1.0), (6, 0), -110.0),
        ([10, 50, 10, 5000, 10], (4, 6, 1.0), (0, 0), -20120.0),
        ([10, -50, 200, -50, 200], (2, 4, 0.9), (0, 0), -995.55555556),
        ([200, -50, -50, 200, 220], (2, 4, 0.9), (0, 0), -960.0),
    ],
)
@pytest.mark.requirement("energy.14.2", "energy.12.3")
def test_arbitrage_earns_what_is_possible(price, limits, states, objective):
    power, energy, efficiency = limits
    start, end = states
    store = battery(
        energy_capacity_kwh=float(energy),
        max_charge_kw=power,
        max_discharge_kw=power,
        charge_efficiency=efficiency,
        soc_start=start / energy,
        terminal_soc=end / energy,
    )
    problem = Problem(horizon=hours(len(price)), grid=grid(price), batteries=(store,))
    plan = solve(problem, mip_gap=EXACT)
    assert plan.objective_eur == pytest.approx(objective, abs=1e-4)
    assert plan.status == "optimal"
    assert_physical(problem, plan)


@pytest.mark.parametrize(("network", "objective"), [([0, 0, 0], -177.777778), ([0, 100, 0], -170.0)])
def test_network_charge_moves_charging(network, objective):
    price = np.array([50.0, 100.0, 150.0])
    store = battery(energy_capacity_kwh=4.0, max_charge_kw=2, max_discharge_kw=2, charge_efficiency=0.9, soc_start=0.0)
    problem = Problem(horizon=hours(3), grid=grid(price + np.array(network), price), batteries=(store,))
    assert solve(problem, mip_gap=EXACT).objective_eur == pytest.approx(objective, abs=1e-5)


@pytest.mark.parametrize(
    ("carbon", "start", "emissions"),
    [([0.1, 0.8, -0.1], 3, -3.4), ([0.9, 0.1, 0.2, 0.9], 6, -3.2), ([0.9, 0.1, 0.2, 0.9], 0, -3.2)],
)
def test_least_emission(carbon, start, emissions):
    problem = Problem(
        horizon=hours(len(carbon)),
        objective=Objective(carbon_price_eur_per_kg=1.0),
        grid=grid(0.0, emission_kg_per_kwh=carbon),
        batteries=(battery(soc_start=start / 6, energy_capacity_kwh=6.0),),
    )
    assert solve(problem, mip_gap=EXACT).objective_eur == pytest.approx(emissions, abs=1e-6)


def test_paid_charging_never_burns_energy_by_charging_and_discharging_at_once():
    """The linear relaxation would earn 40 by running in both directions."""
    store = battery(
        energy_capacity_kwh=19.0,
        max_charge_kw=2.0,
        max_discharge_kw=0.1,
        terminal="free",
        charge_cost_eur_per_kwh=-2.0,
    )
    problem = Problem(horizon=hours(10), grid=grid(0.0), batteries=(store,))
    plan = solve(problem, mip_gap=EXACT)
    assert plan.objective_eur == pytest.approx(-38.0, abs=1e-6)
    assert_physical(problem, plan)


def test_holding_cost():
    store = battery(
        energy_capacity_kwh=10.0,
        max_charge_kw=10.0,
        max_discharge_kw=10.0,
        soc_start=0.1,
        terminal="free",
        holding_cost_eur_per_kwh_h=0.2,
    )
    source = Genset(id="gen", min_kw=0.0, max_kw=3.0, available=[1, 0, 0], fuel_cost_eur_per_kwh=1.0)
    problem = Problem(horizon=hours(3), batteries=(store,), gensets=(source,), loads=(Load(id="load", power_kw=1.0),))
    plan = solve(problem, mip_gap=EXACT)
    assert plan.objective_eur == pytest.approx(2.6, abs=1e-9)
    assert_physical(problem, plan)


def test_peak_charge_and_soft_limit_spread_charging_over_the_day():
    """A limit that can't be kept is broken evenly and as little as possible, and the breach is named."""
    store = battery(
        energy_capacity_kwh=1000.0,
        max_charge_kw=1000.0,
        max_discharge_kw=1000.0,
        soc_start=0.4,
        terminal="at_least",
        terminal_soc=1.0,
        terminal_price_eur_per_kwh=1e6,
    )
    connection = grid(
        0.1,
        0.09,
        import_limit_kw=1.0,
        breach_price_eur_per_kwh=1000.0,
        breach_peak_price_eur_per_kw=1000.0,
        demand_charges=(DemandCharge(id="peak", price_eur_per_kw=0.26, peak_so_far_kw=20.0),),
    )
    problem = Problem(horizon=hours(96, 15), grid=connection, batteries=(store,))
    plan = solve(problem, mip_gap=EXACT)
    np.testing.assert_allclose(plan.column("pcc", "active_power_kw"), 25.0, atol=1e-6)
    assert plan.costs["energy_import"] == pytest.approx(60.0, abs=1e-6)
    assert plan.costs["violations"] == pytest.approx(24_000 + 576_000, abs=1e-3)
    assert plan.costs["demand_charge"] == pytest.approx(1.3, abs=1e-6)
    assert [(v.code, v.steps, round(v.largest, 6)) for v in plan.violations] == [("import_limit", 96, 24.0)]


@pytest.mark.requirement("energy.14.1", "module.genset")
def test_microgrid_day_with_two_demand_charges_and_a_draw_limit():
    pv = [0] * 7 + [7.5, 15, 22.5, 45, 90, 75, 45, 3, 1.5, 0.75] + [0] * 7
    rate = [0.1] * 6 + [0.15] * 7 + [0.2] * 3 + [0.3] + [0.2] * 3 + [0.1] * 4
    limit = [100.0] * 24
    limit[9] = 90.0
    late = [0.0] * 15 + [1.0] * 9
    store = battery(
        energy_capacity_kwh=60.0,
        max_charge_kw=30.0,
        max_discharge_kw=30.0,
        soc_min=0.2,
        soc_start=0.5,
        charge_efficiency=0.9126,
        discharge_efficiency=0.9126,
        terminal="free",
    )
    connection = grid(
        rate,
        0.05,
        import_limit_kw=limit,
        demand_charges=(
            DemandCharge(id="month", price_eur_per_kw=10.0, peak_so_far_kw=98.0, bill_peak_so_far=True),
            DemandCharge(id="tou", price_eur_per_kw=15.0, peak_so_far_kw=97.0, bill_peak_so_far=True, applies=late),
        ),
    )
    genset = Genset(id="genset", min_kw=0.0, max_kw=30.0, fuel_cost_eur_per_kwh=3.0 * 0.076)
    problem = Problem(
        horizon=hours(24),
        grid=connection,
        batteries=(store,),
        gensets=(genset,),
        renewables=(Renewable(id="pv", available_kw=pv),),
        loads=(Load(id="load", power_kw=100.0),),
    )
    plan = solve(problem, mip_gap=EXACT)
    exchange = plan.column("pcc", "active_power_kw")
    assert exchange[:15].max() <= 98 + 1e-6
    assert exchange[15:].max() <= 97 + 1e-6
    assert exchange[9] <= 90 + 1e-6
    assert exchange.min() >= -1e-6
    assert plan.objective_eur == pytest.approx(2735.099969, abs=1e-5)
    assert_physical(problem, plan)


@pytest.mark.parametrize(
    ("retention", "start", "deltas", "expected"),
    [
        (0.99, 1000.0, [100, -100, -100, 100], [1000, 1089, 979.11, 870.3189, 960.615711]),
        (0.9, 2.5, [-0.5, -0.5, -0.5, -0.5], [2.5, 1.8, 1.17, 0.603, 0.0927]),
    ],
)
@pytest.mark.requirement("energy.04.5")
def test_given_operation_loses_energy_by_self_discharge(retention, start, deltas, expected):
    store = battery(
        energy_capacity_kwh=2000.0,
        soc_start=start / 2000,
        self_discharge_per_day=1 - retention**24,
        fixed_power_kw=-np.array(deltas, dtype=float),
        terminal="free",
    )
    plan = solve(Problem(horizon=hours(4), grid=grid(0.1), batteries=(store,)))
    stored = np.append(plan.column("ess-1", "soc"), plan.final_state["ess-1.soc"]) * 2000
    np.testing.assert_allclose(stored, expected, atol=1e-6)
