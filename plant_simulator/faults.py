"""Faults on demand: what can go wrong with a device, a battery or an outside service, and for how long."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flexergy_pipelines.grid.clock import Clock
from plant_simulator.bms import HIGHEST_EVENT

FaultKind = Literal[
    "down", "silent", "slow", "frozen", "spikes", "nan", "wrong_scale", "ack_without_effect", "stuck_output",
    "clock_skew", "bms_trip", "bms_alarm", "hot_cells", "start_failure", "engine_trip", "frequency", "voltage",
    "meter_reset", "http_429", "http_500", "truncated", "stale", "changed_schema",
]  # fmt: skip

READING_FAULTS: tuple[FaultKind, ...] = ("down", "silent", "slow", "frozen", "spikes", "nan", "wrong_scale")
"""What can go wrong with every device."""
ORDER_FAULTS: tuple[FaultKind, ...] = ("ack_without_effect", "stuck_output")
"""What can go wrong with a device that takes orders."""
CLOCKED_PROTOCOLS = frozenset({"iec104", "iec61850", "ocpp16", "dlms", "talq"})
"""Protocols in which a device stamps its values with its own time."""
SETTABLE_METERS = frozenset({"dlms"})
"""Protocols in which a meter can be set (clock, period), so that a setting can be without effect."""
SERVICE_FAULTS: tuple[FaultKind, ...] = ("http_429", "http_500", "slow", "truncated", "stale", "changed_schema")
ASSET_FAULTS: dict[str, tuple[FaultKind, ...]] = {
    "ess": ("bms_trip", "bms_alarm", "hot_cells"),
    "genset": ("start_failure", "engine_trip"),
    "pcc": ("frequency", "voltage", "meter_reset"),
    "load": ("meter_reset",),
}
"""Faults and grid events by kind of asset."""
SERVICES = ("weather", "market")
NEEDS_VALUE = {"frequency", "voltage", "clock_skew", "hot_cells", "bms_alarm"}
TAKES_VALUE = NEEDS_VALUE | {"wrong_scale"}
RANGES: dict[str, tuple[float, float, str]] = {
    "frequency": (-10.0, 10.0, "Hz"),
    "voltage": (-1.0, 1.0, "of nominal"),
    "hot_cells": (-100.0, 200.0, "°C"),
}
"""Least and largest value of a kind, and its unit; beyond it the physics mean nothing."""
DEFAULT_SCALE = 10.0


class FaultRequest(BaseModel):
    """A fault somebody wants to see.

    Attributes
    ----------
    target : str
        ``<site>/<device>`` for device faults, ``<site>/<asset>`` for faults of assets, ``weather`` or ``market``.
    kind : str
        What goes wrong. Of devices: *down* (port closed), *silent* (connects, never answers), *slow* (answers after
        `delay_s`), *frozen* (old values for ever), *spikes* (now and then ten times the value), *nan* (not-a-number
        sentinels), *wrong_scale* (measured powers times `value`, default 10), *ack_without_effect* (a write is
        acknowledged and dropped), *stuck_output* (the order shows as taken, the power stays), *clock_skew* (time stamps
        off by `value` s). Of a battery: *bms_trip* (contactors open), *bms_alarm* (raises bit `value` of the alarm
        word; several bits at a time are several faults), *hot_cells* (`value` °C too hot). Of a genset: *start_failure*
        (does not start), *engine_trip* (stops at once, and stays off). Of the grid connection: *frequency* (off by
        `value` Hz), *voltage* (off by `value` of nominal, on one `phase` or all) and, also of a metered load,
        *meter_reset* (counters to zero, once).
        Of services: *http_429*, *http_500*, *slow*, *truncated*, *stale*, *changed_schema* (other names and shapes).
    duration_s : float or None
        Seconds until it heals by itself; None lasts until it is cleared.
    delay_s : float
        For *slow*: delay of each answer [s].
    value : float or None
        For *frequency* [Hz], *voltage* [share of nominal], *wrong_scale* [factor], *clock_skew* [s], *hot_cells* [°C],
        *bms_alarm* [number of a bit, 0..30].
    phase : int or None
        For *voltage*: the phase, 1..3; None means all three.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    target: str
    kind: FaultKind
    duration_s: float | None = Field(default=None, gt=0)
    delay_s: float = Field(default=1.0, ge=0, le=60)
    value: float | None = Field(default=None, ge=-100_000, le=100_000)
    phase: int | None = Field(default=None, ge=1, le=3)

    @model_validator(mode="after")
    def _value_where_needed(self) -> FaultRequest:
        if self.kind in NEEDS_VALUE and self.value is None:
            raise ValueError(f"{self.kind} needs a value")
        if self.kind == "bms_alarm" and self.value not in range(HIGHEST_EVENT + 1):
            raise ValueError(f"bms_alarm: value {self.value:g} is no bit number of 0..{HIGHEST_EVENT}")
        if self.value is not None and self.kind not in TAKES_VALUE:
            raise ValueError(f"value is for {', '.join(sorted(TAKES_VALUE))}, not for {self.kind}")
        low, high, unit = RANGES.get(self.kind, (-math.inf, math.inf, ""))
        if self.value is not None and not low <= self.value <= high:
            raise ValueError(f"{self.kind}: value {self.value:g} is outside {low:g}..{high:g} {unit}")
        if self.phase is not None and self.kind != "voltage":
            raise ValueError(f"phase is for voltage, not for {self.kind}")
        return self


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in force."""

    fault_id: int
    target: str
    kind: str
    delay_s: float
    value: float
    until_s: float | None
    phase: int | None = None


def device_faults(protocol: str, *, takes_orders: bool) -> tuple[FaultKind, ...]:
    """What can go wrong with a device of this protocol."""
    kinds = READING_FAULTS
    if takes_orders:
        kinds += ORDER_FAULTS
    elif protocol in SETTABLE_METERS:
        kinds += ORDER_FAULTS[:1]
    return kinds + (("clock_skew",) if protocol in CLOCKED_PROTOCOLS else ())


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
        """Put a fault in force; the same kind on the same target (and phase, or alarm bit) is replaced."""
        until_s = None if request.duration_s is None else self._clock.monotonic() + request.duration_s
        value = DEFAULT_SCALE if request.value is None else request.value
        for fault in self.every(request.target, request.kind):
            if fault.phase == request.phase and (fault.value == value or request.kind != "bms_alarm"):
                del self._faults[fault.fault_id]
        fault = Fault(next(self._ids), request.target, request.kind, request.delay_s, value, until_s, request.phase)
        self._faults[fault.fault_id] = fault
        return fault

    def clear(self, fault_id: int | None = None, target: str | None = None) -> int:
        """Heal one fault, all of a target, or all; returns how many were healed."""
        doomed = [f.fault_id for f in self.active() if fault_id in {None, f.fault_id} and target in {None, f.target}]
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

    def every(self, target: str, kind: str) -> list[Fault]:
        """All faults of this kind on this target: phases and alarm bits may have one each."""
        return [f for f in self.active() if f.target == target and f.kind == kind]

    def has(self, target: str, kind: str) -> bool:
        """Whether such a fault is in force."""
        return self.find(target, kind) is not None
