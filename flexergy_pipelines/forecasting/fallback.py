"""Forecasts without any trained model: similar day, naive, and a guess where nothing was ever measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.backtest import naive_sigma
from flexergy_pipelines.forecasting.bounds import bounds_of
from flexergy_pipelines.forecasting.features import Inputs, generic_power_curve
from flexergy_pipelines.forecasting.models.naive import NAIVE_NAMES, Naive
from flexergy_pipelines.forecasting.models.similar_day import SimilarDay
from flexergy_pipelines.forecasting.schedule import issue_rows
from flexergy_pipelines.forecasting.solar import sun
from flexergy_pipelines.forecasting.targets import DEFAULT_QUANTILES
from flexergy_pipelines.forecasting.trained import forecast_frame
from flexergy_pipelines.forecasting.weather import WIND_ANY

if TYPE_CHECKING:
    import polars as pl

    from flexergy_pipelines.forecasting.features import Rows
    from flexergy_pipelines.forecasting.timegrid import Floats

# any constant gives the plan no reason to shift energy, which is the right thing when prices are not known at all
UNKNOWN_PRICE_EUR_PER_KWH = 0.1
CLEAR_SKY_SHARE = 0.4
WIND_CAPACITY_FACTOR = 0.25


@dataclass(frozen=True)
class Fallback:
    """A forecast by a rule, how far down the chain it stands (2 similar day, 3 naive, 4 guess), and why."""

    frame: pl.DataFrame
    model: str
    level: int
    reasons: list[str]


def fallback_forecast(inputs: Inputs, issue: int) -> Fallback:
    """Forecast by similar day; gaps by the naives; and by the configuration where there is no history.

    Parameters
    ----------
    inputs : Inputs
        As known at `issue`.
    issue : int
        [min since epoch]
    """
    target = inputs.target
    rows = issue_rows(issue, target.horizon_hours, target.step_minutes)
    value = np.full(len(rows), np.nan)
    model, level, reasons = "", 4, []
    if np.isfinite(inputs.series.values).any():
        similar = SimilarDay().forecast(rows, inputs)
        good = np.isfinite(similar)
        if good.mean() >= 0.9:
            model, level = "similar_day", 2
            value[good] = similar[good]
        else:
            reasons.append("no similar day in the history")
        for name in NAIVE_NAMES:
            missing = np.isnan(value)
            if not missing.any():
                break
            value[missing] = Naive(name).forecast(rows.take(missing), inputs)
            if not model and np.isfinite(value).any():
                model, level = name, 3
        if np.isnan(value).any():
            recent = inputs.series.values[np.isfinite(inputs.series.values)][-target.steps_per_day :]
            value[np.isnan(value)] = float(recent.mean())
            if not model:
                model, level = "last_day_mean", 3
                reasons.append("no recent values")
    else:
        reasons.append("no history at all")
        model, value = "configuration", _guess(rows, inputs)
    bounds = bounds_of(inputs)
    value = bounds.clip(value, rows.valid, target)
    sigma = naive_sigma(inputs.series)
    if sigma == 0.0 and level == 4:
        sigma = 0.5 * float(np.abs(value).max())
    from scipy.stats import norm

    band = value[:, None] + sigma * np.asarray(norm.ppf(DEFAULT_QUANTILES))[None, :]
    band = bounds.clip(band, rows.valid, target)
    return Fallback(forecast_frame(rows.valid, value, band, DEFAULT_QUANTILES), model, level, reasons)


def _guess(rows: Rows, inputs: Inputs) -> Floats:
    target = inputs.target
    capacity = target.capacity or 0.0
    if target.kind == "pv" and target.location is not None:
        return CLEAR_SKY_SHARE * capacity * sun(rows.valid, target.step_minutes, target.location)[2] / 1000.0
    if target.kind == "wind":
        columns = inputs.weather.columns
        speed = next((i for i, c in enumerate(columns) if WIND_ANY.search(c) and "|" not in c), None)
        if speed is not None:
            share = generic_power_curve(inputs.weather.lookup(rows.valid, rows.issue)[:, speed])
            return capacity * np.where(np.isfinite(share), share, WIND_CAPACITY_FACTOR)
        return np.full(len(rows), capacity * WIND_CAPACITY_FACTOR)
    return np.full(len(rows), UNKNOWN_PRICE_EUR_PER_KWH if target.kind == "price" else 0.0)
