"""Which measurements are a lesson for the models: not the curtailed ones, not the estimated ones, not the excluded.

A source's forecast is its *available* power. Where it was held back by a limit the meter shows less; there the
available power that its controller reports stands in, and without one the interval is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from flexergy_pipelines.quality import flags
from flexergy_pipelines.quality.observable import most_observable

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.targets import Target
    from flexergy_pipelines.grid import ForecastTarget

CORRECTED = frozenset(
    {
        flags.UNIT_SLIP,
        flags.SIGN_FLIP,
        flags.COUNTER_RESET,
        flags.CLOCK_DRIFT,
        flags.SWAPPED_PHASES,
        flags.DUPLICATE_TIME,
        flags.NIGHT_OUTPUT,
        flags.INTERPOLATED,
        flags.NIGHT_ZERO,
    }
)
"""What cleansing put right, or filled over minutes: as good as measured."""
ESTIMATED = (flags.DETECTED | flags.IMPUTED) - CORRECTED
"""Values that are an estimate: fit to compute energy from, not to learn from."""

TOLERANCE = 0.02
"""Distance from a limit at which it counts as binding, as a share of the rated power."""
HELD = 0.05
"""Gap to the reported available power that means curtailment without a known limit, as a share of the rated power."""

LEAST_DAYS = 60
QUARTER_H = 0.25


@dataclass(frozen=True)
class Lesson:
    """History of one target that its models learn from.

    Attributes
    ----------
    frame : polars.DataFrame
        ``time, value``.
    facts : dict
        What was left out and why, for people: parameters of the training run.
    """

    frame: pl.DataFrame
    facts: dict[str, str | float] = field(default_factory=dict)


def uncurtailed(measured: pl.DataFrame, limits: pl.DataFrame, available: pl.DataFrame, target: Target) -> pl.DataFrame:
    """Mark the intervals in which a limit was binding, and put the available power there where it is known.

    Parameters
    ----------
    measured : polars.DataFrame
        ``time, value, flag`` [kW], every quarter of an hour.
    limits : polars.DataFrame
        ``time, limit_kw``: lowest limit in force in the quarter.
    available : polars.DataFrame
        ``time, available_kw`` as reported; empty for loads.
    target : Target

    Returns
    -------
    polars.DataFrame
        ``time, value, flag, curtailed``; curtailed values without available power are null.
    """
    largest = measured["value"].max()
    scale = target.capacity or (float(largest) if isinstance(largest, int | float) else 0.0)
    margin = TOLERANCE * abs(scale)
    frame = measured.join(limits.select("time", "limit_kw"), on="time", how="left", maintain_order="left")
    frame = frame.join(available.select("time", "available_kw"), on="time", how="left", maintain_order="left")
    binding = (pl.col("value") >= pl.col("limit_kw") - margin).fill_null(value=False)
    # consumers have no rated power here: the highest limit ever sent is the one that holds nothing back
    free = limits["limit_kw"].max() if target.capacity is None else target.capacity
    if isinstance(free, int | float):
        binding &= pl.col("limit_kw") < free - margin
    held = (pl.col("available_kw") - pl.col("value") > HELD / TOLERANCE * margin).fill_null(value=False)
    possible = pl.max_horizontal("available_kw", "value")
    restored = pl.when(pl.col("available_kw").is_not_null()).then(possible)
    curtailed = (binding | held).alias("curtailed")
    return frame.with_columns(curtailed).select(
        "time", pl.when("curtailed").then(restored).otherwise("value").alias("value"), "flag", "curtailed"
    )


def lesson(frame: pl.DataFrame, target: Target, settings: ForecastTarget) -> Lesson:
    """What models learn from of one target's history.

    Parameters
    ----------
    frame : polars.DataFrame
        As `uncurtailed` gives it, or without the column ``curtailed``; rows the meter never had may be missing.
    target : Target
    settings : ForecastTarget
        With nothing left open, see `ForecastSettings.of`.
    """
    if "curtailed" not in frame.columns:
        frame = frame.with_columns(curtailed=pl.lit(value=False))
    if frame.is_empty():
        return Lesson(frame.select("time", "value"))
    newest = frame["time"].max()
    window = settings.training_window_days or 400
    if isinstance(newest, datetime):
        frame = frame.filter(pl.col("time") > newest - timedelta(days=window))
    facts: dict[str, str | float] = {}
    start, facts["training_window"] = _window(frame, target)
    if start is not None:
        frame = frame.filter(pl.col("time") >= start)
    curtailed, estimated = pl.col("curtailed"), pl.col("flag").is_in(list(ESTIMATED)).fill_null(value=False)
    facts["curtailed_h"] = float(frame["curtailed"].sum()) * QUARTER_H
    facts["curtailed_restored_h"] = float(frame.filter(curtailed & pl.col("value").is_not_null()).height) * QUARTER_H
    facts["estimated_h"] = float(frame.filter(estimated).height) * QUARTER_H
    if not settings.exclude_curtailed:
        facts["curtailed_h"] = facts["curtailed_restored_h"] = 0.0
    keep = pl.col("value").is_not_null()
    if settings.exclude_estimated:
        keep &= ~estimated
    for period in settings.excluded_periods:
        keep &= ~pl.col("time").is_between(period.start.astimezone(UTC), period.end.astimezone(UTC), closed="left")
    if settings.excluded_periods:
        facts["excluded_periods"] = "; ".join(
            f"{p.start:%Y-%m-%d %H:%M} to {p.end:%Y-%m-%d %H:%M}: {p.reason}" for p in settings.excluded_periods
        )
    kept = frame.filter(keep)
    facts["excluded_h"] = float(frame.height - kept.height) * QUARTER_H
    facts["learnt_from_h"] = float(kept.height) * QUARTER_H
    return Lesson(kept.select("time", "value"), facts)


def _window(frame: pl.DataFrame, target: Target) -> tuple[datetime | None, str]:
    """Start of the most observable period of the history, and why; None to take all of it.

    What came after that period is kept as well: a meter that has become worse still tells most about today, and its bad
    values are left out one by one.
    """
    good = pl.col("value").is_not_null() & ~pl.col("flag").is_in(list(ESTIMATED)).fill_null(value=False)
    local = pl.col("time").dt.convert_time_zone(target.time_zone)
    by_day = frame.group_by(local.dt.date().alias("day")).agg(good=good.sum(), rows=pl.len()).sort("day")
    first, last = by_day["day"].min(), by_day["day"].max()
    # the first and the last day may be cut by the window, not by the meter
    slots = pl.when(pl.col("day").is_in([first, last])).then(pl.col("rows")).otherwise(92)
    by_day = by_day.select("day", usable=(pl.col("good") / slots).clip(0, 1))
    if not isinstance(first, date) or not isinstance(last, date):
        return None, "no values"
    axis = pl.DataFrame({"day": pl.date_range(first, last, "1d", eager=True)})
    days = axis.join(by_day, on="day", how="left").with_columns(pl.col("usable").fill_null(0.0))
    found = most_observable(days["day"].to_list(), days["usable"].to_numpy())
    if found is None:
        return None, f"all {days.height} days: no stretch of them was measured well"
    remaining = (days["day"][-1] - found.first).days + 1
    if remaining < LEAST_DAYS and remaining < days.height:
        return None, f"all {days.height} days: the most observable period ({found.reason}) leaves {remaining} days only"
    start = datetime(found.first.year, found.first.month, found.first.day, tzinfo=target.zone).astimezone(UTC)
    return start, f"from {found.first} on, the start of the most observable period: {found.reason}"
