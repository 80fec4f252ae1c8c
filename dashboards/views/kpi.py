"""View model of indicators: names for people, periods, a table with units and coverage."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl

from dashboards.charts.kpi import GOOD_COVERAGE
from dashboards.words import NO_VALUE, percent, with_unit

PERIOD_WORDS = {"day": "Days", "month": "Months", "year": "Years"}


def kpi_name(kpi: str) -> str:
    """An indicator's id as words."""
    words = kpi.replace("_", " ").strip()
    for short, long in (("soh", "state of health"), ("lcoe", "levelized cost of energy"), ("pcc", "grid connection")):
        words = " ".join(long if word == short else word for word in words.split(" "))
    return words[:1].upper() + words[1:]


def period_label(moment: datetime, kind: str, zone: ZoneInfo) -> str:
    """A period by its local begin: day, month or year."""
    local = moment.astimezone(zone)
    return f"{local:%Y}" if kind == "year" else f"{local:%Y-%m}" if kind == "month" else f"{local:%Y-%m-%d}"


def kpi_table(kpis: pl.DataFrame) -> pl.DataFrame:
    """One row an indicator, as text: name, scope, value with unit, good data, what it is compared with."""
    rows = []
    for row in kpis.sort("scope", "kpi").iter_rows(named=True):
        coverage = row["coverage"]
        thin = coverage is not None and coverage < GOOD_COVERAGE
        reference = row["reference"]
        rows.append(
            {
                "indicator": kpi_name(row["kpi"]),
                "for": "whole site" if row["scope"] in {"", "site", "grid", "total"} else row["scope"],
                "value": with_unit(row["value"], row["unit"]),
                "good data": (NO_VALUE if coverage is None else percent(coverage, 0)) + (" ⚠" if thin else ""),
                "compared with": "" if reference is None else str(reference),
            }
        )
    columns: list[str] = ["indicator", "for", "value", "good data", "compared with"]
    return pl.DataFrame(rows, schema=[(name, pl.String) for name in columns])


def kpi_history(kpis: pl.DataFrame, kpi: str, scope: str, kind: str, zone: ZoneInfo) -> pl.DataFrame:
    """One indicator over periods: ``period, value, coverage, unit``."""
    own = kpis.filter((pl.col("kpi") == kpi) & (pl.col("scope") == scope)).sort("period_start")
    return own.select(
        pl.col("period_start")
        .map_elements(lambda moment: period_label(moment, kind, zone), return_dtype=pl.String)
        .alias("period"),
        "value",
        "coverage",
        "unit",
    )
