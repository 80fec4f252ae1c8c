"""When cars come, how long they stay and what they take: published statistics, giving way to a site's own sessions.

The prior are the session statistics of ElaadNL for private, public and workplace charge points in the Netherlands [1]_:
the share of arrivals by quarter of an hour, and the distributions of connection time and of energy. Own sessions count
more the more of them there are: n of them have the weight n / (n + 60).

References
----------
.. [1] ElaadNL, "Charging session statistics", as shipped with EV2Gym 2.0 (S. Orfanoudakis et al., IEEE Transactions on
   Intelligent Transportation Systems, 2024).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.timegrid import DAY

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats

SLOTS = 96
PRIOR_SESSIONS = 60.0
WEEKEND_SHARE = {"private": 1.0, "public": 0.8, "workplace": 0.15}
"""Sessions of a weekend day against those of a working day, assumed until the site's own sessions tell."""

LONGEST_STAY_H = 72.0
SMOOTHING_SLOTS = 2.0


@dataclass(frozen=True)
class SessionStatistics:
    """Distributions of charging sessions of one group of charge points.

    Attributes
    ----------
    per_day : ndarray, shape (2,)
        Sessions of one charge point on a working day and on a weekend day [1/d].
    arrivals : ndarray, shape (2, 96)
        Share of them in each quarter of an hour of the local day.
    stay_h, energy_kwh : ndarray, shape (m,)
        Equally probable pairs of connection time [h] and energy [kWh], in the order of their arrival slot.
    slot : ndarray, shape (m,)
        Quarter of an hour of arrival of each pair; -1 where the two do not depend on it.
    soc_end : float
        State of charge at departure, where cars told it; else 0.9.
    own_weight : float
        Weight of the site's own sessions, 0 to 1.
    """

    per_day: Floats
    arrivals: Floats
    stay_h: Floats
    energy_kwh: Floats
    slot: np.ndarray
    soc_end: float
    own_weight: float

    @property
    def source(self) -> str:
        """``prior``, ``blend`` or ``history``."""
        return "prior" if self.own_weight == 0 else "history" if self.own_weight > 0.9 else "blend"

    def rate(self, minutes: np.ndarray, weekend: np.ndarray) -> Floats:
        """Expected arrivals at one charge point in the quarter of an hour at each local minute of the epoch."""
        kind = weekend.astype(np.int64)
        return self.per_day[kind] * self.arrivals[kind, minutes % DAY // 15]


@lru_cache(maxsize=3)
def prior(usage: str) -> SessionStatistics:
    """Published statistics of one kind of charge point.

    Parameters
    ----------
    usage : str
        ``private``, ``public`` or ``workplace``.

    Raises
    ------
    FileNotFoundError
        The package was installed without its examples.
    """
    arrivals = _column("ev_arrival_distribution.csv", usage)
    arrivals = arrivals / arrivals.sum()
    # both files give the value that a share of the events exceeds: sorted values of equally probable sessions
    stays = np.sort(_column("ev_connection_time_distribution.csv", usage))
    energies = np.sort(_column("ev_energy_distribution.csv", usage))
    energies[-1] = energies[-2]
    return SessionStatistics(
        per_day=np.array([1.0, WEEKEND_SHARE[usage]]),
        arrivals=np.vstack([arrivals, arrivals]),
        stay_h=np.clip(stays, 0.1, LONGEST_STAY_H),
        energy_kwh=np.maximum(energies, 0.1),
        slot=np.full(stays.size, -1),
        soc_end=0.9,
        own_weight=0.0,
    )


def _column(name: str, usage: str) -> Floats:
    from flexergy_pipelines.grid.samples import examples_dir

    with (examples_dir() / "data" / name).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([float(row[usage]) for row in rows])


def learnt(
    sessions: pl.DataFrame,
    base: SessionStatistics,
    *,
    zone: str,
    days: float,
    charge_points: int,
    per_day: float = 1.0,
) -> SessionStatistics:
    """Statistics drawn from the prior to a site's own sessions.

    Parameters
    ----------
    sessions : polars.DataFrame
        ``arrival, departure, energy_kwh, soc_end`` of all charge points of the group.
    base : SessionStatistics
        Prior.
    zone : str
        IANA name of the site's time zone.
    days : float
        Days that the sessions cover [d].
    charge_points : int
        In the group.
    per_day : float
        Sessions of one charge point on a working day that the prior assumes [1/d].
    """
    base = SessionStatistics(
        base.per_day * per_day, base.arrivals, base.stay_h, base.energy_kwh, base.slot, base.soc_end, 0.0
    )
    sessions = sessions.filter(pl.col("energy_kwh") > 0)
    if sessions.is_empty() or days < 1:
        return base
    local = sessions["arrival"].dt.convert_time_zone(zone)
    slot = (local.dt.hour().cast(pl.Int64) * 4 + local.dt.minute().cast(pl.Int64) // 15).to_numpy()
    weekend = (local.dt.weekday() >= 6).to_numpy()
    weight = sessions.height / (sessions.height + PRIOR_SESSIONS)
    arrivals, rates = np.empty((2, SLOTS)), np.empty(2)
    for kind, (share, inside) in enumerate(((5 / 7, ~weekend), (2 / 7, weekend))):
        own = int(inside.sum())
        trust = own / (own + PRIOR_SESSIONS / 2)
        counts = _smoothed(np.bincount(slot[inside], minlength=SLOTS))
        arrivals[kind] = trust * counts / max(counts.sum(), 1.0) + (1 - trust) * base.arrivals[kind]
        observed = own / (charge_points * days * share)
        # days without sessions speak too: the rate is believed by time, not by sessions
        believed = days * share / (days * share + 10.0)
        rates[kind] = believed * observed + (1 - believed) * base.per_day[kind]
    arrivals /= arrivals.sum(axis=1, keepdims=True)
    stays = (sessions["departure"] - sessions["arrival"]).dt.total_minutes().to_numpy() / 60
    copies = max(1, round(weight / max(1 - weight, 1e-3) * base.stay_h.size / sessions.height))
    told = sessions["soc_end"].drop_nulls().mean() if "soc_end" in sessions.columns else None
    return SessionStatistics(
        per_day=rates,
        arrivals=arrivals,
        stay_h=np.concatenate([base.stay_h, np.tile(np.clip(stays, 0.1, LONGEST_STAY_H), copies)]),
        energy_kwh=np.concatenate([base.energy_kwh, np.tile(sessions["energy_kwh"].to_numpy(), copies)]),
        slot=np.concatenate([base.slot, np.tile(slot, copies)]),
        soc_end=float(told) if isinstance(told, float) else base.soc_end,
        own_weight=weight,
    )


def _smoothed(counts: np.ndarray) -> Floats:
    """Counts by quarter of an hour, spread over their neighbours around the clock."""
    reach = np.arange(SLOTS)
    distance = np.minimum(reach, SLOTS - reach)
    kernel = np.exp(-0.5 * (distance / SMOOTHING_SLOTS) ** 2)
    kernel /= kernel.sum()
    return np.real(np.fft.ifft(np.fft.fft(counts) * np.fft.fft(kernel))).clip(min=0.0)


def pairs_at(statistics: SessionStatistics, slot: int, reach: int = 8) -> np.ndarray:
    """Indices of the (stay, energy) pairs that hold for an arrival slot: those near it, and those of any slot."""
    distance = np.abs(statistics.slot - slot)
    near = (statistics.slot < 0) | (np.minimum(distance, SLOTS - distance) <= reach)
    return np.flatnonzero(near) if near.any() else np.arange(statistics.slot.size)
