"""Number types, curves and checks that the specs share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field

from flexergy_pipelines.optimization.errors import Spec
from flexergy_pipelines.optimization.series import FloatArray

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Efficiency = Annotated[float, Field(gt=0, le=1)]
AssetId = Annotated[str, Field(min_length=1, max_length=80)]


class SharePoint(Spec):
    """A point of a curve over SoC or SoH: at `at` the share `share` of the power limit is left."""

    at: Fraction
    share: Fraction


class EfficiencyPoint(Spec):
    """A point of an efficiency curve: at `power_kw` at the busbar the converter has `efficiency`."""

    power_kw: Positive
    efficiency: Efficiency


def negative(name: str, field: str, series: FloatArray | None) -> list[str]:
    """One line where `series` falls below zero."""
    if series is None or (series >= 0).all():
        return []
    position = int(np.flatnonzero(series < 0)[0])
    return [f"{name}: {field} {series[position]:g} at position {position} must be at least 0"]


def outside_fraction(name: str, field: str, series: FloatArray | None) -> list[str]:
    """One line where `series` leaves the range from 0 to 1."""
    if series is None or ((series >= 0) & (series <= 1)).all():
        return []
    position = int(np.flatnonzero((series < 0) | (series > 1))[0])
    return [f"{name}: {field} {series[position]:g} at position {position} must be between 0 and 1"]


def not_rising(name: str, field: str, places: Sequence[float]) -> list[str]:
    """One line where the places of a curve's points do not rise."""
    for low, high in pairwise(places):
        if high <= low:
            return [f"{name}: {field} {high:g} follows {low:g}; the points must rise"]
    return []


def interpolated(points: Sequence[SharePoint], at: float) -> float:
    """Share of the limit at a place of the curve; flat beyond its ends, 1 without points."""
    if not points:
        return 1.0
    return float(np.interp(at, [point.at for point in points], [point.share for point in points]))
