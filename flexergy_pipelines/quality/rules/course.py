"""What a series is expected to do, in powers of ten: the ground on which a change of its unit is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.profile import by_day, clear_sky, nan_quantile_rows, usual
from flexergy_pipelines.quality.spec import SeriesSpec
from flexergy_pipelines.quality.tails import TINY, natural_limit, quantile, thin

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

POWERS: Final = np.array([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
RIGHT: Final = 3  # index of the power 0
LASTING: Final = 0.08  # log-likelihood that each hour in another unit costs: slips are short
JUMP: Final = 0.5  # log10; smallest jump at which a unit may change
SHORTEST: Final = 3  # values; fewer are spikes
# Values within this time [h] tell the same about the level: weather lasts.
MEMORY_HOURS: Final = {"load": 4.0, "meter": 4.0, "pv": 6.0, "wind": 24.0}
CALM: Final = 1.2  # log-likelihood that each decade below the highest output costs wind
AROUND_DAYS: Final = 3  # looked at before and after what is suspicious
LONG_DAYS: Final = 3  # a stretch as long as this must lie where it should, not only begin and end so
HIGHEST: Final = 3.5  # times the median of the days' highest values: no natural day of a real series was above
BLANK: Final = 1e-5  # of the size; below it a value tells no unit
BRIGHT: Final = 0.05  # of the peak; below it dawn and dusk make any ratio possible
BINS: Final = 7  # half decades of height, each with its own restlessness


@dataclass(frozen=True, slots=True)
class Course:
    """What a series is expected to do.

    Attributes
    ----------
    logs : ndarray
        log10 of the values; NaN where they tell no unit.
    ratio : ndarray
        log10 of the values over the expected ones, NaN where nothing is expected.
    size : float
        log10 of the usual peak of a day.
    middle, left, right, roof : float
        Median of the ratio, its spread to either side, and what it cannot exceed.
    restless : ndarray
        Spread of the steps of the logs by half decades below the peak.
    values, corrected : ndarray
        The values as they are, and without the slips that are known already.
    lowest : float
        Hardly a value is below it by itself; 0 or negative.
    """

    spec: SeriesSpec
    logs: Values
    ratio: Values
    size: float
    middle: float
    left: float
    right: float
    roof: float
    restless: Values
    values: Values
    corrected: Values
    lowest: float

    @classmethod
    def of(cls, values: Values, corrected: Values, spec: SeriesSpec) -> Course | None:
        size, ceiling = _size(corrected, spec)
        if size < TINY:
            return None
        positive = values > BLANK * size
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log10(np.where(positive, values, np.nan))
            right_logs = (
                logs if corrected is values else np.log10(np.where(corrected > BLANK * size, corrected, np.nan))
            )
            roof = np.inf
            if spec.kind == "wind":
                expected = np.full(1, ceiling)
                roof = 0.04 if spec.maximum is not None else 0.12
            elif spec.kind == "pv":
                sky = clear_sky(np.minimum(corrected, ceiling), spec.steps_per_day, spec.first_slot, 0.8)
                expected = np.where(sky > BRIGHT * np.nanmax(sky), sky, np.nan)
                roof = 0.3
            else:
                expected = _usual(corrected, spec)
                expected = np.where(expected > 1e-3 * size, expected, np.nan)
            base = np.log10(expected)
        sample = thin(right_logs - base, 5000)
        if sample.size < 50:
            return None
        low, middle, high = _bulk(sample)
        least = 0.03
        if spec.kind == "pv":
            logs = _without_flashes(logs, float(np.log10(size)))
        return cls(
            spec=spec,
            logs=logs,
            ratio=logs - base,
            size=float(np.log10(size)),
            middle=middle,
            left=max((middle - low) / 0.84, least),
            right=max((high - middle) / 0.84, least),
            roof=roof,
            restless=_restless(right_logs - np.log10(size)),
            values=values,
            corrected=corrected,
            lowest=min(quantile(thin(corrected), 0.005), 0.0),
        )

    @property
    def long_gap(self) -> int:
        """Values after whose lack nothing is expected of the next one: the night of PV, a day of others."""
        return max(3, self.spec.steps(1.0 if self.spec.kind == "pv" else 24.0))

    def suspicious(self) -> list[tuple[int, int]]:
        """Stretches with values that are out of proportion, or between jumps that are."""
        with np.errstate(invalid="ignore"):
            far = self.ratio - self.middle
            high = self.ratio > self.roof if np.isfinite(self.roof) else far > max(0.6, 3 * self.right)
            low = np.zeros(far.size, dtype=bool)
            if self.spec.kind == "pv":
                low = _lasting(self.ratio < -0.75, self.spec.steps(2.0))
            elif self.spec.kind != "wind":
                low = far < -max(0.6, 3 * self.left)
            step = np.diff(self.logs)
            steep = np.flatnonzero(np.abs(step) > 0.7)
        power = 10.0 ** self.logs[np.concatenate((steep, steep + 1))].reshape(2, -1)
        leap = _leap(self.corrected, 10.0**self.size) if steep.size else 0.0
        edges = steep[np.abs(power[1] - power[0]) > leap]
        if self.spec.kind in ("load", "meter"):
            high, low = _lasting(high, SHORTEST), _lasting(low, SHORTEST)
        odd = high | low
        odd[edges] = True
        places = np.flatnonzero(odd)
        if places.size < 2:
            return []
        around = AROUND_DAYS * self.spec.steps_per_day
        apart = np.flatnonzero(np.diff(places) > 2 * around)
        first = np.concatenate(([places[0]], places[apart + 1])) - around
        last = np.concatenate((places[apart], [places[-1]])) + around + 1
        many = np.diff(np.concatenate(([0], apart + 1, [places.size]))) > (self.spec.kind in ("load", "meter"))
        stretches = zip(first[many].tolist(), last[many].tolist(), strict=True)
        return [(max(a, 0), min(b, self.logs.size)) for a, b in stretches]

    def level(self, ratio: Values) -> Values:
        """Log-likelihood of ratios (rows) under each state (columns)."""
        z = ratio[:, None] - POWERS
        hours = self.spec.step_minutes / 60
        weight = min(1.0, hours / MEMORY_HOURS[self.spec.kind])
        if self.spec.kind == "wind":
            result = weight * CALM * np.minimum(z, 0)
        else:
            off = np.where(z < self.middle, (self.middle - z) / self.left, (z - self.middle) / self.right)
            result = weight * -2 * np.log1p(off**2 / 3)
        if np.isfinite(self.roof):
            above = np.maximum(-(z - self.roof) / 0.04, -12.0) * min(1.0, hours)
            result = np.where(z > self.roof, above, np.where(z > self.middle, 0.0, result))
        return np.nan_to_num(result, nan=0.0) - LASTING * hours * (POWERS != 0)

    def fits(self, ratio: Values, power: float, *, open_ended: bool) -> bool:
        """Whether a stretch lies where it should once scaled back; a machine at rest does not.

        Where it is cut off by a gap or the end of the file, a tenth for days may as well be what the load draws then.
        """
        if self.spec.kind in ("pv", "wind") or ratio.size < LONG_DAYS * self.spec.steps_per_day:
            return True
        if open_ended and abs(power) == 1:
            return False
        known = ratio[np.isfinite(ratio)]
        off = float(np.median(known)) - power - self.middle if known.size else 0.0
        # Nothing draws a thousand times the usual, so what it was may be as unusual as a week of holidays.
        least = 0.5 if power == POWERS[-1] else 0.25
        return -max(least, 1.5 * self.left) < off < max(least, 1.5 * self.right)

    def goes_below(self, stretch: slice, power: float) -> bool:
        """Whether values of a stretch would be far below what this series ever is, once scaled back."""
        least = float(np.nanmin(self.values[stretch])) / 10.0**power
        return least < min(2 * self.lowest, -BRIGHT * 10.0**self.size)

    def spread(self, height: Values) -> Values:
        """Restlessness at heights (log10 of the value)."""
        place = np.floor(2 * (height - self.size)) + BINS - 1
        return self.restless[np.clip(np.nan_to_num(place), 0, BINS - 1).astype(np.int64)]


def _without_flashes(logs: Values, size: float) -> Values:
    """One to three values that leap up and back are spikes, whatever the sky."""
    for width in (1, 2, 3):
        inside = logs[1 : logs.size - width]
        for i in range(1, width):
            inside = np.fmin(inside, logs[1 + i : logs.size - width + i])
        beside = np.fmax(np.nan_to_num(logs[: -width - 1], nan=-9.0), np.nan_to_num(logs[width + 1 :], nan=-9.0))
        flash = np.flatnonzero((inside > beside + JUMP) & (inside > size - JUMP)) + 1
        if flash.size:
            logs = logs.copy()
            for i in range(width):
                logs[flash + i] = np.nan
    return logs


def _lasting(mask: Mask, least: int) -> Mask:
    """Whether the last `least` values are all true."""
    count = np.cumsum(mask)
    result = np.zeros(mask.size, dtype=bool)
    result[least:] = count[least:] - count[:-least] == least
    result[least - 1] = mask[:least].all()
    return result


def _size(values: Values, spec: SeriesSpec) -> tuple[float, float]:
    """Usual peak of a day, and the highest value that is possible."""
    days = by_day(np.abs(values), spec.steps_per_day, spec.first_slot)
    peaks = np.fmax.reduce(days, axis=1)
    peaks = peaks[np.isfinite(peaks) & (peaks > 0)]
    if peaks.size == 0:
        return 0.0, 0.0
    size = float(np.median(peaks))
    if spec.maximum is not None:
        return min(size, spec.maximum), spec.maximum
    possible = np.sort(peaks[peaks <= HIGHEST * size])
    return size, float(possible[-1])


def _bulk(sample: Values) -> tuple[float, float, float]:
    """Ends and median of the shortest interval that holds three fifths of a sample, however far the rest is off."""
    ordered = np.sort(sample)
    inside = int(0.6 * ordered.size)
    start = int(np.argmin(ordered[inside:] - ordered[: ordered.size - inside]))
    return float(ordered[start]), float(ordered[start + inside // 2]), float(ordered[start + inside])


def _usual(values: Values, spec: SeriesSpec) -> Values:
    """Usual course of a load; in a file of weeks of the day or of the week, whichever a value is nearer to.

    Of four weeks two may be wrong at the same hour, of thirty days hardly fifteen; but only weeks know weekends. So
    the week counts where its hours agree.
    """
    daily = usual(values, spec.steps_per_day, spec.first_slot)
    week = 7 * spec.steps_per_day
    if not 3 * week <= values.size < 8 * week:
        return daily
    rows = by_day(values, week, 0)
    pooled = np.concatenate((rows, np.roll(rows, 1, axis=1), np.roll(rows, -1, axis=1)))
    low, middle, high = (nan_quantile_rows(pooled, share) for share in (0.15, 0.5, 0.85))
    weekly = np.tile(np.where(high < 2.5 * low, middle, np.nan), rows.shape[0])[: values.size]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        off = np.abs(np.log(values / daily)) - np.abs(np.log(values / weekly))
    return np.where(off > 0, weekly, daily)


def _restless(heights: Values) -> Values:
    """Spread of the steps of log10 by height below the peak, in half decades."""
    step = np.diff(heights)
    top = np.fmax(heights[1:], heights[:-1])
    stride = max(1, step.size // 4000)
    stride += 1 - stride % 2
    step, top = np.abs(step[::stride]), top[::stride]
    known = np.isfinite(step) & (top < 1)
    step, top = step[known], top[known]
    place = np.clip(np.floor(2 * top) + BINS - 1, 0, BINS - 1).astype(np.int64)
    whole = quantile(step, 0.75) if step.size else 0.3
    result = np.full(BINS, whole)
    for i in range(BINS - 1, -1, -1):
        inside = step[place == i]
        if inside.size >= 30:
            result[i] = quantile(inside, 0.75)
        elif i < BINS - 1:
            result[i] = result[i + 1]
    return np.maximum(result, 0.01)


def _leap(values: Values, size: float) -> float:
    jump = np.abs(np.diff(values))
    return float(min(natural_limit(jump, expected=20.0), 0.3 * size))
