"""A target with its models as trained: what the registry keeps and the server loads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting import scores
from flexergy_pipelines.forecasting.backtest import (
    Predictions,
    Served,
    centre_of,
    grounded,
    naive_sigma,
    rolling,
    serve_rolling,
)
from flexergy_pipelines.forecasting.bounds import Bounds, bounds_of
from flexergy_pipelines.forecasting.calibration import Calibration, calibrate
from flexergy_pipelines.forecasting.combine import ENSEMBLE, WINDOW_DAYS, Mix, mix_of
from flexergy_pipelines.forecasting.features import Inputs, completed
from flexergy_pipelines.forecasting.members import ON_AND_OFF, Fitted, fit_members, spread, squared_loss
from flexergy_pipelines.forecasting.models.base import make_table
from flexergy_pipelines.forecasting.models.lightgbm import LightGBMPoint, importance
from flexergy_pipelines.forecasting.models.naive import NAIVE_NAMES
from flexergy_pipelines.forecasting.schedule import issue_rows, rotating_rows
from flexergy_pipelines.forecasting.targets import DEFAULT_QUANTILES, Target
from flexergy_pipelines.forecasting.timegrid import DAY, series_from_frame, to_datetimes, to_minute
from flexergy_pipelines.forecasting.weather import WeatherPanel, build_panel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

MIN_HISTORY_DAYS = 21


class TooLittleHistoryError(ValueError):
    """There is not enough history to train any model; the fallbacks serve."""


@dataclass
class TrainedTarget:
    """Everything needed to forecast one target without looking at the past of its training.

    Attributes
    ----------
    target : Target
    champion : str
        What is served: a model, ``ensemble`` or a naive.
    mix : Mix
        Weights and recent errors.
    fitted : Fitted
    calibration : Calibration
    bounds : Bounds
    sigma : float
        Spread of last resort, in the unit of the target.
    features : tuple of str
    metrics : dict
        Scores of the backtest: of what would have been served (``mae``, ``rmse``, ``pinball``, ``coverage_80``, ...),
        of the best naive (``naive_mae``, ...) and of each model (``mae.lightgbm``, ...).
    trained_at : datetime
        Cutoff of the data.
    data_version : str
        Hash of the training data.
    tuned : dict
        Parameters of the boosted trees that a search found; empty for the defaults.
    """

    target: Target
    champion: str
    mix: Mix
    fitted: Fitted
    calibration: Calibration
    bounds: Bounds
    sigma: float
    features: tuple[str, ...]
    metrics: dict[str, float]
    trained_at: datetime
    seed: int
    data_version: str
    losses: Floats = field(default_factory=lambda: np.empty(0))
    backtest: pl.DataFrame = field(default_factory=pl.DataFrame)
    tuned: dict[str, float] = field(default_factory=dict)

    @property
    def importance(self) -> dict[str, float]:
        """Share of gain by feature of the boosted trees; empty when they are not in use."""
        model = self.fitted.models.get("lightgbm")
        if isinstance(model, LightGBMPoint) and model.booster is not None:
            return importance(model.booster, model.names)
        return {}

    def predict(
        self, inputs: Inputs, issue: int, horizon_hours: int | None = None, *, width: float = 1.0
    ) -> pl.DataFrame:
        """Forecast from `issue` on, with bands `width` times as wide as calibrated; see `predict`."""
        rows = issue_rows(issue, horizon_hours or self.target.horizon_hours, inputs.series.step)
        table = make_table(inputs, rows)
        forecasts = {name: model.predict(table, inputs) for name, model in self.fitted.models.items()}
        forecasts = {n: self.bounds.clip(f, rows.valid, self.target) for n, f in forecasts.items()}
        value = self.bounds.clip(self.mix.served(forecasts), rows.valid, self.target)
        median, offsets = spread(self.fitted, table, self.calibration.quantiles, self.sigma)
        band = self.calibration.widened(width).apply(centre_of(value, median, self.target.kind), offsets)
        band = grounded(band, median, offsets, self.sigma, self.target.kind)
        band = self.bounds.clip(band, rows.valid, self.target)
        return forecast_frame(rows.valid, value, band, self.calibration.quantiles)


def quantile_column(level: float) -> str:
    """Column name of a quantile level: 0.1 is ``p10``, 0.025 is ``p2_5``."""
    return f"p{level * 100:.10g}".replace(".", "_")


def forecast_frame(valid: Minutes, value: Floats, band: Floats, levels: tuple[float, ...]) -> pl.DataFrame:
    """Frame ``time, value, p10..p90`` in the form the store keeps."""
    columns = {quantile_column(level): band[:, j] for j, level in enumerate(levels)}
    return pl.DataFrame({"time": to_datetimes(valid), "value": value, **columns})


def make_inputs(history: pl.DataFrame, weather: pl.DataFrame | WeatherPanel | None, target: Target) -> Inputs:
    """Grid and weather panel from frames ``time, value`` and ``time[, issued_at], columns...``."""
    series = series_from_frame(history, target.step_minutes)
    if isinstance(weather, WeatherPanel):
        return Inputs(target, series, weather)
    return Inputs(target, series, build_panel(weather, target.step_minutes, target.time_zone))


def train_models(
    history: pl.DataFrame,
    weather: pl.DataFrame | WeatherPanel | None,
    target: Target,
    cutoff: datetime,
    quick: bool = False,
    *,
    seed: int = 7,
    tuned: Mapping[str, float] | None = None,
) -> TrainedTarget:
    """Train all models of a target, backtest them, choose and calibrate.

    Parameters
    ----------
    history : polars.DataFrame
        ``time`` (start of interval, UTC), ``value``.
    weather : polars.DataFrame, WeatherPanel or None
        ``time``, optionally ``issued_at``, and weather columns; or the panel made of them.
    target : Target
    cutoff : datetime
        Nothing later is used, aware.
    quick : bool
        Smaller models and one fold of four weeks instead of three.
    seed : int
        The same data and seed give the same forecasts.
    tuned : mapping or None
        Parameters of the boosted trees, see `models.lightgbm.TUNABLE`; None takes the defaults.

    Returns
    -------
    TrainedTarget

    Raises
    ------
    TooLittleHistoryError
        When fewer than 21 days are there.
    """
    now = to_minute(cutoff)
    inputs = make_inputs(history, weather, target).known_at(now)
    series = inputs.series.trimmed()
    days = int(np.isfinite(series.values).sum()) * series.step / DAY
    if days < MIN_HISTORY_DAYS:
        raise TooLittleHistoryError(f"{target.name}: {days:.1f} days of history, {MIN_HISTORY_DAYS} needed to train")
    inputs = completed(Inputs(target, series, inputs.weather), now)
    target = inputs.target
    spacing = 1740 if quick else 780
    begin = series.start + int(min(8, days / 4) * DAY)
    table = make_table(
        inputs, rotating_rows(begin, series.end, target.horizon_hours, series.step, spacing_minutes=spacing)
    )
    fold_days, folds = (28, 1) if quick else (28, 3)
    fold_days = min(fold_days, max(4, int(days / 4 / folds)))
    cutoffs = [series.end - (folds - k) * fold_days * DAY for k in range(folds)]
    scored = cutoffs[0]
    cutoffs = [*warm_up(series.start, scored, quick=quick), *cutoffs]
    predictions = rolling(inputs, table, cutoffs, DEFAULT_QUANTILES, seed=seed, quick=quick, tuned=tuned)
    served = serve_rolling(inputs, predictions)
    truth = predictions.table.y
    mix = mix_of(truth, predictions.forecasts, squared=squared_loss(target.kind))
    wanted = {name for name, weight in mix.weights.items() if weight > 0.02} | {mix.champion}
    mix = _pruned(mix, wanted)
    value = mix.served(predictions.forecasts)
    centre = centre_of(value, predictions.median, target.kind)
    recent = np.flatnonzero(predictions.table.rows.valid >= series.end - WINDOW_DAYS * DAY)
    calibration = calibrate(
        truth[recent], centre[recent], predictions.offsets[recent], DEFAULT_QUANTILES,
        np.unique(predictions.table.rows.valid[recent] // DAY).size,
    )  # fmt: skip
    if target.kind in ON_AND_OFF:
        # their low quantiles are grounded afterwards; only the width of the days before knows what that holds
        calibration = calibration.widened(served.width)
    fitted = fit_members(table, inputs, now, seed=seed, quick=quick, only=wanted | {"lightgbm"}, tuned=tuned)
    return TrainedTarget(
        target=target,
        champion=mix.champion,
        mix=mix,
        fitted=fitted,
        calibration=calibration,
        bounds=bounds_of(inputs),
        sigma=naive_sigma(series),
        features=table.names,
        metrics=_metrics(predictions, served, mix, scored),
        trained_at=cutoff,
        seed=seed,
        data_version=hashlib.sha256(series.values.tobytes() + inputs.weather.values.tobytes()).hexdigest()[:16],
        losses=np.abs(truth - served.value),
        backtest=_backtest_frame(predictions, served),
        tuned=dict(tuned or {}),
    )


def warm_up(begin: int, scored: int, *, quick: bool = False) -> list[int]:
    """Cutoffs before the scored folds, whose errors the first of them is calibrated on [min since epoch].

    One is enough for a quick training whose history does not grow by half until the scored folds.
    """
    first = begin + max(10 * DAY, (scored - begin) * 4 // 9)
    first = max(first, scored - 56 * DAY)
    if first >= scored - 4 * DAY:
        return []
    if quick and 2 * (scored - first) < first - begin:
        return [first]
    return [first, (first + scored) // 2]


def _pruned(mix: Mix, wanted: set[str]) -> Mix:
    kept = {name: weight for name, weight in mix.weights.items() if name in wanted}
    total = sum(kept.values()) or 1.0
    return Mix({name: weight / total for name, weight in kept.items()}, mix.champion, mix.best_naive, mix.errors)


def _metrics(predictions: Predictions, served: Served, mix: Mix, scored: int) -> dict[str, float]:
    truth, levels = np.where(predictions.table.rows.issue >= scored, predictions.table.y, np.nan), predictions.levels
    low, high = levels.index(0.1), levels.index(0.9)
    naive = predictions.forecasts[mix.best_naive]
    metrics = {
        "mae": scores.mae(truth, served.value),
        "rmse": scores.rmse(truth, served.value),
        "bias": float(np.nanmean(served.value - truth)) if np.isfinite(served.value - truth).any() else float("nan"),
        "pinball": scores.pinball(truth, served.quantiles, levels),
        "coverage_80": scores.coverage(truth, served.quantiles[:, low], served.quantiles[:, high]),
        "naive_mae": scores.mae(truth, naive),
        "naive_rmse": scores.rmse(truth, naive),
    }
    for name, forecast in predictions.forecasts.items():
        metrics[f"mae.{name}"] = scores.mae(truth, forecast)
    metrics[f"mae.{ENSEMBLE}"] = scores.mae(truth, served.ensemble)
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _backtest_frame(predictions: Predictions, served: Served) -> pl.DataFrame:
    rows = predictions.table.rows
    frame = forecast_frame(rows.valid, served.value, served.quantiles, predictions.levels)
    return frame.with_columns(
        to_datetimes(rows.issue).alias("issued_at"),
        pl.Series("truth", predictions.table.y),
        *(pl.Series(name, predictions.forecasts[name]) for name in NAIVE_NAMES),
    )


def predict(
    trained: TrainedTarget,
    history: pl.DataFrame,
    weather: pl.DataFrame | WeatherPanel | None,
    issued_at: datetime,
    horizon: timedelta | None = None,
) -> pl.DataFrame:
    """Forecast a trained target from the data known at `issued_at`.

    Parameters
    ----------
    trained : TrainedTarget
    history, weather : polars.DataFrame
        As for `train_models`; later rows are ignored.
    issued_at : datetime
        Aware.
    horizon : timedelta or None
        None takes the target's.

    Returns
    -------
    polars.DataFrame
        ``time, value, p10, p20, ..., p90`` in the unit of the target.
    """
    issue = to_minute(issued_at)
    inputs = make_inputs(history, weather, trained.target).known_at(issue)
    hours = None if horizon is None else int(horizon.total_seconds() // 3600)
    return trained.predict(inputs, issue, hours)
