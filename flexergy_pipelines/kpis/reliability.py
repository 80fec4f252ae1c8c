"""Reliability: interruption indices of IEEE 1366, and loss of load by a capacity outage table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexergy_pipelines.kpis.flows import Array


@dataclass(frozen=True, slots=True)
class InterruptionIndices:
    """SAIFI [1/period], SAIDI and CAIDI [h], ASAI [fraction], by IEEE Std 1366."""

    saifi: float
    saidi_hours: float
    caidi_hours: float
    asai: float


def interruption_indices(
    interruptions: Sequence[tuple[float, float]],
    customers_served: float,
    period_hours: float,
    *,
    shortest_hours: float = 5 / 60,
) -> InterruptionIndices:
    """Service quality indices of a period.

    Parameters
    ----------
    interruptions : list of (hours, customers)
        Each interruption of a group of customers.
    customers_served : float
        Customers in all.
    period_hours : float
        Length of the period [h].
    shortest_hours : float
        Interruptions up to this are momentary and do not count (IEEE 1366: 5 min).

    Notes
    -----
    ``SAIFI = sum(N_i) / N``, ``SAIDI = sum(r_i N_i) / N``, ``CAIDI = SAIDI / SAIFI``, ``ASAI = 1 - SAIDI / period``.
    IEEE Std 1366-2012, Guide for Electric Power Distribution Reliability Indices.
    """
    sustained = [(hours, customers) for hours, customers in interruptions if hours > shortest_hours]
    saifi = sum(customers for _, customers in sustained) / customers_served
    saidi = sum(hours * customers for hours, customers in sustained) / customers_served
    return InterruptionIndices(saifi, saidi, saidi / saifi if saifi else 0.0, 1 - saidi / period_hours)


@dataclass(frozen=True, slots=True)
class LossOfLoad:
    """Expected hours in which load exceeds capacity [h], and the energy not supplied in them [unit of load x h]."""

    hours: float
    energy: float


def capacity_outage_table(units: Sequence[tuple[float, float]], step: float) -> Array:
    """Probability of each capacity on outage, in multiples of `step`.

    Units (capacity, forced outage rate) are added one after the other:
    ``P_new(x) = (1 - q) P(x) + q P(x - c)`` (Billinton & Allan, Reliability Evaluation of Power Systems, ch. 2).
    """
    table = np.ones(1)
    for capacity, outage_rate in units:
        shift = round(capacity / step)
        grown = np.zeros(table.size + shift)
        grown[: table.size] += (1 - outage_rate) * table
        grown[shift:] += outage_rate * table
        table = grown
    return table


def loss_of_load(
    units: Sequence[tuple[float, float]], load: Array, *, step: float = 1.0, step_hours: float = 1.0
) -> LossOfLoad:
    """LOLE and expected energy not supplied over a load curve.

    Parameters
    ----------
    units : list of (capacity, forced outage rate)
        Generating units; capacities are rounded to multiples of `step`.
    load : array
        Load in each interval, in the unit of the capacities.
    step : float
        Granularity of the outage table.
    step_hours : float
        Length of an interval [h].

    Returns
    -------
    LossOfLoad
        For every interval ``P(capacity available < load)`` and ``E[(load - capacity available)+]``, summed.
    """
    table = capacity_outage_table(units, step)
    available = sum(capacity for capacity, _ in units) - np.arange(table.size) * step
    order = np.argsort(available)
    capacity, probability = available[order], table[order]
    below = np.concatenate([[0.0], np.cumsum(probability)])
    weighted = np.concatenate([[0.0], np.cumsum(probability * capacity)])
    place = np.searchsorted(capacity, np.asarray(load) - 1e-9 * max(step, 1.0), side="left")
    shortfall = np.asarray(load) * below[place] - weighted[place]
    return LossOfLoad(float(below[place].sum() * step_hours), float(shortfall.sum() * step_hours))
