"""Unit slips: stretches reported in W instead of kW, or ten, a hundred or a thousand times too large or small.

Each value is in one of seven states, the power of ten that it is off by. What speaks for a state is how far its values
are from what is usual at their hours (for PV: from what the sky allows, for wind: from the highest output), how
restless they are for their height, and whether the jumps at both ends are explained by the factor. States may change
only at jumps and where nothing is measured, so the series is cut there, and the most likely sequence of states of the
pieces is found by dynamic programming (Viterbi 1967).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flexergy_pipelines.quality.rules.course import BRIGHT, JUMP, POWERS, RIGHT, SHORTEST, Course
from flexergy_pipelines.quality.rules.ranges import goes_both_ways
from flexergy_pipelines.quality.runs import runs_of
from flexergy_pipelines.quality.spec import SeriesSpec

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.int64]

ENTER: Final = 10.0  # log-likelihood that a change of unit must bring
LEAVE: Final = 4.0
INNER: Final = 0.15  # weight of each inner step
FAINT: Final = 1e-3  # of the size; jumps below it tell nothing
LEAP: Final = 0.55  # log10; a tenth or tenfold of a load begins or ends with at least such a step of its own,
LEAST_LEAP: Final = 0.2  # and does not pass evenly into what it is at the other end
FINE: Final = 0.25  # log10; how near to a power of ten of the sky a whole day must be
DARKEST: Final = 0.15  # of a fine day; less than that for a whole day is snow
SAME_LEVEL: Final = 0.1  # log10
NOISE: Final = 0.002  # of the size, below zero; zero wanders in any meter
IDLE_VALUES: Final = 24  # from so many on it is told whether a machine idles
IDLE_LEVELS: Final = (5, 0.08)  # different values at most, and as a share of the values
SHORT_DAYS: Final = 21  # of a file in which a calm week or a few days off look like another unit
_OFF: Final = POWERS != 0
_SWITCH: Final = (LEAVE * _OFF[:, None] + ENTER * _OFF) * (1 - np.eye(POWERS.size))


def unit_slips(values: Values, calm: Values, spec: SeriesSpec) -> tuple[Mask, Values]:
    """Stretches in another unit.

    Parameters
    ----------
    calm : ndarray
        The values without spikes (NaN instead), of which the stretches are told.

    Returns
    -------
    mask : ndarray of bool
    factor : ndarray
        What to divide the values by; 1 where nothing is wrong.
    """
    factor = np.ones(values.size)
    if spec.kind not in ("load", "meter", "pv", "wind") or np.isfinite(calm).sum() < 100:
        return factor != 1, factor
    for _ in range(3):  # slips hide what is usual; the next look is without those already found
        course = Course.of(calm, calm / factor if (factor != 1).any() else calm, spec)
        found = np.ones(values.size)
        if course is not None:
            for start, stop in course.suspicious():
                _judge(course, start, stop, found)
        _take_along(values, np.isnan(calm) & (values > 0), found)
        found[values == 0] = 1
        if spec.coarse:
            found[(found == 10) | (found == 0.1)] = 1  # days differ by as much
        if spec.kind in ("load", "meter"):
            _keep_standby(values, found)
        if spec.kind == "meter" and goes_both_ways(
            values, values < -NOISE * 10.0**course.size if course else found < 0
        ):
            found[found < 1] = 1  # what passes through zero is near zero at times
        if np.array_equal(found, factor):
            break
        factor = found
    return factor != 1, factor


def _keep_standby(values: Values, factor: Values) -> None:
    """Take back what is said to be too small where the same level would be off by different powers.

    A machine that idles always draws the same; what a wrong unit makes of it depends on what it was.
    """
    claims = [(start, stop) for start, stop in runs_of(factor < 1)]
    if len(claims) < 2:
        return
    level = np.log10([np.nanmedian(np.abs(values[start:stop])) for start, stop in claims])
    power = np.round(np.log10([factor[start] for start, _ in claims]))
    for (start, stop), height, own in zip(claims, level, power, strict=True):
        if ((np.abs(level - height) < SAME_LEVEL) & (power != own)).any():
            factor[start:stop] = 1


def _take_along(values: Values, left_out: Mask, factor: Values) -> None:
    """Spikes next to a slip, of its height, belong to it: noise in watts looks like spikes among kilowatts."""
    for start, stop in runs_of(factor != 1):
        for edge, way in ((start, -1), (stop - 1, 1)):
            place = edge + way
            while 0 <= place < values.size and left_out[place] and 0.4 < values[place] / values[edge] < 2.5:
                factor[place] = factor[edge]
                place += way


def _judge(course: Course, start: int, stop: int, factor: Values) -> None:
    """Write the factors of the slipped values between `start` and `stop` into `factor`."""
    logs = course.logs[start:stop]
    known = np.flatnonzero(np.isfinite(logs))
    if known.size < 2 * SHORTEST:
        return
    x = logs[known]
    step, apart = np.diff(x), np.diff(known)
    top = np.maximum(x[1:], x[:-1])
    free = apart > course.long_gap
    ratio = course.ratio[start:stop][known]
    # Where a load usually leaps and for once does not, its unit may have changed, too.
    expected = np.nan_to_num(step - np.diff(ratio)) if course.spec.kind in ("load", "meter") else np.zeros(step.size)
    steep = np.maximum(np.abs(step), np.abs(step - expected)) > JUMP
    cuts = np.flatnonzero(steep & (top > course.size + np.log10(FAINT)) | free)
    first = np.concatenate(([0], cuts + 1))
    value = course.level(ratio)
    spread = course.spread(top[:, None] - POWERS)
    inner = INNER * (-np.log(spread) - 1.5 * np.log1p((step[:, None] / spread) ** 2 / 2))
    inner[cuts] = 0.0
    inner[apart > 1] = 0.0
    value[1:] += inner
    piece = np.add.reduceat(value, first, axis=0)
    # Only where the file itself begins or ends may a slip be cut off.
    closed = np.where(np.arange(POWERS.size) == RIGHT, 0.0, 1e6)
    piece[0] -= _SWITCH[RIGHT] if start == 0 else closed
    piece[-1] -= 0.0 if stop == course.logs.size else closed
    states = _viterbi(piece, _edges(course, x, cuts, apart[cuts], expected[cuts]))
    power = POWERS[np.repeat(states, np.diff(np.concatenate((first, [x.size]))))]
    change = np.concatenate(([0], np.flatnonzero(np.diff(power)) + 1, [power.size]))
    for a, b in zip(change[:-1].tolist(), change[1:].tolist(), strict=True):
        if power[a] == 0 or b - a < SHORTEST:
            continue
        stretch = slice(start + int(known[a]), start + int(known[b - 1]) + 1)
        if _is_believed(course, _Claim(x, ratio, apart, power, a, b), stretch):
            factor[stretch] = 10.0 ** power[a]


@dataclass(frozen=True, slots=True)
class _Claim:
    """Values `first` to `stop` (excluded) of a piece of a series are said to be off by a power of ten.

    Attributes
    ----------
    logs, ratio : ndarray
        The known values of the piece, and what they are of the expected ones [log10].
    apart : ndarray
        Places between each known value and the next.
    powers : ndarray
        Power of ten that each value of the piece is said to be off by.
    """

    logs: Values
    ratio: Values
    apart: Index
    powers: Values
    first: int
    stop: int

    @property
    def power(self) -> float:
        return float(self.powers[self.first])

    def edges(self, longest: int) -> list[tuple[int, int]]:
        """Places of the outer and inner value at either end, where they are at most `longest` places apart."""
        pairs = [(self.first - 1, self.first), (self.stop, self.stop - 1)]
        return [
            (outer, inner)
            for outer, inner in pairs
            if 0 <= outer < self.logs.size and self.apart[min(outer, inner)] <= longest
        ]

    def leap(self, levels: Values, outer: int, inner: int) -> float:
        """How far the inner value is off its neighbour, put right, in the way that is claimed [log10]."""
        return float(np.sign(self.power) * (levels[inner] - levels[outer] + self.powers[outer]))


def _is_believed(course: Course, claim: _Claim, stretch: slice) -> bool:
    """Whether there is no simpler reason for what looks like another unit."""
    spec, ratio = course.spec, claim.ratio[claim.first : claim.stop]
    if spec.kind == "pv":
        return _in_the_light(course, claim) or claim.power > 0 or _like_a_fine_day(ratio, claim.power)
    if course.goes_below(stretch, claim.power):
        return False
    if spec.kind == "wind":
        return abs(claim.power) == POWERS[-1] or course.values.size >= SHORT_DAYS * spec.steps_per_day
    hour = spec.steps(1.0)
    edges = claim.edges(hour)
    machine = abs(claim.power) < POWERS[-1] and _is_machine(course, claim.power, stretch)
    if machine or not course.fits(ratio, claim.power, open_ended=len(edges) < 2):
        return False
    if abs(claim.power) > 1:
        return True
    leaps = [claim.leap(claim.logs, *edge) for edge in edges]
    as_usual = [claim.leap(claim.ratio, *edge) for edge in edges]
    # From a few days it is not told what a load does by itself: then both ends must leap.
    needed = 2 if course.values.size < SHORT_DAYS * spec.steps_per_day else 1
    return sum(leap > LEAP for leap in leaps) >= needed and float(np.fmin.reduce(np.fmax(leaps, as_usual))) > LEAST_LEAP


def _is_machine(course: Course, power: float, stretch: slice) -> bool:
    """Whether a machine was switched off that otherwise runs, or on that otherwise idles: idling hardly moves."""
    if power < 0:
        return _idles(course.values[stretch])
    day = course.spec.steps_per_day
    before, after = course.values[max(0, stretch.start - day) : stretch.start], course.values[stretch.stop :][:day]
    return _idles(before) and _idles(after)


def _idles(values: Values) -> bool:
    known = values[np.isfinite(values)]
    return known.size >= IDLE_VALUES and np.unique(known).size <= max(IDLE_LEVELS[0], IDLE_LEVELS[1] * known.size)


def _in_the_light(course: Course, claim: _Claim) -> bool:
    """Whether one of the ends is a jump by day; at dawn and dusk any ratio is possible."""
    bright = course.size + np.log10(BRIGHT)
    right = claim.logs - claim.powers
    return any(max(right[outer], right[inner]) > bright for outer, inner in claim.edges(course.long_gap))


def _like_a_fine_day(ratio: Values, power: float) -> bool:
    """Whether whole days of a tenth or a hundredth follow the sky; dark days and snow give as little, but not evenly.

    A thousandth is less than dark days give.
    """
    known = ratio[np.isfinite(ratio)] - power
    if known.size == 0:
        return False
    if power == POWERS[0]:
        return bool(np.median(known) > np.log10(DARKEST))
    return bool(abs(np.median(known)) < FINE and np.std(known) < 0.8 * FINE)


def _edges(course: Course, x: Values, cuts: Index, apart: Index, expected: Values) -> Values:
    """Log-likelihood of each cut (first axis) for the states before (second) and after (third)."""
    before, after = x[cuts][:, None, None] - POWERS[:, None], x[cuts + 1][:, None, None] - POWERS
    spread = course.spread(np.maximum(before, after))
    jump = after - before
    as_usual = jump - expected[:, None, None]
    jump = np.where(np.abs(as_usual) < np.abs(jump), as_usual, jump) / spread
    result = -1.5 * np.log1p(jump**2 / 2) - np.log(spread)
    gap = apart > course.long_gap
    if course.spec.kind == "pv":
        result[gap] = 0.0
    else:
        wide = spread * np.sqrt(np.minimum(apart, course.spec.steps(24.0)))[:, None, None]
        result[gap] = (-1.5 * np.log1p(((after - before) / wide) ** 2 / 2))[gap]
    return result - _SWITCH


def _viterbi(piece: Values, edges: Values) -> Index:
    """The most likely state of each piece."""
    score = piece[0]
    back = np.zeros(piece.shape, dtype=np.int64)
    columns = np.arange(POWERS.size)
    for i in range(1, piece.shape[0]):
        options = score[:, None] + edges[i - 1]
        back[i] = np.argmax(options, axis=0)
        score = options[back[i], columns] + piece[i]
    states = np.zeros(piece.shape[0], dtype=np.int64)
    states[-1] = int(np.argmax(score))
    for i in range(piece.shape[0] - 1, 0, -1):
        states[i - 1] = back[i, states[i]]
    return states
