"""Scenarios of a site: what its sources, consumers and prices may do together, each with its weight."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.dependence import BANDS, learnt_dependence
from flexergy_pipelines.forecasting.solar import sun
from flexergy_pipelines.forecasting.targets import PRICE_ASSET, Target, targets_of
from flexergy_pipelines.forecasting.timegrid import frame_minutes, series_from_frame, to_minute
from flexergy_pipelines.forecasting.trajectories import Dependence, latent_draws, on_quantiles, reduced

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes
    from flexergy_pipelines.store import TenantStore

DRAWS = 256
NIGHT_ELEVATION_DEG = -4.0


@dataclass(frozen=True)
class Scenarios:
    """Trajectories of a site's targets that belong together.

    Attributes
    ----------
    times : tuple of datetime
        Start of each step, UTC.
    values : dict of ndarray, shape (count, steps)
        By (asset, quantity) [kW; EUR/kWh for the day-ahead price].
    probability : ndarray, shape (count,)
        Weight of each scenario; they sum to 1.
    missing : tuple of str
        Targets without a forecast for the whole period; they are not in `values`.
    learnt_days : float
        Days of past forecasts from which the dependence was learnt; 0 when it is assumed.
    """

    times: tuple[datetime, ...]
    values: dict[tuple[str, str], Floats]
    probability: Floats
    missing: tuple[str, ...] = ()
    learnt_days: float = 0.0


@dataclass(frozen=True)
class _Margin:
    """One target's distribution over the period."""

    target: Target
    bands: Floats
    known: Floats = field(default_factory=lambda: np.empty(0))


def draw_scenarios(
    db: TenantStore,
    site_id: str,
    start: datetime,
    end: datetime,
    *,
    step_minutes: int,
    known_at: datetime,
    count: int = 8,
    seed: int = 0,
) -> Scenarios:
    """Draw scenarios from the stored forecasts of a site.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    start, end : datetime
        Period, aware; cut to whole steps.
    step_minutes : int
        Step of the scenarios [min]; coarser forecasts are held, finer ones averaged.
    known_at : datetime
        Only forecasts and prices known by then are used.
    count : int
        Scenarios wanted, at least 1.
    seed : int
        The same seed and data give the same scenarios.

    Returns
    -------
    Scenarios
        Prices that were published are the same in all of them.

    Raises
    ------
    ValueError
        When `count` or `step_minutes` is below 1, or `end` is not after `start`.
    """
    from flexergy_pipelines.store.sites import load_site

    if count < 1 or step_minutes < 1:
        raise ValueError(f"count {count} and step_minutes {step_minutes} must be at least 1")
    if end <= start:
        raise ValueError(f"end {end.isoformat()} is not after start {start.isoformat()}")
    site = load_site(db, site_id)
    first = -(-to_minute(start) // step_minutes) * step_minutes
    minutes = np.arange(first, to_minute(end) - step_minutes + 1, step_minutes, dtype=np.int64)
    margins: list[_Margin] = []
    missing: list[str] = []
    for target in targets_of(site):
        margin = _margin(db, site_id, target, minutes, step=step_minutes, known_at=known_at)
        if margin is None:
            missing.append(target.name)
        else:
            margins.append(margin)
    dependence = learnt_dependence(db, site_id, [margin.target for margin in margins], known_at)
    values, weights = _drawn(margins, dependence, minutes, step=step_minutes, count=count, seed=seed)
    times = tuple(datetime.fromtimestamp(int(minute) * 60, UTC) for minute in minutes)
    return Scenarios(times, values, weights, tuple(missing), dependence.days)


def _drawn(
    margins: list[_Margin], dependence: Dependence, minutes: Minutes, *, step: int, count: int, seed: int
) -> tuple[dict[tuple[str, str], Floats], Floats]:
    if not margins or not minutes.size:
        return {}, np.full(count, 1.0 / count)
    latent = latent_draws(dependence, minutes.size, step / 60, max(DRAWS, 4 * count), seed)
    drawn: dict[tuple[str, str], Floats] = {}
    for k, margin in enumerate(margins):
        lower, upper = bounds_at(margin.target, margin.bands, minutes)
        path = on_quantiles(latent[:, k], margin.bands, lower, upper)
        if margin.known.size:
            path = np.where(np.isfinite(margin.known), margin.known, path)
        drawn[margin.target.asset_id, margin.target.quantity] = path
    kept, weights = reduced(np.hstack([_standardised(path) for path in drawn.values()]), count)
    return {key: path[kept] for key, path in drawn.items()}, weights


def _standardised(path: Floats) -> Floats:
    """Deviation from the mean in units of the target's own spread, so that no target decides alone what is similar."""
    gap = path - path.mean(axis=0)
    spread = float(np.sqrt((gap**2).mean()))
    return gap / spread if spread > 1e-12 else np.zeros_like(gap)


def bounds_at(target: Target, bands: Floats, minutes: Minutes) -> tuple[Floats, Floats]:
    """Physical bounds of a target at each instant: capacity, no negative generation, darkness."""
    size = minutes.size
    if target.kind == "price":
        return np.full(size, -np.inf), np.full(size, np.inf)
    # a forecast below zero says that this consumer can feed in
    lower = np.minimum(0.0, np.nanmin(bands)) if target.kind not in ("pv", "wind") else 0.0
    upper = np.full(size, target.capacity if target.capacity is not None else np.inf)
    if target.kind == "pv" and target.location is not None:
        upper[sun(minutes, target.step_minutes, target.location)[0] < NIGHT_ELEVATION_DEG] = 0.0
    return np.full(size, lower), upper


def _margin(
    db: TenantStore, site_id: str, target: Target, minutes: Minutes, *, step: int, known_at: datetime
) -> _Margin | None:
    from flexergy_pipelines.store.forecasts import read_forecast

    start = datetime.fromtimestamp(int(minutes[0]) * 60, UTC) if minutes.size else known_at
    end = start + timedelta(minutes=step * minutes.size)
    known = np.empty(0)
    if target.asset_id == PRICE_ASSET:
        known = _known_prices(db, site_id, minutes, end, known_at)
    before = start - timedelta(hours=1)
    frame = read_forecast(db, site_id, target.asset_id, target.quantity, before, end, known_at=known_at)
    bands = np.column_stack([_on_grid(frame, name, minutes, step, target.step_minutes) for name in BANDS])
    if known.size:
        bands = np.where(np.isfinite(bands), bands, known[:, None])
    if not np.isfinite(bands).all():
        return None
    return _Margin(target, bands, known)


def _on_grid(frame: pl.DataFrame, column: str, minutes: Minutes, step: int, own_step: int) -> Floats:
    """A column at the wanted steps: held where the forecast is coarser, averaged where it is finer."""
    if frame.is_empty():
        return np.full(minutes.size, np.nan)
    series = series_from_frame(frame, min(own_step, step), column)
    if own_step >= step:
        return series.at(minutes // own_step * own_step)
    parts = np.stack([series.at(minutes + shift) for shift in range(0, step, own_step)])
    return parts.mean(axis=0)


def _known_prices(db: TenantStore, site_id: str, minutes: Minutes, end: datetime, known_at: datetime) -> Floats:
    from flexergy_pipelines.store.prices import read_prices

    start = datetime.fromtimestamp(int(minutes[0]) * 60, UTC) if minutes.size else end
    prices = read_prices(db, site_id, start - timedelta(hours=1), end, known_at=known_at)
    if prices.is_empty():
        return np.full(minutes.size, np.nan)
    stamps, values = frame_minutes(prices["time"]), prices["price_eur_per_kwh"].to_numpy()
    gaps = np.diff(stamps)
    own = int(gaps.min()) if gaps.size else 60
    place = np.searchsorted(stamps, minutes, side="right") - 1
    found = (place >= 0) & (minutes - stamps[np.maximum(place, 0)] < own)
    return np.where(found, values[np.maximum(place, 0)], np.nan)
