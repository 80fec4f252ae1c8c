"""Imputation of gaps in a regular series, always with an uncertainty, and never across a long outage.

Several simple estimates are made for each gap: the line between its edges; the same hours of the days around, of the
weeks around, and of the usual day, each as they are and moved to meet the edges; and, where there is one, a series that
moves with this one. How far to trust each follows from the series itself: gaps of the same length are cut into known
stretches, and the non-negative weights that would have filled those best (least squares, by distance to the nearer
edge) fill the real ones. The error that was left there is the uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality import flags
from flexergy_pipelines.quality.bridge import Bridge
from flexergy_pipelines.quality.profile import clear_sky, usual
from flexergy_pipelines.quality.runs import runs_of
from flexergy_pipelines.quality.spec import SeriesSpec

Values = NDArray[np.float64]
Index = NDArray[np.int64]
Codes = NDArray[np.uint8]
Base = Callable[[Index], Values]  # an estimate for each of some places

_CODE: Final = {name: code for code, name in enumerate(("", *flags.DESCRIPTIONS))}
# What a battery, a state or the whole exchange did follows from control, not from the day of the week.
SIMILAR_DAY_KINDS: Final = frozenset({"load", "pv", "wind", "ev", "meter", "weather"})
TRIAL_VALUES = 24_000  # values at most in the gaps that are cut into known stretches
TRIALS = (300, 1000)  # such gaps; the fewer values a series has, the more of them are needed and cost little
LEAST_TRIALS = 12
PLAIN: Final = 6  # estimates that look at nothing but the surroundings of the gap
PULL: Final = 0.05  # towards the weights of the neighbouring distance
DISTANCES: Final = (0, 1, 3, 7, 15, 31)  # steps from the nearer edge at which the weights change
DONOR_CORRELATION = 0.75


def impute(values: Values, spec: SeriesSpec, donors: list[Values] | None = None) -> tuple[Values, Codes, Values]:
    """Fill the gaps (NaN) of a regular series.

    Parameters
    ----------
    donors : list of ndarray, optional
        Other series of the same axis that may move with this one.

    Returns
    -------
    values : ndarray
        With estimates where they could be made.
    codes : ndarray of uint8
        How each gap was treated (index into the flags); 0 where there was a value.
    uncertainty : ndarray
        Standard deviation of each estimate [unit of the values]; NaN where there was a value or none was made.
    """
    filled = values.copy()
    codes = np.zeros(values.size, dtype=np.uint8)
    uncertainty = np.full(values.size, np.nan)
    missing = ~np.isfinite(values)
    gaps = runs_of(missing)
    if not gaps:
        return filled, codes, uncertainty
    codes[missing] = _CODE[flags.OUTAGE]
    if missing.all():
        return filled, codes, uncertainty
    similar = spec.kind in SIMILAR_DAY_KINDS
    # A register was known at both edges, so what was counted between is known too.
    longest = spec.steps(spec.similar_day_hours if similar or spec.kind == "counter" else spec.interpolate_hours)
    buckets: dict[int, list[tuple[int, int]]] = {}
    for start, stop in gaps:
        inner = start > 0 and stop < values.size
        if stop - start <= longest and (inner or (similar and stop - start < values.size // 2)):
            buckets.setdefault(int(np.ceil(2 * np.log2(stop - start))), []).append((start, stop))
    if not buckets:
        return filled, codes, uncertainty
    estimator = _Estimator(values, spec, _best_donor(values, donors or []), similar)
    for bucket in buckets.values():
        estimator.fill(bucket, filled, codes, uncertainty)
    _keep_possible(filled, codes, values, spec, estimator.sky)
    return filled, codes, uncertainty


def _keep_possible(filled: Values, codes: Codes, values: Values, spec: SeriesSpec, sky: Values | None) -> None:
    """Estimates stay within the nameplate and what the series has shown; PV gives nothing at night."""
    made = np.flatnonzero(codes)
    known = values[np.isfinite(values)]
    low = max(x for x in (known.min(), spec.minimum) if x is not None)
    high = min(x for x in (known.max(), spec.maximum) if x is not None)
    if low <= high:
        filled[made] = np.clip(filled[made], low, high)
    if sky is not None:
        dark = made[(sky[made] <= 0.002 * known.max()) & np.isfinite(filled[made])]
        filled[dark] = np.clip(0.0, low, high)


def _best_donor(values: Values, donors: list[Values]) -> Values | None:
    """The series whose steps move most with this one's, scaled to it; None when none does well enough."""
    best, strength = None, DONOR_CORRELATION
    for donor in donors:
        both = np.isfinite(values) & np.isfinite(donor)
        if both.sum() < 100:
            continue
        x, y = donor[both], values[both]
        spread = float(np.std(np.diff(x)) * np.std(np.diff(y)))
        if spread <= 0:
            continue
        correlation = float(np.mean((np.diff(x) - np.diff(x).mean()) * (np.diff(y) - np.diff(y).mean())) / spread)
        level = float(np.corrcoef(x, y)[0, 1])
        if min(correlation + 0.25, level) > strength:
            slope = float(np.cov(x, y)[0, 1] / np.var(x))
            best, strength = slope * (donor - x.mean()) + y.mean(), min(correlation + 0.25, level)
    return best


@dataclass(slots=True)
class _Estimator:
    """Estimates of gaps from the rest of one series."""

    values: Values
    spec: SeriesSpec
    donor: Values | None
    similar: bool
    bases: list[Base] = field(default_factory=list)
    _mean: float = 0.0
    _spread: float = 0.0
    _plain: Values = field(default_factory=lambda: np.zeros(1))
    _known: Values = field(default_factory=lambda: np.zeros(1))
    _margin: int = 0
    _total: Values = field(default_factory=lambda: np.zeros(1))
    _count: Values = field(default_factory=lambda: np.zeros(1))
    sky: Values | None = None
    _bridge: Bridge | None = None
    _free: Index = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        known = np.isfinite(self.values)
        plain = np.where(known, self.values, 0.0)
        measured = self.values[known]
        self._mean, self._spread = float(measured.mean()), float(measured.std())
        self._total = np.concatenate(([0.0], np.cumsum(plain)))
        self._count = np.concatenate(([0.0], np.cumsum(known, dtype=np.float64)))
        if self.similar and self.spec.kind != "wind":  # wind knows neither hours nor weekdays
            day = self.spec.steps_per_day
            self._margin = 7 * day
            self._plain = np.pad(plain, self._margin)
            self._known = np.pad(known.astype(np.float64), self._margin)
            usual_day = usual(self.values, day, self.spec.first_slot)
            self.bases = [
                partial(self._around, (day, -day)),
                partial(self._around, (7 * day, -7 * day)),
                partial(self._around, (day, -day, 2 * day, -2 * day, 7 * day, -7 * day)),
                usual_day.__getitem__,
            ]
        if self.donor is not None:
            self.bases.append(self.donor.__getitem__)
        if self.spec.kind == "pv":
            self.sky = clear_sky(self.values, self.spec.steps_per_day, self.spec.first_slot)

    def _around(self, lags: tuple[int, ...], index: Index) -> Values:
        """Mean of the values at the given distances from each place, of those that are known."""
        place = index + self._margin
        total, count = np.zeros(index.size), np.zeros(index.size)
        for lag in lags:
            total += self._plain[place - lag]
            count += self._known[place - lag]
        return np.divide(total, count, out=np.full(total.size, np.nan), where=count > 0)

    def fill(self, gaps: list[tuple[int, int]], filled: Values, codes: Codes, uncertainty: Values) -> None:
        """Fill gaps of about one length."""
        starts = np.array([gap[0] for gap in gaps])
        stops = np.array([gap[1] for gap in gaps])
        length = int(np.median(stops - starts))
        self._free = self._stretches(int(np.max(stops - starts)))
        trials = self._trials(length)
        # Real gaps and trials in one go: most of the work is the same for few and for many.
        estimates, distance, index = self._candidates(
            np.concatenate((starts, trials)), np.concatenate((stops, trials + length)), self.values
        )
        place = np.searchsorted(DISTANCES, distance, side="right") - 1
        real = int((stops - starts).sum())
        weights, errors = self._learn(length, estimates[real:], place[real:], self.values[index[real:]])
        estimates, place, index = estimates[:real], place[:real], index[:real]
        result = (estimates * weights[place]).sum(axis=1)
        filled[index] = result
        uncertainty[index] = errors[place]
        short = (stops - starts) <= self.spec.steps(self.spec.interpolate_hours)
        reason = np.where(np.repeat(short, stops - starts), _CODE[flags.INTERPOLATED], _CODE[flags.SIMILAR_DAY])
        if self.donor is not None:
            reason = np.where(weights[place][:, -2:].sum(axis=1) > 0.5, _CODE[flags.DONOR], reason)
        codes[index] = np.where(np.isfinite(result), reason, _CODE[flags.OUTAGE])

    def _candidates(self, starts: Index, stops: Index, known: Values) -> tuple[Values, Index, Index]:
        """All estimates of the values in the gaps (rows), their distance to the nearer edge, and their places."""
        lengths = stops - starts
        gap = np.repeat(np.arange(starts.size), lengths)
        index = np.arange(gap.size) - np.repeat(np.cumsum(lengths) - lengths, lengths) + starts[gap]
        last = known.size - 1
        left, right = np.maximum(starts - 1, 0), np.minimum(stops, last)
        has_left, has_right = starts > 0, stops <= last
        share = (index - starts[gap] + 1) / (lengths[gap] + 1)
        share = np.where(has_left[gap], np.where(has_right[gap], share, 0.0), 1.0)

        def between(at_left: Values, at_right: Values) -> Values:
            a, b = at_left[gap], at_right[gap]
            a, b = np.where(np.isfinite(a), a, b), np.where(np.isfinite(b), b, a)
            return (1 - share) * a + share * b

        line = between(np.where(has_left, known[left], np.nan), np.where(has_right, known[right], np.nan))
        columns = [line, self._curve(starts, stops, gap, share, line), self._near(starts, stops)[gap]]
        columns.append(np.full(line.size, self._mean))
        columns += self._across(starts, lengths, line)
        for base in self.bases:
            plain = base(index)
            moved = plain + np.nan_to_num(between(known[left] - base(left), known[right] - base(right)))
            columns += [np.where(np.isfinite(plain), plain, line), np.where(np.isfinite(plain), moved, line)]
        distance = np.minimum(index - starts[gap], stops[gap] - 1 - index)
        return np.column_stack(columns), distance, index

    def _across(self, starts: Index, lengths: Index, line: Values) -> tuple[Values, Values]:
        if self._bridge is None:
            self._bridge = Bridge.of(self.values, self._total, self._count)
        return self._bridge.across(starts, lengths, self._free) or (line, line)

    def _near(self, starts: Index, stops: Index) -> Values:
        """Mean of what is known within half a day before and after each gap."""
        reach = max(1, self.spec.steps_per_day // 2)
        last = self.values.size
        sums = [
            self._total[np.minimum(stops + reach, last)] - self._total[np.minimum(stops, last)],
            self._total[starts] - self._total[np.maximum(starts - reach, 0)],
        ]
        counts = [
            self._count[np.minimum(stops + reach, last)] - self._count[np.minimum(stops, last)],
            self._count[starts] - self._count[np.maximum(starts - reach, 0)],
        ]
        count = counts[0] + counts[1]
        return np.divide(sums[0] + sums[1], count, out=np.full(count.size, self._mean), where=count > 0)

    def _curve(self, starts: Index, stops: Index, gap: Index, share: Values, line: Values) -> Values:
        """Cubic Hermite curve through the edges with the slopes that the series had there; else the line."""
        known, last = self.values, self.values.size - 1
        before, left = known[np.maximum(starts - 2, 0)], known[np.maximum(starts - 1, 0)]
        right, after = known[np.minimum(stops, last)], known[np.minimum(stops + 1, last)]
        length = (stops - starts + 1).astype(np.float64)
        cap = 3 * np.abs(right - left) + 1e-12
        slope_left = np.clip((left - before) * length, -cap, cap)[gap]
        slope_right = np.clip((after - right) * length, -cap, cap)[gap]
        t = share
        curve = (
            (2 * t**3 - 3 * t**2 + 1) * left[gap]
            + (t**3 - 2 * t**2 + t) * slope_left
            + (3 * t**2 - 2 * t**3) * right[gap]
            + (t**3 - t**2) * slope_right
        )
        whole = (starts > 1)[gap] & (stops < last)[gap] & np.isfinite(curve)
        return np.where(whole, curve, line)

    def _learn(self, length: int, estimates: Values, place: Index, truth: Values) -> tuple[Values, Values]:
        """Weights of the estimates and the error they leave, by distance to the nearer edge, from the trials."""
        from scipy.optimize import nnls

        width = estimates.shape[1]
        bins = len(DISTANCES)
        weights = np.zeros((bins, width))
        # Before anything is learned: the line for the nearest, the days moved to the edges for the rest.
        weights[:, 0 if width == PLAIN or length <= 2 else PLAIN + 1] = 1.0
        errors = np.full(bins, self._spread)
        if truth.size < LEAST_TRIALS * length:
            return weights, errors
        scale = self._spread or 1.0
        for bin_ in range(bins):
            rows = place == bin_
            if rows.sum() >= LEAST_TRIALS:
                # A light pull towards the weights nearer to the edge keeps them from chasing the trials' noise.
                pull = PULL * scale * np.sqrt(rows.sum() / width) * np.eye(width)
                prior = pull @ weights[max(bin_ - 1, 0)]
                trust = np.ones(rows.sum())
                for _ in range(3):  # least absolute errors, by reweighting
                    root = np.sqrt(trust)
                    matrix = np.vstack((estimates[rows] * root[:, None], pull))
                    weights[bin_] = nnls(matrix, np.concatenate((truth[rows] * root, prior)))[0]
                    left = np.abs(estimates[rows] @ weights[bin_] - truth[rows])
                    trust = np.median(left) / np.maximum(left, 0.1 * np.median(left) + 1e-12)
                errors[bin_] = float(np.sqrt(np.mean((estimates[rows] @ weights[bin_] - truth[rows]) ** 2)))
            elif bin_:
                weights[bin_], errors[bin_] = weights[bin_ - 1], errors[bin_ - 1]
        return weights, errors

    def _trials(self, length: int) -> Index:
        """Starts of known stretches to cut gaps into, spread over the series, always the same ones."""
        free = self._free
        least, most = TRIALS
        enough = int(np.clip(12_000_000 // self.values.size + 20 * (length - 1), least, most))
        trials = min(enough, max(TRIAL_VALUES // length, least))
        if free.size <= trials:
            return free
        return np.sort(np.random.default_rng(0).choice(free, trials, replace=False))

    def _stretches(self, length: int) -> Index:
        """Starts of all stretches of `length` that are known, and so are their neighbours."""
        reach = length + 2
        if self.values.size <= reach:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self._count[reach:] - self._count[:-reach] == reach) + 1
