"""Most observable period: the stretch of days with the best coverage and consistency, and why it was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

GOOD_DAY = 0.9  # share of a day's values that must be untouched for the day to count in favour


@dataclass(frozen=True, slots=True)
class ObservablePeriod:
    """A stretch of whole days.

    Attributes
    ----------
    first, last : date
        Both included.
    coverage : float
        Share of values within it that were measured and are untouched.
    reason : str
        Why it was chosen, for people.
    """

    first: date
    last: date
    coverage: float
    reason: str

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


def most_observable(
    days: list[date], usable: NDArray[np.float64], *, good_day: float = GOOD_DAY, least_days: int = 1
) -> ObservablePeriod | None:
    """The stretch with the largest surplus of good days over bad ones.

    Each day counts with its share of usable values less `good_day` (scaled so that a perfect day gives one); the
    stretch with the largest sum is found in one pass (Kadane). So one bad day inside a long good stretch is bridged,
    and a stretch never begins or ends with a bad one.

    Parameters
    ----------
    days : list of date
        Consecutive days.
    usable : ndarray
        Share of usable values of each day, 0..1.

    Returns
    -------
    ObservablePeriod or None
        None when no stretch of `least_days` has more good than bad in it.
    """
    if not days:
        return None
    worth = (np.nan_to_num(usable) - good_day) / (1 - good_day)
    best_sum, best = 0.0, None
    running, start = 0.0, 0
    for i, value in enumerate(worth.tolist()):
        if running <= 0:
            running, start = 0.0, i
        running += value
        if running > best_sum and i - start + 1 >= least_days:
            best_sum, best = running, (start, i)
    if best is None:
        return None
    first, last = best
    inside = usable[first : last + 1]
    weak = int((inside < good_day).sum())
    outside = np.concatenate((usable[:first], usable[last + 1 :]))
    reason = f"{last - first + 1} of {len(days)} days, {inside.mean():.1%} of the values measured and untouched"
    reason += f", {weak} weak day{'s' if weak != 1 else ''} bridged" if weak else ", no weak day"
    if outside.size:
        reason += f"; the other {outside.size} days have {outside.mean():.1%}"
    return ObservablePeriod(days[first], days[last], float(inside.mean()), reason)
