"""Operation modes: what the site is run for when no operator holds a single device by hand.

A mode is a band for the exchange with the grid, or the plan, or rest. Peak shaving and the export cap follow the plan
inside their band. Changing the mode moves no setpoint by itself: the new
mode's wishes rank where the old one's did, and the ramp bounds the way from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from control_loop.requests import Layer, Request

if TYPE_CHECKING:
    from control_loop.context import Context

HOLD = frozenset({"zero_flow", "islanded"})
"""Modes in which the storage holds the exchange at zero."""

REST = frozenset({"idle", "manual"})
"""Modes in which the storage and the gensets rest and everything else is free, until an operator commands."""


@dataclass(frozen=True, slots=True)
class Mode:
    """The mode in force.

    Attributes
    ----------
    name : str
        As scheduled: ``zero_flow``, ``islanded``, ``peak_shaving``, ``export_cap``, ``idle``, ``manual``; any other
        follows the plan, which knows the mode too.
    parameters : mapping
        ``import_kw`` and ``export_kw``, both positive, where the mode has them.
    reason : str
        Who set it, and why.
    month_peak_kw : float
        Import peak of the billing period so far, 0 without a demand charge: up to it an import costs no more power,
        so ``peak_shaving`` holds the higher of it and ``import_kw``.
    """

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    month_peak_kw: float = 0.0

    @property
    def band_kw(self) -> tuple[float, float] | None:
        """Exchange that the storage holds, least and most [kW, import positive]; None when it does not."""
        if self.name in HOLD:
            return 0.0, 0.0
        if self.name == "peak_shaving" and "import_kw" in self.parameters:
            return float("-inf"), max(self.parameters["import_kw"], self.month_peak_kw)
        if self.name == "export_cap" and "export_kw" in self.parameters:
            return -self.parameters["export_kw"], float("inf")
        return None

    @property
    def rests(self) -> bool:
        """Whether the plan is left aside."""
        return self.name in REST

    @property
    def text(self) -> str:
        """The mode as a reason on the screen."""
        shown = self.name.replace("_", " ")
        if self.name == "peak_shaving" and self.month_peak_kw > self.parameters.get("import_kw", float("inf")):
            shown += f" at the month's peak of {self.month_peak_kw:g} kW"
        return f"mode {shown}" + (f": {self.reason}" if self.reason else "")


def mode(context: Context) -> list[Request]:
    """In a mode that rests, every actuator's idle value, in place of the plan's."""
    if context.mode is None or not context.mode.rests:
        return []
    return [Request(Layer.MODE, a.asset_id, value=a.idle_kw, reason=context.mode.text) for a in context.model.actuators]
