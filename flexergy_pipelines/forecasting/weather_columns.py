"""What weather columns are, told by how they behave: amounts that add up, light, wind components.

Weather centres give radiation and rain as amounts added up since midnight or since the start of the run, and name
columns by code numbers. Models need the amount of each interval. Names are a hint at most; the behaviour decides. Only
the first weeks of a series are looked at, so that what comes later cannot change what a column is taken for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from flexergy_pipelines.forecasting.timegrid import DAY

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

LOOK_DAYS = 28
# GRIB packing makes sums go back by a little
PACKING = 2e-4
IRRADIANCE = re.compile(r"shortwave|ghi|irradian|ssrd|global_rad|swdown", re.IGNORECASE)

# parameter numbers of the ECMWF's table 128
ECMWF = {
    "78": "tclw", "79": "tciw", "134": "sp", "157": "r", "164": "tcc", "165": "u10", "166": "v10", "167": "t2m",
    "168": "d2m", "169": "ssrd", "175": "strd", "176": "ssr", "178": "tsr", "228": "tp", "246": "u100", "247": "v100",
}  # fmt: skip


def usual_name(column: str) -> str:
    """``VAR169`` is ``ssrd``; names that are no number of the ECMWF's table stay."""
    match = re.fullmatch(r"(?:var|param)[_ ]?(\d{2,3})", column.strip(), re.IGNORECASE)
    return ECMWF.get(match.group(1), column) if match else column


def added_up(minutes: Minutes, issued: Minutes, values: Floats) -> bool:
    """Whether a column adds up and starts again, each day at the same hours or with each issue.

    Parameters
    ----------
    minutes, issued : ndarray, shape (n,)
        Valid and issue time, sorted by issue, then valid time [min since epoch].
    values : ndarray, shape (n,)
    """
    if minutes.size == 0:
        return False
    early = (minutes < minutes.min() + LOOK_DAYS * DAY) & np.isfinite(values)
    minutes, issued, values = minutes[early], issued[early], values[early]
    if values.size < 72:
        return False
    span = float(values.max() - values.min())
    if span <= 0 or values.min() < -PACKING * span:
        return False
    joined = issued[1:] == issued[:-1]
    change = np.diff(values)
    rise = joined & (change > PACKING * span)
    fall = joined & (change < -PACKING * span)
    if rise.sum() < 24 or float(np.std(change[rise])) < 1e-6 * float(np.mean(change[rise])):
        return False
    hours = minutes[1:] % DAY
    rises_at = np.unique(hours[rise])
    if not fall.any():
        # since the start of the issue
        firsts = np.flatnonzero(np.append(True, ~joined))
        lasts = np.append(firsts[1:], values.size) - 1
        return bool(firsts.size >= 5 and np.median(values[firsts] / np.maximum(values[lasts], 1e-12)) < 0.3)
    at, count = np.unique(hours[fall], return_counts=True)
    resets = at[np.argsort(-count)][:4]
    resets = resets[np.sort(count)[::-1][:4] > 0.1 * count.max()]
    regular = np.isin(hours[fall], resets).mean() >= 0.98
    # a sum that has started again cannot fall further: the light of an afternoon in steps of three hours does
    regular &= (fall[1:] & fall[:-1]).sum() <= 0.05 * fall.sum()
    elsewhere = ~np.isin(hours[rise], resets)
    days_rising = np.unique(minutes[1:][rise] // DAY).size
    return bool(
        regular and elsewhere.mean() > 0.6 and rises_at.size >= 3 and fall.sum() >= 0.4 * days_rising * resets.size
    )


def amounts(minutes: Minutes, issued: Minutes, values: Floats) -> Floats:
    """What was added in each interval, per hour, of a column that adds up; NaN after gaps of more than a few intervals.

    The amount stands at the stamp up to which it was added. Where the sum starts again, it is itself the amount.
    """
    out = np.full(values.shape, np.nan)
    if values.size < 2:
        return out
    gap = np.diff(minutes)
    step = max(1, int(np.median(gap[gap > 0]))) if (gap > 0).any() else 60
    joined = (issued[1:] == issued[:-1]) & (gap > 0) & (gap <= 3 * step)
    change = np.diff(values)
    span = float(np.nanmax(values) - np.nanmin(values)) if np.isfinite(values).any() else 0.0
    again = change < -PACKING * span
    with np.errstate(invalid="ignore"):
        rate = np.where(again, values[1:], np.maximum(change, 0.0)) * 60.0 / np.maximum(gap, 1)
    out[1:][joined] = rate[joined]
    usual = float(np.nanmax(out)) if np.isfinite(out).any() else 0.0
    first = np.flatnonzero(np.append(True, issued[1:] != issued[:-1]))
    alone = values[first] * 60.0 / step
    out[first] = np.where((alone >= 0) & (alone <= 1.2 * usual), alone, np.nan)
    return out


def at_start(issued: Minutes, values: Floats) -> Floats:
    """Amounts that stand at the ends of their intervals, at the starts instead; NaN at the last stamp of an issue."""
    out = np.full(values.shape, np.nan)
    joined = issued[1:] == issued[:-1]
    out[:-1][joined] = values[1:][joined]
    return out


def in_watts(minutes: Minutes, values: Floats, *, name: str) -> Floats:
    """Hourly amounts of radiation in J/m2 as its mean in W/m2; anything that is not of that size stays."""
    good = values[np.isfinite(values) & (minutes < minutes.min() + LOOK_DAYS * DAY)]
    if good.size == 0:
        return values
    top = float(np.quantile(good, 0.999))
    dark = float((good <= 0.01 * top).mean())
    radiation = IRRADIANCE.search(name) is not None or dark > 0.2
    return values / 3600.0 if radiation and 1e5 < top < 6e6 else values


def light_column(columns: tuple[str, ...] | list[str], minutes: Minutes, values: Floats) -> str | None:
    """The column that shows the light on the ground: by its usual name, else by its nights and its clouds.

    Of columns that are never negative and nothing for a good part of each day, the one whose value at the same hour
    differs most from day to day: irradiance at the top of the atmosphere repeats itself, that on the ground does not.
    """
    named = next((name for name in columns if IRRADIANCE.search(name)), None)
    if named is not None or not minutes.size:
        return named
    early = minutes < minutes.min() + LOOK_DAYS * DAY
    hour = minutes[early] % DAY // 60
    best, best_spread = None, 0.0
    for k, name in enumerate(columns):
        column = values[early, k]
        good = np.isfinite(column)
        if good.sum() < 72 or float(column[good].min()) < -0.02 * float(column[good].max()):
            continue
        top = float(np.quantile(column[good], 0.99))
        means = np.array(
            [column[good & (hour == h)].mean() if (good & (hour == h)).any() else np.nan for h in range(24)]
        )
        spreads = np.array([column[good & (hour == h)].std() if (good & (hour == h)).any() else 0.0 for h in range(24)])
        known = means[np.isfinite(means)]
        dark = known <= 0.02 * known.max(initial=0.0)
        if top <= 0 or not 0.2 <= dark.mean() <= 0.8 or known.max() < 0.3 * top:
            continue
        spread = float(spreads.max() / top)
        if spread > best_spread:
            best, best_spread = name, spread
    return best
