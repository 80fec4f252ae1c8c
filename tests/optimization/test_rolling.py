"""Re-planning with new numbers gives what a fresh solve gives, without compiling again; and threads don't hang it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.sparse import csc_array

from flexergy_pipelines.optimization import Planner, Problem, solve
from flexergy_pipelines.optimization.assembly import assemble
from flexergy_pipelines.optimization.formulation import Compiled, assemble_matrix, compile_by_pyomo
from tests.optimization.support import assert_physical
from tests.optimization.test_independent import as_problem, random_case


def changed(seed: int) -> Problem:
    """Problems of one shape with other prices, loads, SoC and capacity; some with negative prices, some not."""
    case = random_case(7)
    rng = np.random.default_rng(seed)
    n = case.buy.size
    buy = rng.normal(0.1, 0.15, n).round(3)
    return as_problem(
        type(case)(
            **{
                **{name: getattr(case, name) for name in case.__dataclass_fields__},
                "buy": buy,
                "sell": buy - 0.01,
                "load": rng.uniform(0, 60, n),
                "soc0": float(rng.uniform(0.1, 0.9)),
                "capacity": float(rng.uniform(20, 90)),
                "import_limit": float(rng.uniform(20, 90)),
            }
        )
    )


def test_new_numbers_give_the_same_plan_as_a_fresh_solve_and_compile_once():
    planner = Planner(30.0, mip_gap=0.0)
    for seed in range(12):
        problem = changed(seed)
        plan = planner.solve(problem)
        assert plan.objective_eur == pytest.approx(solve(problem, 30.0, mip_gap=0.0).objective_eur, abs=1e-6)
        assert_physical(problem, plan)
    assert planner.compilations == 1


def test_another_structure_is_compiled_anew():
    planner = Planner(30.0, mip_gap=0.0)
    first = changed(0)
    planner.solve(first)
    lossy = first.batteries[0].model_copy(update={"charge_efficiency": 0.5})
    other = first.model_copy(update={"batteries": (lossy,)})
    assert planner.solve(other).objective_eur == pytest.approx(solve(other, 30.0, mip_gap=0.0).objective_eur)
    shorter = as_problem(random_case(8))
    assert planner.solve(shorter).objective_eur == pytest.approx(solve(shorter, 30.0, mip_gap=0.0).objective_eur)
    assert planner.compilations == 3


def test_solves_in_threads_end_and_agree():
    problems = [as_problem(random_case(seed)) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = [plan.objective_eur for plan in pool.map(solve, problems)]
    alone = [solve(problem).objective_eur for problem in problems]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_matrix_assembled_at_once_is_the_one_that_pyomo_compiles():
    for seed in range(5):
        board = assemble(as_problem(random_case(seed)))
        ours, pyomo = (
            _dense(compiled, board.column_count) for compiled in (assemble_matrix(board), compile_by_pyomo(board))
        )
        assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, pyomo.tolist()))


def _dense(compiled: Compiled, columns: int) -> np.ndarray:
    """Rows with their bounds, those without any left out, each as a line of a dense table."""
    shape = (compiled.row_lower.size, columns)
    matrix = csc_array((compiled.values, compiled.rows, compiled.starts), shape=shape).toarray()
    stated = np.isfinite(compiled.row_lower) | np.isfinite(compiled.row_upper)
    return np.column_stack([compiled.row_lower, compiled.row_upper, matrix])[stated]
