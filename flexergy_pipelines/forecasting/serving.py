"""Forecasts for every target of a site, always: champion, else previous champion, else similar day, else naive.

Each step down is written with the forecast and raised as an alarm, which is cleared as soon as the champion serves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.fallback import fallback_forecast
from flexergy_pipelines.forecasting.features import Inputs
from flexergy_pipelines.forecasting.live_width import Covered, covered_days, live_width
from flexergy_pipelines.forecasting.monitoring import scope_of
from flexergy_pipelines.forecasting.registered import RegisteredModel
from flexergy_pipelines.forecasting.registry import (
    CHAMPION,
    PREVIOUS,
    ModelMissingError,
    ModelRegistry,
    RegistryUnavailableError,
)
from flexergy_pipelines.forecasting.site_data import chosen_columns, read_histories, read_weather
from flexergy_pipelines.forecasting.targets import Target, targets_of
from flexergy_pipelines.forecasting.timegrid import frame_minutes, series_from_frame, to_minute
from flexergy_pipelines.forecasting.weather import WeatherPanel, build_panel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store import TenantStore

ALARM = "forecast_fallback"
REGISTRY_ALARM = "model_registry_away"
REGISTRY_SEVERITY = 3
WEATHER_KINDS = ("pv", "wind", "load", "controllable_load")
EV_HISTORY_DAYS = 28.0
"""History with which an EV load no longer leans on the statistics of sessions [d]."""

SEVERITY = {1: 3, 2: 2, 3: 2, 4: 2}


@dataclass(frozen=True)
class ServedForecast:
    """One forecast as it was written.

    Attributes
    ----------
    target : Target
    model : str
        What produced it: a champion's name, ``similar_day``, ``naive_week``, ... .
    model_version : str
        Version in the registry, empty for fallbacks.
    fallback_level : int
        0 champion, 1 previous champion, 2 similar day, 3 naive, 4 no history at all.
    reason : str
        Empty when the champion served with all its inputs.
    frame : polars.DataFrame
        ``time, value, p10..p90``.
    """

    target: Target
    model: str
    model_version: str
    fallback_level: int
    reason: str
    frame: pl.DataFrame


def serve_target(
    target: Target,
    history: pl.DataFrame,
    panel: WeatherPanel,
    now: datetime,
    registry: ModelRegistry,
    *,
    covered: Covered | None = None,
) -> ServedForecast:
    """Forecast one target from `now` on with the best that works.

    Parameters
    ----------
    target : Target
    history : polars.DataFrame
        ``time, value``; may be empty.
    panel : WeatherPanel
        May be empty.
    now : datetime
        Issue time, aware.
    registry : ModelRegistry
    covered : list of (datetime, float) or None
        Start of past days and the share of their truths in the bands as served, which widens or narrows the band.

    Returns
    -------
    ServedForecast
        Complete and finite, with sorted quantiles.
    """
    issue = to_minute(now)
    inputs = Inputs(target, series_from_frame(history, target.step_minutes), panel).known_at(issue)
    reasons: list[str] = []
    for level, alias in ((0, CHAMPION), (1, PREVIOUS)):
        model = _model(registry, target.name, alias, reasons)
        if model is None:
            continue
        try:
            width = live_width(covered or [], model.trained.trained_at)
            frame = _generation(model.trained.predict(inputs, issue, width=width), target)
        except Exception as error:  # whatever a model fails with, the site needs a forecast
            reasons.append(f"{alias} {model.version} failed: {type(error).__name__}: {error}")
            continue
        if not _complete(frame):
            reasons.append(f"{alias} {model.version} left values out")
            continue
        missing = _missing_inputs(model, inputs, issue)
        return ServedForecast(
            target, model.trained.champion, model.version, level, "; ".join([*reasons, *missing]), frame
        )
    found = fallback_forecast(inputs, issue)
    return ServedForecast(
        target, found.model, "", found.level, "; ".join([*reasons, *found.reasons]), _generation(found.frame, target)
    )


def weather_stand_in(db: TenantStore, site_id: str, now: datetime, horizon_hours: int) -> str:
    """Says for how long a similar day stands in for the weather forecast; empty when it does not."""
    from flexergy_pipelines.store.weather import SIMILAR_DAY, read_weather

    ahead = read_weather(db, site_id, now, now + timedelta(hours=horizon_hours), known_at=now)
    if ahead.is_empty():
        return ""
    share = float((ahead["provider"] == SIMILAR_DAY).mean() or 0.0)  # pyright: ignore[reportArgumentType]
    return f"weather of a similar day stands in for {share * horizon_hours:.0f} h" if share > 0 else ""


def _by_sessions(
    db: TenantStore, site: Site, forecast: ServedForecast, history: pl.DataFrame, now: datetime
) -> ServedForecast:
    """An EV forecast without a model, drawn to the statistics of charging sessions while its history is short."""
    from flexergy_pipelines.forecasting.ev_sessions import blended, session_load, session_statistics

    target = forecast.target
    days = history.height / 96
    weight = min(1.0, days / EV_HISTORY_DAYS) if forecast.fallback_level < 4 else 0.0
    if weight == 1.0:
        return forecast
    try:
        statistics = session_statistics(db, site, target.asset_id, now)
        load = session_load(
            statistics, site, target.asset_id, frame_minutes(forecast.frame["time"]), target.step_minutes
        )
    except (FileNotFoundError, KeyError) as error:
        return replace(forecast, reason=f"{forecast.reason}; no statistics of charging sessions ({error})")
    model = "ev_sessions" if weight == 0 else f"{forecast.model}+ev_sessions"
    why = f"{days:.1f} days of history; sessions by {statistics.source}, weight {1 - weight:.0%}"
    return replace(
        forecast,
        model=model,
        fallback_level=min(forecast.fallback_level, 3),
        reason="; ".join(filter(None, [forecast.reason, why])),
        frame=blended(forecast.frame, load, weight),
    )


def _model(registry: ModelRegistry, name: str, alias: str, reasons: list[str]) -> RegisteredModel | None:
    try:
        return registry.load(name, alias)
    except RegistryUnavailableError as error:
        kept = registry.remembered(name, alias)
        if kept is None:
            reasons.append(f"{alias}: {error}")
            return None
        reasons.append(f"{error}; the {alias} loaded before serves")
        return kept
    except ModelMissingError as error:
        reasons.append(str(error))
        return None


def _generation(frame: pl.DataFrame, target: Target) -> pl.DataFrame:
    """Plans take a source's forecast as available power, so its own consumption at standstill counts as nothing."""
    if target.kind not in ("pv", "wind"):
        return frame
    return frame.with_columns(pl.exclude("time").clip(lower_bound=0.0))


def _complete(frame: pl.DataFrame) -> bool:
    values = frame.drop("time").to_numpy()
    return values.size > 0 and bool(np.isfinite(values).all())


def _missing_inputs(model: RegisteredModel, inputs: Inputs, issue: int) -> list[str]:
    """What the model had to do without: weather that is gone or ends before the horizon."""
    expected = [c for c in model.trained.features if "|day" in c]
    if not expected:
        return []
    end = issue + model.trained.target.horizon_hours * 60
    valid = inputs.weather.valid
    ahead = valid[valid >= issue] if valid.size else valid
    if ahead.size == 0:
        return ["no weather forecast; weather inputs left empty"]
    if ahead.max() + 60 < end - inputs.series.step:
        return [f"weather known for {(int(ahead.max()) - issue) // 60} h only; empty beyond"]
    return []


def serve_site(
    db: TenantStore, site_id: str, now: datetime, registry: ModelRegistry, *, targets: Sequence[str] | None = None
) -> list[ServedForecast]:
    """Write forecasts for every target of a site, and raise or clear the fallback alarms.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    now : datetime
        Issue time, aware.
    registry : ModelRegistry
        Keeps loaded models in memory, so that the next call is fast.
    targets : sequence of str or None
        Full names of the targets to serve; None serves all.

    Returns
    -------
    list of ServedForecast
        One per target of `targets_of`.
    """
    from flexergy_pipelines.store.alarms import clear_alarm, raise_alarm
    from flexergy_pipelines.store.forecasts import ForecastRun, write_forecast
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    chosen = [target for target in targets_of(site) if targets is None or target.name in targets]
    histories = read_histories(db, site_id, chosen, now)
    weather = read_weather(db, site_id, now, spacing_hours=24)
    panels = {step: build_panel(weather, step, site.time_zone) for step in sorted({t.step_minutes for t in chosen})}
    covered = covered_days(db, site_id, now)
    stand_in = weather_stand_in(db, site_id, now, site.forecasts.horizon_hours)
    served: list[ServedForecast] = []
    for target in chosen:
        panel = chosen_columns(panels[target.step_minutes], site.forecasts.of(target.asset_id).weather_inputs)
        forecast = serve_target(
            target, histories[target.name], panel, now, registry, covered=covered.get(scope_of(target))
        )
        if stand_in and target.kind in WEATHER_KINDS:
            forecast = replace(forecast, reason="; ".join(filter(None, [forecast.reason, stand_in])))
        if target.kind == "ev" and forecast.fallback_level >= 2:
            forecast = _by_sessions(db, site, forecast, histories[target.name], now)
        run = ForecastRun(
            site_id,
            target.asset_id,
            target.quantity,
            now,
            forecast.model,
            forecast.model_version,
            forecast.fallback_level,
            forecast.reason,
        )
        write_forecast(db, run, forecast.frame)
        if forecast.fallback_level == 0:
            clear_alarm(db, site_id, ALARM, target.asset_id)
        else:
            message = f"{target.asset_id}: forecast by {forecast.model} ({forecast.reason})"
            raise_alarm(db, site_id, ALARM, SEVERITY[forecast.fallback_level], message, target.asset_id)
        served.append(forecast)
    if registry.reachable is False:
        stand_ins = sum(forecast.fallback_level > 0 for forecast in served)
        message = (
            f"the model registry is away; {len(served) - stand_ins} of {len(served)} forecasts by models kept here"
        )
        raise_alarm(db, site_id, REGISTRY_ALARM, REGISTRY_SEVERITY, message)
    elif registry.reachable:
        clear_alarm(db, site_id, REGISTRY_ALARM)
    return served
