"""Reactive power: what the system operator asks for at the connection, and each inverter's share of it.

Sign as for active power: positive into the site's busbar (a unit that supplies reactive power, over-excited).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.specs_base import AssetId, NonNegative


class CurvePoint(Spec):
    """A point of Q(U) or Q(P): `at` in per unit of nominal voltage or rated power, `reactive` of rated power."""

    at: float
    reactive: Annotated[float, Field(ge=-1, le=1)]


class ReactiveRequirement(Spec):
    """What the system operator asks for.

    Attributes
    ----------
    mode : {"fixed", "cos_phi", "q_of_u", "q_of_p"}
        A fixed value, a power factor of the active power, or a curve over voltage or active power.
    fixed_kvar : float
        For ``fixed``.
    cos_phi : float
        For ``cos_phi``: 0 < cos phi <= 1.
    supplies : bool
        For ``cos_phi``: whether reactive power is supplied (over-excited) or taken.
    curve : tuple of CurvePoint
        For ``q_of_u`` and ``q_of_p``; straight between points, flat beyond the ends.
    rated_kw : float
        Base of the curves.
    """

    mode: Literal["fixed", "cos_phi", "q_of_u", "q_of_p"]
    fixed_kvar: float = 0.0
    cos_phi: Annotated[float, Field(gt=0, le=1)] = 1.0
    supplies: bool = True
    curve: Annotated[tuple[CurvePoint, ...], Field(strict=False)] = ()
    rated_kw: NonNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode in {"q_of_u", "q_of_p"}:
            places = [point.at for point in self.curve]
            if len(places) < 2 or sorted(set(places)) != places:
                raise ProblemError([f"reactive {self.mode}: curve needs at least 2 points, `at` ascending"])
            if self.rated_kw <= 0:
                raise ProblemError([f"reactive {self.mode}: rated_kw {self.rated_kw:g} must be above 0"])
        return self

    def required_kvar(self, active_kw: float, voltage_pu: float = 1.0) -> float:
        """Reactive power asked for at an active power (kW, positive out of the site) and a voltage (p.u.)."""
        if self.mode == "fixed":
            return self.fixed_kvar
        if self.mode == "cos_phi":
            size = abs(active_kw) * math.tan(math.acos(self.cos_phi))
            return size if self.supplies else -size
        place = voltage_pu if self.mode == "q_of_u" else active_kw / self.rated_kw
        points = [point.at for point in self.curve], [point.reactive for point in self.curve]
        return float(np.interp(place, *points)) * self.rated_kw


class ReactiveUnit(Spec):
    """An inverter that can give reactive support.

    Attributes
    ----------
    apparent_power_kva : float
        Its rating; what active power leaves of it can be reactive.
    active_power_kw : float
        Its planned active power.
    max_reactive_share : float
        Largest reactive power as a share of the rating (the rectangle inside the circle).
    available : bool
        False for a unit with a fault or under maintenance.
    """

    id: AssetId
    apparent_power_kva: NonNegative
    active_power_kw: float = 0.0
    max_reactive_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    available: bool = True

    @property
    def capability_kvar(self) -> float:
        """Reactive power it can give either way: ``min(share * S, sqrt(S^2 - P^2))``."""
        if not self.available:
            return 0.0
        left = max(self.apparent_power_kva**2 - self.active_power_kw**2, 0.0)
        return min(self.max_reactive_share * self.apparent_power_kva, math.sqrt(left))


@dataclass(frozen=True, slots=True)
class ReactivePlan:
    """Reactive setpoints of the units, and what of the requirement nothing can give (kvar)."""

    setpoints_kvar: dict[str, float]
    shortfall_kvar: float


def share_reactive(required_kvar: float, units: Sequence[ReactiveUnit]) -> ReactivePlan:
    """Share a requirement among units in proportion to what each can give, so that all keep the same margin.

    Parameters
    ----------
    required_kvar : float
        What the units together have to put into the busbar, positive supplied.
    """
    total = sum(unit.capability_kvar for unit in units)
    given = math.copysign(min(abs(required_kvar), total), required_kvar)
    shares = {unit.id: given * unit.capability_kvar / total if total > 0 else 0.0 for unit in units}
    return ReactivePlan(shares, required_kvar - given)
