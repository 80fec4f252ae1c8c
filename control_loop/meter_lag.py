"""What the site's own devices gave when the connection's meter measured what it shows now.

A meter that averages, answers late, or renews its value less often than the loop looks shows a past in which the site's
setpoints were others. To reckon with today's powers would correct twice what has not reached the meter yet, and swing.
How late it is, is found in operation: own power and exchange are two series of the same movements, one later than the
other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from operator import mul

from control_loop.context import Context
from control_loop.model import Actuator

LATEST_S = 6.0
"""Greatest lag looked for [s]."""

HELD_S = 5.0
"""A value that repeats itself for longer is the present one; by then a meter that is frozen has been found out."""

CHANGES, MOST_CHANGES, CHANGES_S = 40, 120, 40.0
"""Changes of the meter's value that are looked at; of short cycles as many as make up that time [s], up to the most."""

RENEW = 10
"""Cycles between two estimates."""

CLEARER = 0.5
"""A lag is believed when its squared misfit is below this share of the others' mean, and of that of the one believed
before."""

LEAST_KW = 2.0
"""Own power has to have moved by so much for an estimate."""


OPPOSITE = 0.1
"""The meter counts the wrong way round when that leaves so small a share of the misfit, and the right way when this
does."""

OPPOSITE_SHARE = 0.05
"""Own power has to have moved by this share of the connection's limits before a meter is said to count wrongly."""


@dataclass(frozen=True, slots=True)
class MeterView:
    """What the meter's value rests on.

    Attributes
    ----------
    age_cycles : int
        How many cycles it is behind the devices' own measurements; negative where these come later than the meter's.
    powers_kw : mapping
        Power of each actuator's asset then, in its own sign; without those that were not seen.
    """

    age_cycles: int
    powers_kw: Mapping[str, float]


class MeterLag:
    """Follows one site's meter.

    Parameters
    ----------
    cycle_s : float
        Length of a cycle.

    Attributes
    ----------
    cycles : int
        Cycles that pass until a change of the site's own power, as its devices show it, shows in the meter's value.
    reversed : bool
        Whether the exchange moves with the site's own power rather than against it: the meter's sign is wrong.
    """

    def __init__(self, cycle_s: float) -> None:
        self.cycles = 0
        self.reversed = False
        self._latest = min(max(math.ceil(LATEST_S / cycle_s), 3), 30)
        self._held = math.ceil(HELD_S / cycle_s)
        self._powers: deque[dict[str, float]] = deque(maxlen=self._latest + self._held + 1)
        changes = min(max(CHANGES, math.ceil(CHANGES_S / cycle_s)), MOST_CHANGES)
        self._own: deque[float] = deque(maxlen=changes * min(self._held, 5) + 2 * self._latest)
        self._changes: deque[tuple[int, float]] = deque(maxlen=changes)
        self._count = 0
        self._value: float | None = None
        self._renewed = 0

    def update(self, context: Context, arrived: Callable[[Context, Actuator, int], float]) -> MeterView:
        """Look at one cycle.

        Parameters
        ----------
        arrived : callable
            By how much an actuator's power has changed in so many cycles without showing it yet [kW].
        """
        measured = self._shown(context)
        powers: dict[str, float] = {}
        own = 0.0
        for actuator in context.model.actuators:
            power = context.fresh(actuator.asset_id, "active_power_kw")
            if power is not None:
                powers[actuator.asset_id] = power
                own += -power if actuator.consumes else power
        self._count += 1
        self._powers.append(powers)
        if measured is None or len(powers) < len(context.model.actuators):
            self._own.clear()
            self._changes.clear()
        else:
            self._own.append(own)
        if measured != self._value:
            self._value, self._renewed = measured, self._count
            if measured is not None and self._own:
                self._changes.append((self._count, measured))
        if self._count % RENEW == 0:
            self._estimate(OPPOSITE_SHARE * max(context.model.import_limit_kw, context.model.export_limit_kw))
        held = self._count - self._renewed
        age = min(self.cycles + (held if held < self._held else 0), len(self._powers) - 1)
        if age >= 0:
            return MeterView(age, self._powers[len(self._powers) - 1 - age])
        ahead = {
            a.asset_id: powers[a.asset_id] + arrived(context, a, -age)
            for a in context.model.actuators
            if a.asset_id in powers
        }
        return MeterView(age, ahead)

    @staticmethod
    def _shown(context: Context) -> float | None:
        """The meter's value, also while it is not trusted: that may end."""
        sample = context.image.sample(context.model.pcc_id, "active_power_kw")
        fresh = sample is not None and context.monotonic - sample.monotonic <= context.model.stale_after_s
        return sample.value if sample is not None and fresh else None

    def _estimate(self, much_kw: float) -> None:
        """Find the lag at which the exchange's changes are those of the site's own power."""
        own, first = list(self._own), self._count - len(self._own) + 1
        seen = [(at, kw) for at, kw in self._changes if first + self._latest <= at <= self._count - self._latest]
        if len(seen) < 4:
            return
        changes = [high - low for (_, low), (_, high) in pairwise(seen)]
        spans = [(before - first, at - first) for (before, _), (at, _) in pairwise(seen)]
        changed = sum(map(mul, changes, changes))
        against: list[_Misfit] = []
        along: list[_Misfit] = []
        for lag in range(-self._latest, self._latest + 1):
            steps = [own[end - lag] - own[begin - lag] for begin, end in spans]
            moved, square, cross = max(map(abs, steps)), sum(map(mul, steps, steps)), sum(map(mul, steps, changes))
            against.append(_Misfit(max(changed + square + 2 * cross, 0.0), lag, moved))
            if lag >= 0:  # what comes after the meter moves with it where the loop holds the exchange
                along.append(_Misfit(max(changed + square - 2 * cross, 0.0), lag, moved))
        best, worst = (min(misfits, key=lambda m: (m.squares, abs(m.lag))) for misfits in (against, along))
        others = (sum(m.squares for m in against) - best.squares) / (len(against) - 1)
        held = next(m.squares for m in against if m.lag == self.cycles)
        if best.moved_kw >= LEAST_KW and best.squares < CLEARER * min(others, held):
            self.cycles = best.lag
        if worst.moved_kw > much_kw and worst.squares < OPPOSITE * best.squares:
            self.reversed = True
        elif best.moved_kw > much_kw and best.squares < OPPOSITE * worst.squares:
            self.reversed = False


@dataclass(frozen=True, slots=True)
class _Misfit:
    """Sum of squares [kW²] that a lag [cycles] leaves, and the largest step of own power that it rests on."""

    squares: float
    lag: int
    moved_kw: float
