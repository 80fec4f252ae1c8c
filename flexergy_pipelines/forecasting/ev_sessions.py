"""Charging sessions to come: expectations for the optimizer, and the load they add up to with its quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.ev_statistics import SessionStatistics, learnt, pairs_at, prior
from flexergy_pipelines.forecasting.targets import DEFAULT_QUANTILES
from flexergy_pipelines.forecasting.timegrid import DAY, local_offset, to_minute
from flexergy_pipelines.forecasting.trained import forecast_frame

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes
    from flexergy_pipelines.grid import ChargePoint, EvChargingManager, Site
    from flexergy_pipelines.store import TenantStore

HISTORY_DAYS = 180
CAR_KWH = 60.0
"""Usable battery of a car that does not tell its own [kWh]."""

SLOT = 15
DRAWS = 200
EFFICIENCY = 0.92
LOOK_BACK_H = 24.0


@dataclass(frozen=True)
class ExpectedSession:
    """A session that is expected at a charge point.

    Attributes
    ----------
    id : str
    charge_point : str
    arrival, departure : datetime
        UTC, on quarters of an hour.
    energy_kwh : float
        Energy the car is expected to take at the plug; never more than it can take while it stays.
    max_kw : float
        Largest power of the charge point [kW].
    capacity_kwh : float
        The car's battery.
    soc_start, soc_target : float
        State of charge at arrival and wanted at departure.
    probability : float
        Of its coming: 1 but for the last one of the period, which has what is left of the expected number.
    source : str
        ``history``, ``blend`` or ``prior``.
    """

    id: str
    charge_point: str
    arrival: datetime
    departure: datetime
    energy_kwh: float
    max_kw: float
    capacity_kwh: float
    soc_start: float
    soc_target: float
    probability: float
    source: str


def session_statistics(db: TenantStore, site: Site, asset_id: str, now: datetime) -> SessionStatistics:
    """Statistics of one charging manager's sessions, from its history as far as there is one.

    Raises
    ------
    KeyError
        The site has no charging manager of this name.
    """
    from flexergy_pipelines.store.ev_sessions import read_sessions

    manager = manager_of(site, asset_id)
    own = site.forecasts.of(asset_id)
    sessions = read_sessions(db, site.id, now - timedelta(days=HISTORY_DAYS), now, asset_id)
    # a session that is still going on at `now` is not finished, so it is not in the history
    first = sessions["arrival"].min()
    days = (now - first).total_seconds() / 86400 if isinstance(first, datetime) else 0.0
    return learnt(
        sessions.filter(pl.col("departure") <= now),
        prior(own.ev_usage),
        zone=site.time_zone,
        days=days,
        charge_points=len(manager.charge_points),
        per_day=own.ev_sessions_per_day,
    )


def manager_of(site: Site, asset_id: str) -> EvChargingManager:
    """The charging manager of this asset id."""
    from flexergy_pipelines.grid import EvChargingManager

    found = next((c for c in site.controllers if isinstance(c, EvChargingManager) and c.id == asset_id), None)
    if found is None:
        known = ", ".join(c.id for c in site.controllers if isinstance(c, EvChargingManager)) or "none"
        raise KeyError(f"site {site.id} has no charging manager {asset_id}; it has {known}")
    return found


def expected_sessions(
    db: TenantStore, site_id: str, asset_id: str, start: datetime, end: datetime, *, known_at: datetime
) -> list[ExpectedSession]:
    """The sessions that are expected at a charging manager, as a plan can take them.

    As many sessions as are expected come, evenly over the cumulative rate of arrivals; stay and energy of each are the
    medians for its time of day. Each goes to the charge point that is free first, at most one car at a time.

    Parameters
    ----------
    db : TenantStore
    site_id, asset_id : str
        Site and charging manager.
    start, end : datetime
        Arrivals in this period, aware.
    known_at : datetime
        Only sessions that ended before are used.

    Returns
    -------
    list of ExpectedSession
        By arrival.
    """
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    points = manager_of(site, asset_id).charge_points
    statistics = session_statistics(db, site, asset_id, known_at)
    minutes, rate = _arrival_rate(statistics, site, start, end)
    expected = np.cumsum(rate) * len(points)
    total = float(expected[-1]) if expected.size else 0.0
    whole = int(np.floor(total))
    shares = [1.0] * whole + ([total - whole] if total - whole > 0.05 else [])
    free = {point.id: 0 for point in points}
    found: list[ExpectedSession] = []
    for k, probability in enumerate(shares):
        slot = int(np.searchsorted(expected, min(k + 0.5, total - 0.5 * (total - whole))))
        minute = int(minutes[min(slot, minutes.size - 1)])
        point = min(points, key=lambda p: (free[p.id] > minute, free[p.id], p.id))
        if free[point.id] > minute:
            continue
        stay_h, energy_kwh = _typical(statistics, _slot_of(minute, site))
        steps = max(1, round(stay_h * 60 / SLOT))
        free[point.id] = minute + steps * SLOT
        found.append(_session(asset_id, k, point, minute, steps, energy_kwh, probability, statistics))
    return found


def _session(  # noqa: PLR0917 - the parts of one session
    asset_id: str, number: int, point: ChargePoint, minute: int, steps: int, energy_kwh: float, probability: float,
    statistics: SessionStatistics,
) -> ExpectedSession:  # fmt: skip
    arrival = datetime.fromtimestamp(minute * 60, UTC)
    energy = min(energy_kwh, point.max_kw * steps * SLOT / 60)
    capacity = max(CAR_KWH, energy * EFFICIENCY / statistics.soc_end)
    return ExpectedSession(
        id=f"{asset_id}-{arrival:%m%dT%H%M}-{number}",
        charge_point=point.id,
        arrival=arrival,
        departure=arrival + timedelta(minutes=SLOT * steps),
        energy_kwh=energy,
        max_kw=point.max_kw,
        capacity_kwh=capacity,
        soc_start=float(np.clip(statistics.soc_end - energy * EFFICIENCY / capacity, 0.0, 1.0)),
        soc_target=statistics.soc_end,
        probability=probability,
        source=statistics.source,
    )


def _arrival_rate(statistics: SessionStatistics, site: Site, start: datetime, end: datetime) -> tuple[Minutes, Floats]:
    """Quarters of an hour of the period [min since epoch] and the arrivals expected at one charge point in each."""
    first = -(-to_minute(start) // SLOT) * SLOT
    minutes = np.arange(first, to_minute(end), SLOT, dtype=np.int64)
    local = minutes + local_offset(minutes, site.time_zone)
    weekend = (local // DAY + 3) % 7 >= 5
    return minutes, statistics.rate(local, weekend)


def _slot_of(minute: int, site: Site) -> int:
    stamp = np.array([minute], dtype=np.int64)
    return int((stamp + local_offset(stamp, site.time_zone))[0] % DAY // SLOT)


def _typical(statistics: SessionStatistics, slot: int) -> tuple[float, float]:
    pairs = pairs_at(statistics, slot)
    return float(np.median(statistics.stay_h[pairs])), float(statistics.energy_kwh[pairs].mean())


def session_load(
    statistics: SessionStatistics,
    site: Site,
    asset_id: str,
    minutes: Minutes,
    step: int,
    *,
    draws: int = DRAWS,
    seed: int = 7,
) -> pl.DataFrame:
    """Load of a charging manager if every car charges as fast as it can, with quantiles, by simulating sessions.

    Parameters
    ----------
    statistics : SessionStatistics
    site : Site
    asset_id : str
        The charging manager.
    minutes : ndarray
        Starts of the steps [min since epoch], regular.
    step : int
        Their distance [min], a multiple or a divisor of 15.
    draws : int
        Days simulated.
    seed : int

    Returns
    -------
    polars.DataFrame
        ``time, value, p10..p90`` [kW]; value is the mean.
    """
    manager = manager_of(site, asset_id)
    first = int(minutes[0]) - int(LOOK_BACK_H * 60)
    begin, stop = (datetime.fromtimestamp(m * 60, UTC) for m in (first, int(minutes[-1]) + step))
    slots, rate = _arrival_rate(statistics, site, begin, stop)
    rng = np.random.default_rng(seed)
    power = np.zeros((draws, slots.size))
    for point in manager.charge_points:
        for draw in range(draws):
            _charge(power[draw], rng, slots, rate, point, statistics, site)
    power = np.minimum(power, manager.block.rated_kw)
    place = np.clip((minutes - slots[0]) // SLOT, 0, slots.size - 1)
    if step > SLOT:
        parts = [power[:, np.clip(place + k, 0, slots.size - 1)] for k in range(step // SLOT)]
        chosen = np.mean(parts, axis=0)
    else:
        chosen = power[:, place]
    bands = np.quantile(chosen, DEFAULT_QUANTILES, axis=0).T
    return forecast_frame(minutes, chosen.mean(axis=0), bands, DEFAULT_QUANTILES)


def _charge(  # noqa: PLR0917 - one charge point of one simulated day
    power: Floats, rng: np.random.Generator, slots: Minutes, rate: Floats, point: ChargePoint,
    statistics: SessionStatistics, site: Site,
) -> None:  # fmt: skip
    """Add one charge point's simulated sessions to a draw, one car at a time."""
    free = 0
    for k in np.flatnonzero(rng.random(slots.size) < rate):
        if k < free:
            continue
        pairs = pairs_at(statistics, _slot_of(int(slots[k]), site))
        chosen = int(pairs[rng.integers(pairs.size)])
        steps = max(1, round(float(statistics.stay_h[chosen]) * 60 / SLOT))
        free = int(k) + steps
        left = min(float(statistics.energy_kwh[chosen]), point.max_kw * steps * SLOT / 60)
        for at in range(int(k), min(free, slots.size)):
            taken = min(point.max_kw, left * 60 / SLOT)
            power[at] += taken
            left -= taken * SLOT / 60
            if left <= 0:
                break


def blended(forecast: pl.DataFrame, sessions: pl.DataFrame, own_weight: float) -> pl.DataFrame:
    """Two forecasts ``time, value, p10..p90`` of the same times as one, column by column; quantiles stay sorted."""
    columns = [column for column in forecast.columns if column != "time"]
    both = forecast.join(sessions, on="time", how="inner", suffix="_sessions", maintain_order="left")
    return both.select(
        "time", *((own_weight * pl.col(c) + (1 - own_weight) * pl.col(f"{c}_sessions")).alias(c) for c in columns)
    )
