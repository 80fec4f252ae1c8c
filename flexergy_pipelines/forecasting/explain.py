"""Which features move a forecast, by how much and in which direction: Shapley values of the boosted trees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.models.base import make_table
from flexergy_pipelines.forecasting.models.lightgbm import LightGBMPoint, aligned
from flexergy_pipelines.forecasting.schedule import rotating_rows
from flexergy_pipelines.forecasting.timegrid import DAY

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.timegrid import Floats
    from flexergy_pipelines.forecasting.trained import TrainedTarget

SHOWN = 15
RECENT_DAYS = 56


@dataclass(frozen=True)
class Explanation:
    """Contributions of features to the trees' forecasts of some rows.

    Attributes
    ----------
    names : tuple of str
        Features.
    contributions : ndarray, shape (n, p)
        How much each feature moved each forecast away from the mean forecast [unit of the target].
    features : ndarray, shape (n, p)
        Values of the features.
    unit : str
    """

    names: tuple[str, ...]
    contributions: Floats
    features: Floats
    unit: str

    @property
    def strength(self) -> dict[str, float]:
        """Mean absolute contribution of each feature [unit of the target], strongest first."""
        mean = np.abs(self.contributions).mean(axis=0)
        return {self.names[i]: float(mean[i]) for i in np.argsort(-mean)}


def explain(trained: TrainedTarget, inputs: Inputs, *, rows: int = 300) -> Explanation | None:
    """Exact Shapley values [1]_ of the trees' forecasts of the last eight weeks.

    Parameters
    ----------
    trained : TrainedTarget
    inputs : Inputs
        As known at the training.
    rows : int
        Forecasts looked at, drawn at random.

    Returns
    -------
    Explanation or None
        None when no trees were fitted.

    References
    ----------
    .. [1] S. Lundberg et al., "From local explanations to global understanding with explainable AI for trees", Nature
       Machine Intelligence 2, 2020 (TreeSHAP, as LightGBM computes it).
    """
    model = trained.fitted.models.get("lightgbm")
    if not isinstance(model, LightGBMPoint) or model.booster is None:
        return None
    series = inputs.series.trimmed()
    begin = max(series.start + 8 * DAY, series.end - RECENT_DAYS * DAY)
    found = rotating_rows(begin, series.end, trained.target.horizon_hours, series.step)
    if not len(found):
        return None
    chosen = np.random.default_rng(trained.seed).choice(len(found), min(rows, len(found)), replace=False)
    table = make_table(inputs, found.take(np.sort(chosen)))
    matrix = aligned(table, model.names)
    contributions = np.asarray(model.booster.predict(matrix, pred_contrib=True, num_threads=1))[:, :-1]
    return Explanation(tuple(model.names), contributions, matrix, trained.target.unit)


def write_importance(explanation: Explanation, title: str, folder: Path) -> Path:
    """Write ``importance.png``: the strongest features, a point a forecast, coloured by the feature's value."""
    from matplotlib.figure import Figure

    strongest = list(explanation.strength)[:SHOWN]
    places = [explanation.names.index(name) for name in strongest]
    figure = Figure(figsize=(9, 0.36 * len(strongest) + 1.6), layout="constrained")
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)
    dots = None
    for k, place in enumerate(places):
        values = explanation.features[:, place]
        ranks = np.argsort(np.argsort(values)) / max(1, values.size - 1)
        ranks = np.where(np.isfinite(values), ranks, np.nan)
        height = -k + rng.uniform(-0.28, 0.28, values.size)
        dots = axes.scatter(
            explanation.contributions[:, place], height, c=ranks, cmap="coolwarm", s=7, vmin=0, vmax=1,
            plotnonfinite=True,
        )  # fmt: skip
    axes.set_yticks(-np.arange(len(strongest)), strongest, fontsize=8)
    axes.axvline(0.0, color="tab:gray", linewidth=0.8)
    axes.set_xlabel(f"moves the forecast by [{explanation.unit}]")
    axes.set_title(title, fontsize=10)
    if dots is not None:
        bar = figure.colorbar(dots, ax=axes, pad=0.01, ticks=[0, 1])
        bar.ax.set_yticklabels(["low", "high"])
        bar.set_label("value of the feature", fontsize=8)
    path = folder / "importance.png"
    figure.savefig(path, dpi=80)
    return path
