"""Battery life in the plan: the cost of cycles is that of rainflow counting, and the operator's weight counts."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import rainflow
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.optimization import (
    CalendarWear,
    CyclePoint,
    DepthWear,
    Objective,
    Problem,
    ProblemError,
    solve,
)
from tests.optimization.support import battery, grid, hours

CURVE = (
    CyclePoint(depth=0.1, cycles=70_000.0),
    CyclePoint(depth=0.5, cycles=8_000.0),
    CyclePoint(depth=1.0, cycles=3_000.0),
)
WEAR = DepthWear(replacement_cost_eur_per_kwh=200.0, cycle_life=CURVE, segments=10)


@pytest.mark.requirement("uc.5", "energy.16.1")
@settings(max_examples=40, deadline=None)
@given(tenths=st.lists(st.integers(0, 10), min_size=2, max_size=12), efficiency=st.sampled_from([0.9, 1.0]))
def test_cycle_cost_is_the_damage_that_rainflow_counts(tenths, efficiency):
    """On a closed day that starts at its highest SoC, whose cycles are whole segments deep."""
    soc = np.array([max(tenths), *tenths, max(tenths)]) / 10
    change = np.diff(soc) * 10.0
    power = np.where(change > 0, -change / efficiency, -change * efficiency)
    store = battery(
        energy_capacity_kwh=10.0,
        soc_start=float(soc[0]),
        fixed_power_kw=power,
        terminal="free",
        charge_efficiency=efficiency,
        discharge_efficiency=efficiency,
        depth_wear=WEAR,
    )
    plan = solve(Problem(horizon=hours(power.size), grid=grid(0.0), batteries=(store,)))
    damage = sum(count * WEAR.damage(depth) for depth, _, count, _, _ in rainflow.extract_cycles(soc))
    assert plan.costs.get("battery_wear", 0.0) == pytest.approx(200.0 * 10.0 * damage, abs=1e-6)


def test_damage_meets_the_manufacturers_points_and_is_convex():
    for point in CURVE:
        assert WEAR.damage(point.depth) == pytest.approx(1 / point.cycles)
    slopes = WEAR.marginal_damage()
    assert slopes == sorted(slopes)


@pytest.mark.requirement("energy.16.1", "energy.14.2")
def test_weight_of_battery_life_trades_cycles_for_money():
    price = 0.1 + 0.05 * np.sin(np.arange(48) / 24 * 2 * np.pi)
    store = battery(energy_capacity_kwh=10.0, max_charge_kw=5.0, max_discharge_kw=5.0, soc_start=0.5, depth_wear=WEAR)
    throughput = []
    for weight in (0.0, 1.0, 2.0, 4.0, 10.0):
        problem = Problem(
            horizon=hours(48), objective=Objective(wear_weight=weight), grid=grid(price), batteries=(store,)
        )
        throughput.append(np.abs(solve(problem).column("ess-1", "active_power_kw")).sum())
    assert all(more >= less - 1e-6 for more, less in pairwise(throughput))
    assert throughput[0] > throughput[1] > throughput[2] > throughput[3]


def test_calendar_wear_keeps_a_battery_from_standing_full():
    price = np.array([0.05] * 12 + [0.30] * 2 + [0.05] * 10)
    aging = CalendarWear(cost_eur_per_h=0.01, temperature_c=35.0)
    store = battery(energy_capacity_kwh=6.0, max_charge_kw=4.0, soc_start=0.0, terminal="free", calendar_wear=aging)
    plan = solve(Problem(horizon=hours(24), grid=grid(price), batteries=(store,)))
    soc = plan.column("ess-1", "soc")
    assert soc[10] == pytest.approx(0.0, abs=1e-6)  # it waits, and fills just before the dear hours
    assert soc[12] == pytest.approx(1.0, abs=1e-6)
    states = np.append(soc[1:], plan.final_state["ess-1.soc"])
    exact = sum(aging.rate_eur_per_h(s) for s in states)
    assert plan.costs["battery_calendar"] == pytest.approx(exact, rel=0.012)
    warm = math.exp(0.0693 * 10 * 298.15 / 308.15)
    assert aging.rate_eur_per_h(0.5) == pytest.approx(0.01 * warm)


def test_curve_that_rises_is_refused():
    with pytest.raises(ProblemError, match=r"9 cycles at depth 0\.9 are more than at 0.5"):
        DepthWear(
            replacement_cost_eur_per_kwh=1.0,
            cycle_life=(CyclePoint(depth=0.5, cycles=8.0), CyclePoint(depth=0.9, cycles=9.0)),
        )
