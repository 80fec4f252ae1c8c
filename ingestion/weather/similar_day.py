"""When no provider answers: the day of the past whose weather ran most like the last day's did.

The hours before `now` are compared with the same local hours of every archived day of the same season; the hours that
followed the most similar one stand in for the forecast.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from ingestion.weather.model import COLUMNS, TIME

DAY = timedelta(days=1)
_SEASON_DAYS = 28
_SPREAD = {
    "shortwave_radiation_w_m2": 150.0,
    "temperature_2m_c": 5.0,
    "wind_speed_10m_ms": 2.5,
    "wind_speed_100m_ms": 4.0,
    "cloud_cover_pct": 35.0,
}
"""Typical day-to-day spread of each quantity: what makes distances of different units comparable."""


@dataclass(frozen=True, slots=True)
class SimilarDay:
    """What stands in, and why it was chosen.

    Attributes
    ----------
    frame : polars.DataFrame
        ``time`` and the weather columns for the wanted span.
    days_back : int
        How many days before the wanted span the values were known.
    distance : float or None
        Mean squared distance in units of typical spread; None when the last day was unknown and nearness in time chose.
    """

    frame: pl.DataFrame
    days_back: int
    distance: float | None


def similar_day(archive: pl.DataFrame, start: datetime, end: datetime, step: timedelta) -> SimilarDay | None:
    """Choose the most similar past day for ``[start, end)``.

    Parameters
    ----------
    archive : polars.DataFrame
        ``time`` and weather columns of what was known of the past, regular at `step`.
    start, end : datetime
        Span to stand in for, aware.
    step : timedelta
        Interval of the rows.

    Returns
    -------
    SimilarDay or None
        None when no archived span is complete.
    """
    past = archive.filter(pl.col("time") < start).sort("time").unique("time", keep="last", maintain_order=True)
    if past.is_empty():
        return None
    per_day, wanted = DAY // step, -(-(end - start) // step)
    first = past["time"].dt.truncate(f"{int(step.total_seconds())}s")[0]
    length = (start - first) // step
    if length < wanted:
        return None
    values = _on_axis(past, first, length, step)
    recent = values[-per_day:] if length >= per_day else np.full((per_day, values.shape[1]), np.nan)
    spread = np.array([_SPREAD[name] for name in COLUMNS])
    best: tuple[float, int] | None = None
    nearest: int | None = None
    span_days = -(-wanted // per_day)
    for days_back in range(span_days, length // per_day + 1):
        if not _same_season(days_back):
            continue
        begin = length - days_back * per_day
        follows = values[begin : begin + wanted]
        if follows.shape[0] < wanted or np.isnan(follows).any():
            continue
        nearest = days_back if nearest is None else nearest
        before = values[begin - per_day : begin] if begin >= per_day else None
        if before is None:
            continue
        squares = ((before - recent) / spread) ** 2
        if np.isnan(squares).mean() > 0.5:
            continue
        distance = float(np.nanmean(squares))
        if best is None or distance < best[0]:
            best = (distance, days_back)
    chosen = best[1] if best else nearest
    if chosen is None:
        return None
    begin = length - chosen * per_day
    frame = pl.DataFrame(
        {"time": [start + step * i for i in range(wanted)]}
        | {name: values[begin : begin + wanted, i] for i, name in enumerate(COLUMNS)},
        schema_overrides={"time": TIME},
    )
    return SimilarDay(frame, chosen, best[0] if best else None)


def _on_axis(past: pl.DataFrame, first: datetime, length: int, step: timedelta) -> np.ndarray:
    axis = pl.DataFrame({"time": pl.Series([first + step * i for i in range(length)], dtype=TIME)})
    joined = axis.join(past.select("time", *COLUMNS), on="time", how="left")
    return joined.select(pl.col(list(COLUMNS)).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def _same_season(days_back: int) -> bool:
    around = days_back % 365
    return min(around, 365 - around) <= _SEASON_DAYS
