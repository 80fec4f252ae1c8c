"""From the grid model to the planning problem: every asset is there, and those out of operation take no part."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from flexergy_pipelines.grid import Site, load_site_file, parse_site, site_to_dict
from flexergy_pipelines.grid.samples import examples_dir
from flexergy_pipelines.optimization import Horizon, Problem, solve
from flexergy_pipelines.optimization.conditions import paid_peak_kw
from flexergy_pipelines.optimization.site_problem import SiteState, build_problem
from tests.optimization.support import assert_physical, hours


def microgrid() -> Site:
    return load_site_file(examples_dir() / "sites" / "microgrid.yaml")


def problem_of(site: Site, state: SiteState) -> Problem:
    names = [a.id for a in (*site.sources(), *site.loads, *site.controllable_loads(), *site.ev_blocks())]
    power = {name: np.full(48, 30.0) for name in names} | {"load-1": np.full(48, 150.0)}
    spot = np.where(np.arange(48) < 24, 0.03, 0.12)
    return build_problem(site, hours(48, 30), power, spot, state)


@pytest.mark.requirement("uc.3")
def test_every_asset_of_the_site_is_planned():
    site = microgrid()
    problem = problem_of(site, SiteState(soc={"ess-1": 0.5}))
    planned = {str(getattr(asset, "id", "")) for asset in problem.assets()}
    assert planned == {asset.id for asset in site.assets()}  # its cable can carry everything behind it
    plan = solve(problem)
    assert_physical(problem, plan)
    ess = site.ess()[0]
    assert problem.batteries[0].energy_capacity_kwh == pytest.approx(ess.energy_capacity_kwh * ess.soh)
    # What is not held back is not limited to its forecast.
    assert plan.column("pv-1", "active_power_limit_kw") == pytest.approx(site.sources()[0].rated_kw)


def test_a_cable_of_the_site_limits_its_plan():
    tree = site_to_dict(microgrid())
    tree["network"]["lines"][0]["max_current_a"] = 150.0
    plan = solve(problem_of(parse_site(tree), SiteState(soc={"ess-1": 0.5})))
    rating = np.sqrt(3) * 400 * 150 / 1000 * 0.95
    # Nothing but the load hangs behind the cable: what it can't carry is named, not planned silently.
    assert [(v.asset_id, v.code) for v in plan.violations] == [("cable-offices", "branch_limit")]
    assert plan.violations[0].largest == pytest.approx(150.0 - rating)


@pytest.mark.requirement("oper.01.2", "energy.15.4")
def test_an_asset_out_of_operation_takes_no_part():
    site = microgrid()
    live = problem_of(site, SiteState(soc={"ess-1": 0.5}, unavailable=frozenset({"ess-1", "pv-1", "genset-1"})))
    tree = site_to_dict(site)
    for controller in tree["controllers"]:
        for group in ("ess", "sources", "gensets"):
            for asset in controller.get(group, ()):
                asset["in_service"] = asset["id"] == "wind-1"
    switched = problem_of(parse_site(tree), SiteState(soc={"ess-1": 0.5}))
    for problem in (live, switched):
        plan = solve(problem)
        for name in ("ess-1", "pv-1", "genset-1"):
            assert np.abs(plan.column(name, "active_power_kw")).max() < 1e-6
        assert plan.column("wind-1", "active_power_kw").max() == pytest.approx(30.0)


def test_reported_limits_and_health_hold_over_the_nameplate():
    state = SiteState(
        soc={"ess-1": 0.97}, soh={"ess-1": 0.8}, max_charge_kw={"ess-1": 40.0}, running=frozenset({"genset-1"})
    )
    problem = problem_of(microgrid(), state)
    battery = problem.batteries[0]
    assert battery.energy_capacity_kwh == pytest.approx(400.0)
    assert battery.max_charge_kw[0] == pytest.approx(40.0)
    assert battery.max_discharge_kw[0] == pytest.approx(250.0)
    assert problem.gensets[0].running_at_start
    # It starts above its window and returns into it instead of failing.
    assert solve(problem).column("ess-1", "soc")[-1] <= 0.95 + 1e-6


@pytest.mark.requirement("uc.3", "energy.04.1")
@pytest.mark.parametrize("steps", [1, 5, 48])
@pytest.mark.parametrize("soc", [0.2, 0.55, 0.9])
def test_a_plan_costs_no_more_than_a_battery_at_rest(steps: int, soc: float):
    tree = site_to_dict(microgrid())
    for controller in tree["controllers"]:
        for ess in controller.get("ess", ()):
            ess["self_discharge_per_day"] = 0.05
    site = parse_site(tree)
    names = [a.id for a in (*site.sources(), *site.controllable_loads(), *site.ev_blocks())]
    power = {name: np.zeros(steps) for name in names} | {load.id: np.full(steps, 60.0) for load in site.loads}
    # A flat price: storage can earn nothing, and refilling what it loses by itself would cost.
    problem = build_problem(site, hours(steps, 30), power, np.full(steps, 0.08), SiteState(soc={"ess-1": soc}))
    plan = solve(problem)
    assert plan.objective_eur <= solve(problem.without_storage()).objective_eur + 1e-6
    assert not plan.violations
    assert plan.column("ess-1", "soc")[-1] >= site.ess()[0].soc_min - 1e-9


@pytest.mark.requirement("energy.14.5")
def test_the_peak_of_each_billing_period_counts_for_itself():
    tree = site_to_dict(microgrid())
    tree["tariff"] |= {"demand_charge_eur_per_kw_month": 5.0, "billing_day": 1}
    site = parse_site(tree)
    power = {a.id: np.full(48, 10.0) for a in (*site.sources(), *site.loads, *site.controllable_loads())}
    power |= {block.id: np.zeros(48) for block in site.ev_blocks()}
    state = SiteState(soc={"ess-1": 0.5}, peak_so_far_kw=120.0)
    first = datetime(2026, 6, 30, 22, 0, tzinfo=site.zone)
    horizon = Horizon(start=first, step_minutes=30, steps=48)
    problem = build_problem(site, horizon, power, np.full(48, 0.1), state)
    assert problem.grid is not None
    this, following = problem.grid.demand_charges
    assert (this.peak_so_far_kw, following.peak_so_far_kw) == (120.0, 0.0)
    assert this.applies.tolist() == [1.0] * 4 + [0.0] * 44  # until local midnight
    assert (this.applies + following.applies).tolist() == [1.0] * 48
    assert paid_peak_kw(problem).tolist() == [120.0] * 4 + [0.0] * 44
    alone = build_problem(site, horizon.model_copy(update={"steps": 4}), {k: v[:4] for k, v in power.items()},
                          np.full(4, 0.1), state)  # fmt: skip
    assert alone.grid is not None
    assert [charge.id for charge in alone.grid.demand_charges] == ["month-peak"]
