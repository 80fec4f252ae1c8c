"""One accounted figure: value, unit, share of good data, and what it is compared with."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import polars as pl


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a period.

    Attributes
    ----------
    kpi : str
        Its id.
    value : float or None
        None when it cannot be told from what was measured.
    unit : str
        Its unit.
    coverage : float
        Share of the period that had good data (0..1).
    scope : str
        "site", or an asset's id.
    reference : str or None
        What it is compared with.
    """

    kpi: str
    value: float | None
    unit: str
    coverage: float
    scope: str = "site"
    reference: str | None = None


def figures_frame(figures: Iterable[Figure], period_kind: str, period_start: datetime) -> pl.DataFrame:
    """Figures as the KPI table wants them; what is not finite becomes null."""
    rows = [
        (
            period_kind,
            period_start,
            figure.scope,
            figure.kpi,
            figure.value if figure.value is not None and math.isfinite(figure.value) else None,
            figure.unit,
            figure.coverage,
            figure.reference,
        )
        for figure in figures
    ]
    schema = {
        "period_kind": pl.String,
        "period_start": pl.Datetime("us", "UTC"),
        "scope": pl.String,
        "kpi": pl.String,
        "value": pl.Float64,
        "unit": pl.String,
        "coverage": pl.Float64,
        "reference": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")
