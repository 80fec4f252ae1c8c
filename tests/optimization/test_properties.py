"""What holds for every plan of every site, found by random sites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.optimization import (
    Battery,
    Branch,
    ControllableLoad,
    DemandCharge,
    EnergyTier,
    EvBlock,
    EvSession,
    Genset,
    Load,
    Network,
    Objective,
    Problem,
    Renewable,
    SharePoint,
    ShiftableLoad,
    TieredTariff,
    solve,
)
from tests.optimization.support import assert_physical, battery, grid, hours, idle

STEPS = 16
TIERS = TieredTariff(
    id="tiers", tiers=(EnergyTier(up_to_kwh=50.0, price_eur_per_kwh=0.05), EnergyTier(price_eur_per_kwh=0.02))
)


def series(low: float, high: float) -> st.SearchStrategy[list[float]]:
    numbers = st.integers(round(low * 1000), round(high * 1000)).map(lambda x: x / 1000)
    return st.lists(numbers, min_size=STEPS, max_size=STEPS)


@st.composite
def batteries(draw: st.DrawFn, name: str = "ess-1") -> Battery:
    return battery(
        id=name,
        energy_capacity_kwh=draw(st.sampled_from([5.0, 40.0, 200.0])),
        max_charge_kw=draw(st.sampled_from([0.0, 10.0, 50.0])),
        max_discharge_kw=draw(st.sampled_from([5.0, 50.0])),
        charge_efficiency=draw(st.sampled_from([0.8, 0.95, 1.0])),
        discharge_efficiency=draw(st.sampled_from([0.8, 0.95, 1.0])),
        soc_min=draw(st.sampled_from([0.0, 0.2])),
        soc_max=draw(st.sampled_from([0.8, 1.0])),
        # Also outside the window: the plan has to come back, not to fail.
        soc_start=draw(st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0])),
        self_discharge_per_day=draw(st.sampled_from([0.0, 0.01])),
        terminal="at_least",
        terminal_price_eur_per_kwh=10.0,
        wear_cost_eur_per_kwh=draw(st.sampled_from([0.0, 0.04])),
        ramp_kw_per_minute=draw(st.sampled_from([None, None, 0.5])),
        max_cycles_per_day=draw(st.sampled_from([None, None, 0.5])),
        auxiliary_kw=draw(st.sampled_from([0.0, 0.3])),
        max_charge_by_soc=draw(st.sampled_from([(), (SharePoint(at=0.6, share=1.0), SharePoint(at=1.0, share=0.1))])),
    )


@st.composite
def sites(draw: st.DrawFn) -> Problem:
    buy = np.array(draw(series(-0.3, 0.5)))
    spread = draw(st.sampled_from([0.05, 0.0, -0.02]))
    limits = draw(st.sampled_from([(None, None), (40.0, 30.0), (5.0, 0.0)]))
    connection = grid(
        buy,
        buy - spread,
        import_limit_kw=limits[0],
        export_limit_kw=limits[1],
        demand_charges=(
            DemandCharge(id="peak", price_eur_per_kw=draw(st.sampled_from([0.1, 2.0])), peak_so_far_kw=10.0),
        ),
        tiers=draw(st.sampled_from([(), (TIERS,)])),
        ramp_kw_per_minute=draw(st.sampled_from([None, None, 1.0])),
    )
    network = Network(
        branches=(
            Branch(id="feeder", from_bus="main", to_bus="hall", limit_kw=draw(st.sampled_from([5.0, 40.0]))),
            Branch(id="second", from_bus="main", to_bus="hall", limit_kw=20.0, reactance_pu=2.0),
        ),
        pcc_bus="main",
        bus_of={"pv": "hall", "ess-0": "hall"},
    )
    return Problem(
        horizon=hours(STEPS, draw(st.sampled_from([15, 60]))),
        objective=Objective(goal=draw(st.sampled_from(["cost", "self_consumption"]))),
        grid=connection if draw(st.integers(0, 5)) else None,
        batteries=tuple(draw(batteries(f"ess-{k}")) for k in range(draw(st.integers(1, 2)))),
        renewables=(Renewable(id="pv", available_kw=draw(series(0, 80)), curtailable=draw(st.booleans())),),
        loads=(Load(id="load", power_kw=draw(series(0, 60))),),
        gensets=(
            Genset(
                id="genset",
                min_kw=draw(st.sampled_from([0.0, 10.0])),
                max_kw=30.0,
                fuel_cost_eur_per_kwh=0.25,
                start_cost_eur=draw(st.sampled_from([0.0, 1.0])),
                min_up_minutes=60,
            ),
        )
        if draw(st.booleans())
        else (),
        controllable_loads=(
            ControllableLoad(
                id="cold",
                power_kw=draw(series(0, 20)),
                steps=(0.5, 1.0),
                curtailment_cost_eur_per_kwh=0.2,
                min_minutes_between=60,
                max_curtailed_minutes=120,
            ),
        )
        if draw(st.booleans())
        else (),
        shiftable_loads=(
            ShiftableLoad(id="pump", power_kw=8.0, energy_kwh=20.0, max_starts=draw(st.sampled_from([None, 1]))),
        )
        if draw(st.booleans())
        else (),
        ev_sessions=(
            EvSession(
                id="car",
                connected=[0.0] * 4 + [1.0] * 12,
                capacity_kwh=50.0,
                soc_start=0.3,
                soc_target=0.6,
                max_kw=11.0,
                min_kw=draw(st.sampled_from([0.0, 4.1])),
                max_discharge_kw=draw(st.sampled_from([0.0, 11.0])),
            ),
        )
        if draw(st.booleans())
        else (),
        network=network if draw(st.integers(0, 2)) == 0 else None,
        ev_blocks=(EvBlock(id="ev", power_kw=draw(series(0, 20)), min_fraction=0.2),) if draw(st.booleans()) else (),
    )


@pytest.mark.requirement("uc.3", "energy.14.6", "module.load_controller")
@settings(max_examples=25, deadline=None)
@given(problem=sites())
def test_every_plan_is_physical_and_no_dearer_than_idle_storage(problem):
    plan = solve(problem, 20.0, mip_gap=1e-6)
    assert_physical(problem, plan)
    for load in problem.controllable_loads:
        _assert_curtailment(problem, load, plan.column(load.id, "active_power_kw"))
    still = solve(idle(problem), 20.0, mip_gap=1e-6)
    if problem.objective.goal == "cost":
        assert plan.objective_eur <= still.objective_eur + 1e-4 * (1 + abs(still.objective_eur))


def _assert_curtailment(problem: Problem, load: ControllableLoad, power: np.ndarray) -> None:
    wanted = np.broadcast_to(load.power_kw, power.size)
    moved = wanted > 1e-6
    off = np.zeros(power.size)
    off[moved] = 1 - power[moved] / wanted[moved]
    allowed = np.array([0.0, *load.steps])
    assert (np.abs(off[:, None] - allowed).min(axis=1) < 1e-6).all()
    minutes = problem.horizon.step_minutes
    curtailed = off > 1e-6
    assert load.max_curtailed_minutes is not None
    assert curtailed.sum() * minutes <= load.max_curtailed_minutes
    # A step without consumption shows no curtailment, so the time between events is read where it can be seen.
    if moved.all():
        starts = np.flatnonzero(np.diff(np.concatenate([[0], curtailed.astype(int)])) == 1)
        ends = np.flatnonzero(np.diff(np.concatenate([curtailed.astype(int), [0]])) == -1) + 1
        for end, start in zip(ends[:-1], starts[1:], strict=True):
            assert (start - end) * minutes >= load.min_minutes_between


@settings(max_examples=10, deadline=None)
@given(problem=sites(), factor=st.sampled_from([1.5, 4.0]))
def test_a_bigger_battery_never_costs_more(problem, factor):
    """More capacity and power at the same stored energy: everything that was possible stays possible."""
    problem = problem.model_copy(
        update={
            "objective": Objective(),
            "batteries": tuple(
                b.model_copy(
                    update={"soc_start": 0.5, "soc_min": 0.0, "self_discharge_per_day": 0.0, "terminal": "free"}
                )
                for b in problem.batteries
            ),
        }
    )
    bigger = tuple(
        b.model_copy(
            update={
                "energy_capacity_kwh": b.energy_capacity_kwh * factor,
                "soc_start": b.soc_start / factor,
                "max_charge_kw": b.max_charge_kw * factor,
                "max_discharge_kw": b.max_discharge_kw * factor,
            }
        )
        for b in problem.batteries
    )
    small = solve(problem, 20.0, mip_gap=1e-6).objective_eur
    large = solve(problem.model_copy(update={"batteries": bigger}), 20.0, mip_gap=1e-6).objective_eur
    assert large <= small + 1e-4 * (1 + abs(small))


@settings(max_examples=10, deadline=None)
@given(problem=sites())
@pytest.mark.requirement("oper.01.1")
def test_self_consumption_loses_no_more_renewable_energy_than_least_cost_does(problem):
    def lost_kwh(goal: str) -> float:
        plan = solve(problem.model_copy(update={"objective": Objective.model_validate({"goal": goal})}), 20.0)
        export = np.maximum(-plan.column("pcc", "active_power_kw"), 0.0) if problem.grid else np.zeros(STEPS)
        source = problem.renewables[0]
        curtailed = np.broadcast_to(source.available_kw, STEPS) - plan.column("pv", "active_power_kw")
        return float((export + curtailed).sum() * problem.horizon.hours)

    # Keeping limits dominates both goals alike, so breaches do not enter the comparison.
    assert lost_kwh("self_consumption") <= lost_kwh("cost") + 1e-3
