"""A backtest of the production models on any file of measured values, with or without weather."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting import scores
from flexergy_pipelines.forecasting.backtest import Predictions, Served, rolling, serve_rolling
from flexergy_pipelines.forecasting.combine import ENSEMBLE, WINDOW_DAYS, loss
from flexergy_pipelines.forecasting.features import located
from flexergy_pipelines.forecasting.members import squared_loss
from flexergy_pipelines.forecasting.models.base import make_table
from flexergy_pipelines.forecasting.models.naive import NAIVE_NAMES
from flexergy_pipelines.forecasting.schedule import gate_rows
from flexergy_pipelines.forecasting.timegrid import DAY, frame_minutes, to_datetimes, to_minute
from flexergy_pipelines.forecasting.trained import forecast_frame, make_inputs

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.targets import Target
    from flexergy_pipelines.forecasting.timegrid import Floats

TIME_NAMES = ("time_utc", "time", "timestamp", "datetime", "date_time", "date", "utc_timestamp", "ds", "valid_time")
REFIT_DAYS = 42
DEFAULT_TEST_DAYS = 182
MIN_TRAINING_DAYS = 28


class DataError(ValueError):
    """The file or an option cannot be used; the text says which and why."""


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


def read_table(path: Path, time_column: str | None, time_zone: str) -> pl.DataFrame:
    """Read CSV or Parquet and find its time column.

    Parameters
    ----------
    path : Path
    time_column : str or None
        None looks for a usual name, then for the first column of stamps.
    time_zone : str
        IANA name in which stamps without zone are read; repeated stamps in autumn count as the earlier ones.

    Returns
    -------
    polars.DataFrame
        The columns of the file, the time column renamed ``time`` and in UTC.

    Raises
    ------
    DataError
    """
    if not path.is_file():
        raise DataError(f"data {path}: there is no such file")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(path, try_parse_dates=True, infer_schema_length=20_000)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"data {path}: cannot be read ({str(error).splitlines()[0]})") from error
    try:
        zone = ZoneInfo(time_zone).key
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DataError(f"time zone {time_zone!r} is not an IANA name such as Europe/Amsterdam") from error
    name = time_column or _time_column(frame)
    if name is None or name not in frame.columns:
        raise DataError(f"data {path}: no time column{f' {name!r}' if name else ''}; it has {_names(frame)}")
    return frame.rename({name: "time"} if name != "time" else {}).with_columns(stamps(frame[name], path, zone))


def _names(frame: pl.DataFrame) -> str:
    return ", ".join(frame.columns[:30])


def _time_column(frame: pl.DataFrame) -> str | None:
    lower = {column.lower(): column for column in frame.columns}
    for name in TIME_NAMES:
        if name in lower:
            return lower[name]
    return next((c for c, kind in frame.schema.items() if kind in (pl.Datetime, pl.Date)), None)


LAYOUTS = (
    None, "%Y%m%d %H:%M", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d-%m-%Y %H:%M", "%Y/%m/%d %H:%M",
)  # fmt: skip
COMPACT_HOUR = r"^\d{10}$"


def stamps(column: pl.Series, path: Path, zone: str) -> pl.Series:
    """A column of stamps, text or numbers like 2012070100 as UTC instants, named ``time``."""
    name = column.name
    if column.dtype.is_integer():
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        column = _parsed(column.str.strip_chars())
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if not isinstance(column.dtype, pl.Datetime) or column.null_count() > 0.05 * column.len():
        raise DataError(f"data {path}: column {name!r} holds no time stamps")
    zoned = column.dtype.time_zone is not None
    column = column.cast(pl.Datetime("us", column.dtype.time_zone))
    if not zoned:
        column = column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return column.dt.convert_time_zone("UTC").alias("time")


def _parsed(text: pl.Series) -> pl.Series:
    """Text as stamps, in the layout that reads most rows and, of two such, the one in which time runs on."""
    if text.len() and text.str.contains(COMPACT_HOUR).all():
        return (text + "00").str.to_datetime("%Y%m%d%H%M", strict=False)
    best, best_rank = text, (text.len(), text.len())
    for layout in LAYOUTS:
        try:
            parsed = text.str.to_datetime(layout, strict=False)
        except pl.exceptions.ComputeError:
            continue
        backwards = int((parsed.diff().dt.total_seconds() < 0).sum() or 0)
        rank = (parsed.null_count(), backwards)
        if rank < best_rank:
            best, best_rank = parsed, rank
    return best


def numeric(frame: pl.DataFrame, column: str, what: str) -> pl.Series:
    """A column as numbers, or an error that names it."""
    if column not in frame.columns:
        raise DataError(f"{what} {column!r} is not a column; the data has {_names(frame)}")
    values = frame[column]
    if values.dtype == pl.String:
        values = values.cast(pl.Float64, strict=False)
    if not (values.dtype.is_numeric() or values.dtype == pl.Boolean) or values.null_count() == values.len():
        raise DataError(f"{what} {column!r} holds no numbers")
    return values.cast(pl.Float64)


def infer_step(frame: pl.DataFrame) -> int:
    """The usual distance of stamps [min], between 5 and 60."""
    gaps = np.diff(np.unique(frame_minutes(frame["time"].drop_nulls())))
    usual = int(np.median(gaps)) if gaps.size else 60
    return next((step for step in (5, 10, 15, 20, 30, 60) if usual <= step), 60)


@dataclass(frozen=True)
class Window:
    """Test window and its schedule.

    Attributes
    ----------
    start, end : datetime or None
        Valid times in [start, end); None takes the last 26 weeks of the data, or the last third when that is shorter.
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
    inputs = located(inputs, warm)
    rows = gate_rows(
        series.start + DAY, end, gate=window.gate_minute, horizon_hours=window.horizon_hours, step=series.step,
        zone=target.time_zone,
    )  # fmt: skip
    table = make_table(inputs, rows)
    cutoffs = list(range(warm, end, REFIT_DAYS * DAY))
    levels = tuple(sorted({*quantiles, 0.1, 0.5, 0.9}))
    predictions = rolling(inputs, table, cutoffs, levels, seed=seed, quick=False, progress=progress)
    served = serve_rolling(inputs, predictions)
    keep = np.flatnonzero((predictions.table.rows.valid >= start) & np.isfinite(predictions.table.y))
    if keep.size == 0:
        raise DataError("the test window holds no measured values")
    return Report(_summary(inputs, predictions, served, keep, quantiles), _frame(predictions, served, start))


def _test_window(first: int, last: int, window: Window) -> tuple[int, int, int]:
    """Start and end of the test, and the first cutoff before it, from which errors are collected [min]."""
    end = min(last, to_minute(window.end)) if window.end else last
    if window.start is not None:
        start = max(first, to_minute(window.start))
    else:
        start = end - min(DEFAULT_TEST_DAYS * DAY, (end - first) // 3)
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
            "fit_s": round(sum(predictions.fit_s.values()), 3),
            "predict_s": round(sum(predictions.predict_s.values()), 3),
        }
    )


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
