"""Prophet: trend, weekly and daily seasonality on a short recent window of hourly means."""

# ruff: noqa: ARG002 - one interface for all models; not every model needs all that it is given
from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.timegrid import DAY, local_offset

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.models.base import Table
    from flexergy_pipelines.forecasting.timegrid import Floats

WINDOW_DAYS = 42


class ProphetModel:
    """Additive model of B. Letham and S. Taylor, used where the calendar rules: loads, EVs and prices.

    It is fitted on local clock time, hourly, without a growing trend; between two fits it stays as it was, and the mean
    error of the last day that is known at issue time is taken off the forecast.
    """

    name = "prophet"

    def __init__(self) -> None:
        self.fitted: Floats = np.empty(0)

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        import pandas as pd
        from prophet import Prophet

        # prophet lowers the level again when it is imported
        for noisy in ("cmdstanpy", "prophet"):
            logging.getLogger(noisy).disabled = True

        recent = inputs.series.trimmed()
        recent = recent.since(recent.end - (WINDOW_DAYS if quick else 2 * WINDOW_DAYS) * DAY)
        per_hour = 60 // recent.step
        minutes, values = recent.minutes, recent.values
        local = minutes + local_offset(minutes, inputs.target.time_zone)
        hours = local // 60
        good = np.isfinite(values)
        if good.sum() < 14 * 24 * per_hour:
            raise ValueError(
                f"{inputs.target.name}: {good.sum() * recent.step // DAY} days of values, 14 needed for Prophet"
            )
        unique, inverse = np.unique(hours[good], return_inverse=True)
        mean = np.bincount(inverse, values[good]) / np.bincount(inverse)
        frame = pd.DataFrame({"ds": pd.to_datetime(unique * 3600, unit="s"), "y": mean})
        with warnings.catch_warnings():
            # prophet 1.5 calls pandas functions that pandas 3 has deprecated
            warnings.simplefilter("ignore")
            model = Prophet(
                growth="flat", yearly_seasonality=False, weekly_seasonality=True,  # pyright: ignore[reportArgumentType]
                daily_seasonality=True, uncertainty_samples=0,  # pyright: ignore[reportArgumentType]
            )  # fmt: skip
            model.add_seasonality(name="week_hours", period=7, fourier_order=20, prior_scale=1.0)
            model.fit(frame, seed=seed)
            week = pd.DataFrame({"ds": pd.to_datetime(np.arange(7 * 24) * 3600 + 4 * 86400, unit="s")})
            forecast = model.predict(week)
        # growth is flat and all seasons repeat weekly, so one week from Monday is all that Prophet can say
        self.fitted = np.asarray(forecast["yhat"], dtype=np.float64)

    def predict(self, table: Table, inputs: Inputs) -> Floats:
        if self.fitted.size == 0:
            return np.full(len(table), np.nan)
        zone = inputs.target.time_zone
        step = inputs.series.step

        def at(minutes: np.ndarray) -> Floats:
            local = minutes + local_offset(minutes, zone) - 4 * DAY + step / 2 - 30
            return np.interp(local / 60.0 % 168.0, np.arange(169), np.append(self.fitted, self.fitted[0]))

        issues, inverse = np.unique(table.rows.issue, return_inverse=True)
        correction = np.zeros(issues.size)
        for k, end in enumerate(inputs.past.known_end(issues)):
            past = np.arange(end - DAY, end, step, dtype=np.int64) // step * step
            error = inputs.past.at(past, np.full(past.shape, issues[k])) - at(past)
            error = error[np.isfinite(error)]
            correction[k] = 0.7 * error.mean() if error.size else 0.0
        return at(table.rows.valid) + correction[inverse]
