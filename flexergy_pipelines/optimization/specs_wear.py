"""What a battery's life costs: by the depth of its cycles, and by the time it spends at a SoC."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.specs_base import NonNegative

KELVIN = 273.15
REFERENCE_TEMPERATURE_C = 25.0


class CyclePoint(Spec):
    """Full cycles that a battery survives at one depth."""

    depth: Annotated[float, Field(gt=0, le=1)]
    cycles: Annotated[float, Field(gt=0)]


class DepthWear(Spec):
    """Cost of cycles by their depth.

    Attributes
    ----------
    replacement_cost_eur_per_kwh : float
        Replacement cost for a kilowatt-hour of capacity.
    cycle_life : tuple of CyclePoint
        Manufacturer's curve.
    segments : int
        Pieces that approximate it.

    Notes
    -----
    The damage of a cycle of depth d is ``1 / cycles(d)``, interpolated on logarithmic axes, with the curve's first
    slope carried on to depth 0, and made convex where the manufacturer's points are not.
    """

    replacement_cost_eur_per_kwh: NonNegative
    cycle_life: Annotated[tuple[CyclePoint, ...], Field(strict=False, min_length=1)]
    segments: Annotated[int, Field(ge=1, le=50)] = 8

    @model_validator(mode="after")
    def _check(self) -> Self:
        for low, high in pairwise(self.cycle_life):
            if high.depth <= low.depth:
                raise ProblemError([f"cycle_life: depth {high.depth:g} does not rise above {low.depth:g}"])
            if high.cycles > low.cycles:
                raise ProblemError(
                    [f"cycle_life: {high.cycles:g} cycles at depth {high.depth:g} are more than at {low.depth:g}"]
                )
        return self

    def damage(self, depth: float) -> float:
        """Share of the battery's life that a full cycle of `depth` takes."""
        if depth <= 0:
            return 0.0
        points = self.cycle_life
        if len(points) == 1:
            return depth / points[0].depth / points[0].cycles
        low, high = points[0], points[1]
        for pair in pairwise(points):
            low, high = pair
            if depth <= high.depth:
                break
        slope = math.log(low.cycles / high.cycles) / math.log(high.depth / low.depth)
        return (depth / low.depth) ** slope / low.cycles

    def marginal_damage(self) -> list[float]:
        """Slope of the damage over each of `segments` equal pieces of depth, rising: share of life per depth."""
        slopes = []
        for piece in range(self.segments):
            rise = self.damage((piece + 1) / self.segments) - self.damage(piece / self.segments)
            slopes.append(max(rise * self.segments, slopes[-1] if slopes else 0.0))
        return slopes


class CalendarWear(Spec):
    """Cost of time, which a battery spends more dearly when full and when warm.

    Attributes
    ----------
    cost_eur_per_h : float
        Cost of an hour at SoC 0.5 and 25 °C: replacement cost over calendar life.
    soc_sensitivity : float
        Exponent of the SoC stress, ``exp(k (soc - 0.5))``.
    temperature_c : float
        Cell temperature.
    temperature_sensitivity : float
        Exponent of the temperature stress, ``exp(k (T - 25) * T_ref / T)``, temperatures of the ratio in kelvin.

    References
    ----------
    Xu, Oudalov, Ulbig, Andersson, Kirschen, "Modeling of lithium-ion battery degradation for cell life assessment",
    IEEE Trans. Smart Grid 9 (2018), doi 10.1109/TSG.2016.2578950.
    """

    cost_eur_per_h: NonNegative
    soc_sensitivity: NonNegative = 1.04
    temperature_c: float = REFERENCE_TEMPERATURE_C
    temperature_sensitivity: NonNegative = 0.0693

    def rate_eur_per_h(self, soc: float) -> float:
        """Cost of an hour at `soc`."""
        ratio = (REFERENCE_TEMPERATURE_C + KELVIN) / (self.temperature_c + KELVIN)
        warmth = math.exp(self.temperature_sensitivity * (self.temperature_c - REFERENCE_TEMPERATURE_C) * ratio)
        return self.cost_eur_per_h * math.exp(self.soc_sensitivity * (soc - 0.5)) * warmth
