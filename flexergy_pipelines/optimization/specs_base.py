"""Number types and checks that the specs share."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from flexergy_pipelines.optimization.series import FloatArray

NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Efficiency = Annotated[float, Field(gt=0, le=1)]
AssetId = Annotated[str, Field(min_length=1, max_length=80)]


def negative(name: str, field: str, series: FloatArray | None) -> list[str]:
    """One line where `series` falls below zero."""
    if series is None or (series >= 0).all():
        return []
    position = int(np.flatnonzero(series < 0)[0])
    return [f"{name}: {field} {series[position]:g} at position {position} must be at least 0"]
