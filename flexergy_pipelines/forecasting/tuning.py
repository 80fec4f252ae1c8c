"""A search for better tree parameters of one target within a time budget, reproducible by its seed.

The search tries settings on rows whose truth was known before a cutoff and scores them on the four weeks after it, so
that no setting is chosen by data that it was fitted on. What it finds is only used when it is better than the defaults
there; the backtest of the training then judges the tuned model like any other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flexergy_pipelines.forecasting.models.base import make_table, training_part
from flexergy_pipelines.forecasting.models.lightgbm import COMMON
from flexergy_pipelines.forecasting.schedule import rotating_rows
from flexergy_pipelines.forecasting.timegrid import DAY

if TYPE_CHECKING:
    import lightgbm
    import optuna

    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.models.base import Table

MIN_GAIN = 0.005
"""Share by which a setting must be better than the defaults to be used."""

TRIALS = 60
VALIDATION_DAYS = 28
MIN_DAYS = 84
ROWS = 12_000
SPACING_MINUTES = 1740
DEFAULTS: dict[str, float] = {
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "lambda_l2": 0.0,
}


@dataclass(frozen=True)
class Tuning:
    """Outcome of a search.

    Attributes
    ----------
    parameters : dict
        To be used; empty when the defaults are best.
    loss, default_loss : float
        Error on the validation weeks (absolute, for wind squared), of the best setting and of the defaults.
    trials : int
        Settings tried.
    seconds : float
    reason : str
        For people.
    """

    parameters: dict[str, float] = field(default_factory=dict)
    loss: float = float("nan")
    default_loss: float = float("nan")
    trials: int = 0
    seconds: float = 0.0
    reason: str = ""


def tune(
    inputs: Inputs, budget_s: float, *, seed: int = 7, trials: int = TRIALS, start: dict[str, float] | None = None
) -> Tuning:
    """Search tree parameters of one target.

    Parameters
    ----------
    inputs : Inputs
        As known at `now`.
    budget_s : float
        Time after which no further setting is tried [s].
    seed : int
        The same data, seed and number of trials give the same parameters; a budget that ends the search early makes
        the number of trials depend on the machine.
    trials : int
        Most settings to try.
    start : dict or None
        Parameters found before; tried first, after the defaults.
    """
    import optuna

    began = time.monotonic()
    series = inputs.series.trimmed()
    days = series.values.size * series.step / DAY
    if days < MIN_DAYS:
        return Tuning(reason=f"{days:.0f} days of history, {MIN_DAYS} needed to search")
    rows = rotating_rows(
        series.start + 8 * DAY, series.end, inputs.target.horizon_hours, series.step, spacing_minutes=SPACING_MINUTES
    )
    table = make_table(inputs, rows)
    cutoff = series.end - VALIDATION_DAYS * DAY
    fit = training_part(table, inputs, cutoff, ROWS, seed)
    check = table.take(np.flatnonzero((table.rows.issue >= cutoff) & np.isfinite(table.y)))
    if len(fit) < 500 or len(check) < 100:
        return Tuning(reason=f"{len(fit)} rows to fit and {len(check)} to check are too few to search")
    objective = _Objective(fit, check, inputs.target.kind, seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8))
    study.enqueue_trial(DEFAULTS)
    if start:
        study.enqueue_trial(DEFAULTS | {k: v for k, v in start.items() if k in DEFAULTS})
    left = budget_s - (time.monotonic() - began)
    study.optimize(objective, n_trials=max(1, trials), timeout=max(left, 0.01), n_jobs=1)
    default = float(study.trials[0].value or np.inf)
    best = float(study.best_value)
    found = {name: float(value) for name, value in study.best_params.items()}
    seconds = time.monotonic() - began
    if best > default * (1 - MIN_GAIN):
        why = f"no setting of {len(study.trials)} beats the defaults by {MIN_GAIN:.1%}"
        return Tuning({}, default, default, len(study.trials), seconds, why)
    gain = f"{1 - best / default:.1%} better than the defaults on the last {VALIDATION_DAYS} days"
    why = f"{gain}, {len(study.trials)} tried"
    return Tuning(found, best, default, len(study.trials), seconds, why)


class _Objective:
    """Error on the validation weeks of trees with the parameters of a trial."""

    def __init__(self, fit: Table, check: Table, kind: str, seed: int) -> None:
        self.fit, self.check, self.kind, self.seed = fit, check, kind, seed

    def _data(self, parameters: dict[str, Any]) -> lightgbm.Dataset:
        import lightgbm

        # a data set keeps the parameters it was made with, so each trial gets its own
        return lightgbm.Dataset(self.fit.X, self.fit.y, params=parameters)

    def __call__(self, trial: optuna.Trial) -> float:
        import lightgbm

        chosen: dict[str, Any] = {
            "num_leaves": trial.suggest_int("num_leaves", 7, 127, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 200, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.2, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 0.0, 20.0),
        }
        loss = "regression_l1" if self.kind == "price" else "regression"
        parameters = COMMON | chosen | {"objective": loss, "learning_rate": 0.12, "seed": self.seed}
        booster = lightgbm.train(parameters, self._data(parameters), 90)
        gap = np.asarray(booster.predict(self.check.X, num_threads=1)) - self.check.y
        return float(np.sqrt((gap**2).mean())) if self.kind == "wind" else float(np.abs(gap).mean())
