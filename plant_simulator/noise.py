"""Seeded noise that looks like nature: slowly wandering, never jumping."""

from __future__ import annotations

import math
import random


class Wander:
    """Mean-reverting random walk (Ornstein-Uhlenbeck process), exact for any step length.

    Parameters
    ----------
    rng : random.Random
        Seeded generator; the same seed and the same steps give the same walk.
    sigma : float
        Standard deviation in the long run, in the unit of the quantity.
    time_constant_s : float
        Time in which a deviation decays to 1/e [s].

    References
    ----------
    D. T. Gillespie, "Exact numerical simulation of the Ornstein-Uhlenbeck process", Phys. Rev. E 54 (1996).
    """

    def __init__(self, rng: random.Random, sigma: float, time_constant_s: float) -> None:
        self._rng = rng
        self._sigma = sigma
        self._tau_s = time_constant_s
        self.value = rng.gauss(0.0, sigma) if sigma > 0 else 0.0

    def step(self, dt_s: float) -> float:
        """Advance by `dt_s` seconds and return the new value."""
        if self._sigma <= 0 or dt_s <= 0:
            return self.value
        decay = math.exp(-dt_s / self._tau_s)
        self.value = self.value * decay + self._rng.gauss(0.0, self._sigma * math.sqrt(1.0 - decay * decay))
        return self.value


def ramp(current: float, target: float, rate_per_s: float, dt_s: float) -> float:
    """Move `current` towards `target` by at most ``rate_per_s * dt_s``."""
    reach = rate_per_s * dt_s
    return target if abs(target - current) <= reach else current + math.copysign(reach, target - current)
