"""The plan's cost against a plain full-binary program, written apart, on 160 random problems.

Forty more, over all blocks, stand in `test_independent_blocks`.
"""

from __future__ import annotations

import numpy as np
import pytest

from flexergy_pipelines.optimization import Genset, Load, Problem, Renewable, solve
from tests.optimization.reference import Case, optimum
from tests.optimization.support import assert_physical, battery, grid, hours


def random_case(seed: int) -> Case:
    """Prices may be negative and selling dearer than buying; limits may be too tight to keep."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 16))
    buy = rng.normal(0.1, 0.15, n).round(3)
    spread = rng.choice([0.02, 0.0, -0.05], p=[0.6, 0.2, 0.2])
    return Case(
        dt=float(rng.choice([0.25, 0.5, 1.0])),
        buy=buy,
        sell=(buy - spread).round(3),
        load=rng.uniform(0, 60, n).round(1),
        available=(rng.uniform(0, 80, n) * rng.integers(0, 2)).round(1),
        import_limit=float(rng.choice([30.0, 60.0, 200.0])),
        export_limit=float(rng.choice([0.0, 20.0, 200.0])),
        breach_price=100.0,
        capacity=float(rng.uniform(10, 100)),
        power=float(rng.uniform(5, 50)),
        eta_c=float(rng.choice([0.85, 0.95, 1.0])),
        eta_d=float(rng.choice([0.85, 0.95, 1.0])),
        soc_min=0.1,
        soc_max=0.9,
        soc0=float(rng.uniform(0.1, 0.9)),
        wear=float(rng.choice([0.0, 0.03])),
        terminal_price=10.0,
        gen_min=float(rng.choice([0.0, 10.0])),
        gen_max=30.0,
        gen_fuel=float(rng.choice([0.12, 0.3])),
        gen_start=float(rng.choice([0.0, 2.0])),
        gen_on0=bool(rng.integers(0, 2)),
        gen_up=int(rng.integers(1, 4)),
        gen_down=int(rng.integers(1, 4)),
    )


def as_problem(case: Case) -> Problem:
    n = case.buy.size
    minutes = round(case.dt * 60)
    return Problem(
        horizon=hours(n, minutes),
        grid=grid(
            case.buy,
            case.sell,
            import_limit_kw=case.import_limit,
            export_limit_kw=case.export_limit,
            breach_price_eur_per_kwh=case.breach_price,
        ),
        loads=(Load(id="load", power_kw=case.load),),
        renewables=(Renewable(id="pv", available_kw=case.available),),
        batteries=(
            battery(
                energy_capacity_kwh=case.capacity,
                max_charge_kw=case.power,
                max_discharge_kw=case.power,
                charge_efficiency=case.eta_c,
                discharge_efficiency=case.eta_d,
                soc_min=case.soc_min,
                soc_max=case.soc_max,
                soc_start=case.soc0,
                terminal="at_least",
                terminal_price_eur_per_kwh=case.terminal_price,
                wear_cost_eur_per_kwh=case.wear,
            ),
        ),
        gensets=(
            Genset(
                id="genset",
                min_kw=case.gen_min,
                max_kw=case.gen_max,
                fuel_cost_eur_per_kwh=case.gen_fuel,
                start_cost_eur=case.gen_start,
                running_at_start=case.gen_on0,
                min_up_minutes=case.gen_up * minutes,
                min_down_minutes=case.gen_down * minutes,
            ),
        ),
    )


@pytest.mark.requirement("uc.3", "module.genset", "energy.12.3")
@pytest.mark.parametrize("block", range(10))
def test_cost_equals_that_of_the_full_binary_program(block):
    for seed in range(block * 16, block * 16 + 16):
        case = random_case(seed)
        problem = as_problem(case)
        plan = solve(problem, 30.0, mip_gap=0.0)
        assert plan.status == "optimal"
        expected = optimum(case)
        assert plan.objective_eur == pytest.approx(expected, rel=1e-6, abs=1e-5), f"seed {seed}"
        assert_physical(problem, plan)
