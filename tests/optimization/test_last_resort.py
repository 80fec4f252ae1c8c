"""Never nothing: when the search has no plan in the time there still is one that keeps every rule, its gap is said."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchmarks.optimization import full_microgrid
from flexergy_pipelines.optimization import EvGroup, EvSession, Problem, SolveError, solve
from flexergy_pipelines.optimization.assembly import assemble
from flexergy_pipelines.optimization.blocks.commitment import settled
from flexergy_pipelines.optimization.board import Board
from flexergy_pipelines.optimization.formulation import assemble_matrix
from flexergy_pipelines.optimization.highs import Solver
from flexergy_pipelines.optimization.last_resort import last_resort
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.series import FloatArray
from flexergy_pipelines.optimization.study.case import load_case
from tests.optimization.support import assert_physical, grid, hours

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "studies").glob("*.yaml"))
SCALE = 0.1


def crowded(steps: int = 24, *, running: bool = False) -> Problem:
    """An island where everything has to be decided: gensets with long runs, programmes, too few chargers."""
    hours = np.arange(steps)
    return Problem.model_validate(
        {
            "horizon": {"start": datetime(2026, 3, 2, tzinfo=UTC), "step_minutes": 60, "steps": steps},
            "loads": [{"id": "load-1", "power_kw": 60.0 + 40.0 * np.sin(hours / 4)}],
            "renewables": [{"id": "pv-1", "available_kw": np.maximum(120.0 * np.sin((hours - 6) / 4), 0.0)}],
            "batteries": [
                {"id": "ess-1", "energy_capacity_kwh": 80.0, "max_charge_kw": 30.0, "max_discharge_kw": 30.0,
                 "charge_efficiency": 0.95, "discharge_efficiency": 0.95, "soc_start": 0.5}
            ],
            "gensets": [
                {"id": f"genset-{k}", "min_kw": 20.0, "max_kw": 60.0, "start_cost_eur": 9.0, "min_up_minutes": 240,
                 "min_down_minutes": 180, "ramp_kw_per_minute": 0.4, "start_kw": 25.0, "stop_kw": 25.0,
                 "running_at_start": running, "power_start_kw": 55.0 if running else 0.0, "minutes_in_state": 60,
                 "fuel_price_eur_per_l": 1.5, "max_starts": 2,
                 "fuel_curve": [{"power_kw": 20.0, "litres_per_h": 8.0}, {"power_kw": 60.0, "litres_per_h": 16.0}]}
                for k in (1, 2)
            ],
            "shiftable_loads": [
                {"id": "pump", "power_kw": 12.0, "energy_kwh": 50.0, "min_run_minutes": 180, "max_starts": 1},
                {"id": "washer", "profile_kw": (8.0, 3.0), "runs": 3},
            ],
            "controllable_loads": [
                {"id": "cooling", "power_kw": 15.0, "steps": (0.5, 1.0), "min_minutes_between": 180,
                 "minutes_since_last": 0, "max_curtailed_minutes": 240}
            ],
            "ev_sessions": [
                {"id": f"ev-{k}", "connected": (hours >= k) & (hours < 12 + k), "capacity_kwh": 60.0, "soc_start": 0.3,
                 "soc_target": 0.8, "min_kw": 4.0, "max_kw": 11.0}
                for k in range(4)
            ],
            "ev_groups": [{"id": "chargers", "sessions": tuple(f"ev-{k}" for k in range(4)), "max_active": 2}],
        }
    )  # fmt: skip


def obeys(board: Board, x: FloatArray) -> None:
    """Every bound, rule, whole number and either-or of a board, to 1e-6."""
    lower, upper = board.bounds()
    assert (x >= lower - 1e-6).all()
    assert (x <= upper + 1e-6).all()
    for rows in board.rows:
        value = np.zeros(rows.lower.size)
        np.add.at(value, rows.row, rows.coefficient * x[rows.column])
        room = 1e-6 * (1.0 if rows.asset_id == "busbar" else np.maximum(np.abs(value), 1.0))
        assert (value >= rows.lower - room).all(), (rows.asset_id, rows.name)
        assert (value <= rows.upper + room).all(), (rows.asset_id, rows.name)
    whole = x[board.integers()]
    assert np.abs(whole - np.round(whole)).max(initial=0.0) < 1e-9
    for pair in board.pairs:
        assert np.minimum(x[pair.first.columns], x[pair.second.columns]).max(initial=0.0) < 1e-5, pair.meaning


COMPARED = ("uc3-microgrid", "uc1-hybrid-park", "feeder-limits", "island", "island-running")
PROBLEMS = {
    "full-microgrid": full_microgrid,
    "island": crowded,
    "island-running": lambda: crowded(running=True),
    **{path.stem: lambda path=path: load_case(path).problem for path in EXAMPLES},
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_there_is_a_plan_without_any_search_and_its_bound_is_true(name: str) -> None:
    problem = PROBLEMS[name]()
    board = assemble(problem)
    costs = board.cost_vector()
    _, answer = last_resort(board, assemble_matrix(board), costs, SCALE)
    x = answer.values
    obeys(board, x)
    constant = sum(board.constant_costs.values())
    assert float(costs @ x) == pytest.approx(answer.objective, abs=1e-5)
    assert np.isfinite(answer.bound)
    if name in COMPARED:
        best = solve(problem, 1.0)
        assert answer.bound + constant <= best.objective_eur + 1e-4 * (1 + abs(best.objective_eur))


def out_of_time(monkeypatch: pytest.MonkeyPatch, problem: Problem) -> Plan:
    """The plan when no search with whole numbers finds anything."""
    run = Solver.run

    def without_search(solver: Solver) -> object:
        if solver.is_mip:
            raise SolveError("time limit", "no plan found")
        return run(solver)

    monkeypatch.setattr(Solver, "run", without_search)
    monkeypatch.setattr(Solver, "dispatch", lambda *_, **__: None)
    return solve(problem)


@pytest.mark.parametrize("running", [False, True])
def test_a_plan_without_search_names_what_it_cannot_keep_and_states_its_gap(
    monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    problem = crowded(running=running)
    best = solve(problem, 1.0)
    plan = out_of_time(monkeypatch, problem)
    assert plan.last_resort
    assert plan.status == "feasible"
    assert plan.bound_eur <= best.objective_eur + 1e-4
    assert np.isfinite(plan.gap)
    assert plan.objective_eur >= best.bound_eur - 1e-4
    assert sum(plan.costs.values()) == pytest.approx(plan.objective_eur)
    assert {violation.code for violation in plan.violations} <= {"ev_unmet", "load_unmet", "unserved_load", "surplus"}
    assert plan.duals


@pytest.mark.parametrize(
    ("name", "limit_s"), [("full-microgrid", 0.2), ("island", 0.2), ("island", 1.0), ("uc4-services", 0.2)]
)
def test_a_short_limit_still_gives_a_plan(name: str, limit_s: float) -> None:
    problem = PROBLEMS[name]()
    plan = solve(problem, limit_s)
    balance = np.zeros(problem.horizon.steps)
    if problem.grid is None:
        balance += plan.column("busbar", "unserved_kw") - plan.column("busbar", "surplus_kw")
    else:
        balance += plan.column(problem.grid.id, "active_power_kw")
    for source in (*problem.renewables, *problem.gensets, *problem.batteries):
        balance += plan.column(source.id, "active_power_kw")
    for store in problem.batteries:
        balance -= np.broadcast_to(store.auxiliary_kw, balance.size)
    loads = (*problem.loads, *problem.controllable_loads, *problem.shiftable_loads)
    for load in (*loads, *problem.ev_blocks, *problem.ev_sessions):
        balance -= plan.column(load.id, "active_power_kw")
    assert np.abs(balance).max() < 1e-6
    assert plan.bound_eur <= plan.objective_eur


def test_states_near_a_relaxed_solution_run_and_rest_long_enough() -> None:
    wanted = np.array([0.0, 0.6, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    kept = settled(wanted, on_before=False, up_steps=2, down_steps=3)
    # The rest of two steps between the runs is too short: it is run through.
    assert kept.tolist() == [0, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert settled(np.zeros(3), on_before=True, up_steps=1, down_steps=1).tolist() == [0, 0, 0]


@pytest.mark.requirement("energy.04.1")
def test_a_vehicle_with_a_smallest_power_that_could_give_back_has_a_plan_at_once() -> None:
    """Relaxed it gives back in the dear hours in which the rule lets it charge: giving back gives way."""
    cars = tuple(
        EvSession(id=f"car-{k}", connected=1.0, capacity_kwh=40.0, soc_start=0.5, soc_target=0.9, max_kw=10.0,
                  min_kw=6.0, max_discharge_kw=10.0)
        for k in range(2)
    )  # fmt: skip
    shared = EvGroup(id="charger", sessions=("car-0", "car-1"), max_active=1)
    price = [20.0, 20.0, 0.1, 0.1, 0.1, 0.1]
    problem = Problem(horizon=hours(6), grid=grid(price), ev_sessions=cars, ev_groups=(shared,))
    board = assemble(problem)
    _, answer = last_resort(board, assemble_matrix(board), board.cost_vector(), SCALE)
    obeys(board, answer.values[: board.column_count])
    assert_physical(problem, solve(problem, 1e-3))
