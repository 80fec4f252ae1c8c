"""Trains every target of a site and decides, target by target, whether the new model takes over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from flexergy_pipelines.forecasting.challenge import Verdict, judge
from flexergy_pipelines.forecasting.explain import explain
from flexergy_pipelines.forecasting.registered import RegisteredModel
from flexergy_pipelines.forecasting.registry import CHAMPION, ModelMissingError, ModelRegistry
from flexergy_pipelines.forecasting.scoreboard import record_attempts, record_scores
from flexergy_pipelines.forecasting.site_data import chosen_columns, read_lessons, read_weather
from flexergy_pipelines.forecasting.targets import Target, targets_of
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.forecasting.trained import TooLittleHistoryError, TrainedTarget, make_inputs, train_models
from flexergy_pipelines.forecasting.tuning import tune
from flexergy_pipelines.forecasting.weather import WeatherPanel, build_panel

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.exclusions import Lesson
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.store import TenantStore


@dataclass(frozen=True)
class TrainingResult:
    """What training one target came to.

    Attributes
    ----------
    target : str
        Name of the registered model.
    version : str or None
        Registered version; None when there was nothing to register.
    champion : str
        Model chosen within the target; empty when none was trained.
    promoted : bool
        Whether the version now serves.
    reason : str
        Why it was promoted, kept back or not trained.
    metrics : dict
        Backtest scores, see `TrainedTarget.metrics`.
    seconds : float
    """

    target: str
    version: str | None
    champion: str
    promoted: bool
    reason: str
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def train_site(
    db: TenantStore,
    site_id: str,
    now: datetime,
    registry: ModelRegistry,
    *,
    targets: list[str] | None = None,
    progress: Callable[[str, float], None] | None = None,
    quick: bool = True,
    seed: int = 7,
) -> list[TrainingResult]:
    """Train, backtest and register the targets of a site.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    now : datetime
        Aware; nothing later is used.
    registry : ModelRegistry
    targets : list of str or None
        Asset ids or full names to train; None trains all.
    progress : callable or None
        Called with a text and the share done.
    quick : bool
        Small models that train in a few seconds a target; no search for parameters.
    seed : int

    Returns
    -------
    list of TrainingResult
        One per target, in the order of `targets_of`; a target without enough history is reported, not raised.

    Raises
    ------
    RegistryUnavailableError
    """
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    chosen = [t for t in targets_of(site) if targets is None or t.asset_id in targets or t.name in targets]
    if targets is not None and not chosen:
        known = ", ".join(t.asset_id for t in targets_of(site))
        raise ValueError(f"{site_id}: no target among {', '.join(targets)}; the site has {known}")
    lessons = read_lessons(db, site, chosen, now)
    weather = read_weather(db, site_id, now)
    panels = {step: build_panel(weather, step, site.time_zone) for step in sorted({t.step_minutes for t in chosen})}
    results: list[TrainingResult] = []
    for k, target in enumerate(chosen):
        if progress is not None:
            progress(target.name, k / len(chosen))
        panel = panels[target.step_minutes]
        own = site.forecasts.of(target.asset_id)
        results.append(
            _train_one(
                target,
                lessons[target.name],
                chosen_columns(panel, own.weather_inputs),
                now,
                registry,
                quick=quick,
                seed=seed,
                tuning_budget_s=0.0 if quick else site.forecasts.tuning_budget_s,
            )
        )
    pairs = list(zip(chosen, results, strict=True))
    record_scores(db, site_id, now, [(target, row.champion, row.metrics) for target, row in pairs if row.promoted])
    record_attempts(db, site_id, now, [(t, row.promoted, row.reason) for t, row in pairs if row.version is not None])
    return results


def _train_one(
    target: Target,
    lesson: Lesson,
    weather: WeatherPanel,
    now: datetime,
    registry: ModelRegistry,
    *,
    quick: bool,
    seed: int,
    tuning_budget_s: float = 0.0,
) -> TrainingResult:
    began = time.perf_counter()
    champion, missing = _champion(target, registry)
    inputs = make_inputs(lesson.frame, weather, target).known_at(to_minute(now))
    # a model of an older release may not know the field
    tuned = {} if champion is None else getattr(champion.trained, "tuned", {})
    facts = dict(lesson.facts)
    if tuning_budget_s > 0:
        tuning = tune(inputs, tuning_budget_s, seed=seed, start=tuned)
        tuned, facts["tuning"] = tuning.parameters, tuning.reason
    elif tuned:
        facts["tuning"] = "parameters of the champion"
    try:
        trained = train_models(lesson.frame, weather, target, now, quick, seed=seed, tuned=tuned or None)
    except TooLittleHistoryError as error:
        return TrainingResult(target.name, None, "", False, str(error), seconds=time.perf_counter() - began)
    verdict = Verdict(True, missing) if champion is None else _judge(trained, champion, inputs)
    explanation = explain(trained, inputs, rows=200 if quick else 500)
    version = registry.log(trained, promote=verdict.promote, note=verdict.reason, facts=facts, explanation=explanation)
    seconds = time.perf_counter() - began
    return TrainingResult(
        target.name, version, trained.champion, verdict.promote, verdict.reason, trained.metrics, seconds
    )


def _champion(target: Target, registry: ModelRegistry) -> tuple[RegisteredModel | None, str]:
    """The model that serves, or why there is none."""
    try:
        return registry.load(target.name, CHAMPION), ""
    except ModelMissingError as error:
        first = "no model stands under" in str(error)
        return None, "first model of this target" if first else f"the champion cannot be read ({error})"


def _judge(challenger: TrainedTarget, champion: RegisteredModel, inputs: Inputs) -> Verdict:
    try:
        return judge(challenger, champion.trained, inputs)
    except Exception as error:  # a champion that fails, with whatever, must not keep its place
        return Verdict(True, f"the champion {champion.version} cannot forecast any more ({error})")
