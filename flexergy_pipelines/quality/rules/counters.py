"""Energy registers: they only rise, until they begin anew or roll over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.tails import quantile, thin

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

LONGEST_EXCURSION = 96  # values; a register that is off for longer is taken at its word


def is_counter(values: Values) -> bool:
    """Whether a series is a register: almost never falls, and its level is the sum of its steps."""
    known = values[np.isfinite(values)]
    if known.size < 50:
        return False
    step = np.diff(known)
    falls = float((step < 0).mean())
    rises = float((step > 0).mean())
    if falls > 0.02 or rises < 0.05:
        return False
    typical = quantile(thin(step), 0.9)
    # A power falls as often as it rises; a register goes far beyond its steps, even if it begins anew each day.
    counted = float(step[step > 0].sum())
    return falls == 0 or (rises > 8 * falls and counted > 20 * max(typical, 1e-12))


def counter_faults(values: Values) -> tuple[Mask, Mask, Values]:
    """Excursions, resets and unit slips of a register.

    Returns
    -------
    spike : ndarray of bool
        Values off the rising path for a while (above what follows, or below what came before).
    reset : ndarray of bool
        First value after the register began anew or rolled over.
    factor : ndarray
        Power of ten that an excursion is off by; 1 where it is none.
    """
    spike = np.zeros(values.size, dtype=bool)
    reset = np.zeros(values.size, dtype=bool)
    factor = np.ones(values.size)
    good = np.flatnonzero(np.isfinite(values))
    if good.size < 3:
        return spike, reset, factor
    known = values[good]
    step = np.diff(known)
    apart = np.diff(good)
    rise = quantile(thin(step[step >= 0] / apart[step >= 0]), 0.99) if (step >= 0).any() else 0.0
    largest = max(15 * rise, 1e-9)
    fall = step < -1e-9 * np.maximum(np.abs(known[:-1]), 1)
    leap = step > largest * apart
    odd = np.flatnonzero(fall | leap)
    after = 0
    for number, edge in enumerate(odd.tolist()):
        if edge < after:
            continue
        base = known[edge]
        # An excursion ends with a jump the other way that lands where the register would be by now.
        others = [o for o in odd[number + 1 : number + 8].tolist() if o - edge <= LONGEST_EXCURSION]
        ends = [
            o
            for o in others
            if (leap[o] if fall[edge] else fall[o]) and base <= known[o + 1] <= base + largest * (o + 1 - edge)
        ]
        if ends:
            end = ends[0] + 1
            spike[good[edge + 1 : end]] = True
            ratio = known[edge + 1 : end] / base if base > 0 else np.zeros(end - edge - 1)
            power = np.log10(np.where(ratio > 0, ratio, 1.0))
            whole = np.round(power)
            exact = (np.abs(power - whole) < 0.05) & (np.abs(whole) >= 1) & (np.abs(whole) <= 3)
            factor[good[edge + 1 : end][exact]] = 10.0 ** whole[exact]
            after = end
        else:
            reset[good[edge + 1]] = True
    if _regular(np.flatnonzero(reset)):
        reset[:] = False
    return spike, reset, factor


def _regular(places: NDArray[np.int64]) -> bool:
    """Whether a register begins anew at equal distances: a daily one, that means it."""
    if places.size < 6:
        return False
    apart = np.diff(places)
    return bool((np.abs(apart - np.median(apart)) <= 0.02 * np.median(apart) + 1).mean() > 0.8)
