"""What a solve promises: its status says what was proven, its time is bounded, and nothing makes it impossible."""

from __future__ import annotations

import numpy as np
import pytest

from flexergy_pipelines.optimization import (
    ControllableLoad,
    Genset,
    Load,
    Problem,
    Renewable,
    ShiftableLoad,
    solve,
)
from tests.optimization.support import assert_physical, battery, grid, hours


def hard() -> Problem:
    """A tight limit, gensets and curtailments: seconds to prove the optimum."""
    rng = np.random.default_rng(5)
    price = 0.1 + 0.02 * rng.normal(size=96)
    return Problem(
        horizon=hours(96, 15),
        grid=grid(price, price - 0.05, import_limit_kw=150.0),
        loads=(Load(id="load", power_kw=150 + 40 * rng.random(96)),),
        gensets=tuple(
            Genset(id=f"g{k}", min_kw=25.0, max_kw=40.0, fuel_cost_eur_per_kwh=0.2 + 0.01 * k, start_cost_eur=3.0,
                   min_up_minutes=45, min_down_minutes=45)
            for k in range(4)
        ),
        controllable_loads=tuple(
            ControllableLoad(id=f"c{k}", power_kw=20.0, steps=(0.3, 0.6, 1.0), curtailment_cost_eur_per_kwh=0.3,
                             min_minutes_between=60, max_curtailed_minutes=120)
            for k in range(3)
        ),
    )  # fmt: skip


@pytest.mark.parametrize("limit_s", [0.0, 0.5, 2.0])
def test_out_of_time_returns_the_best_found_with_its_gap(limit_s: float):
    problem = hard()
    plan = solve(problem, limit_s, mip_gap=0.0)
    assert plan.status in {"optimal", "feasible"}
    if plan.status == "feasible":
        assert plan.gap > 0
        assert plan.bound_eur < plan.objective_eur
    assert_physical(problem, plan)


def test_an_island_without_enough_power_names_what_it_sheds():
    problem = Problem(
        horizon=hours(4),
        loads=(Load(id="load", power_kw=[10.0, 10.0, 30.0, 10.0]),),
        renewables=(Renewable(id="pv", available_kw=[40.0, 10.0, 0.0, 10.0], curtailable=False),),
        batteries=(battery(energy_capacity_kwh=20.0, max_charge_kw=20.0, max_discharge_kw=20.0, terminal="free"),),
    )
    plan = solve(problem)
    assert {(v.code, round(v.largest, 3)) for v in plan.violations} == {("unserved_load", 10.0), ("surplus", 10.0)}
    assert_physical(problem, plan)


@pytest.mark.parametrize("start", [0.0, 0.05, 0.97, 1.0])
def test_soc_outside_its_window_recovers_at_once_and_is_named(start: float):
    store = battery(
        energy_capacity_kwh=100.0, max_charge_kw=20.0, max_discharge_kw=20.0, soc_min=0.2, soc_max=0.9,
        soc_start=start, terminal="at_least",
    )  # fmt: skip
    price = np.array([0.5, 0.4, 0.3, 0.2, 0.1, 0.1])  # waiting would be cheaper
    problem = Problem(
        horizon=hours(6), grid=grid(price, price), loads=(Load(id="load", power_kw=30.0),), batteries=(store,)
    )
    plan = solve(problem)
    soc = plan.column("ess-1", "soc")
    assert (soc[1:] >= 0.2 - 1e-6).all()
    assert (soc[1:] <= 0.9 + 1e-6).all()
    assert_physical(problem, plan)


@pytest.mark.requirement("energy.14.6")
def test_limit_at_the_connection_curtails_sources_rather_than_breaking_it():
    problem = Problem(
        horizon=hours(3),
        grid=grid(0.1, 0.08, export_limit_kw=20.0),
        renewables=(Renewable(id="pv", available_kw=[10.0, 50.0, 30.0]),),
        loads=(Load(id="load", power_kw=5.0),),
    )
    plan = solve(problem)
    assert plan.column("pv", "curtailed_kw") == pytest.approx([0.0, 25.0, 5.0])
    assert plan.column("pv", "active_power_limit_kw") == pytest.approx([10.0, 25.0, 25.0])
    assert plan.violations == []


@pytest.mark.requirement("module.genset")
def test_genset_keeps_its_minimum_runs_and_rests_and_earlier_state():
    load = np.array([0, 100, 0, 0, 100, 100, 0, 0], dtype=float)
    genset = Genset(
        id="g", min_kw=10.0, max_kw=60.0, fuel_cost_eur_per_kwh=0.2, start_cost_eur=1.0, min_up_minutes=120,
        min_down_minutes=120, running_at_start=False, minutes_in_state=60,
    )  # fmt: skip
    problem = Problem(
        horizon=hours(8),
        grid=grid(0.1, 0.05, import_limit_kw=50.0),
        loads=(Load(id="l", power_kw=load),),
        gensets=(genset,),
    )
    plan = solve(problem, mip_gap=0.0)
    running = plan.column("g", "running")
    assert running[0] == 0  # still resting
    edges = np.flatnonzero(np.diff(np.concatenate([[0], running, [0]])))
    assert all(stop - start >= 2 for start, stop in zip(edges[::2], edges[1::2], strict=True) if stop < 8)
    power = plan.column("g", "active_power_kw")
    assert (power[running > 0] >= 10 - 1e-6).all()
    assert plan.violations == []


def test_fault_of_a_running_genset_overrides_its_minimum_run():
    genset = Genset(
        id="g", min_kw=10.0, max_kw=60.0, fuel_cost_eur_per_kwh=0.2, available=[1, 0, 0, 1], min_up_minutes=240,
        running_at_start=True, minutes_in_state=15,
    )  # fmt: skip
    plan = solve(Problem(horizon=hours(4), grid=grid(0.1), gensets=(genset,)))
    assert plan.column("g", "running")[:3].tolist() == [1.0, 0.0, 0.0]


def test_a_storage_never_burns_energy_where_a_load_that_cannot_run_decides_the_cost():
    """Whole numbers were needed for the pump alone; the prices of the rest come from a linear problem without pairs."""
    problem = Problem(
        horizon=hours(16, 15),
        loads=(Load(id="load", power_kw=np.zeros(16)),),
        renewables=(Renewable(id="pv", available_kw=np.eye(16)[11] * 1e-3, curtailable=False),),
        shiftable_loads=(ShiftableLoad(id="pump", power_kw=8.0, energy_kwh=20.0),),
        batteries=(
            battery(energy_capacity_kwh=5.0, max_charge_kw=10.0, max_discharge_kw=5.0, terminal="at_least",
                    charge_efficiency=0.8, discharge_efficiency=0.8, soc_max=0.8, terminal_price_eur_per_kwh=10.0),
        ),
    )  # fmt: skip
    plan = solve(problem, mip_gap=1e-6)
    assert plan.final_state["ess-1.soc"] == pytest.approx(0.001 * 0.25 * 0.8 / 5.0, rel=1e-3)
    assert_physical(problem, plan)
