"""Requests: what each layer of control asks of an actuator, and how layers rank."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Layer(IntEnum):
    """Who asks; a lower number ranks higher."""

    EMERGENCY_STOP = 0
    PROTECTION = 1
    GRID_OPERATOR = 2
    PCC = 3
    RAMP = 4
    CONTINGENCY = 5
    FAIL_SAFE = 6
    OPERATOR = 7
    MODE = 8
    INTRADAY = 9
    PLAN = 10
    IDLE = 11

    @property
    def label(self) -> str:
        """Name for screens and logs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Request:
    """One layer's wish for one actuator: a value, or limits on the value, or both.

    Attributes
    ----------
    layer : Layer
        Who asks.
    asset_id : str
        The actuator.
    value : float or None
        Wanted value [kW]; None when the layer only limits.
    minimum, maximum : float or None
        Limits the layer puts on whatever ranks below it [kW].
    reason : str
        Why, in words an operator understands.
    expires : float or None
        Monotonic time [s] after which the request no longer counts; None means it is renewed each cycle.
    """

    layer: Layer
    asset_id: str
    value: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    reason: str = ""
    expires: float | None = None

    def alive(self, monotonic: float) -> bool:
        """Whether the request still counts at `monotonic` [s]."""
        return self.expires is None or monotonic < self.expires
