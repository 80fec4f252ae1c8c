"""A backtest of the production models on any file of measured values, with or without weather."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting import scores
from flexergy_pipelines.forecasting.backtest import Predictions, Served, rolling, serve_rolling
from flexergy_pipelines.forecasting.combine import ENSEMBLE, WINDOW_DAYS, loss
from flexergy_pipelines.forecasting.features import completed
from flexergy_pipelines.forecasting.members import squared_loss
from flexergy_pipelines.forecasting.models.base import make_table
from flexergy_pipelines.forecasting.models.naive import NAIVE_NAMES
from flexergy_pipelines.forecasting.schedule import gate_rows
from flexergy_pipelines.forecasting.tables import DataError
from flexergy_pipelines.forecasting.timegrid import DAY, to_datetimes, to_minute
from flexergy_pipelines.forecasting.trained import forecast_frame, make_inputs

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.models.base import Table
    from flexergy_pipelines.forecasting.targets import Target
    from flexergy_pipelines.forecasting.timegrid import Floats

# a model is refitted after a quarter of the time it learnt from has passed again, within these
REFIT_DAYS = (7, 42)
DEFAULT_TEST_DAYS = 182
MIN_TRAINING_DAYS = 28


@dataclass(frozen=True)
class Report:
    """Scores of a backtest and every forecast made.

    Attributes
    ----------
    summary : dict
        The documented contract of ``flexergy backtest --json``.
    forecasts : polars.DataFrame
        ``issued_at, time, truth, value``, the quantiles, and one column per model.
    """

    summary: dict
    forecasts: pl.DataFrame


@dataclass(frozen=True)
class Window:
    """Test window and its schedule.

    Attributes
    ----------
    start, end : datetime or None
        Valid times in [start, end); None takes the last 26 weeks of the data, or the last third when that is shorter,
        or what is left after 28 days when that is shorter still.
    gate_minute : int
        Minute of the local day before at which each day's forecast is issued.
    horizon_hours : float
        Length of each forecast from midnight [h].
    """

    start: datetime | None
    end: datetime | None
    gate_minute: int
    horizon_hours: float


def backtest_frame(
    history: pl.DataFrame,
    weather: pl.DataFrame | None,
    target: Target,
    window: Window,
    quantiles: tuple[float, ...],
    *,
    seed: int = 7,
    progress: Callable[[str, float], None] | None = None,
) -> Report:
    """Backtest the production models: fit, forecast, choose, weigh and calibrate as time goes on.

    Parameters
    ----------
    history : polars.DataFrame
        ``time, value``.
    weather : polars.DataFrame or None
        ``time[, issued_at]`` and columns.
    target : Target
    window : Window
    quantiles : tuple of float
        Levels to forecast and score; P10 and P90 are added for the coverage.
    seed : int
    progress : callable or None
        Called with a text and the share done.

    Returns
    -------
    Report

    Raises
    ------
    DataError
        When there is nothing to test on.
    """
    inputs = make_inputs(history, weather, target)
    series = inputs.series.trimmed()
    if series.values.size == 0:
        raise DataError(f"target {target.asset_id!r} holds no values")
    start, end, warm = _test_window(series.start, series.end, window)
    inputs = completed(inputs, warm)
    rows = gate_rows(
        series.start + DAY, end, gate=window.gate_minute, horizon_hours=window.horizon_hours, step=series.step,
        zone=target.time_zone,
    )  # fmt: skip
    table = make_table(inputs, rows)
    cutoffs = refits(series.start, warm, end)
    levels = tuple(sorted({*quantiles, 0.1, 0.5, 0.9}))
    predictions = rolling(inputs, table, cutoffs, levels, seed=seed, quick=False, progress=progress)
    served = serve_rolling(inputs, predictions)
    keep = np.flatnonzero((predictions.table.rows.valid >= start) & np.isfinite(predictions.table.y))
    if keep.size == 0:
        raise DataError("the test window holds no measured values")
    return Report(_summary(inputs, predictions, served, keep, quantiles), _frame(predictions, served, start))


def refits(first: int, warm: int, end: int) -> list[int]:
    """Instants of fitting from `warm` to `end` for data from `first` on [min]: often while there is little to learn."""
    cutoffs = [warm]
    while True:
        days = int(np.clip((cutoffs[-1] - first) // (4 * DAY), *REFIT_DAYS))
        if cutoffs[-1] + days * DAY >= end:
            return cutoffs
        cutoffs.append(cutoffs[-1] + days * DAY)


def _test_window(first: int, last: int, window: Window) -> tuple[int, int, int]:
    """Start and end of the test, and the first cutoff before it, from which errors are collected [min]."""
    end = min(last, to_minute(window.end)) if window.end else last
    if window.start is not None:
        start = max(first, to_minute(window.start))
    else:
        third = end - min(DEFAULT_TEST_DAYS * DAY, (end - first) // 3)
        start = max(third, first + MIN_TRAINING_DAYS * DAY)
        if end - start < DAY:
            held = max(0.0, (end - first) / DAY)
            raise DataError(
                f"{held:.0f} days of data, {MIN_TRAINING_DAYS + 1} needed: {MIN_TRAINING_DAYS} to train, one to test"
            )
    if start >= end:
        raise DataError(f"the test window from {window.start} to {window.end} lies outside the data")
    before = (start - first) // DAY
    if before < MIN_TRAINING_DAYS:
        raise DataError(f"{before} days of data before the test window, {MIN_TRAINING_DAYS} needed to train")
    warm = min(WINDOW_DAYS, int(before / 3))
    return start, end, start - (warm + 1) * DAY


def _scores(truth: Floats, value: Floats, scale: float) -> dict[str, float]:
    error = scores.mae(truth, value)
    return {"mae": error, "nmae": error / scale if scale else math.nan, "rmse": scores.rmse(truth, value)}


def _summary(
    inputs: Inputs, predictions: Predictions, served: Served, keep: np.ndarray, quantiles: tuple[float, ...]
) -> dict:
    target, levels = inputs.target, predictions.levels
    truth = predictions.table.y[keep]
    scale = target.capacity if target.capacity is not None else float(np.abs(truth).mean())
    wanted = [levels.index(level) for level in quantiles]
    low, high = levels.index(0.1), levels.index(0.9)

    def probabilistic(band: Floats) -> dict[str, float]:
        return {
            "pinball": scores.pinball(truth, band[:, wanted], quantiles),
            "coverage_80": scores.coverage(truth, band[:, low], band[:, high]),
        }

    models: dict[str, dict] = {}
    candidates = {**predictions.forecasts, ENSEMBLE: served.ensemble}
    for name, forecast in candidates.items():
        if name in NAIVE_NAMES:
            continue
        # the spread of the served quantiles, moved to the model's own centre
        shifted = served.quantiles[keep] + (forecast[keep] - served.value[keep])[:, None]
        models[name] = {
            **_scores(truth, forecast[keep], scale),
            **probabilistic(shifted),
            "fit_s": round(predictions.fit_s.get(name, 0.0), 3),
            "predict_s": round(predictions.predict_s.get(name, 0.0), 3),
        }
        if name in predictions.failures:
            models[name]["left_out"] = predictions.failures[name]
    naives = {name: _scores(truth, predictions.forecasts[name][keep], scale) for name in NAIVE_NAMES}
    squared = squared_loss(target.kind)
    best = min(NAIVE_NAMES, key=lambda name: loss(truth, predictions.forecasts[name][keep], squared))
    champions = served.champions
    return _finite(
        {
            "target": target.asset_id,
            "kind": target.kind,
            "rows": int(keep.size),
            "champion": max(set(champions), key=champions.count),
            "champions": {name: champions.count(name) for name in sorted(set(champions))},
            "weights": served.mix.weights,
            "served": {**_scores(truth, served.value[keep], scale), **probabilistic(served.quantiles[keep])},
            "models": models,
            "naive": {"name": best, **naives[best], **naives},
            "quantiles": list(quantiles),
            "notes": _notes(
                inputs,
                predictions.table,
                served,
                best,
                better=loss(truth, served.value[keep], squared)
                < loss(truth, predictions.forecasts[best][keep], squared),
            ),
            "fit_s": round(sum(predictions.fit_s.values()), 3),
            "predict_s": round(sum(predictions.predict_s.values()), 3),
        }
    )


def _notes(inputs: Inputs, table: Table, served: Served, naive: str, *, better: bool) -> list[str]:
    """What a reader should know of the data and of what was served."""
    notes: list[str] = []
    values = inputs.series.trimmed().values
    good = values[np.isfinite(values)]
    if good.size and good.max() == good.min():
        notes.append(f"the target is {good[0]:g} throughout")
    names = [name for name in inputs.weather.columns if name in table.names]
    # columns of which nothing was ever known are no features any more
    blind = float(bool(inputs.weather.columns))
    if names:
        blind = float(np.isnan(np.column_stack([table.column(name) for name in names])).all(axis=1).mean())
    if blind > 0.02:
        notes.append(f"no weather is known for {blind:.0%} of the times that were forecast")
    missing = 1.0 - good.size / max(1, values.size)
    if missing > 0.02:
        notes.append(f"{missing:.0%} of the target's values are missing between its first and its last")
    if not better:
        served_naive = sum(name in NAIVE_NAMES for name in served.champions) / max(1, len(served.champions))
        notes.append(f"no better than the naive ({naive}), which was served on {served_naive:.0%} of the days")
    return notes


def _finite(value: Any) -> Any:
    """JSON has no NaN: null stands for a score that could not be computed."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _frame(predictions: Predictions, served: Served, start: int) -> pl.DataFrame:
    rows = predictions.table.rows
    frame = forecast_frame(rows.valid, served.value, served.quantiles, predictions.levels)
    frame = frame.with_columns(
        to_datetimes(rows.issue).alias("issued_at"),
        pl.Series("truth", predictions.table.y).fill_nan(None),
        *(pl.Series(name, forecast).fill_nan(None) for name, forecast in predictions.forecasts.items()),
        pl.Series(ENSEMBLE, served.ensemble).fill_nan(None),
    )
    front = ["issued_at", "time", "truth"]
    ordered = [*front, *(c for c in frame.columns if c not in front)]
    return frame.select(ordered).filter(pl.Series(rows.valid >= start)).sort("time", "issued_at")
