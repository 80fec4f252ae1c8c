"""How good the served forecasts were, day by day and target by target, and whether that calls for a new training.

The figures of a day are computed from the forecasts as they were stored with their issue times, not from a backtest.
They are kept in the table of indicators under the period kind ``monitoring``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting import scores
from flexergy_pipelines.forecasting.drift import RECENT_DAYS, seasonal_index, usual_index
from flexergy_pipelines.forecasting.exclusions import ESTIMATED
from flexergy_pipelines.forecasting.site_data import HISTORY_DAYS, read_measured
from flexergy_pipelines.forecasting.targets import DEFAULT_QUANTILES, Target, targets_of
from flexergy_pipelines.forecasting.timegrid import Series, frame_minutes, series_from_frame, to_minute, wall_lag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes
    from flexergy_pipelines.store import TenantStore

PERIOD_KIND = "monitoring"
LEADS_H: tuple[tuple[int, int], ...] = ((0, 6), (6, 12), (12, 24), (24, 48))
"""Bands of lead time over which errors are averaged [h]."""

PSI_WEATHER = ("shortwave_radiation_w_m2", "temperature_2m_c", "wind_speed_100m_ms")
BANDS = tuple(f"p{level}" for level in range(10, 100, 10))
LEAST_SHARE = 0.25
"""A day counts for scores when at least this share of its intervals has both forecast and measurement."""


def lead_name(band: tuple[int, int]) -> str:
    """Name of the indicator of one band of lead time, e.g. ``mae_00_06h``."""
    return f"mae_{band[0]:02d}_{band[1]:02d}h"


@dataclass(frozen=True)
class DayFigures:
    """What one local day of one target's forecasts came to.

    Attributes
    ----------
    target : Target
    day_start : datetime
        Local midnight, aware.
    values : dict
        ``mae``, ``bias``, ``pinball``, ``naive_mae`` and the errors by lead [unit of the target]; ``coverage_80``,
        ``fallback_share``, ``input_quality`` (shares); ``psi_target``, ``psi_weather``.
    share : float
        Share of the day's intervals that could be compared.
    """

    target: Target
    day_start: datetime
    values: dict[str, float] = field(default_factory=dict)
    share: float = 0.0

    @property
    def scope(self) -> str:
        return scope_of(self.target)


def scope_of(target: Target) -> str:
    """Under which scope a target's indicators are kept, e.g. ``load-1/active_power_kw``."""
    return f"{target.asset_id}/{target.quantity}"


def day_bounds(day: date, target: Target) -> tuple[datetime, datetime]:
    """Start and end of a local day of 23, 24 or 25 hours."""
    return (
        datetime.combine(day, time(), target.zone).astimezone(UTC),
        datetime.combine(day + timedelta(days=1), time(), target.zone).astimezone(UTC),
    )


def score_day(issues: pl.DataFrame, truth: Series, target: Target, day: date) -> DayFigures:
    """Compare every stored forecast of a local day with what was measured.

    Parameters
    ----------
    issues : polars.DataFrame
        ``issued_at, time, value, p10..p90, fallback_level`` of this target.
    truth : Series
        Measured, at least from a week before the day, NaN where unknown.
    target : Target
    day : date
        Local day.
    """
    start, end = day_bounds(day, target)
    size = (to_minute(end) - to_minute(start)) // target.step_minutes
    found = issues.filter((pl.col("time") >= start) & (pl.col("time") < end)) if issues.height else issues
    if found.is_empty():
        return DayFigures(target, start)
    valid, issue = frame_minutes(found["time"]), frame_minutes(found["issued_at"])
    actual, value = truth.at(valid), found["value"].to_numpy()
    good = np.isfinite(actual) & np.isfinite(value)
    share = np.unique(valid[good]).size / size
    figures = {"fallback_share": float((found["fallback_level"] > 0).mean() or 0.0)}  # pyright: ignore[reportArgumentType]
    if share >= LEAST_SHARE:
        band = found.select(BANDS).to_numpy().astype(np.float64)
        figures |= _errors(actual, value, band, (valid - issue) / 60)
        unique = np.unique(valid[good])
        naive = truth.at(wall_lag(unique, 7, target.time_zone))
        figures["naive_mae"] = scores.mae(truth.at(unique), naive)
    return DayFigures(target, start, {k: v for k, v in figures.items() if np.isfinite(v)}, min(share, 1.0))


def _errors(actual: Floats, value: Floats, band: Floats, lead_h: Floats) -> dict[str, float]:
    known = np.isfinite(actual)
    figures = {
        "mae": scores.mae(actual, value),
        "bias": float((value - actual)[known].mean()),
        "pinball": scores.pinball(actual[known], band[known], DEFAULT_QUANTILES),
        "coverage_80": scores.coverage(actual[known], band[known, 0], band[known, -1]),
    }
    for low, high in LEADS_H:
        inside = (lead_h >= low) & (lead_h < high)
        figures[lead_name((low, high))] = scores.mae(actual[inside], value[inside])
    return figures


def monitor_day(db: TenantStore, site_id: str, day: date, now: datetime) -> list[DayFigures]:
    """Compute and store the figures of a local day for every target of a site.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    day : date
        Local day that is over; the same day again replaces its figures.
    now : datetime
        Aware.

    Returns
    -------
    list of DayFigures
        One per target.
    """
    from flexergy_pipelines.store.forecast_issues import read_forecast_issues
    from flexergy_pipelines.store.sites import load_site
    from flexergy_pipelines.store.weather import read_weather

    site = load_site(db, site_id)
    targets = targets_of(site)
    if not targets:
        return []
    start, end = day_bounds(day, targets[0])
    moment = min(now, end)
    issues = read_forecast_issues(db, site_id, start, end)
    measured = read_measured(db, site_id, targets, moment, HISTORY_DAYS)
    weather = read_weather(db, site_id, moment - timedelta(days=HISTORY_DAYS), moment, known_at=moment)
    trained = last_trainings(db, site_id, moment)
    weather_psi = _weather_drift(weather, min(trained.values(), default=moment), moment)
    found: list[DayFigures] = []
    for target in targets:
        frame = measured[target.name]
        usable = frame.filter(~pl.col("flag").is_in(list(ESTIMATED)).fill_null(value=False))
        truth = series_from_frame(usable.select("time", "value"), target.step_minutes)
        own = issues.filter((pl.col("asset_id") == target.asset_id) & (pl.col("quantity") == target.quantity))
        figures = score_day(own, truth, target, day)
        until, end_minute = to_minute(trained.get(scope_of(target), moment)), to_minute(moment)
        values = _levelled(truth, target)
        drift = {
            "psi_target": seasonal_index(truth.minutes, values, until, end_minute),
            "psi_target_usual": usual_index(truth.minutes, values, end_minute),
        }
        if target.kind in ("pv", "wind", "load"):
            drift["psi_weather"], drift["psi_weather_usual"] = weather_psi
        drift["input_quality"] = _quality(usable, start, end, target)
        kept = {name: value for name, value in drift.items() if np.isfinite(value)}
        found.append(DayFigures(target, start, figures.values | kept, figures.share))
    _store(db, site_id, found)
    return found


def _quality(usable: pl.DataFrame, start: datetime, end: datetime, target: Target) -> float:
    """Share of the day's values that were measured and are good."""
    inside = usable.filter((pl.col("time") >= start) & (pl.col("time") < end)).drop_nulls("value")
    step = 15 if target.kind != "price" else 60
    return min(1.0, inside.height * step * 60 / (end - start).total_seconds())


def _levelled(truth: Series, target: Target) -> Floats:
    """A price less its mean of the last four weeks: its level wanders, and models follow it by their lags."""
    if target.kind != "price":
        return truth.values
    width = RECENT_DAYS * target.steps_per_day
    mean = pl.Series(truth.values).fill_nan(None).rolling_mean(width, min_samples=width // 4)
    return truth.values - mean.fill_null(float("nan")).to_numpy()


def _weather_drift(weather: pl.DataFrame, trained_until: datetime, now: datetime) -> tuple[float, float]:
    """Stability index of the weather input that is furthest from its usual one, and that usual one."""
    nothing = (float("nan"), float("nan"))
    if weather.is_empty():
        return nothing
    minutes: Minutes = frame_minutes(weather["time"])
    found: list[tuple[float, float]] = []
    for name in PSI_WEATHER:
        values = weather[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        index = seasonal_index(minutes, values, to_minute(trained_until), to_minute(now))
        if np.isfinite(index):
            found.append((index, usual_index(minutes, values, to_minute(now))))
    return max(found, key=lambda pair: pair[0] / max(np.nan_to_num(pair[1]), 0.1), default=nothing)


def last_trainings(db: TenantStore, site_id: str, at: datetime) -> dict[str, datetime]:
    """When the model that served at an instant was trained, by scope."""
    from flexergy_pipelines.store.kpis_table import read_kpis

    rows = read_kpis(db, site_id, at - timedelta(days=HISTORY_DAYS), at, period_kind="training", kpi="forecast_mae")
    return {row["scope"]: row["period_start"] for row in rows.sort("period_start").iter_rows(named=True)}


UNITS = {
    "coverage_80": "1",
    "fallback_share": "1",
    "input_quality": "1",
    "psi_target": "1",
    "psi_weather": "1",
    "psi_target_usual": "1",
    "psi_weather_usual": "1",
    "retrain": "1",
}


def _store(db: TenantStore, site_id: str, found: Iterable[DayFigures]) -> None:
    rows = [
        (figures.scope, figures.day_start, name, value, UNITS.get(name, figures.target.unit), figures.share, None)
        for figures in found
        for name, value in figures.values.items()
    ]
    write_figures(db, site_id, rows)


def write_figures(
    db: TenantStore, site_id: str, rows: Sequence[tuple[str, datetime, str, float, str, float, str | None]]
) -> None:
    """Store figures: (scope, day start, name, value, unit, coverage, reference) each."""
    from flexergy_pipelines.store.kpis_table import write_kpis

    if not rows:
        return
    frame = pl.DataFrame(
        rows,
        schema={
            "scope": pl.String,
            "period_start": pl.Datetime("us", "UTC"),
            "kpi": pl.String,
            "value": pl.Float64,
            "unit": pl.String,
            "coverage": pl.Float64,
            "reference": pl.String,
        },
        orient="row",
    )
    write_kpis(db, site_id, frame.with_columns(period_kind=pl.lit(PERIOD_KIND)))
