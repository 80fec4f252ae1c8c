"""Sharing a limit fairly: every consumer's least need first, then by priority, equally within one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What one consumer wants of a shared limit.

    Attributes
    ----------
    name : str
        Who.
    most_kw : float
        More it cannot take [kW].
    least_kw : float
        Less is of no use to it: a car that charges takes 6 A a phase or nothing [kW].
    priority : int
        1 is served first, 9 last.
    soc : float or None
        State of charge of the car; of equal priority, the emptier one gets its least need first.
    """

    name: str
    most_kw: float
    least_kw: float = 0.0
    priority: int = 5
    soc: float | None = None


def share_limit(limit_kw: float, claims: Sequence[Claim]) -> dict[str, float]:
    """Part of `limit_kw` that each consumer may take [kW].

    Parameters
    ----------
    limit_kw : float
        What all of them together may take.
    claims : sequence of Claim
        The consumers.

    Returns
    -------
    dict
        Never more in sum than the limit; each part is zero or at least the consumer's least need.

    Notes
    -----
    Served in order of priority, then of state of charge, then of name: first the least needs, as long as they fit; what
    is left goes to the highest priority up to its most, shared equally (water filling) among equals.
    """
    ranked = sorted(claims, key=lambda c: (c.priority, 1.0 if c.soc is None else c.soc, c.name))
    left = max(0.0, limit_kw)
    parts = dict.fromkeys((claim.name for claim in claims), 0.0)
    served: list[Claim] = []
    for claim in ranked:
        least = min(claim.least_kw, claim.most_kw)
        if least <= left + 1e-9:
            parts[claim.name] = min(least, left)
            left -= parts[claim.name]
            served.append(claim)
    for priority in sorted({claim.priority for claim in served}):
        left = _fill([claim for claim in served if claim.priority == priority], parts, left)
    return parts


def _fill(equals: list[Claim], parts: dict[str, float], left_kw: float) -> float:
    """Raise all parts together until each is at its most or nothing is left; returns what is left."""
    hungry = [claim for claim in equals if parts[claim.name] < claim.most_kw]
    while hungry and left_kw > 1e-9:
        step = min(left_kw / len(hungry), *(claim.most_kw - parts[claim.name] for claim in hungry))
        for claim in hungry:
            parts[claim.name] += step
        left_kw -= step * len(hungry)
        hungry = [claim for claim in hungry if claim.most_kw - parts[claim.name] > 1e-9]
    return max(0.0, left_kw)
