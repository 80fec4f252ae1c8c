"""Decisions rounded and moved: suggestions keep their blocks' rules, plans are plans, the model stays as it was."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.hard_microgrids import microgrid, variant
from flexergy_pipelines.optimization import Genset, Load, Problem, Service, solve
from flexergy_pipelines.optimization.assembly import assemble
from flexergy_pipelines.optimization.blocks.commitment import other_states
from flexergy_pipelines.optimization.formulation import assemble_matrix
from flexergy_pipelines.optimization.highs import Solver
from flexergy_pipelines.optimization.improvement import improved, rounded
from tests.optimization.support import assert_physical, battery, grid, hours
from tests.optimization.test_last_resort import obeys


def long_enough(on: np.ndarray, *, before: bool, up: int, down: int) -> bool:
    """Whether runs and rests that begin and end inside the horizon last."""
    state, since = before, 10**6
    for value in on > 0.5:
        if value != state:
            if since < (up if state else down):
                return False
            state, since = bool(value), 0
        since += 1
    return True


@given(
    current=st.lists(st.booleans(), min_size=1, max_size=40),
    before=st.booleans(),
    up=st.integers(1, 6),
    down=st.integers(1, 6),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_suggested_states_run_and_rest_long_enough(
    current: list[bool], before: bool, up: int, down: int, seed: int
) -> None:
    price = np.random.default_rng(seed).normal(size=len(current))
    now = np.array(current, dtype=np.float64)
    for other in other_states(now, price, on_before=before, up_steps=up, down_steps=down):
        assert other.shape == now.shape
        assert set(np.unique(other)) <= {0.0, 1.0}
        assert long_enough(other, before=before, up=up, down=down)


@pytest.mark.requirement("energy.04.1")
@pytest.mark.parametrize("seed", [0, 13])
def test_moves_better_a_rounded_plan_of_a_tight_microgrid(seed: int) -> None:
    board = assemble(microgrid(variant(seed)))
    solver = Solver(board, assemble_matrix(board), deadline=np.inf, mip_gap=1e-3)
    solver.set_costs(board.cost_vector(), 0.1)
    relaxed = solver.run()
    lower, upper = solver.bounds()
    columns = board.integers()
    first = solver.dispatch(columns, rounded(board, relaxed.values), deadline=np.inf)
    assert first is not None
    solver.release(columns)
    solver.deadline = time.monotonic() + 30.0  # a part of it is for the moves
    best = improved(solver, board, relaxed, mip_gap=5e-3)
    assert best is not None
    assert np.array_equal(solver.bounds(), (lower, upper))
    whole = best.values[columns]
    assert np.array_equal(whole, np.round(whole))
    board.pairs.clear()  # either-or rules are settled later
    obeys(board, best.values)
    assert relaxed.bound <= best.objective <= first.objective
    assert best.objective <= relaxed.bound * 1.02


def bidding(**fields: object) -> Problem:
    service = {"id": "fcr", "symmetric": True, "up_price_eur_per_kw_h": 0.02, "block_steps": 4, "duration_hours": 0.5,
               "min_bid_kw": 20.0, "bid_step_kw": 7.0}  # fmt: skip
    return Problem(
        horizon=hours(12),
        grid=grid(0.2, 0.1, import_limit_kw=45.0),
        loads=(Load(id="load", power_kw=[30.0, 60.0] * 6),),
        batteries=(battery(energy_capacity_kwh=100.0, max_charge_kw=40.0, max_discharge_kw=40.0, soc_start=0.5),),
        gensets=(Genset(id="g", min_kw=10.0, max_kw=30.0, fuel_cost_eur_per_kwh=0.3, start_cost_eur=2.0,
                        min_up_minutes=120),),
        services=(Service.model_validate(service | fields),),
    )  # fmt: skip


@pytest.mark.requirement("energy.10.1")
@pytest.mark.parametrize("fields", [{}, {"symmetric": False, "down": False}, {"bid_step_kw": 0.0}])
def test_every_suggested_bid_is_one_that_the_market_takes(fields: dict[str, object]) -> None:
    problem = bidding(**fields)
    board = assemble(problem)
    x = np.zeros(board.column_count)
    names = {variable.name: variable for variable in board.variables}
    step = problem.services[0].bid_step_kw
    seen = 0
    for suggest in board.suggestions:
        for columns, values in suggest(x, np.zeros(board.column_count)):
            y = x.copy()
            y[columns] = values
            offered = y[names["fcr.up_offered"].columns]
            if step:
                bids = y[names["fcr.up_bid_steps"].columns] * step
                assert ((bids == 0) | (bids >= 20.0)).all()
                assert ((bids > 0) == (offered > 0)).all()
                assert (bids <= 80.0).all()
                if problem.services[0].symmetric:
                    assert np.array_equal(bids, y[names["fcr.down_bid_steps"].columns] * step)
            seen += int(offered.any())
    assert seen
    plan = solve(problem, 20.0, mip_gap=0.0)
    assert plan.status == "optimal"
    assert_physical(problem, plan)
