"""Operation modes: what the site is run for when no operator holds a single device by hand.

A mode is a band for the exchange with the grid, or the plan, or rest. Changing it moves no setpoint by itself: the new
mode's wishes rank where the old one's did, and the ramp bounds the way from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from control_loop.requests import Layer, Request

if TYPE_CHECKING:
    from control_loop.context import Context

ModeName = Literal[
    "tariff_management", "self_consumption", "zero_flow", "peak_shaving", "export_limit", "idle", "manual"
]
MODES: tuple[str, ...] = get_args(ModeName)
"""*tariff_management* dispatches the plan. *self_consumption* and *zero_flow* hold the exchange at zero with the
storage. *peak_shaving* holds the import at or below ``import_kw``, *export_limit* the export at or below
``export_kw``, and both follow the plan inside. *idle* rests the storage and the gensets and frees everything else.
*manual* does the same until an operator commands."""


@dataclass(frozen=True, slots=True)
class Mode:
    """The mode in force.

    Attributes
    ----------
    name : str
        One of `MODES`; an unknown one is run as the plan and alarmed.
    parameters : mapping
        ``import_kw`` and ``export_kw``, both positive, where the mode has them.
    reason : str
        Who set it, and why.
    """

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether the loop can run it."""
        return self.name in MODES

    @property
    def band_kw(self) -> tuple[float, float] | None:
        """Exchange that the storage holds, least and most [kW, import positive]; None when it does not."""
        if self.name in {"self_consumption", "zero_flow"}:
            return 0.0, 0.0
        if self.name == "peak_shaving" and "import_kw" in self.parameters:
            return float("-inf"), self.parameters["import_kw"]
        if self.name == "export_limit" and "export_kw" in self.parameters:
            return -self.parameters["export_kw"], float("inf")
        return None

    @property
    def rests(self) -> bool:
        """Whether the plan is left aside."""
        return self.name in {"idle", "manual"}

    @property
    def text(self) -> str:
        """The mode as a reason on the screen."""
        shown = self.name.replace("_", " ")
        return f"mode {shown}" + (f": {self.reason}" if self.reason else "")


def mode(context: Context) -> list[Request]:
    """In a mode that rests, every actuator's idle value, in place of the plan's."""
    if context.mode is None or not context.mode.rests:
        return []
    return [Request(Layer.MODE, a.asset_id, value=a.idle_kw, reason=context.mode.text) for a in context.model.actuators]
