"""View model of forecast quality over time: daily figures of each target as stored by monitoring."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from dashboards.views.forecast import Target
from dashboards.words import number, percent

LEADS = {
    "mae_00_06h": "0–6 h ahead",
    "mae_06_12h": "6–12 h ahead",
    "mae_12_24h": "12–24 h ahead",
    "mae_24_48h": "24–48 h ahead",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to look at quality.

    Attributes
    ----------
    title : str
        As offered on the screen.
    figures : dict
        Stored figures it draws, with the name of each line.
    share : bool
        Whether values are shares, shown in per cent; else in the target's unit unless `unit` says otherwise.
    note : str
        What to read from it.
    """

    title: str
    figures: dict[str, str]
    note: str
    share: bool = False
    unit: str | None = None


SUBJECTS = (
    Subject(
        "Error by lead time",
        {**LEADS, "naive_mae": "as last week (simple rule)"},
        "Mean absolute error of each local day, by how long before the forecast was made. Lines that rise mean that "
        "the model gets worse; above the grey line the simple rule would have been better.",
    ),
    Subject(
        "Bias",
        {"bias": "forecast less measurement"},
        "Mean error of each day. Above zero the forecasts were too high, below zero too low.",
    ),
    Subject(
        "Coverage",
        {"coverage_80": "inside the 10–90 % band"},
        "Share of measurements inside the band that should hold 80 % of them.",
        share=True,
    ),
    Subject(
        "Pinball loss",
        {"pinball": "mean over P10 to P90"},
        "Error of the whole distribution, smaller is better: too wide a band costs as well as too narrow a one.",
    ),
    Subject(
        "Drift",
        {"psi_target": "measurements", "psi_weather": "weather"},
        "Stability index of the last four weeks against what training saw of this season: 0 is the same, above the "
        "limit an alarm is raised.",
        unit="index",
    ),
    Subject(
        "Input data",
        {"input_quality": "measured and good", "fallback_share": "served by a stand-in"},
        "Share of the day's values that were measured and found good, and of forecasts that no champion made.",
        share=True,
    ),
)


def series_of(kpis: pl.DataFrame, target: Target, subject: Subject) -> pl.DataFrame:
    """Lines of one target and subject: ``series, time, value`` in the unit of the screen, a day without value a gap."""
    scope = f"{target.asset_id}/{target.quantity}"
    own = kpis.filter((pl.col("scope") == scope) & pl.col("kpi").is_in(list(subject.figures)))
    scale = 100.0 if subject.share else 1.0 if subject.unit else target.scale
    names = pl.col("kpi").replace_strict(subject.figures, default=None, return_dtype=pl.String)
    lines = own.select(names.alias("series"), pl.col("period_start").alias("time"), pl.col("value") * scale, "kpi")
    order = {name: place for place, name in enumerate(subject.figures)}
    place = pl.col("kpi").replace_strict(order, default=0, return_dtype=pl.Int64)
    return lines.sort(place, "time").select("series", "time", "value")


def unit_of(target: Target, subject: Subject) -> str:
    """Unit on the axis."""
    return "%" if subject.share else subject.unit or target.unit


def newest_words(kpis: pl.DataFrame, target: Target) -> str:
    """The newest day's figures in one line; empty without any."""
    scope = f"{target.asset_id}/{target.quantity}"
    own = kpis.filter(pl.col("scope") == scope)
    if own.is_empty():
        return ""
    newest = own["period_start"].max()
    found = {row["kpi"]: row["value"] for row in own.filter(pl.col("period_start") == newest).iter_rows(named=True)}
    parts: list[str] = []
    if found.get("mae") is not None:
        parts.append(f"mean error {number(found['mae'] * target.scale, 2)} {target.unit}")
    if found.get("bias") is not None:
        side = "high" if found["bias"] >= 0 else "low"
        parts.append(f"{number(abs(found['bias']) * target.scale, 2)} {target.unit} too {side}")
    if found.get("coverage_80") is not None:
        parts.append(f"{percent(found['coverage_80'], 0)} inside the band")
    if found.get("input_quality") is not None:
        parts.append(f"{percent(found['input_quality'], 0)} of the values good")
    return " · ".join(parts)
