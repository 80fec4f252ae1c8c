"""Which models compete for which kind of target, and the fitting of all of them at one cutoff."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.bounds import bounds_of
from flexergy_pipelines.forecasting.models.base import Model, Table, training_part
from flexergy_pipelines.forecasting.models.daily_net import DailyNet
from flexergy_pipelines.forecasting.models.lear import Lear
from flexergy_pipelines.forecasting.models.lightgbm import LightGBMPoint, LightGBMQuantiles, MedianTrees
from flexergy_pipelines.forecasting.models.linear import LinearByHour
from flexergy_pipelines.forecasting.models.naive import NAIVE_NAMES, Naive
from flexergy_pipelines.forecasting.models.prophet import ProphetModel
from flexergy_pipelines.forecasting.models.similar_day import SimilarDay

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.timegrid import Floats

MOST_ROWS = 60_000
# consumers that are off for much of the time
ON_AND_OFF = ("ev", "controllable_load")
CALENDAR_KINDS = ("load", "ev", "controllable_load", "price")


def new_members(
    kind: str, *, quick: bool = False, tuned: Mapping[str, float] | None = None,
    quantiles: LightGBMQuantiles | None = None,
) -> list[Model]:  # fmt: skip
    """Fresh models for a kind of target, naives included; `quick` leaves out the slowest."""
    members: list[Model] = [LightGBMPoint(tuned), LinearByHour(), SimilarDay()]
    if kind not in ON_AND_OFF:
        members.insert(1, MedianTrees(quantiles or LightGBMQuantiles(tuned)))
    if kind == "price" and not quick:
        members += [Lear(), DailyNet()]
    if kind in CALENDAR_KINDS:
        members.append(ProphetModel())
    return [*members, *(Naive(name) for name in NAIVE_NAMES)]


def squared_loss(kind: str) -> bool:
    """Whether models are judged by squared errors, so that the mean is served and not the median.

    Wind is judged so by custom; of what is off most of the time the median is nothing, and plans need the energy.
    """
    return kind == "wind" or kind in ON_AND_OFF


@dataclass
class Fitted:
    """All models as fitted at one cutoff.

    Attributes
    ----------
    models : dict
        Those that could be fitted, by name.
    quantiles : LightGBMQuantiles
        Raw spread.
    failures : dict
        Why a model is missing.
    fit_s : dict
        Seconds each took.
    """

    models: dict[str, Model]
    quantiles: LightGBMQuantiles
    failures: dict[str, str] = field(default_factory=dict)
    fit_s: dict[str, float] = field(default_factory=dict)


def fit_members(
    table: Table, inputs: Inputs, cutoff: int, *, seed: int, quick: bool, only: set[str] | None = None,
    tuned: Mapping[str, float] | None = None,
) -> Fitted:  # fmt: skip
    """Fit every member on what was known at `cutoff`.

    A member that cannot be fitted is left out with its reason; the naives always work.

    Parameters
    ----------
    table : Table
        Rows of any time; only those whose truth was known at `cutoff` are used.
    inputs : Inputs
        Data of any time; cut at `cutoff` here.
    cutoff : int
        [min since epoch]
    seed : int
        Of sampling and trees.
    quick : bool
        Fewer rows, trees and quantile levels.
    only : set of str or None
        Names to fit; None fits all.
    tuned : mapping or None
        Parameters of the boosted trees, see `models.lightgbm.TUNABLE`; None takes the defaults.
    """
    from threadpoolctl import threadpool_limits

    # small matrices: threads only wait for each other, and other services need the cores
    with threadpool_limits(1):
        return _fit_all(table, inputs, cutoff, seed=seed, quick=quick, only=only, tuned=tuned)


def fit_one(model: Model, table: Table, inputs: Inputs, cutoff: int, *, seed: int = 7) -> None:
    """Fit a single model on what was known at `cutoff`."""
    from threadpoolctl import threadpool_limits

    known = inputs.known_at(cutoff)
    with threadpool_limits(1):
        model.fit(training_part(_lit(table, known), inputs, cutoff, MOST_ROWS, seed), known, seed=seed, quick=False)


def _fit_all(
    table: Table, inputs: Inputs, cutoff: int, *, seed: int, quick: bool, only: set[str] | None,
    tuned: Mapping[str, float] | None,
) -> Fitted:  # fmt: skip
    known = inputs.known_at(cutoff)
    part = training_part(_lit(table, known), inputs, cutoff, 12_000 if quick else MOST_ROWS, seed)
    fitted = Fitted({}, LightGBMQuantiles(tuned))
    began = time.perf_counter()
    fitted.quantiles.fit(part, known, seed=seed, quick=quick)
    fitted.fit_s["quantiles"] = time.perf_counter() - began
    for model in new_members(inputs.target.kind, quick=quick, tuned=tuned, quantiles=fitted.quantiles):
        if only is not None and model.name not in only and model.name not in NAIVE_NAMES:
            continue
        began = time.perf_counter()
        try:
            model.fit(part, known, seed=seed, quick=quick)
        except (ValueError, RuntimeError, np.linalg.LinAlgError) as error:
            fitted.failures[model.name] = str(error)
            continue
        fitted.models[model.name] = model
        fitted.fit_s[model.name] = time.perf_counter() - began
    return fitted


def _lit(table: Table, known: Inputs) -> Table:
    """Without the nights of a PV plant: they are zero by its bounds and teach nothing."""
    if known.target.kind != "pv":
        return table
    night = bounds_of(known).night(table.rows.valid, known.target)
    return table.take(np.flatnonzero(~night)) if night.mean() < 0.9 else table


def spread(fitted: Fitted, table: Table, levels: tuple[float, ...], fallback_sigma: float) -> tuple[Floats, Floats]:
    """Raw median and raw offsets of each level from it; normal offsets of `fallback_sigma` where no trees are at hand.

    Returns
    -------
    median : ndarray, shape (n,)
        NaN without trees.
    offsets : ndarray, shape (n, len(levels))
    """
    from scipy.stats import norm

    wanted = tuple(sorted({*levels, 0.5}))
    raw = fitted.quantiles.predict(table, wanted)
    if raw is None:
        z = np.asarray(norm.ppf(levels))
        return np.full(len(table), np.nan), np.tile(z * fallback_sigma, (len(table), 1))
    median = raw[:, wanted.index(0.5)]
    return median, raw[:, [wanted.index(level) for level in levels]] - median[:, None]
