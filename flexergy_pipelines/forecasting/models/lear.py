"""LEAR: one lasso per hour on all hours of the past days, averaged over short and long calibration windows."""

# ruff: noqa: ARG002 - one interface for all models; not every model needs all that it is given
from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flexergy_pipelines.forecasting.models.daily import PRICE_LAGS, Days, Squash, day_rows
from flexergy_pipelines.forecasting.timegrid import DAY, local_offset

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.models.base import Table
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

MIN_DAYS = 56
WINDOWS_DAYS = (84, 364, 1092)
REFIT_DAYS = 7


@dataclass
class _Linear:
    """Lassos of all hours for one window: coefficients in standardised, squashed units."""

    squash: Squash
    mean: Floats
    scale: Floats
    fill: Floats
    beta: Floats
    intercept: Floats

    def predict(self, X: Floats, hourly: int) -> Floats:
        filled = prepared(X, self.squash, self.fill, hourly)
        standard = np.clip((filled - self.mean) / self.scale, -6.0, 6.0)
        return self.squash.back(standard @ self.beta + self.intercept)


def prepared(X: Floats, squash: Squash, fill: Floats, hourly: int) -> Floats:
    """Past values squashed like the target, gaps filled."""
    out = X.copy()
    out[:, :hourly] = squash.forward(X[:, :hourly])
    return np.where(np.isfinite(out), out, fill)


class Lear:
    """Lasso estimated autoregression of day-ahead prices [1]_, one set for each number of days to the newest known day.

    Windows that hold too few days are left out. Asked to forecast far past its last fit (in backtests), it re-estimates
    itself every week, always on what was known at the issue of the forecast.

    References
    ----------
    .. [1] B. Uniejewski, J. Nowotarski, R. Weron, "Automated variable selection and shrinkage for day-ahead electricity
       price forecasting", Energies 9(8), 2016.
    """

    name = "lear"

    def __init__(self) -> None:
        self.sets: dict[tuple[int, int], list[_Linear]] = {}
        self.cutoff = 0
        self.quick = False

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        self.quick, self.sets = quick, {}
        self.cutoff = inputs.series.end
        days = int(np.isfinite(inputs.series.values).sum()) * inputs.series.step // DAY
        if days < MIN_DAYS + 8:
            raise ValueError(f"{inputs.target.name}: {days} days of values, {MIN_DAYS + 8} needed for LEAR")
        for lag, lead in day_shapes(table, inputs)[:2]:
            self.sets[lag, lead] = _fit_windows(inputs, lag, lead, quick=quick)

    def predict(self, table: Table, inputs: Inputs) -> Floats:
        out = np.full(len(table), np.nan)
        rows, zone = table.rows, inputs.target.time_zone
        local = rows.valid + local_offset(rows.valid, zone)
        day, hour = local // DAY, local % DAY // 60
        lags, leads = lag_and_lead(rows.issue, day, inputs)
        age = np.maximum(0, (rows.issue - self.cutoff) // (REFIT_DAYS * DAY))
        keys = np.stack([age, rows.issue, day, lags, leads], axis=1)
        unique, inverse = np.unique(keys, axis=0, return_inverse=True)
        fitted: dict[tuple[int, int], list[_Linear]] = dict(self.sets)
        current = 0
        for k, (week, issue, local_day, lag, lead) in enumerate(unique):
            known = inputs.known_at(int(issue))
            if week != current and not self.quick:
                fitted, current = {}, int(week)
            models = self._models(fitted, int(lag), int(lead), known, refit=week > 0 and not self.quick)
            if not models:
                continue
            days = day_rows(known, np.array([local_day], dtype=np.int64), int(lag), int(lead))
            forecast = np.mean([model.predict(days.X, hourly_columns()) for model in models], axis=0)[0]
            chosen = inverse.reshape(-1) == k
            out[chosen] = forecast[hour[chosen]]
        return out

    @staticmethod
    def _models(
        fitted: dict[tuple[int, int], list[_Linear]], lag: int, lead: int, known: Inputs, *, refit: bool
    ) -> list[_Linear]:
        """The set of this shape, newly estimated in backtests; else the one with the same lag."""
        if (lag, lead) in fitted:
            return fitted[lag, lead]
        if refit:
            fitted[lag, lead] = _fit_windows(known, lag, lead, quick=False)
            return fitted[lag, lead]
        return next((models for (other, _), models in fitted.items() if other == lag), [])


def hourly_columns() -> int:
    """How many of the leading features are past values of the target."""
    return 24 * (len(PRICE_LAGS) + 1)


def lag_and_lead(issue: Minutes, day: Minutes, inputs: Inputs) -> tuple[Minutes, Minutes]:
    """Days back to the newest day known in full, and minutes from issue to the start of the day (whole hours)."""
    zone = inputs.target.time_zone
    known = inputs.past.known_end(issue)
    known_day = (known + local_offset(known, zone)) // DAY
    start = day * DAY - local_offset(day * DAY, zone)
    return np.maximum(1, day - known_day + 1), (start - issue) // 60 * 60


def day_shapes(table: Table, inputs: Inputs) -> list[tuple[int, int]]:
    """Pairs of lag and lead that the table holds most often, one per lag."""
    rows = table.rows
    day = (rows.valid + local_offset(rows.valid, inputs.target.time_zone)) // DAY
    lags, leads = lag_and_lead(rows.issue, day, inputs)
    found: list[tuple[int, int]] = []
    for lag in np.unique(lags)[:2]:
        values, counts = np.unique(leads[lags == lag], return_counts=True)
        found.append((int(lag), int(values[np.argmax(counts)])))
    return found


def training_days(inputs: Inputs, lag: int, lead: int, most: int) -> Days:
    """The newest `most` days whose values are known in full or nearly so."""
    zone, series = inputs.target.time_zone, inputs.series
    last = (series.end + int(local_offset(np.array([series.end], dtype=np.int64), zone)[0])) // DAY
    first = max(series.start // DAY + 1, last - most)
    days = day_rows(inputs, np.arange(first, last, dtype=np.int64), lag, lead)
    enough = (np.isfinite(days.Y).sum(axis=1) >= 20) & (np.isfinite(days.X[:, : hourly_columns()]).mean(axis=1) > 0.6)
    return Days(days.X[enough], days.Y[enough])


def _fit_windows(inputs: Inputs, lag: int, lead: int, *, quick: bool) -> list[_Linear]:
    days = training_days(inputs, lag, lead, 364 if quick else WINDOWS_DAYS[-1])
    count = days.Y.shape[0]
    if count < MIN_DAYS:
        return []
    longest = min(count, WINDOWS_DAYS[-1])
    windows = sorted({*(w for w in WINDOWS_DAYS if w < 0.9 * longest), longest}, reverse=True)
    if quick:
        windows = [longest]
    from threadpoolctl import threadpool_limits

    models: list[_Linear] = []
    noise: Floats | None = None
    for window in windows:
        with threadpool_limits(1):
            model, residual = _fit_window(Days(days.X[-window:], days.Y[-window:]), noise)
        noise = residual if noise is None else noise
        models.append(model)
    return models


def _fit_window(days: Days, noise: Floats | None) -> tuple[_Linear, Floats]:
    """Lassos of the 24 hours, penalty by Akaike's criterion.

    Parameters
    ----------
    days : Days
    noise : ndarray, shape (24,), or None
        Residual variance that is known from a longer window; None estimates it from this one.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lasso_path

    squash = Squash.of(days.Y)
    squashed = days.X.copy()
    squashed[:, : hourly_columns()] = squash.forward(days.X[:, : hourly_columns()])
    good = np.isfinite(squashed)
    fill = np.where(good, squashed, 0.0).sum(axis=0) / np.maximum(good.sum(axis=0), 1)
    X = np.where(good, squashed, fill)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    Z = np.asfortranarray((X - mean) / scale)
    Y = squash.forward(days.Y)
    n, p = Z.shape
    beta, intercept, variance = np.zeros((p, 24)), np.zeros(24), np.zeros(24)
    gram = Z.T @ Z
    for hour in range(24):
        y = Y[:, hour]
        y = np.where(np.isfinite(y), y, np.nanmean(y) if np.isfinite(y).any() else 0.0)
        intercept[hour] = y.mean()
        centred = y - intercept[hour]
        highest = float(np.abs(Z.T @ centred).max()) / n
        if highest < 1e-12:
            continue
        alphas = highest * np.geomspace(1.0, 4e-3, 22)
        with warnings.catch_warnings():
            # nearly converged is near enough at the loose end of the path, which is rarely chosen
            warnings.simplefilter("ignore", ConvergenceWarning)
            options: dict[str, Any] = {
                "precompute": gram,
                "Xy": Z.T @ centred,
                "tol": 1e-3,
                "max_iter": 300,
                "check_input": False,
            }
            _, path, _ = lasso_path(Z, centred, alphas=alphas, **options)
        residuals = centred[:, None] - Z @ path
        rss = (residuals**2).sum(axis=0)
        freedom = (path != 0).sum(axis=0)
        fits = freedom < 0.7 * n
        if noise is None:
            criterion = n * np.log(np.maximum(rss, 1e-12) / n) + 2 * freedom
        else:
            criterion = rss / max(float(noise[hour]), 1e-9) + 2 * freedom
        best = int(np.argmin(np.where(fits, criterion, np.inf)))
        beta[:, hour] = path[:, best]
        variance[hour] = rss[best] / max(n - int(freedom[best]), 1)
    return _Linear(squash, mean, scale, fill, beta, intercept), variance
