"""Champion against challenger: whether a newly trained model takes over from the one that serves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.scores import diebold_mariano
from flexergy_pipelines.forecasting.timegrid import to_minute

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.timegrid import Floats
    from flexergy_pipelines.forecasting.trained import TrainedTarget

SIGNIFICANCE = 0.1
# so many days of forecasts past the champion's training are needed to compare the two directly
MIN_DAYS = 5.0
# a champion older than this is renewed when the two cannot be told apart
REFRESH = timedelta(days=28)
# without a direct comparison, a challenger may be this much worse, each relative to the naive of its own backtest
TOLERANCE = 1.05


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger serves from now on, and why."""

    promote: bool
    reason: str


def judge(challenger: TrainedTarget, champion: TrainedTarget, inputs: Inputs) -> Verdict:
    """Compare two trained models of one target.

    Where the champion is old enough, both are scored on the same forecasts, issued after the champion was trained, by
    the test of Diebold and Mariano; a challenger takes over when it is significantly better, or not told apart from a
    champion of four weeks or more: models that serve well are not exchanged for the sake of it.

    Parameters
    ----------
    challenger, champion : TrainedTarget
    inputs : Inputs
        Data known at the challenger's training.

    Returns
    -------
    Verdict
    """
    if champion.features != challenger.features:
        return Verdict(True, "its inputs changed, so the champion can no longer be served in full")
    if not math.isfinite(_relative(challenger.metrics)):
        return Verdict(False, "its backtest has no score")
    old, new = paired_losses(challenger, champion, inputs)
    if old.size < MIN_DAYS * challenger.target.steps_per_day:
        return _by_own_backtests(challenger, champion)
    return _by_losses(old, new, challenger, champion)


def _by_losses(old: Floats, new: Floats, challenger: TrainedTarget, champion: TrainedTarget) -> Verdict:
    per_day, age = challenger.target.steps_per_day, challenger.trained_at - champion.trained_at
    ratio = f"error {new.mean() / max(old.mean(), 1e-12):.2f} x the champion's on {old.size} common values"
    if diebold_mariano(old, new, per_day) < SIGNIFICANCE:
        return Verdict(True, f"significantly better: {ratio}")
    if diebold_mariano(new, old, per_day) < SIGNIFICANCE:
        return Verdict(False, f"significantly worse: {ratio}")
    if age >= REFRESH:
        return Verdict(True, f"as good as a champion of {age.days} days: {ratio}")
    return Verdict(False, f"no significant difference: {ratio}")


def paired_losses(challenger: TrainedTarget, champion: TrainedTarget, inputs: Inputs) -> tuple[Floats, Floats]:
    """Absolute errors of champion and challenger on the same rows, issued after the champion was trained."""
    fresh = challenger.backtest.filter(pl.col("issued_at") > champion.trained_at).sort("issued_at", "time")
    old: list[Floats] = []
    new: list[Floats] = []
    for (issued,), part in fresh.group_by("issued_at", maintain_order=True):
        issue = to_minute(issued)
        forecast = champion.predict(inputs.known_at(issue), issue).select("time", old="value")
        both = part.join(forecast, on="time", how="inner")
        truth = both["truth"].to_numpy()
        old.append(np.abs(both["old"].to_numpy() - truth))
        new.append(np.abs(both["value"].to_numpy() - truth))
    if not old:
        return np.empty(0), np.empty(0)
    losses = np.column_stack([np.concatenate(old), np.concatenate(new)])
    losses = losses[np.isfinite(losses).all(axis=1)]
    return losses[:, 0], losses[:, 1]


def _by_own_backtests(challenger: TrainedTarget, champion: TrainedTarget) -> Verdict:
    old, new = _relative(champion.metrics), _relative(challenger.metrics)
    if new <= old * TOLERANCE or not math.isfinite(old):
        return Verdict(True, f"error against naive {new:.2f}, champion {old:.2f}")
    return Verdict(False, f"error against naive {new:.2f} is worse than the champion's {old:.2f}")


def _relative(metrics: dict[str, float]) -> float:
    naive = metrics.get("naive_mae", math.nan)
    return metrics.get("mae", math.nan) / naive if naive else math.nan
