"""Two-stage plans: never worse than the plan of one forecast over the same scenarios, and as careful as asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.optimization import (
    Battery,
    Genset,
    GridConnection,
    Horizon,
    Load,
    Problem,
    ProblemError,
    Renewable,
    Service,
    solve,
)
from flexergy_pipelines.optimization.stochastic import (
    Scenario,
    StochasticPlan,
    cvar,
    decisions_of,
    evaluate,
    in_scenario,
    solve_stochastic,
)

STEPS = 8
SLACK = 1e-5


def site(
    *, import_limit_kw: float = 40.0, service_price: float = 0.02, start_cost: float = 4.0, fuel: float = 0.3
) -> Problem:
    """A small island of costs: a weak connection, a genset that must be committed, a battery that is asked for FCR."""
    return Problem(
        horizon=Horizon(start=datetime(2026, 3, 1, tzinfo=UTC), step_minutes=60, steps=STEPS),
        grid=GridConnection(
            import_price_eur_per_kwh=[0.2, 0.2, 0.35, 0.35, 0.15, 0.15, 0.4, 0.4],
            export_price_eur_per_kwh=0.02,
            import_limit_kw=import_limit_kw,
            export_limit_kw=60.0,
            breach_price_eur_per_kwh=3.0,
        ),
        batteries=(
            Battery(
                id="ess-1", energy_capacity_kwh=40.0, max_charge_kw=15.0, max_discharge_kw=15.0, soc_min=0.1,
                soc_max=0.9, charge_efficiency=0.95, discharge_efficiency=0.95,
            ),
        ),
        gensets=(
            Genset(id="genset-1", min_kw=12.0, max_kw=40.0, fuel_cost_eur_per_kwh=fuel, start_cost_eur=start_cost,
                   min_up_minutes=120),
        ),
        renewables=(Renewable(id="pv-1", available_kw=[0.0, 5.0, 20.0, 30.0, 30.0, 20.0, 5.0, 0.0]),),
        loads=(Load(id="load-1", power_kw=[30.0, 35.0, 45.0, 50.0, 50.0, 45.0, 55.0, 45.0]),),
        services=(
            Service(id="fcr", kind="fcr", symmetric=True, up_price_eur_per_kw_h=service_price, block_steps=4,
                    duration_hours=0.5),
        ),
    )  # fmt: skip


def futures(problem: Problem, count: int, spread: float, seed: int) -> list[Scenario]:
    rng = np.random.default_rng(seed)
    load, pv = problem.loads[0].power_kw, problem.renewables[0].available_kw
    return [
        Scenario(
            1 / count,
            {
                "load-1": load * (1 + spread * rng.normal()),
                "pv-1": pv * np.clip(1 + 2 * spread * rng.normal(), 0, 2),
            },
        )
        for _ in range(count)
    ]


@settings(max_examples=2, deadline=None, derandomize=True)
@given(spread=st.floats(0.05, 0.4), seed=st.integers(0, 1000), start_cost=st.floats(0, 10))
def test_expected_cost_is_never_above_that_of_planning_on_one_forecast(
    spread: float, seed: int, start_cost: float
) -> None:
    problem = site(start_cost=start_cost)
    scenarios = futures(problem, 3, spread, seed)
    one_forecast = evaluate(problem, scenarios, decisions_of(problem, solve(problem, mip_gap=1e-7)), mip_gap=1e-7)
    many = solve_stochastic(problem, scenarios, mip_gap=1e-7)
    waiting = [solve(in_scenario(problem, scenario), mip_gap=1e-7).objective_eur for scenario in scenarios]
    assert many.expected_cost_eur <= one_forecast.expected_cost_eur + SLACK
    # Who knew the future would decide still better: the expected value of perfect information is not below zero.
    assert float(np.mean(waiting)) <= many.expected_cost_eur + SLACK


def test_knowing_the_spread_is_worth_something_where_the_forecast_alone_commits_too_little() -> None:
    problem = site(import_limit_kw=60.0, service_price=0.0, fuel=0.5)
    load = problem.loads[0].power_kw
    scenarios = [Scenario(0.5, {"load-1": load * factor}) for factor in (0.6, 1.7)]
    one_forecast = evaluate(problem, scenarios, decisions_of(problem, solve(problem)))
    many = solve_stochastic(problem, scenarios)
    assert many.decisions["genset-1", "on"].sum() > decisions_of(problem, solve(problem))["genset-1", "on"].sum()
    assert one_forecast.expected_cost_eur - many.expected_cost_eur > 1.0


def test_a_single_scenario_is_the_plan_of_that_forecast() -> None:
    problem = site()
    plan = solve(problem, mip_gap=1e-7)
    single = solve_stochastic(problem, [Scenario(1.0)], mip_gap=1e-7)
    assert single.expected_cost_eur == pytest.approx(plan.objective_eur, abs=1e-5)
    assert single.plan.objective_eur == pytest.approx(plan.objective_eur, abs=1e-5)


def test_more_weight_on_the_tail_never_raises_it_and_never_lowers_the_expected_cost() -> None:
    problem = site()
    scenarios = futures(problem, 5, 0.3, 7)
    found: list[StochasticPlan] = [
        solve_stochastic(problem, scenarios, cvar_weight=weight, cvar_level=0.8, mip_gap=1e-7)
        for weight in (0.0, 0.5, 0.95)
    ]
    tails = [one.cvar_eur for one in found]
    means = [one.expected_cost_eur for one in found]
    assert all(later <= before + SLACK for before, later in pairwise(tails))
    assert all(later >= before - SLACK for before, later in pairwise(means))


def test_the_decision_is_one_and_the_dispatch_of_the_forecast_keeps_it() -> None:
    problem = site()
    found = solve_stochastic(problem, futures(problem, 4, 0.3, 3))
    assert set(found.decisions) == {("genset-1", "on"), ("fcr", "up_bid_kw"), ("fcr", "down_bid_kw")}
    assert found.plan.column("genset-1", "running") == pytest.approx(found.decisions["genset-1", "on"], abs=1e-6)
    bids = found.plan.column("fcr", "up_bid_kw")[::4]
    assert bids == pytest.approx(found.decisions["fcr", "up_bid_kw"], abs=1e-6)


def test_cvar_is_the_mean_of_the_worst_share() -> None:
    costs, weights = np.array([1.0, 4.0, 2.0, 3.0]), np.full(4, 0.25)
    assert cvar(costs, weights, 0.75) == pytest.approx(4.0)
    assert cvar(costs, weights, 0.5) == pytest.approx(3.5)
    assert cvar(costs, weights, 0.6) == pytest.approx((0.25 * 4 + 0.15 * 3) / 0.4)
    assert cvar(costs, weights, 0.0) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("scenarios", "weight", "said"),
    [
        ([], 0.0, "scenarios: none given"),
        ([Scenario(0.4)], 0.0, "probabilities sum up to 0.4"),
        ([Scenario(1.0)], 1.2, "cvar_weight 1.2 must be between 0 and 1"),
        ([Scenario(1.0, {"pv-9": np.zeros(STEPS)})], 0.0, "asset pv-9 is unknown, known are load-1, pv-1"),
        ([Scenario(1.0, {"pv-1": np.zeros(3)})], 0.0, "pv-1 needs 8 finite values, it has 3"),
        ([Scenario(1.0, {"pv-1": np.full(STEPS, np.nan)})], 0.0, "pv-1 needs 8 finite values"),
    ],
)
def test_wrong_scenarios_are_refused_in_words(scenarios: list[Scenario], weight: float, said: str) -> None:
    with pytest.raises(ProblemError, match=said):
        solve_stochastic(site(), scenarios, cvar_weight=weight)
