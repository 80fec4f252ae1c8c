"""What today's peak is worth in a billing period that is not over: no more than the days to come leave of it.

A demand charge bills the highest import of a whole period. On its first day nothing is paid for yet, but whatever the
later days will need anyhow costs nothing more today. How far storage could hold each of the last weeks' days says what
that is: with ``F(p)`` the share of days that could be held at ``p`` or below and ``n`` days to come, a kilowatt above
``p`` is worth the charge times ``F(p) ** n``, the chance that no later day needs as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.optimization.series import FloatArray

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

DAYS_BACK = 28
FEWEST_DAYS = 7
LEAST_SHARE = 0.01
MOST_LEVELS = 6
_QUARTERS = 96
_HOURS = 0.25
_HALVINGS = 24


def peaks_within_reach(net_kw: FloatArray, power_kw: float, energy_kwh: float, efficiency: float) -> FloatArray:
    """The lowest peak at which storage could hold the import of each day, known in advance.

    Parameters
    ----------
    net_kw : ndarray of shape (days, 96)
        Import without storage in each quarter of an hour (kW); no missing values.
    power_kw, energy_kwh : float
        Power and usable energy of the storage.
    efficiency : float
        Delivered over charged, for both ways together.

    Returns
    -------
    ndarray of shape (days,)
        Peak (kW), not below zero; storage ends the day with at least what it began with.
    """
    highest = np.maximum(net_kw.max(axis=1), 0.0)
    if power_kw <= 0 or energy_kwh <= 0:
        return highest
    low, high = np.maximum(highest - power_kw, 0.0), highest
    for _ in range(_HALVINGS):
        level = (low + high) / 2
        holds = _holds(net_kw, level, power_kw=power_kw, energy_kwh=energy_kwh, efficiency=efficiency)
        low, high = np.where(holds, low, level), np.where(holds, level, high)
    return high


def _holds(
    net_kw: FloatArray, level_kw: FloatArray, *, power_kw: float, energy_kwh: float, efficiency: float
) -> np.ndarray:
    """Whether each day stays at its level when the day is lived through twice, so that what is used comes back."""
    stored = np.full(level_kw.size, energy_kwh)
    holds = np.ones(level_kw.size, dtype=bool)
    for begins in (False, True):
        first = stored.copy()
        for quarter in range(net_kw.shape[1]):
            over = net_kw[:, quarter] - level_kw
            given = np.clip(over, 0.0, power_kw)
            taken = np.clip(-over, 0.0, power_kw)
            stored = np.minimum(stored - given * _HOURS + taken * _HOURS * efficiency, energy_kwh)
            if begins:
                holds &= (over <= power_kw + 1e-9) & (stored >= -1e-9)
        if begins:
            holds &= stored >= first - 1e-6 * energy_kwh
    return holds


def worth_by_level(peaks_kw: Sequence[float], days_to_come: int, paid_kw: float) -> list[tuple[float, float]]:
    """Shares of a demand charge by the peak from which each counts: ``(kW, share)``, rising; the shares sum up to one.

    Parameters
    ----------
    peaks_kw : sequence of float
        Peaks within reach of earlier days; fewer than :data:`FEWEST_DAYS` say nothing, and all counts from `paid_kw`.
    days_to_come : int
        Days of the billing period behind the plan.
    paid_kw : float
        Peak that is paid for already. A small share always counts from there.
    """
    if len(peaks_kw) < FEWEST_DAYS or days_to_come <= 0:
        return [(paid_kw, 1.0)]
    levels, counts = np.unique(np.maximum(np.sort(np.asarray(peaks_kw, dtype=np.float64)), paid_kw), return_counts=True)
    reached = (np.cumsum(counts) / len(peaks_kw)) ** days_to_come
    shares = np.diff(reached, prepend=0.0) * (1 - LEAST_SHARE)
    # Levels in a few groups of about the same weight.
    groups = np.minimum((np.cumsum(shares) - shares / 2) * MOST_LEVELS, MOST_LEVELS - 1e-9).astype(int)
    worth = {paid_kw: LEAST_SHARE}
    for group in np.unique(groups):
        inside = groups == group
        share = float(shares[inside].sum())
        if share > 0:
            level = max(round(float(np.average(levels[inside], weights=shares[inside])), 1), paid_kw)
            worth[level] = worth.get(level, 0.0) + share
    return sorted(worth.items())


def read_peaks_within_reach(db: TenantStore, site: Site, now: datetime) -> tuple[float, ...]:
    """Peaks that storage could have held the last weeks' days at (kW), those that were measured whole.

    Empty where the site pays no demand charge.
    """
    from flexergy_pipelines.store.clean import read_clean

    if site.tariff.demand_charge_eur_per_kw_month <= 0:
        return ()
    today = datetime.combine(now.astimezone(site.zone).date(), time(0), site.zone)
    first = today - timedelta(days=DAYS_BACK)
    stores = [ess for ess in site.ess() if ess.in_service]
    points = [(name, "active_power_kw") for name in (site.grid_connection.id, *(ess.id for ess in site.ess()))]
    rows = read_clean(db, site.id, first, today, points).filter(pl.col("value").is_not_null())
    # Without storage the connection would have carried what storage gave.
    net = rows.group_by("time").agg(pl.col("value").sum(), pl.len()).filter(pl.col("len") == len(points))
    days = (
        net.sort("time")
        .with_columns(pl.col("time").dt.convert_time_zone(str(site.zone)).dt.date().alias("day"))
        .group_by("day", maintain_order=True)
        .agg("value")
        .filter(pl.col("value").list.len() == _QUARTERS)
    )
    if days.is_empty():
        return ()
    net_kw = np.array(days["value"].to_list(), dtype=np.float64)
    usable = [
        ess.energy_capacity_kwh * ess.soh * (ess.soc_max - ess.soc_min) * ess.discharge_efficiency for ess in stores
    ]
    both_ways = [ess.charge_efficiency * ess.discharge_efficiency for ess in stores]
    found = peaks_within_reach(
        net_kw,
        sum(min(ess.max_charge_kw, ess.max_discharge_kw) for ess in stores),
        sum(usable),
        float(np.mean(both_ways)) if both_ways else 1.0,
    )
    return tuple(found.round(1).tolist())
