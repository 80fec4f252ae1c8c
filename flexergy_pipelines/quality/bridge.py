"""Bridges over gaps: optimal interpolation, the linear mean of what a gap holds given the values around it.

For each length of gap one regression for each place in it, on the values before and after and on their means, is fitted
on stretches of the series that are known (Gandin 1963 calls it optimal interpolation; with the covariances of the
series it is kriging). It is done twice: on the values, for the mean, and on ranks turned into a normal distribution
(van der Waerden scores), for an estimate near the median, which costs the least absolute error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.tails import TINY, quantiles, thin

Values = NDArray[np.float64]
Index = NDArray[np.int64]

BESIDE: Final = np.array([0, 1, 2, 4, 8])  # distances from the edge of the values that are looked at
WINDOWS: Final = (12, 48)  # values on either side of which the means are looked at
LEVELS: Final = 100  # quantiles that describe the distribution
LEVEL_SAMPLE: Final = 4000  # values that the quantiles are told from
CELLS: Final = 4096
STRETCHES: Final = 400  # that are learned from
MOST_STRETCHES: Final = 2500
LEAST: Final = 60
RIDGE: Final = 1e-5


@dataclass(slots=True)
class Bridge:
    """Learns from one series how to cross gaps of a given length.

    Attributes
    ----------
    values : ndarray
        The series, 0 where nothing is known.
    last, following : ndarray
        Place of the last known value up to, and of the next known one from each place.
    total, count : ndarray
        Sums of the values and of how many are known, from the start.
    levels, normal : ndarray
        Quantiles of the series and of the normal distribution.
    table : ndarray
        Normal scores of evenly spaced values between the first and the last of the levels.
    weights : dict
        What was learned, by length of the gap.
    """

    values: Values
    last: NDArray[np.int32]
    following: NDArray[np.int32]
    total: Values
    count: Values
    levels: Values
    normal: Values
    table: Values
    weights: dict[int, Values] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Values, total: Values, count: Values) -> Bridge:
        """From a series with NaN where nothing is known, and its sums and counts from the start."""
        from scipy.special import ndtri

        known = np.isfinite(values)
        shares = np.linspace(0.002, 0.998, LEVELS)
        levels = quantiles(thin(values, LEVEL_SAMPLE), *shares.tolist()) if known.any() else np.zeros(LEVELS)
        if np.ptp(levels) < TINY:
            levels[:] = 0.0  # differences this small overflow when something is divided by them
        # Equal values (such as the zeros of the night) need an order to be interpolated.
        levels = np.maximum.accumulate(levels + 1e-9 * np.ptp(levels) * np.arange(LEVELS))
        plain = np.where(known, values, 0.0)
        place = np.arange(values.size, dtype=np.int32)
        last = np.maximum.accumulate(np.where(known, place, np.int32(0)))
        following = np.minimum.accumulate(np.where(known, place, np.int32(values.size - 1))[::-1])[::-1]
        normal = ndtri(shares)
        middles = levels[0] + (levels[-1] - levels[0]) * (np.arange(CELLS) + 0.5) / CELLS
        table = np.interp(middles, levels, normal)
        return cls(plain, last, following, total, count, levels, normal, table)

    def across(self, starts: Index, lengths: Index, free: Index) -> tuple[Values, Values] | None:
        """Estimates for gaps, one after the other: the mean and about the median.

        Parameters
        ----------
        starts, lengths : ndarray
            First place and length of each gap.
        free : ndarray
            Starts of known stretches of the longest gap's length that may be learned from.

        Returns
        -------
        tuple of ndarray or None
            None when there is too little to learn from.
        """
        if free.size < LEAST:
            return None
        length = int(lengths.max())
        if length not in self.weights:
            free = free[:: max(1, free.size // self._stretches(length))]
            around = self._around(free, np.full(free.size, length))
            truth = self._faces(self.values[free[:, None] + np.arange(length)])
            square = around.transpose(0, 2, 1) @ around
            size = np.trace(square, axis1=1, axis2=2)[:, None, None] / square.shape[1]
            square += RIDGE * np.maximum(size, 1e-12) * np.eye(square.shape[1])
            self.weights[length] = np.linalg.solve(square, around.transpose(0, 2, 1) @ truth)
        found = self._around(starts, lengths) @ self.weights[length]
        # A gap that is shorter than those learned from uses the outer places on either side.
        gap = np.repeat(np.arange(starts.size), lengths)
        inside = np.arange(gap.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        late = inside >= (lengths[gap] + 1) // 2
        place = np.where(late, length - lengths[gap] + inside, inside)
        return found[0][gap, place], np.interp(found[1][gap, place], self.normal, self.levels)

    def _stretches(self, length: int) -> int:
        # The fewer values a series has, the more of them are needed and cost little.
        return min(max(STRETCHES * length, 35_000 * STRETCHES // self.values.size), MOST_STRETCHES)

    def _around(self, starts: Index, lengths: Index) -> Values:
        """What is known around gaps: faces x gaps x columns."""
        size = self.values.size
        stops = starts + lengths
        before = self.last[np.maximum(starts[:, None] - 1 - BESIDE, 0)]
        after = self.following[np.minimum(stops[:, None] + BESIDE, size - 1)]
        columns = [self.values[before], self.values[after]]
        for window in WINDOWS:
            for low, high in ((starts - window, starts), (stops, stops + window)):
                a, b = np.clip(low, 0, size), np.clip(high, 0, size)
                mean = (self.total[b] - self.total[a]) / np.maximum(self.count[b] - self.count[a], 1)
                columns.append(mean[:, None])
        faces = self._faces(np.concatenate(columns, axis=1))
        return np.concatenate((faces, np.ones((2, starts.size, 1))), axis=2)

    def _faces(self, values: Values) -> Values:
        """Values as they are, and as normal scores."""
        # A table is as exact as needed, and ten times faster than a search among the quantiles.
        cell = (values - self.levels[0]) * (self.table.size / max(self.levels[-1] - self.levels[0], TINY))
        return np.stack((values, self.table[np.clip(cell, 0, self.table.size - 1).astype(np.int64)]))
