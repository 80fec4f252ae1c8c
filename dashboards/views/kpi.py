"""View model of indicators: periods, headline figures, a table with units and coverage, and how they evolve."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl

from dashboards.charts.kpi import GOOD_COVERAGE
from dashboards.views.kpi_catalogue import CATALOGUE, indicator
from dashboards.words import NO_VALUE, percent, with_unit

PERIOD_WORDS = {"day": "Days", "month": "Months", "year": "Years"}
SITE_SCOPES = ("site", "", "grid", "total")
HEADLINES = ("cost", "savings", "self_sufficiency", "grid_import", "peak_import", "co2_emitted")
PLOTTED = ("cost", "cost_without_ess", "self_sufficiency", "grid_import", "res_generation", "equivalent_full_cycles")


def scope_word(scope: str) -> str:
    """What a figure is for."""
    return "whole site" if scope in SITE_SCOPES else scope


def period_label(moment: datetime, kind: str, zone: ZoneInfo) -> str:
    """A period by its local begin: day, month or year."""
    local = moment.astimezone(zone)
    return f"{local:%Y}" if kind == "year" else f"{local:%Y-%m}" if kind == "month" else f"{local:%Y-%m-%d}"


def kpi_table(kpis: pl.DataFrame, group: str | None = None) -> pl.DataFrame:
    """One row an indicator, as text: name, scope, value with unit, good data, what it is compared with.

    Parameters
    ----------
    kpis : pl.DataFrame
        Rows of one period.
    group : str, optional
        Only indicators of this group.
    """
    order = {kpi: place for place, kpi in enumerate(CATALOGUE)}
    rows = []
    for row in sorted(kpis.iter_rows(named=True), key=lambda r: (order.get(r["kpi"], 999), r["kpi"], r["scope"])):
        entry = indicator(row["kpi"])
        if group is not None and entry.group != group:
            continue
        coverage = row["coverage"]
        thin = coverage is not None and coverage < GOOD_COVERAGE
        reference = row["reference"]
        rows.append(
            {
                "indicator": entry.name,
                "for": scope_word(row["scope"]),
                "value": with_unit(row["value"], row["unit"]),
                "good data": (NO_VALUE if coverage is None else percent(coverage, 0)) + (" ⚠" if thin else ""),
                "compared with": "" if reference is None else str(reference),
            }
        )
    columns: list[str] = ["indicator", "for", "value", "good data", "compared with"]
    return pl.DataFrame(rows, schema=[(name, pl.String) for name in columns])


def headlines(kpis: pl.DataFrame) -> list[tuple[str, str, str]]:
    """Name, value and comparison of the figures people look for first, of one period."""
    site = {row["kpi"]: row for row in kpis.iter_rows(named=True) if row["scope"] in SITE_SCOPES}
    return [
        (indicator(kpi).name, with_unit(site[kpi]["value"], site[kpi]["unit"]), site[kpi]["reference"] or "")
        for kpi in HEADLINES
        if kpi in site
    ]


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


def plottable(kpis: pl.DataFrame) -> list[tuple[str, str]]:
    """Scope and id of every indicator with at least one value; those worth a first look come first."""
    known = kpis.filter(pl.col("value").is_not_null()).select("scope", "kpi").unique().rows()
    first = {kpi: place for place, kpi in enumerate(PLOTTED)}
    order = {kpi: place for place, kpi in enumerate(CATALOGUE)}
    return sorted(known, key=lambda key: (first.get(key[1], 99), order.get(key[1], 999), key[0], key[1]))
