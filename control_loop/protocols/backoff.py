"""When to try a lost link again: bounded exponential waits with jitter, the first connect included."""

from __future__ import annotations

import random


class Backoff:
    """Waits of one link.

    Parameters
    ----------
    first_s, longest_s : float
        Wait after the first failure, and the bound [s]. Each failure doubles the wait.
    rng : random.Random, optional
        Source of jitter; each wait is drawn from 50..100 % of its nominal length, so that many devices behind one
        broken network don't come back in step.
    """

    def __init__(self, first_s: float = 0.5, longest_s: float = 15.0, rng: random.Random | None = None) -> None:
        self.first_s = first_s
        self.longest_s = longest_s
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, protects nothing
        self._failures = 0
        self._next = float("-inf")

    def ready(self, monotonic: float) -> bool:
        """Whether a try is due at `monotonic` [s]."""
        return monotonic >= self._next

    def wait_s(self, monotonic: float) -> float:
        """Seconds until the next try."""
        return max(0.0, self._next - monotonic)

    def failed(self, monotonic: float) -> None:
        """Note a failed try."""
        nominal = min(self.longest_s, self.first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        self._next = monotonic + nominal * self._rng.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Note a try that worked; the next failure starts from the shortest wait again."""
        self._failures = 0
        self._next = float("-inf")
