"""Active and reactive power together: what an inverter can give, and what the system operator asks for."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import Series
from flexergy_pipelines.optimization.specs_base import AssetId, Fraction, NonNegative, Positive, not_rising


class Inverter(Spec):
    """P-Q capability of an inverter.

    Attributes
    ----------
    apparent_power_kva : float
        Rating.
    capability : {"circle", "rectangle"}
        ``circle``: P and Q together within the rating. ``rectangle``: Q within `max_reactive_share` of the rating,
        whatever P is, beside the rating as a limit on P.
    max_reactive_share : float
        Largest reactive power as a share of the rating; cuts the circle, too.
    corners : int
        Corners of the polygon inside the circle.

    Notes
    -----
    The polygon has its corners on the circle, so that the rating is never exceeded; what is lost is at most
    ``1 - cos(pi / corners)`` of the rating: 0.48 % with 32 corners.
    """

    apparent_power_kva: Positive
    capability: Literal["circle", "rectangle"] = "circle"
    max_reactive_share: Fraction = 1.0
    corners: Annotated[int, Field(ge=8, le=360)] = 32

    @property
    def error_share(self) -> float:
        """Largest part of the rating that the polygon leaves unused."""
        return 1 - math.cos(math.pi / self.corners) if self.capability == "circle" else 0.0


class ReactivePoint(Spec):
    """A point of Q(P) or Q(U): `at` in per unit of rated power (positive export) or nominal voltage, Q in per unit."""

    at: float
    reactive: Annotated[float, Field(ge=-1, le=1)]


class ReactiveSupport(Spec):
    """Reactive power that the system operator asks for at the connection, delivered out of the site (kvar).

    Attributes
    ----------
    mode : {"fixed", "cos_phi", "q_of_u", "q_of_p"}
        A given value, a power factor of the active power at the connection, or a curve.
    fixed_kvar : series
        For ``fixed``: positive supplied to the grid (over-excited).
    cos_phi : float
        For ``cos_phi``.
    supplies : bool
        For ``cos_phi``: reactive power is supplied, otherwise taken.
    curve : tuple of ReactivePoint
        For ``q_of_u`` and ``q_of_p``; straight between the points, flat beyond the ends.
    voltage_pu : series
        Voltage at the connection, for ``q_of_u``.
    rated_kw : float
        Base of the curves.
    shortfall_price_eur_per_kvarh : float
        Price of what nothing can give; it is a named violation.
    """

    id: AssetId = "reactive"
    mode: Literal["fixed", "cos_phi", "q_of_u", "q_of_p"] = "fixed"
    fixed_kvar: Series = Field(default_factory=lambda: np.zeros(1))
    cos_phi: Annotated[float, Field(gt=0, le=1)] = 1.0
    supplies: bool = True
    curve: Annotated[tuple[ReactivePoint, ...], Field(strict=False)] = ()
    voltage_pu: Series = Field(default_factory=lambda: np.ones(1))
    rated_kw: NonNegative = 0.0
    shortfall_price_eur_per_kvarh: NonNegative = 5.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        if self.mode in {"q_of_u", "q_of_p"}:
            problems += not_rising(self.id, "curve.at", [point.at for point in self.curve])
            if len(self.curve) < 2:
                problems.append(f"{self.id}: curve has {len(self.curve)} points; {self.mode} needs at least 2")
            if self.rated_kw <= 0:
                problems.append(f"{self.id}: rated_kw {self.rated_kw:g} must be above 0")
        if problems:
            raise ProblemError(problems)
        return self
