"""What a case says about how the day may turn out otherwise, and the plan that is decided over it."""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from flexergy_pipelines.optimization.errors import ProblemError, SolveError, Spec
from flexergy_pipelines.optimization.plan import Plan
from flexergy_pipelines.optimization.problem import Problem
from flexergy_pipelines.optimization.series import FloatArray, Series, expand, length_problem
from flexergy_pipelines.optimization.stochastic import (
    Scenario,
    StochasticPlan,
    cvar,
    decisions_of,
    evaluate,
    in_scenario,
    solve_stochastic,
)

LOAD_SPREAD, SOURCE_SPREAD = 0.1, 0.25
Share = Annotated[float, Field(ge=0, le=2)]


class GivenScenario(Spec):
    """One future that the case gives itself.

    Attributes
    ----------
    probability : float
        Of this scenario; all of a case sum up to 1.
    power_kw : mapping
        Series (kW) by asset, of what turns out otherwise: loads, EV blocks, sources.
    import_price_eur_per_kwh, export_price_eur_per_kwh : series or None
        Prices where they turn out otherwise.
    """

    probability: Annotated[float, Field(ge=0, le=1)]
    power_kw: dict[str, Series] = Field(default_factory=dict)
    import_price_eur_per_kwh: Series | None = None
    export_price_eur_per_kwh: Series | None = None


class Uncertainty(Spec):
    """Plan over scenarios: bids and genset states are decided once, dispatch as each scenario turns out.

    Attributes
    ----------
    scenarios : int
        Number of scenarios that are drawn.
    seed : int
        Of the draw; the same seed gives the same scenarios.
    cvar_weight : float
        0 for least expected cost, 1 for least mean of the worst outcomes.
    cvar_level : float
        Share of the outcomes that this mean leaves out.
    spread : mapping
        Standard deviation by asset, as a share of its series; 0.1 for loads and EVs and 0.25 for sources not named.
    persistence_hours : float
        Time after which a deviation has faded to 37 %.
    price_spread_eur_per_kwh : float
        Standard deviation of the import and export price.
    given : list
        Scenarios with their probabilities, in place of drawn ones.
    """

    scenarios: Annotated[int, Field(ge=1, le=100)] = 8
    seed: Annotated[int, Field(ge=0)] = 0
    cvar_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    cvar_level: Annotated[float, Field(ge=0, lt=1)] = 0.95
    spread: dict[str, Share] = Field(default_factory=dict)
    persistence_hours: Annotated[float, Field(gt=0)] = 6.0
    price_spread_eur_per_kwh: Annotated[float, Field(ge=0)] = 0.0
    given: Annotated[tuple[GivenScenario, ...], Field(strict=False)] = ()


def scenarios_of(problem: Problem, uncertainty: Uncertainty) -> list[Scenario]:
    """The scenarios of a case: those it gives, or drawn ones of equal probability.

    A deviation is a first-order autoregressive path; every second scenario deviates the other way from the one before
    it (antithetic), so that an even number of them keeps the mean.

    Raises
    ------
    ProblemError
        When an asset or the length of a series is wrong.

    References
    ----------
    Glasserman, "Monte Carlo Methods in Financial Engineering", Springer 2003, ch. 4.2 (antithetic variates).
    """
    found = _given(problem, uncertainty) if uncertainty.given else _drawn(problem, uncertainty)
    total = sum(scenario.probability for scenario in found)
    if abs(total - 1.0) > 1e-6:
        raise ProblemError([f"uncertainty: probabilities of given sum up to {total:g}, they must sum up to 1"])
    for number, scenario in enumerate(found):
        try:
            in_scenario(problem, scenario)
        except ProblemError as error:
            raise ProblemError([f"uncertainty: given[{number}]: {line}" for line in error.problems]) from None
    return found


def _given(problem: Problem, uncertainty: Uncertainty) -> list[Scenario]:
    steps = problem.horizon.steps
    found = []
    for number, given in enumerate(uncertainty.given):
        prices = (given.import_price_eur_per_kwh, given.export_price_eur_per_kwh)
        named = {**given.power_kw, "import_price_eur_per_kwh": prices[0], "export_price_eur_per_kwh": prices[1]}
        problems = [
            wrong
            for name, series in named.items()
            if series is not None and (wrong := length_problem(series, steps, f"uncertainty: given[{number}]: {name}"))
        ]
        if problems:
            raise ProblemError(problems)
        power = {name: np.array(expand(series, steps)) for name, series in given.power_kw.items()}
        found.append(Scenario(given.probability, power, *prices))
    return found


def _drawn(problem: Problem, uncertainty: Uncertainty) -> list[Scenario]:
    steps = problem.horizon.steps
    loads = (*problem.loads, *problem.controllable_loads, *problem.ev_blocks)
    expected = {load.id: (expand(load.power_kw, steps), LOAD_SPREAD) for load in loads}
    expected |= {source.id: (expand(source.available_kw, steps), SOURCE_SPREAD) for source in problem.renewables}
    known = ", ".join(sorted(expected)) or "nothing"
    if unknown := sorted(set(uncertainty.spread) - set(expected)):
        raise ProblemError([f"uncertainty: spread names {name}, known are {known}" for name in unknown])
    most = {source.id: source.rated_kw for source in problem.renewables if source.rated_kw is not None}
    rng = np.random.default_rng(uncertainty.seed)
    fading = float(np.exp(-problem.horizon.hours / uncertainty.persistence_hours))
    shocks = np.zeros((len(expected) + 1, steps))
    found = []
    for number in range(uncertainty.scenarios):
        shocks = -shocks if number % 2 else rng.normal(size=shocks.shape)
        paths = _autoregressive(shocks, fading)
        power = {
            name: np.clip(series * (1 + uncertainty.spread.get(name, usual) * path), 0.0, most.get(name, np.inf))
            for (name, (series, usual)), path in zip(expected.items(), paths[:-1], strict=True)
        }
        prices: list[FloatArray | None] = [None, None]
        if problem.grid is not None and uncertainty.price_spread_eur_per_kwh > 0:
            moved = uncertainty.price_spread_eur_per_kwh * paths[-1]
            prices = [expand(problem.grid.import_price_eur_per_kwh, steps) + moved,
                      expand(problem.grid.export_price_eur_per_kwh, steps) + moved]  # fmt: skip
        found.append(Scenario(1.0 / uncertainty.scenarios, power, *prices))
    return found


def _autoregressive(shocks: FloatArray, fading: float) -> FloatArray:
    """Paths of unit variance in which a deviation fades by `fading` each step; one a row."""
    paths = np.array(shocks)
    for step in range(1, paths.shape[1]):
        paths[:, step] = fading * paths[:, step - 1] + np.sqrt(1 - fading**2) * shocks[:, step]
    return paths


def plan_over_scenarios(
    problem: Problem, uncertainty: Uncertainty, forecast: Plan, time_limit_s: float, mip_gap: float
) -> tuple[Plan, dict[str, Any]]:
    """The plan that is decided over scenarios, and what it is worth against deciding on the forecast alone.

    Parameters
    ----------
    forecast : Plan
        Of the forecast alone; its decisions are kept where no better ones are found.

    Returns
    -------
    plan : Plan
        Dispatch for the forecast with the decisions taken.
    told : dict
        ``scenarios``, ``expected_cost_eur``, ``cvar_eur`` and ``value_of_stochastic_eur`` of the result.
    """
    scenarios = scenarios_of(problem, uncertainty)
    began = time.monotonic()
    level, weight = uncertainty.cvar_level, uncertainty.cvar_weight
    plain = evaluate(
        problem, scenarios, decisions_of(problem, forecast), time_limit_s, cvar_level=level, mip_gap=mip_gap
    )
    best = plain
    left = max(time_limit_s - (time.monotonic() - began), 0.5 * time_limit_s)
    try:
        found = solve_stochastic(problem, scenarios, left, cvar_weight=weight, cvar_level=level, mip_gap=mip_gap)
    except SolveError:
        # Nothing better was found in the time than what is decided on the forecast.
        found = plain
    if _aim(found, weight) <= _aim(plain, weight):
        best = found
    costs = best.scenario_costs_eur
    return best.plan, {
        "scenarios": [
            {"probability": float(probability), "cost_eur": float(cost)}
            for probability, cost in zip(best.probabilities, costs, strict=True)
        ],
        "expected_cost_eur": float(best.probabilities @ costs),
        "cvar_eur": cvar(costs, best.probabilities, level),
        "value_of_stochastic_eur": _aim(plain, weight) - _aim(best, weight),
    }


def _aim(found: StochasticPlan, weight: float) -> float:
    return (1 - weight) * found.expected_cost_eur + weight * found.cvar_eur
