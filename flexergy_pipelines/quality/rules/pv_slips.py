"""Unit slips of PV, judged by what the sky allows at each hour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.profile import by_day, clear_sky
from flexergy_pipelines.quality.spec import SeriesSpec
from flexergy_pipelines.quality.tails import robust_size

Values = NDArray[np.float64]

BRIGHT = 0.15  # of the peak; below it clouds and dusk make any factor possible
IMPOSSIBLE = 2.5  # times a fine day
TOO_DARK = 10**-2.3  # of a fine day; the darkest clouds leave about a fiftieth
DARKEST = 10**-4.5
LEAST_DARK = 4  # bright intervals of a day
LEAST_BRIGHT = 3  # impossible intervals of a day; fewer are spikes
FITTING = 1.6  # times a fine day; what a slipped value may be at most once put right
EDGE = 0.5  # log10; a jump that is explained by the factor


def pv_slips(values: Values, spec: SeriesSpec, factor: Values) -> None:
    """Write the factor of each slipped value into `factor`.

    A day is slipped where it goes far beyond (or stays far below) a fine day of the season at that hour. Where in the
    day the slip begins and ends is told by the jumps that its factor explains; without such a jump it lasts all day.
    """
    sky = clear_sky(values, spec.steps_per_day, spec.first_slot, 0.8)
    size = robust_size(sky)
    if size <= 0:
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sky > BRIGHT * size, values / sky, np.nan)
        logs = np.log10(np.where(values > 0, values, np.nan))
    high = ratio > IMPOSSIBLE
    low = (ratio < TOO_DARK) & (ratio > DARKEST)
    per_day = spec.steps_per_day
    odd = (np.nansum(by_day(high.astype(float), per_day, spec.first_slot), axis=1) >= LEAST_BRIGHT) | (
        np.nansum(by_day(low.astype(float), per_day, spec.first_slot), axis=1) >= LEAST_DARK
    )
    for day in np.flatnonzero(odd).tolist():
        start = max(0, day * per_day - spec.first_slot)
        stop = min(values.size, (day + 1) * per_day - spec.first_slot)
        part = slice(start, stop)
        up = high[part].sum() >= low[part].sum()
        hits = np.flatnonzero(high[part] if up else low[part])
        extreme = float(np.max(ratio[part][hits])) if up else float(np.median(ratio[part][hits]))
        power = (
            int(np.clip(np.ceil(np.log10(extreme / 1.8)), 1, 3))
            if up
            else int(np.clip(np.floor(np.log10(extreme)), -3, -2))
        )
        if not up and np.log10(extreme) < -2.5:
            power = -3
        first, last = _edges(logs[part], hits, power)
        slipped = np.arange(start + first, start + last)
        possible = values[slipped] / 10.0**power <= FITTING * sky[slipped] + 0.03 * size
        if possible.mean() < 0.97:
            continue  # one factor does not explain the day: weather, or something else
        factor[slipped[values[slipped] != 0]] = 10.0**power


def _edges(logs: Values, hits: NDArray[np.int64], power: int) -> tuple[int, int]:
    """First and last (excluded) value of a slip within a day."""
    step = np.diff(logs)
    gain_in = np.nan_to_num(np.abs(step) - np.abs(step - power), nan=-9.0)
    gain_out = np.nan_to_num(np.abs(step) - np.abs(step + power), nan=-9.0)
    before, after = gain_in[: hits[0]], gain_out[hits[-1] :]
    first = int(np.argmax(before)) + 1 if before.size and before.max() > EDGE * abs(power) else 0
    last = hits[-1] + int(np.argmax(after)) + 1 if after.size and after.max() > EDGE * abs(power) else logs.size
    return first, int(last)
