"""Run a study: the plan, what it is compared with, and sweeps over one number."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flexergy_pipelines.optimization.errors import ProblemError
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.rolling import Planner
from flexergy_pipelines.optimization.solving import relaxed_bound_eur
from flexergy_pipelines.optimization.study.case import SolverSettings, Study, replace_field
from flexergy_pipelines.optimization.study.uncertainty import plan_over_scenarios
from flexergy_pipelines.optimization.study.windows import Solve, priced, solve_windows

LONGEST_SWEEP = 200
SCENARIOS_GAP = 1e-4
LEAST_TIME_FOR_BOUND_S = 5.0


@dataclass(frozen=True, slots=True)
class StudyResult:
    """A study's plan and what it is compared with.

    Attributes
    ----------
    plan : Plan
        Of the case as given; where reality differs (``actual``), the planned operation at real numbers.
    problem : Problem
        The numbers that the plan is priced at.
    comparison : dict or None
        Objectives without storage and with perfect foresight, and the share of the possible gain that was captured.
    over_scenarios : dict or None
        What the decisions come to in each scenario, where the case has an uncertainty.
    """

    plan: Plan
    problem: Problem
    comparison: dict[str, Any] | None
    over_scenarios: dict[str, Any] | None = None


def run_study(study: Study, *, compare: bool = False, planner: Planner | None = None) -> StudyResult:
    """Plan a case, in windows where it asks for them, and compare it on request."""
    answer = (planner or _planner(study.solver)).solve
    plan = answer(study.problem) if study.windows is None else solve_windows(study.problem, study.windows, answer)
    told = None
    if study.uncertainty is not None:
        settings = study.solver
        plan, told = plan_over_scenarios(
            study.problem, study.uncertainty, plan, settings.time_limit_s, max(settings.mip_gap, SCENARIOS_GAP)
        )
    if study.actual is not study.problem:
        plan = priced(study.actual, plan, answer)
    if _in_parts(study):
        plan = _against_the_whole(study, plan)
    comparison = _compare(study, plan, answer) if compare else None
    return StudyResult(plan, study.actual, comparison, told)


def _in_parts(study: Study) -> bool:
    """Whether the plan may cost more than one that is made at once, knowing everything."""
    windows = study.windows
    alone = windows is not None and not windows.carry_state and windows.look_ahead_steps == 0
    return study.actual is not study.problem or (windows is not None and not alone)


def _against_the_whole(study: Study, plan: Plan) -> Plan:
    """The plan with a bound that holds for its whole horizon, and for the numbers that it is priced at.

    That each window is the best for itself proves nothing. The relaxation of the whole may take as long as the windows
    did; windows that each start as the case says have no common one.
    """
    began = time.monotonic()
    bound = -np.inf
    if study.windows is None or study.windows.carry_state:
        spent = sum(plan.timings_s.values())
        bound = relaxed_bound_eur(study.actual, min(study.solver.time_limit_s, max(spent, LEAST_TIME_FOR_BOUND_S)))
    bound = min(bound, plan.objective_eur)
    gap = (plan.objective_eur - bound) / max(abs(plan.objective_eur), 1e-9)
    timings = {**plan.timings_s, "solve": plan.timings_s["solve"] + time.monotonic() - began}
    status = "optimal" if gap <= study.solver.mip_gap else "feasible"
    return replace(plan, status=status, bound_eur=bound, gap=gap, timings_s=timings)


def _planner(settings: SolverSettings) -> Planner:
    return Planner(settings.time_limit_s, mip_gap=settings.mip_gap)


def _compare(study: Study, plan: Plan, answer: Solve) -> dict[str, Any]:
    """The same case without storage, and with everything known from the start."""
    without = answer(study.actual.without_storage())
    perfect = answer(study.actual)
    possible = without.objective_eur - perfect.objective_eur
    gained = without.objective_eur - plan.objective_eur
    return {
        "without_storage": {"objective_eur": without.objective_eur, "costs": without.costs},
        "perfect_foresight": {"objective_eur": perfect.objective_eur, "costs": perfect.costs},
        "gain_eur": gained,
        "possible_gain_eur": possible,
        "captured": gained / possible if possible > 1e-9 else None,
    }


def parse_sweep(text: str) -> tuple[str, list[float]]:
    """``ess-1.energy_capacity_kwh=100:1000:100`` → the field and its values, both ends included."""
    path, separator, values = text.partition("=")
    parts = values.split(":")
    if not separator or "." not in path or len(parts) != 3:
        raise ProblemError([f"--sweep {text!r}: write <asset>.<field>=<from>:<to>:<step>"])
    try:
        first, last, step = (float(part) for part in parts)
    except ValueError:
        raise ProblemError([f"--sweep {text!r}: from, to and step must be numbers"]) from None
    if not np.isfinite([first, last, step]).all() or step <= 0 or last < first:
        raise ProblemError([f"--sweep {text!r}: step must be above 0 and to not below from"])
    count = int((last - first) / step + 1e-9) + 1
    if count > LONGEST_SWEEP:
        raise ProblemError([f"--sweep {text!r}: {count} values are more than {LONGEST_SWEEP}"])
    return path.strip(), [first + step * k for k in range(count)]


def run_sweep(study: Study, text: str) -> list[dict[str, Any]]:
    """The study's result for each value of one field."""
    path, values = parse_sweep(text)
    planner = _planner(study.solver)
    rows = []
    for value in values:
        problem = replace_field(study.problem, path, value)
        actual = problem if study.actual is study.problem else replace_field(study.actual, path, value)
        changed = replace(study, problem=problem, actual=actual)
        plan = run_study(changed, planner=planner).plan
        rows.append(
            {
                path: value,
                "objective_eur": plan.objective_eur,
                "status": plan.status,
                "violations": len(plan.violations),
                "costs": plan.costs,
            }
        )
    return rows
