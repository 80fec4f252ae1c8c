"""Use cases as compositions: zero flow, reserve, priorities of EVs, stacked services, units out of operation."""

from __future__ import annotations

import numpy as np
import pytest

from flexergy_pipelines.optimization import (
    EvBlock,
    EvSession,
    Genset,
    Load,
    Objective,
    Problem,
    Renewable,
    Reserve,
    Service,
    solve,
)
from flexergy_pipelines.optimization.blocks.reserve import margin_from_quantiles
from tests.optimization.support import assert_physical, battery, grid, hours

PV = np.where((np.arange(24) > 8) & (np.arange(24) < 16), 60.0, 0.0)


@pytest.mark.requirement("energy.14.5", "energy.12.5")
def test_zero_flow_exchanges_nothing_where_storage_and_sources_suffice():
    price = np.where(np.arange(24) < 12, 0.02, 0.4)  # money alone would trade with the grid
    problem = Problem(
        horizon=hours(24),
        objective=Objective(goal="zero_flow"),
        grid=grid(price, price - 0.01, import_limit_kw=100.0, export_limit_kw=100.0),
        batteries=(
            battery(
                energy_capacity_kwh=400.0, max_charge_kw=60.0, max_discharge_kw=60.0, soc_start=0.5, terminal="free"
            ),
        ),
        renewables=(Renewable(id="pv", available_kw=PV),),
        loads=(Load(id="load", power_kw=10.0),),
        ev_blocks=(EvBlock(id="ev", power_kw=5.0),),
    )
    plan = solve(problem)
    assert plan.column("ev", "active_power_kw") == pytest.approx(5.0)
    assert np.abs(plan.column("pcc", "active_power_kw")).max() < 1e-4
    assert_physical(problem, plan)
    greedy = solve(problem.model_copy(update={"objective": Objective()}))
    assert np.abs(greedy.column("pcc", "active_power_kw")).max() > 50


@pytest.mark.requirement("energy.14.4")
@pytest.mark.parametrize("with_gensets", [True, False])
def test_reserve_is_held_in_power_and_energy(with_gensets):
    price = np.array([0.05] * 12 + [0.5] * 6 + [0.1] * 6)
    problem = Problem(
        horizon=hours(24),
        grid=grid(price, price - 0.01, import_limit_kw=200.0, export_limit_kw=200.0),
        batteries=(
            battery(energy_capacity_kwh=100.0, max_charge_kw=50.0, max_discharge_kw=50.0, soc_start=0.5, soc_min=0.1),
        ),
        gensets=(Genset(id="genset", min_kw=20.0, max_kw=60.0, fuel_cost_eur_per_kwh=0.3, start_cost_eur=2.0),),
        loads=(Load(id="load", power_kw=40.0),),
        reserve=Reserve(up_kw=30.0, down_kw=10.0, duration_hours=0.5, with_gensets=with_gensets),
    )
    plan = solve(problem, mip_gap=1e-6)
    assert plan.violations == []
    assert_physical(problem, plan)
    power = plan.column("ess-1", "active_power_kw")
    stored = np.append(plan.column("ess-1", "soc")[1:], plan.final_state["ess-1.soc"]) * 100
    running = plan.column("genset", "running")
    genset = plan.column("genset", "active_power_kw")
    from_battery = np.minimum(50 - power, (stored - 10) / 0.5)
    from_genset = (60 * running - genset) if with_gensets else np.zeros(24)
    assert (from_battery + from_genset >= 30 - 1e-5).all()
    free = solve(problem.model_copy(update={"reserve": None}), mip_gap=1e-6)
    assert free.objective_eur <= plan.objective_eur + 1e-6
    assert (50 - free.column("ess-1", "active_power_kw")).min() < 30


def test_reserve_that_nobody_can_hold_is_named():
    problem = Problem(
        horizon=hours(2), grid=grid(0.1), loads=(Load(id="load", power_kw=5.0),), reserve=Reserve(up_kw=30.0)
    )
    plan = solve(problem)
    assert [(v.code, v.largest) for v in plan.violations] == [("reserve_up", pytest.approx(30.0))]


def test_margin_follows_the_quantiles():
    one = np.ones(3)
    up, down = margin_from_quantiles([(8 * one, 10 * one, 14 * one)], [(17 * one, 20 * one, 21 * one)])
    np.testing.assert_allclose(up, 5.0)
    np.testing.assert_allclose(down, np.sqrt(4 + 1))


def vehicle(name: str, **fields: object) -> EvSession:
    return EvSession.model_validate(
        {"id": name, "connected": [1, 1, 1, 1], "capacity_kwh": 50.0, "soc_target": 0.8, "max_kw": 11.0, **fields}
    )


@pytest.mark.requirement("energy.13.2", "energy.13.3", "energy.13.4", "uc.2")
def test_scarce_power_goes_by_priority_then_to_the_emptier_vehicle_and_the_limit_holds():
    problem = Problem(
        horizon=hours(4),
        grid=grid(0.3, import_limit_kw=11.0),
        ev_sessions=(
            vehicle("late", priority=7, soc_start=0.2),
            vehicle("half", soc_start=0.5),
            vehicle("empty", soc_start=0.1),
            vehicle("ambulance", priority=1, soc_start=0.4),
        ),
    )
    plan = solve(problem)
    got = {name: plan.column(name, "active_power_kw").sum() for name in ("late", "half", "empty", "ambulance")}
    assert plan.column("pcc", "active_power_kw").max() <= 11 + 1e-6
    assert got["ambulance"] == pytest.approx(20.0)  # from 40 % to 80 %
    assert got["empty"] == pytest.approx(24.0)  # all that is left of 44 kWh
    assert got["half"] == pytest.approx(0.0, abs=1e-6)
    assert got["late"] == pytest.approx(0.0, abs=1e-6)
    assert {v.asset_id for v in plan.violations} == {"late", "half", "empty"}


@pytest.mark.requirement("energy.13.3", "uc.2")
def test_battery_buffers_evs_so_that_the_limit_is_kept_and_every_vehicle_served():
    cars = tuple(vehicle(f"ev-{k}", soc_start=0.4) for k in range(3))
    problem = Problem(
        horizon=hours(4),
        grid=grid(0.3, import_limit_kw=8.0),
        ev_sessions=cars,
        batteries=(battery(energy_capacity_kwh=60.0, max_discharge_kw=30.0, soc_start=0.9, terminal="free"),),
    )
    plan = solve(problem)
    assert plan.violations == []
    assert plan.column("pcc", "active_power_kw").max() <= 8 + 1e-6


def services(**fields: object) -> Problem:
    price = np.array([0.03, 0.02, 0.08, 0.09] * 3)
    return Problem.model_validate(
        {
            "horizon": hours(12),
            "grid": grid(price),
            "batteries": (
                battery(
                    id="a", energy_capacity_kwh=2000.0, max_charge_kw=1000.0, max_discharge_kw=1000.0, soc_start=0.5
                ),
                battery(id="b", energy_capacity_kwh=2000.0, max_charge_kw=0.0, max_discharge_kw=0.0, soc_start=0.5),
            ),
            "services": (
                Service(
                    id="fcr", kind="fcr", symmetric=True, up_price_eur_per_kw_h=0.02, block_steps=4,
                    duration_hours=0.5, min_bid_kw=300.0, bid_step_kw=100.0, excludes=("afrr",),
                ),
                Service(
                    id="afrr", kind="afrr", up_price_eur_per_kw_h=0.015, down_price_eur_per_kw_h=0.015, block_steps=4
                ),
            ),
            **fields,
        }
    )  # fmt: skip


@pytest.mark.requirement("uc.4", "energy.15.1", "energy.15.3", "energy.15.4")
def test_bids_obey_steps_blocks_symmetry_exclusion_and_what_units_can_give():
    problem = services()
    plan = solve(problem, 30.0, mip_gap=1e-6)
    up, down = plan.column("fcr", "up_bid_kw"), plan.column("fcr", "down_bid_kw")
    np.testing.assert_allclose(up, down, atol=1e-6)
    np.testing.assert_allclose(up / 100, np.round(up / 100), atol=1e-6)
    assert ((up < 1e-6) | (up >= 300 - 1e-6)).all()
    assert np.ptp(up.reshape(3, 4), axis=1).max() < 1e-6
    for direction in ("up", "down"):
        other = plan.column("afrr", f"{direction}_bid_kw")
        assert np.minimum(up, other).max() < 1e-6
        # Unit b is out of operation and gives nothing: a alone bounds what is bid, beside its own operation.
        power = plan.column("a", "active_power_kw") * (1 if direction == "up" else -1)
        assert (up + other + power <= 1000 + 1e-5).all()
    alone = solve(services(services=()), 30.0, mip_gap=1e-6)
    assert plan.objective_eur < alone.objective_eur - 1.0
    assert_physical(problem, plan)
