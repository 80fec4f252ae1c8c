"""Rolling-origin backtest: refit at each origin, forecast until the next, choose and calibrate on past errors only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.bounds import bounds_of
from flexergy_pipelines.forecasting.calibration import adapted_width, calibrate, uncalibrated
from flexergy_pipelines.forecasting.combine import ENSEMBLE, WINDOW_DAYS, Mix, mix_of
from flexergy_pipelines.forecasting.members import ON_AND_OFF, fit_members, fit_one, new_members, spread, squared_loss
from flexergy_pipelines.forecasting.models.linear import LinearByHour
from flexergy_pipelines.forecasting.models.naive import NAIVE_NAMES
from flexergy_pipelines.forecasting.scores import coverage
from flexergy_pipelines.forecasting.timegrid import DAY, Series, known_until

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.models.base import Table
    from flexergy_pipelines.forecasting.timegrid import Floats

# coverage of fewer rows than these says nothing
MIN_JUDGED = 8
# wind is served as a mean, far from the median of its skewed distribution; PV as something nearer to it
VALUE_IN_CENTRE = {"pv": 0.55, "wind": 0.2}

Progress = Callable[[str, float], None]


@dataclass
class Predictions:
    """Out-of-sample forecasts of every model on the test rows.

    Attributes
    ----------
    table : Table
        The test rows, ordered by issue time.
    forecasts : dict of ndarray
        By model name.
    median, offsets : ndarray
        Raw quantile forecast: its median and the offsets from it by level.
    levels : tuple of float
    fit_s, predict_s : dict
        Seconds by model over all folds.
    failures : dict
        Why a model is missing in some fold.
    """

    table: Table
    forecasts: dict[str, Floats]
    median: Floats
    offsets: Floats
    levels: tuple[float, ...]
    fit_s: dict[str, float] = field(default_factory=dict)
    predict_s: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass
class Served:
    """What would have been served, row by row of the predictions."""

    value: Floats
    quantiles: Floats
    ensemble: Floats
    champions: list[str]
    mix: Mix
    width: float = 1.0


def naive_sigma(series: Series) -> float:
    """Typical error of the weekly naive, else the spread of the values: the scale of last resort."""
    values, week = series.values, 7 * DAY // series.step
    change = values[week:] - values[:-week] if values.size > week else np.empty(0)
    for sample in (change[np.isfinite(change)], values[np.isfinite(values)]):
        if sample.size >= 24:
            return float(1.4826 * np.median(np.abs(sample - np.median(sample))) + 0.05 * sample.std())
    return 0.0


def rolling(
    inputs: Inputs,
    table: Table,
    cutoffs: list[int],
    levels: tuple[float, ...],
    *,
    seed: int,
    quick: bool,
    progress: Progress | None = None,
    tuned: Mapping[str, float] | None = None,
) -> Predictions:
    """Forecast every row issued at or after the first cutoff by models fitted at the newest cutoff before.

    Parameters
    ----------
    inputs : Inputs
        All data; each fit sees only what was known at its cutoff.
    table : Table
        Rows of training and test.
    cutoffs : list of int
        Ascending instants of refitting [min since epoch].
    levels : tuple of float
        Quantile levels.
    seed : int
    quick : bool
        Smaller models.
    progress : callable or None
        Called with a text and the share done.
    tuned : mapping or None
        Parameters of the boosted trees, see `models.lightgbm.TUNABLE`.
    """
    order = np.argsort(table.rows.issue, kind="stable")
    test_index = order[table.rows.issue[order] >= cutoffs[0]]
    test = table.take(test_index)
    result = Predictions(
        test,
        {model.name: np.full(len(test), np.nan) for model in new_members(inputs.target.kind, quick=quick)},
        np.full(len(test), np.nan),
        np.full((len(test), len(levels)), np.nan),
        levels,
    )
    ends = [*cutoffs[1:], np.iinfo(np.int64).max]
    for k, (cutoff, end) in enumerate(zip(cutoffs, ends, strict=True)):
        chosen = np.flatnonzero((test.rows.issue >= cutoff) & (test.rows.issue < end))
        if chosen.size == 0:
            continue
        if progress is not None:
            progress(f"fold {k + 1} of {len(cutoffs)}", k / len(cutoffs))
        fitted = fit_members(table, inputs, cutoff, seed=seed, quick=quick, tuned=tuned)
        part = test.take(chosen)
        known = inputs.known_at(cutoff)
        bounds = bounds_of(known)
        for name, model in fitted.models.items():
            began = time.perf_counter()
            values = model.predict(part, inputs)
            if isinstance(model, LinearByHour) and not quick and inputs.target.kind not in ("pv", "wind"):
                _renewed(values, part, table, inputs, cutoff)
            result.forecasts[name][chosen] = bounds.clip(values, part.rows.valid, inputs.target)
            result.predict_s[name] = result.predict_s.get(name, 0.0) + time.perf_counter() - began
        median, offsets = spread(fitted, part, levels, naive_sigma(known.series))
        if inputs.target.kind == "pv":
            # at night there is nothing to be unsure of, and nothing to calibrate on
            offsets[bounds.night(part.rows.valid, inputs.target)] = 0.0
        result.median[chosen], result.offsets[chosen] = median, offsets
        result.failures |= fitted.failures
        for name, seconds in fitted.fit_s.items():
            result.fit_s[name] = result.fit_s.get(name, 0.0) + seconds
    return result


def _renewed(values: Floats, part: Table, table: Table, inputs: Inputs, cutoff: int) -> None:
    """Forecasts of the linear model from later than a week after the cutoff, by weekly fits: they cost next to nothing.

    `values` is changed in place.
    """
    weeks = (part.rows.issue - cutoff) // (7 * DAY)
    for week in np.unique(weeks[weeks > 0]):
        chosen = np.flatnonzero(weeks == week)
        fresh = LinearByHour()
        try:
            fit_one(fresh, table, inputs, int(part.rows.issue[chosen].min()))
        except (ValueError, np.linalg.LinAlgError):
            continue
        values[chosen] = fresh.predict(part.take(chosen), inputs)


def centre_of(value: Floats, median: Floats, kind: str) -> Floats:
    """Where the quantiles are centred: the served value, drawn to the raw median where the distribution is bounded."""
    share = VALUE_IN_CENTRE.get(kind)
    if share is None:
        return value
    return np.where(np.isfinite(median), share * value + (1 - share) * median, value)


def grounded(band: Floats, median: Floats, offsets: Floats, sigma: float, kind: str) -> Floats:
    """Quantiles of consumers that are often off: nothing where the raw quantile is nothing, wherever the mean lies.

    Parameters
    ----------
    band, offsets : ndarray, shape (n, levels)
        Calibrated quantiles, and the raw ones as offsets from their `median`.
    median : ndarray, shape (n,)
    sigma : float
        Typical error of the naive; a twentieth of it counts as nothing.
    kind : str
        Other kinds are left alone.
    """
    if kind not in ON_AND_OFF:
        return band
    raw = median[:, None] + offsets
    off = np.abs(raw) <= 0.05 * sigma
    return np.sort(np.where(off, np.minimum(band, np.maximum(raw, 0.0)), band), axis=1)


def serve_rolling(inputs: Inputs, predictions: Predictions) -> Served:
    """What would have been served at each issue, from the errors known then.

    Weights, champion and calibration are renewed once a day from a rolling window.
    """
    table, kind, levels = predictions.table, inputs.target.kind, predictions.levels
    truth, rows = table.y, table.rows
    bounds = bounds_of(inputs.known_at(int(rows.issue[0]))) if len(rows) else bounds_of(inputs)
    n = len(table)
    value, ensemble = np.full(n, np.nan), np.full(n, np.nan)
    quantiles = np.full((n, len(levels)), np.nan)
    centre = np.full(n, np.nan)
    champions: list[str] = []
    mix = mix_of(np.empty(0), {k: v[:0] for k, v in predictions.forecasts.items()}, squared=squared_loss(kind))
    incumbent: str | None = None
    band = (levels.index(0.1), levels.index(0.9)) if {0.1, 0.9} <= set(levels) else None
    sigma = naive_sigma(inputs.known_at(int(rows.issue[0])).series) if n else 0.0
    width, judged_days, judged = 1.0, 0, np.zeros(n, dtype=bool)
    days, days_valid = rows.issue // DAY, rows.valid // DAY
    for day in np.unique(days):
        now = np.flatnonzero(days == day)
        issue = int(rows.issue[now].min())
        known = int(known_until(np.array([issue], dtype=np.int64), inputs.target)[0])
        past = np.flatnonzero(
            (rows.issue < issue)
            & (rows.valid + inputs.series.step <= known)
            & (rows.valid >= issue - WINDOW_DAYS * DAY)
            & np.isfinite(truth)
        )
        # the naives stay as the measure of the others on days after a long gap, on which they have no answer themselves
        candidates = {
            name: f[past]
            for name, f in predictions.forecasts.items()
            if name in NAIVE_NAMES or np.isfinite(f[now]).any()
        }
        mix = mix_of(truth[past], candidates, squared=squared_loss(kind), incumbent=incumbent)
        incumbent = mix.champion
        here = {name: f[now] for name, f in predictions.forecasts.items()}
        value[now] = bounds.clip(mix.served(here), rows.valid[now], inputs.target)
        ensemble[now] = mix.combine(here)
        centre[now] = centre_of(value[now], predictions.median[now], kind)
        calibration = (
            calibrate(truth[past], centre[past], predictions.offsets[past], levels, np.unique(days_valid[past]).size)
            if past.size
            else uncalibrated(levels)
        )
        if band is not None:
            fresh = past[~judged[past] & np.isfinite(quantiles[past, band[0]])]
            judged[fresh] = True
            low, high = quantiles[fresh, band[0]], quantiles[fresh, band[1]]
            if (high > low).sum() >= MIN_JUDGED:
                judged_days += 1
                width = adapted_width(width, 0.8, coverage(truth[fresh], low, high), judged_days)
        band_now = calibration.widened(width).apply(centre[now], predictions.offsets[now])
        band_now = grounded(band_now, predictions.median[now], predictions.offsets[now], sigma, kind)
        quantiles[now] = bounds.clip(band_now, rows.valid[now], inputs.target)
        champions.append(mix.champion)
    return Served(value, quantiles, ensemble, champions, mix, width)


__all__ = ["ENSEMBLE", "Predictions", "Served", "centre_of", "grounded", "naive_sigma", "rolling", "serve_rolling"]
