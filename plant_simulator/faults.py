"""Faults on demand: what can go wrong with a device, a battery or an outside service, and for how long."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from flexergy_pipelines.grid.clock import Clock

DeviceFault = Literal["down", "silent", "slow", "frozen", "spikes", "nan", "ack_without_effect", "stuck_output"]
AssetFault = Literal["bms_trip"]
ServiceFault = Literal["http_429", "http_500", "slow", "truncated", "stale"]
FaultKind = Literal[
    "down", "silent", "slow", "frozen", "spikes", "nan", "ack_without_effect", "stuck_output",
    "bms_trip", "http_429", "http_500", "truncated", "stale",
]  # fmt: skip

DEVICE_FAULTS: tuple[str, ...] = get_args(DeviceFault)
ASSET_FAULTS: tuple[str, ...] = get_args(AssetFault)
SERVICE_FAULTS: tuple[str, ...] = get_args(ServiceFault)
SERVICES = ("weather", "market")


class FaultRequest(BaseModel):
    """A fault somebody wants to see.

    Attributes
    ----------
    target : str
        ``<site>/<device>`` for device faults, ``<site>/<asset>`` for battery faults, ``weather`` or ``market``.
    kind : str
        What goes wrong: *down* (port closed), *silent* (connects, never answers), *slow* (answers after `delay_s`),
        *frozen* (old values for ever), *spikes* (now and then ten times the value), *nan* (not-a-number sentinels),
        *ack_without_effect* (a write is acknowledged and dropped), *stuck_output* (the register takes the write, the
        power stays), *bms_trip* (contactors open); for services *http_429*, *http_500*, *slow*, *truncated*, *stale*.
    duration_s : float or None
        Seconds until it heals by itself; None lasts until it is cleared.
    delay_s : float
        For *slow*: delay of each answer [s].
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    target: str
    kind: FaultKind
    duration_s: float | None = Field(default=None, gt=0)
    delay_s: float = Field(default=1.0, ge=0, le=60)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in force."""

    fault_id: int
    target: str
    kind: str
    delay_s: float
    until_s: float | None


class FaultBoard:
    """The faults in force.

    Parameters
    ----------
    clock : Clock
        Durations are measured on its monotonic side.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._faults: dict[int, Fault] = {}
        self._ids = itertools.count(1)

    def set(self, request: FaultRequest) -> Fault:
        """Put a fault in force; the same kind on the same target is replaced."""
        for fault in self.active():
            if (fault.target, fault.kind) == (request.target, request.kind):
                del self._faults[fault.fault_id]
        until_s = None if request.duration_s is None else self._clock.monotonic() + request.duration_s
        fault = Fault(next(self._ids), request.target, request.kind, request.delay_s, until_s)
        self._faults[fault.fault_id] = fault
        return fault

    def clear(self, fault_id: int | None = None) -> int:
        """Heal one fault, or all; returns how many were healed."""
        doomed = [f.fault_id for f in self.active() if fault_id is None or f.fault_id == fault_id]
        for key in doomed:
            del self._faults[key]
        return len(doomed)

    def active(self) -> list[Fault]:
        """Faults in force now; those whose time is over are gone."""
        if not self._faults:
            return []
        now_s = self._clock.monotonic()
        for key in [f.fault_id for f in self._faults.values() if f.until_s is not None and now_s >= f.until_s]:
            del self._faults[key]
        return list(self._faults.values())

    def find(self, target: str, kind: str) -> Fault | None:
        """The fault of this kind on this target, if in force."""
        return next((f for f in self.active() if f.target == target and f.kind == kind), None)

    def has(self, target: str, kind: str) -> bool:
        """Whether such a fault is in force."""
        return self.find(target, kind) is not None
