"""Voting: what several instances computed on the same image is compared, and the majority's value goes out.

Pure: one round of ballots in, one value for each actuator and everything worth an alarm out. A ballot counts only if
its round and the digest of the image it was computed on are those of the master, so that nobody is outvoted for
having seen something else. Majority voting over redundant modules: J. von Neumann, Probabilistic Logics, 1956;
R. E. Lyons and W. Vanderkulk, The Use of Triple-Modular Redundancy to Improve Computer Reliability, 1962.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from control_loop.model import Actuator

ActuatorKey = tuple[str, str]
"""(asset id, commanded quantity)."""

LEAST_VOTERS = 3
"""Of two that disagree nobody can say who is right."""


@dataclass(frozen=True, slots=True, order=True)
class Round:
    """One cycle of one master.

    Attributes
    ----------
    epoch : int
        The master's lease.
    cycle : int
        Its cycle.
    """

    epoch: int
    cycle: int


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one instance would send.

    Attributes
    ----------
    instance : str
        Who computed it.
    digest : str
        Of the image it was computed on, see `digest_of`.
    values : mapping
        Value of each actuator [kW or kvar].
    """

    instance: str
    round: Round
    digest: str
    values: Mapping[ActuatorKey, float]


class Standing(Enum):
    """How an actuator's vote came out."""

    AGREED = "agreed"
    """A majority holds the value."""
    ABSENT = "absent"
    """Fewer instances than a majority took part."""
    DISPUTED = "disputed"
    """Enough took part, but no majority holds one value."""


@dataclass(frozen=True, slots=True)
class Vote:
    """How the vote on one actuator came out; `value` is None unless it is agreed."""

    standing: Standing
    value: float | None = None
    instance: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One round.

    Attributes
    ----------
    votes : mapping
        Of each actuator.
    dissent : mapping
        Instances that hold another value than the majority, with what differs most.
    present : tuple of str
        Instances whose ballot counted.
    """

    votes: Mapping[ActuatorKey, Vote]
    dissent: Mapping[str, str] = field(default_factory=dict)
    present: tuple[str, ...] = ()


def digest_of(body: str) -> str:
    """SHA-256 of an image as it was published."""
    return hashlib.sha256(body.encode()).hexdigest()


def majority_of(voters: int) -> int:
    """How many of `voters` configured instances must hold a value; those that are absent count as not holding it."""
    if voters < LEAST_VOTERS:
        raise ValueError(f"voters: {voters} is too few, a majority needs at least {LEAST_VOTERS} instances")
    return voters // 2 + 1


def count_votes(
    ballots: Iterable[Ballot],
    actuators: Sequence[Actuator],
    tolerances: Mapping[ActuatorKey, float],
    *,
    voters: int,
    round_: Round,
    digest: str,
    master: str,
) -> Result:
    """Count one round.

    Parameters
    ----------
    ballots : iterable of Ballot
        Whatever came in, in any order; of other rounds and images none counts, of one instance only the last.
    actuators : sequence of Actuator
        What is voted on.
    tolerances : mapping
        Difference up to which two values of an actuator are the same [kW or kvar].
    voters : int
        How many instances are configured.
    round_, digest : Round, str
        What the ballots must be about.
    master : str
        The instance that sends.

    Notes
    -----
    An agreed value is one that a ballot really holds, never a mean: a mean of setpoints that are each allowed need not
    be. It is taken from the same instance for all actuators where that is possible, as limits that several actuators
    share hold for the setpoints of one instance together: first the one that dissents least, of those the master.
    """
    quorum = majority_of(voters)
    counted = {b.instance: b for b in ballots if b.round == round_ and b.digest == digest}
    present = tuple(sorted(counted))
    keys = [(a.asset_id, a.quantity) for a in actuators]
    if len(present) < quorum:
        return Result({key: Vote(Standing.ABSENT) for key in keys}, {}, present)
    holders = {key: _holders(counted, key, tolerances[key], quorum) for key in keys}
    outside = {name: sum(name not in held for held in holders.values()) for name in present}
    ranked = sorted(present, key=lambda name: (outside[name], name != master, name))
    votes: dict[ActuatorKey, Vote] = {}
    dissent: dict[str, tuple[float, str]] = {}
    for actuator, key in zip(actuators, keys, strict=True):
        chosen = next((name for name in ranked if name in holders[key]), None)
        if chosen is None:
            votes[key] = Vote(Standing.DISPUTED)
            continue
        value = counted[chosen].values[key]
        votes[key] = Vote(Standing.AGREED, value, chosen)
        for name in present:
            held = counted[name].values.get(key)
            off = math.inf if held is None or not math.isfinite(held) else abs(held - value)
            if off > tolerances[key] and off > dissent.get(name, (0.0, ""))[0]:
                dissent[name] = off, _difference(actuator, held, value)
    return Result(votes, {name: text for name, (_, text) in sorted(dissent.items())}, present)


def _holders(counted: Mapping[str, Ballot], key: ActuatorKey, tolerance: float, quorum: int) -> frozenset[str]:
    """Instances whose value a majority holds, within the tolerance."""
    values = {name: ballot.values[key] for name, ballot in counted.items() if key in ballot.values}
    values = {name: value for name, value in values.items() if math.isfinite(value)}
    return frozenset(
        name
        for name, value in values.items()
        if sum(abs(other - value) <= tolerance for other in values.values()) >= quorum
    )


def _difference(actuator: Actuator, held: float | None, value: float) -> str:
    shown = "nothing" if held is None else f"{held:g} {actuator.unit}"
    return f"{actuator.asset_id} {shown} instead of {value:g} {actuator.unit}"


def safe_value(actuator: Actuator, last: float, step: float, hard: tuple[float, float]) -> float:
    """What goes out without a majority: the actuator's safe value, approached by at most `step`.

    Parameters
    ----------
    last : float
        What it was told last [kW or kvar].
    step : float
        Greatest change in this cycle.
    hard : tuple of float
        Range the master's limits leave. It may only bring the value nearer to zero: who is right is not known, and
        the master may be the one that is wrong.
    """
    target = _nearer_to_zero(actuator.safe_kw, hard)
    if actuator.curtailment is not None:
        step = math.inf  # between its steps a load has no value
    value = _nearer_to_zero(min(max(target, last - step), last + step), hard)
    if 0 < value < actuator.running_minimum_kw:
        return 0.0
    return min(max(value, actuator.minimum_kw), actuator.maximum_kw)


def held_value(actuator: Actuator, last: float, hard: tuple[float, float]) -> float:
    """What goes out while a round is merely late: what a majority held last, nearer to zero where limits ask for it."""
    value = _nearer_to_zero(last, hard)
    if 0 < value < actuator.running_minimum_kw:
        return 0.0
    return min(max(value, actuator.minimum_kw), actuator.maximum_kw)


def _nearer_to_zero(value: float, hard: tuple[float, float]) -> float:
    narrowed = min(max(value, hard[0]), hard[1])
    if narrowed * value < 0:
        return 0.0
    return narrowed if abs(narrowed) <= abs(value) else value
