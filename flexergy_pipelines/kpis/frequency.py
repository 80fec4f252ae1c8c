"""Frequency control: delivered power against a P(f) curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexergy_pipelines.kpis.flows import Array


@dataclass(frozen=True, slots=True)
class FrequencyResponse:
    """How well a P(f) curve was followed.

    Attributes
    ----------
    share_within : float or None
        Share of the activated time with delivered power within tolerance; None when never activated.
    activated_hours : float
        Time in which the curve asked for power [h].
    energy_up_kwh, energy_down_kwh : float
        Energy asked and delivered to raise, and to lower, the frequency [kWh].
    """

    share_within: float | None
    activated_hours: float
    energy_up_kwh: float
    energy_down_kwh: float


def asked_power(frequency_hz: Array, curve: Sequence[tuple[float, float]]) -> Array:
    """Power that a P(f) curve asks for [kW]: linear between its points, constant beyond them.

    Parameters
    ----------
    frequency_hz : array
        Frequency of each sample [Hz].
    curve : sequence of (frequency_hz, power_kw)
        Points in rising frequency; positive power raises the frequency.
    """
    points = np.array(sorted(curve), dtype=float)
    return np.interp(frequency_hz, points[:, 0], points[:, 1])


def droop_curve(
    reference_kw: float, droop: float, *, threshold_hz: float, nominal_hz: float = 50.0, full_at_hz: float
) -> list[tuple[float, float]]:
    """P(f) curve of a droop beyond a threshold: ``|dP| / P_ref = |f - threshold| / f_n / droop``.

    Source: Commission Regulation (EU) 2016/631 (RfG), figures 1 and 4 (LFSM-O above, LFSM-U below nominal).
    """
    change = -(full_at_hz - threshold_hz) / nominal_hz / droop * reference_kw
    return sorted([(threshold_hz, 0.0), (full_at_hz, change)])


def frequency_response(
    frequency_hz: Array,
    delivered_kw: Array,
    curve: Sequence[tuple[float, float]],
    *,
    tolerance_kw: float,
    step_hours: float | Array = 1 / 3600,
) -> FrequencyResponse:
    """Compare delivered power (beyond its schedule) with what a P(f) curve asked for.

    `step_hours` says how long each sample stands [h]. Samples in which frequency or power is NaN do not count.
    """
    lengths = np.broadcast_to(np.asarray(step_hours, dtype=float), frequency_hz.shape)
    asked = asked_power(frequency_hz, curve)
    known = ~np.isnan(frequency_hz + delivered_kw)
    active = known & (np.abs(asked) > 1e-9)
    within = active & (np.abs(delivered_kw - asked) <= tolerance_kw)
    up, down = active & (asked > 0), active & (asked < 0)
    hours = float(lengths[active].sum())
    return FrequencyResponse(
        share_within=float(lengths[within].sum()) / hours if hours > 0 else None,
        activated_hours=hours,
        energy_up_kwh=float(np.sum(np.clip(delivered_kw[up], 0, None) * lengths[up])),
        energy_down_kwh=float(np.sum(np.clip(-delivered_kw[down], 0, None) * lengths[down])),
    )
