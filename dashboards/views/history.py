"""View model of history: measured series of any period, in a step that suits its length."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

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
UNIT_WORDS = {"1": "fraction"}


def step_for(span: timedelta) -> str:
    """The shortest step that draws at most some 1500 values a series."""
    return next((step for step in STEPS if span / _LENGTHS[step] <= MOST_POINTS_DRAWN), "1d")


def measured_points(site: Site) -> list[tuple[str, str, str]]:
    """Asset, quantity and unit of everything that is measured: powers and states of charge first."""
    first = {"active_power_kw": 0, "soc": 1, "available_power_kw": 2}
    points = [(p.asset_id, p.quantity, UNIT_WORDS.get(p.unit, p.unit)) for p in site.points() if not p.writable]
    return sorted(points, key=lambda point: first.get(point[1], 9))


def by_unit(frame: pl.DataFrame, points: list[tuple[str, str, str]]) -> dict[str, pl.DataFrame]:
    """Series of a readings frame by unit: ``series, time, value``; a time without measurements stays a gap."""
    units = {(asset, quantity): unit for asset, quantity, unit in points}
    result: dict[str, list[pl.DataFrame]] = {}
    for (asset, quantity), part in frame.group_by("asset_id", "quantity", maintain_order=True):
        unit = units[str(asset), str(quantity)]
        result.setdefault(unit, []).append(_with_gaps(part, f"{asset} {quantity}"))
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
