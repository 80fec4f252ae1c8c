"""Filling gaps and changing the time step of weather the way each quantity behaves.

Irradiance follows the clear sky: what is interpolated, or held over an interval, is the clear-sky index, so that no
light appears at night and the energy of each interval is kept. States run linearly from stamp to stamp,
directions turn as vectors, sums are shared out.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from ingestion.weather.model import COLUMNS, OPTIONAL_COLUMNS, TIME, WeatherColumn

_FINE = timedelta(minutes=5)
_DARK_W_M2 = 5.0
_LARGEST_INDEX = 1.3  # cloud edges reflect: measured means of an hour reach 1.2 times the clear sky


def clear_sky_w_m2(starts: list[datetime], step: timedelta, latitude_deg: float, longitude_deg: float) -> np.ndarray:
    """Mean clear-sky global horizontal irradiance of each interval.

    Parameters
    ----------
    starts : list of datetime
        Starts of the intervals, aware.
    step : timedelta
        Length of the intervals.
    latitude_deg, longitude_deg : float
        The place.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Irradiance [W/m²] by Haurwitz's model, which needs nothing but the sun's height.

    References
    ----------
    B. Haurwitz, "Insolation in relation to cloudiness and cloud density", J. Meteorology 2 (1945).
    """
    import pandas as pd
    from pvlib.clearsky import haurwitz
    from pvlib.solarposition import spa_python

    if not starts:
        return np.zeros(0)
    parts = max(1, step // _FINE)
    offsets = [(step / parts) * (i + 0.5) for i in range(parts)]
    instants = pd.DatetimeIndex([start + offset for start in starts for offset in offsets])
    zenith = spa_python(instants, latitude_deg, longitude_deg)["apparent_zenith"]
    clear = np.nan_to_num(haurwitz(zenith)["ghi"].to_numpy(dtype=float))
    return clear.reshape(len(starts), parts).mean(axis=1)


def fill_gaps(
    frame: pl.DataFrame,
    step: timedelta,
    latitude_deg: float,
    longitude_deg: float,
    longest: timedelta = timedelta(hours=3),
) -> tuple[pl.DataFrame, int]:
    """Fill short gaps between known values; longer ones and open ends stay null.

    Parameters
    ----------
    frame : polars.DataFrame
        ``time`` and weather columns, regular.
    step : timedelta
        Interval of the rows.
    latitude_deg, longitude_deg : float
        The place, for the clear sky.
    longest : timedelta
        Longest gap that is filled.

    Returns
    -------
    polars.DataFrame, int
        The frame, and how many values were filled.
    """
    if frame.null_count().sum_horizontal().item() == 0:
        return frame, 0
    most = max(1, longest // step)
    clear: np.ndarray | None = None
    columns: list[pl.Series] = []
    filled = 0
    for name, column in _known(frame).items():
        values = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
        gaps = _short_gaps(np.isnan(values), most)
        if not gaps.any():
            columns.append(frame[name])
            continue
        if column.physics == "irradiance":
            if clear is None:
                clear = clear_sky_w_m2(frame["time"].to_list(), step, latitude_deg, longitude_deg)
            index = np.where(clear > _DARK_W_M2, values / np.maximum(clear, _DARK_W_M2), np.nan)
            estimate = np.where(clear > _DARK_W_M2, np.clip(_interpolated(index), 0, _LARGEST_INDEX) * clear, 0.0)
        elif column.physics == "direction":
            estimate = _interpolated_angle(values)
        elif column.physics == "sum":
            estimate = np.zeros_like(values)
        else:
            estimate = _interpolated(values)
        usable = gaps & np.isfinite(estimate)
        values[usable] = estimate[usable]
        filled += int(usable.sum())
        columns.append(pl.Series(name, values).fill_nan(None))
    return frame.with_columns(columns), filled


def change_step(
    frame: pl.DataFrame, step: timedelta, new_step: timedelta, latitude_deg: float, longitude_deg: float
) -> pl.DataFrame:
    """Bring regular weather rows to another time step.

    Parameters
    ----------
    frame : polars.DataFrame
        ``time`` (interval start) and weather columns.
    step, new_step : timedelta
        Present and wanted interval; one must be a whole multiple of the other.
    latitude_deg, longitude_deg : float
        The place, for the clear sky.

    Returns
    -------
    polars.DataFrame
        Same columns. The mean of irradiance and the sum of precipitation over each coarse interval are kept exactly.

    Raises
    ------
    ValueError
        When the steps do not divide each other.
    """
    if step == new_step or frame.is_empty():
        return frame
    if step % new_step and new_step % step:
        raise ValueError(f"weather step {step} and wanted step {new_step} do not divide each other")
    if new_step > step:
        return _coarser(frame, step, new_step)
    return _finer(frame, step, new_step, latitude_deg, longitude_deg)


def _finer(
    frame: pl.DataFrame, step: timedelta, new_step: timedelta, latitude_deg: float, longitude_deg: float
) -> pl.DataFrame:
    parts = step // new_step
    starts = [start + new_step * i for start in frame["time"].to_list() for i in range(parts)]
    coarse = np.arange(frame.height, dtype=float)
    fine = np.arange(frame.height * parts) / parts
    columns: list[pl.Series] = [pl.Series("time", starts, dtype=TIME)]
    for name, column in _known(frame).items():
        values = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        held = np.repeat(values, parts)
        if column.physics == "irradiance":
            clear = clear_sky_w_m2(starts, new_step, latitude_deg, longitude_deg)
            mean_clear = np.repeat(clear.reshape(-1, parts).mean(axis=1), parts)
            shape = np.divide(clear, mean_clear, out=np.ones_like(clear), where=mean_clear > _DARK_W_M2)
            result = held * shape
        elif column.physics == "sum":
            result = held / parts
        elif column.physics == "direction":
            radians = np.radians(values)
            result = _angle(_at(fine, coarse, np.sin(radians), held), _at(fine, coarse, np.cos(radians), held))
        else:
            result = _at(fine, coarse, values, held)
        columns.append(pl.Series(name, result).fill_nan(None))
    return pl.DataFrame(columns)


def _coarser(frame: pl.DataFrame, step: timedelta, new_step: timedelta) -> pl.DataFrame:
    parts = new_step // step
    expressions: list[pl.Expr] = []
    for name, column in _known(frame).items():
        value = pl.col(name).cast(pl.Float64)
        complete = value.count() == parts
        if column.physics == "sum":
            result = value.sum()
        elif column.physics == "direction":
            radians = value.radians()
            result = pl.arctan2(radians.sin().mean(), radians.cos().mean()).degrees() % 360.0
        else:
            result = value.mean()
        expressions.append(pl.when(complete).then(result).otherwise(None).alias(name))
    minutes = int(new_step.total_seconds() // 60)
    return (
        frame.sort("time")
        .group_by_dynamic("time", every=f"{minutes}m")
        .agg(expressions)
        .with_columns(pl.col("time").cast(TIME))
    )


def _known(frame: pl.DataFrame) -> dict[str, WeatherColumn]:
    return {name: column for name, column in (COLUMNS | OPTIONAL_COLUMNS).items() if name in frame.columns}


def _at(fine: np.ndarray, coarse: np.ndarray, values: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Linear between the known stamps; a null interval stays null."""
    known = ~np.isnan(values)
    if not known.any():
        return np.full(fine.shape, np.nan)
    result = np.interp(fine, coarse[known], values[known])
    return np.where(np.isnan(held), np.nan, result)


def _interpolated(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    if not known.any():
        return values
    where = np.arange(values.size)
    return np.interp(where, where[known], values[known])


def _interpolated_angle(values: np.ndarray) -> np.ndarray:
    radians = np.radians(values)
    return _angle(_interpolated(np.sin(radians)), _interpolated(np.cos(radians)))


def _angle(sine: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    return np.degrees(np.arctan2(sine, cosine)) % math.degrees(2 * math.pi)


def _short_gaps(missing: np.ndarray, most: int) -> np.ndarray:
    """Mask of missing values inside runs of at most `most`, with known values on both sides."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], missing.astype(int), [0]))))
    mask = np.zeros(missing.size, dtype=bool)
    for start, end in edges.reshape(-1, 2):
        if start > 0 and end < missing.size and end - start <= most:
            mask[start:end] = True
    return mask
