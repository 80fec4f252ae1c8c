"""View model of history: measured series of any period, in a step that suits its length."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl

from dashboards.words import quantity_words
from flexergy_pipelines.grid import Site

STEPS = ("1m", "5m", "15m", "1h", "1d")
_LENGTHS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
MOST_POINTS_DRAWN = 1500
PER_CENT = frozenset({"soc", "soh"})
"""Shares that are drawn in per cent; other numbers without a unit are states and counts."""


def step_for(span: timedelta) -> str:
    """The shortest step that draws at most some 1500 values a series."""
    return next((step for step in STEPS if span / _LENGTHS[step] <= MOST_POINTS_DRAWN), "1d")


def measured_points(site: Site) -> list[tuple[str, str, str]]:
    """Asset, quantity and unit of everything that is measured: powers and states of charge first."""
    first = {"active_power_kw": 0, "soc": 1, "available_power_kw": 2}
    points = [
        (p.asset_id, p.quantity, "%" if p.quantity in PER_CENT else "" if p.unit == "1" else p.unit)
        for p in site.points()
        if not p.writable
    ]
    return sorted(points, key=lambda point: first.get(point[1], 9))


def by_unit(frame: pl.DataFrame, points: list[tuple[str, str, str]]) -> dict[str, pl.DataFrame]:
    """Series of a readings frame by unit: ``series, time, value``; a time without measurements stays a gap.

    Shares come as fractions and leave in per cent.
    """
    units = {(asset, quantity): unit for asset, quantity, unit in points}
    result: dict[str, list[pl.DataFrame]] = {}
    for (asset, quantity), part in frame.group_by("asset_id", "quantity", maintain_order=True):
        unit = units[str(asset), str(quantity)]
        shown = part.with_columns(pl.col("value") * (100.0 if unit == "%" else 1.0))
        result.setdefault(unit, []).append(_with_gaps(shown, f"{asset} {quantity_words(str(quantity))}"))
    return {unit: pl.concat(parts) for unit, parts in result.items()}


LONGEST_BRIDGED = timedelta(minutes=30)
"""Values further apart than this (or than two steps) are not joined by a line."""


def _with_gaps(part: pl.DataFrame, series: str) -> pl.DataFrame:
    """One series without empty steps between values that belong together, and with one empty step in each real gap."""
    step = part["time"].diff().min()
    bridged = max(LONGEST_BRIDGED, 2 * step) if isinstance(step, timedelta) else LONGEST_BRIDGED
    known = part.drop_nulls("value").sort("time").select("time", "value")
    gaps = (
        known.with_columns(pl.col("time").shift(1).alias("before"))
        .filter(pl.col("time") - pl.col("before") > bridged)
        .select(
            (pl.col("before") + (pl.col("time") - pl.col("before")) / 2).alias("time"),
            pl.lit(None, dtype=pl.Float64).alias("value"),
        )
    )
    joined = pl.concat([known, gaps]).sort("time")
    return joined.select(pl.lit(series).alias("series"), "time", "value")


@dataclass(frozen=True, slots=True)
class EnergyStep:
    """A length over which energy is summed: as polars writes it, how many make a day, and how to label one."""

    every: str
    bars_a_day: float
    label: str
    longest: bool = False


ENERGY_STEPS: Final = {
    "15 min": EnergyStep("15m", 96, "%d %b %H:%M"),
    "hour": EnergyStep("1h", 24, "%d %b %H:%M"),
    "day": EnergyStep("1d", 1, "%d %b %Y"),
    "month": EnergyStep("1mo", 1 / 30, "%b %Y", longest=True),
}
_DIRECTIONS: Final = {
    "pcc": ("imported", "exported"),
    "ess": ("discharged", "charged"),
    "pv": ("generated", "drawn"),
    "wind": ("generated", "drawn"),
    "genset": ("generated", "drawn"),
}


def direction_words(kind: str) -> tuple[str, str]:
    """What the forward and the reverse direction of an asset are called."""
    return _DIRECTIONS.get(kind, ("consumed", "given back"))


def energy_lines(sums: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Sums as bars: ``series, time, value`` [kWh], the reverse direction below zero; nothing for empty directions."""
    parts = []
    for (asset,), rows in sums.group_by(["asset_id"], maintain_order=True):
        for column, word, sign in zip(
            ("forward_kwh", "reverse_kwh"), direction_words(site.asset(str(asset)).kind), (1, -1), strict=True
        ):
            if rows[column].fill_null(0).max():
                parts.append(
                    rows.select(
                        pl.lit(f"{asset} {word}").alias("series"), "time", (sign * pl.col(column)).alias("value")
                    )
                )
    schema = {"series": pl.String, "time": pl.Datetime("us", "UTC"), "value": pl.Float64}
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def energy_totals(energy: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Totals of a period in words: ``asset, direction, kWh, from registers, estimated, unknown`` (shares of time)."""
    rows = []
    for (asset,), own in energy.group_by(["asset_id"], maintain_order=True):
        shares = {
            "from registers": f"{(own['basis'] == 1).mean():.1%}",
            "estimated": f"{own['estimated'].mean():.1%}",
            "unknown": f"{own['forward_kwh'].is_null().mean():.1%}",
        }
        words = direction_words(site.asset(str(asset)).kind)
        for column, word in zip(("forward_kwh", "reverse_kwh"), words, strict=True):
            if own[column].sum() or column == "forward_kwh":
                rows.append({"asset": str(asset), "direction": word, "kWh": f"{own[column].sum():,.1f}", **shares})
    return pl.DataFrame(rows)
