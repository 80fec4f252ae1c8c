"""Dispatch: which decisions go out, with which identity and time to live, and whether they took effect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from control_loop.arbitration import Decision
from control_loop.context import SentState
from control_loop.model import Actuator, SiteModel

EFFECT_CYCLES = 2
"""A setpoint acknowledged by the device must stand in its register after at most this many cycles."""


@dataclass(frozen=True, slots=True)
class Setpoint:
    """One value on its way to a device.

    Attributes
    ----------
    setpoint_id : int
        Rises with every setpoint of this loop.
    epoch : int
        The loop's lease; a setpoint of an older epoch is never sent.
    value : float
        [kW]
    valid_until : float
        Monotonic time [s]; after it the value must not be sent and the device may fall back.
    """

    setpoint_id: int
    epoch: int
    actuator: Actuator
    value: float
    decision: Decision
    created: float
    valid_until: float


@dataclass(slots=True)
class _Track:
    sent: Setpoint | None = None
    decided: float | None = None
    since: float = 0.0
    acknowledged: bool = False
    sent_cycle: int = 0
    mismatches: int = 0
    readback: float | None = None
    failures: int = 0


@dataclass(slots=True)
class Dispatcher:
    """Keeps what every actuator was told and decides what must be told again.

    Parameters
    ----------
    model : SiteModel
        The site.
    epoch : int
        Lease of this loop.
    """

    model: SiteModel
    epoch: int = 1
    _tracks: dict[str, _Track] = field(default_factory=dict)
    _next_id: int = 1

    def state(self) -> dict[str, SentState]:
        """What was last decided for each actuator; the ramp goes on from there."""
        return {
            asset_id: SentState(track.decided, track.since)
            for asset_id, track in self._tracks.items()
            if track.decided is not None
        }

    def readback(self, asset_id: str) -> float | None:
        """What the device's register said last, None before it answered."""
        track = self._tracks.get(asset_id)
        return None if track is None else track.readback

    def due(self, decisions: Mapping[str, Decision], monotonic: float) -> list[Setpoint]:
        """The setpoints that must go out now: changed ones, unacknowledged ones, and those near their end.

        Parameters
        ----------
        decisions : mapping
            This cycle's decisions.
        monotonic : float
            Now [s].
        """
        due: list[Setpoint] = []
        for actuator in self.model.actuators:
            decision = decisions.get(actuator.asset_id)
            if decision is None:
                continue
            track = self._tracks.setdefault(actuator.asset_id, _Track(since=-math.inf))
            if track.decided is not None and (track.decided > 0) != (decision.value > 0):
                track.since = monotonic
            track.decided = decision.value
            sent = track.sent
            if sent is not None:
                changed = abs(sent.value - decision.value) > tolerance_kw(actuator)
                changed |= decision.value == 0 != sent.value
                ending = sent.valid_until - monotonic <= self.model.setpoint_ttl_s / 2
                if not (changed or ending or not track.acknowledged or track.mismatches):
                    continue
            due.append(
                Setpoint(
                    self._next_id,
                    self.epoch,
                    actuator,
                    decision.value,
                    decision,
                    monotonic,
                    monotonic + self.model.setpoint_ttl_s,
                )
            )
            self._next_id += 1
        return due

    def may_send(self, setpoint: Setpoint, monotonic: float) -> bool:
        """Whether a setpoint is still ours to send: of this epoch and not expired."""
        return setpoint.epoch == self.epoch and monotonic < setpoint.valid_until

    def told(self, setpoint: Setpoint, acknowledged: bool, cycle: int) -> None:
        """Note that a setpoint went out (or was tried)."""
        track = self._tracks.setdefault(setpoint.actuator.asset_id, _Track(since=-math.inf))
        before = track.sent
        if before is None or abs(before.value - setpoint.value) > tolerance_kw(setpoint.actuator):
            track.sent_cycle, track.mismatches = cycle, 0
        track.sent = setpoint
        track.acknowledged = acknowledged
        track.failures = 0 if acknowledged else track.failures + 1

    def check(self, readbacks: Mapping[str, float | None], cycle: int) -> dict[str, str]:
        """Compare the devices' registers with what was sent.

        Parameters
        ----------
        readbacks : mapping
            Register value of each actuator, None where it could not be read fresh.
        cycle : int
            Number of this cycle.

        Returns
        -------
        dict
            Actuators whose acknowledged setpoint had no effect, with a message.

        Notes
        -----
        A device that could not be told and answers again goes on from the value it holds, not from the one it
        never heard.
        """
        without_effect: dict[str, str] = {}
        for asset_id, track in self._tracks.items():
            value = readbacks.get(asset_id)
            track.readback = value
            if value is not None and track.failures:
                track.decided = value
            if track.sent is None or value is None or not track.acknowledged or cycle <= track.sent_cycle:
                continue
            if abs(value - track.sent.value) <= tolerance_kw(track.sent.actuator):
                track.mismatches = 0
                continue
            track.mismatches += 1
            if track.mismatches >= EFFECT_CYCLES:
                without_effect[asset_id] = (
                    f"{asset_id}: {track.sent.actuator.quantity} {track.sent.value:g} {track.sent.actuator.unit} was "
                    f"acknowledged, but the device holds {value:g} {track.sent.actuator.unit}"
                )
        return without_effect

    def status(self, asset_id: str) -> str:
        """``sent``, ``acknowledged``, ``no_effect`` or ``failed``."""
        track = self._tracks.get(asset_id)
        if track is None or track.sent is None:
            return "none"
        if track.mismatches >= EFFECT_CYCLES:
            return "no_effect"
        if not track.acknowledged:
            return "failed"
        return "sent" if track.readback is None else "acknowledged"

    def failures(self, asset_id: str) -> int:
        """How many times in a row a setpoint could not be delivered."""
        track = self._tracks.get(asset_id)
        return 0 if track is None else track.failures

    def last(self, asset_id: str) -> Setpoint | None:
        """The setpoint in force."""
        track = self._tracks.get(asset_id)
        return None if track is None else track.sent


def tolerance_kw(actuator: Actuator) -> float:
    """Difference below which two values of an actuator are the same: the resolution of its register and a bit."""
    return max(0.02, 1e-4 * max(abs(actuator.minimum_kw), abs(actuator.maximum_kw)))
