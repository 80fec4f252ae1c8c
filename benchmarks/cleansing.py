"""Cleansing measured: faults found in real series, gaps filled, and readings a second against plain arithmetic.

Run from the root of the repository: ``python -m benchmarks.cleansing [faults|gaps|speed]``.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import polars as pl

from benchmarks.faults import (
    FAULTS,
    MORE_FAULTS,
    REGISTER_FAULTS,
    RealSeries,
    Values,
    counter_of,
    every_series,
    real_series,
    score,
)
from flexergy_pipelines.quality.imputation import impute
from flexergy_pipelines.quality.series import cleanse, detect, flag_names
from flexergy_pipelines.quality.spec import SeriesSpec

GAP_HOURS = (1, 2, 3, 6, 12, 24)


def spec_of(series: RealSeries, *, counter: bool = False) -> SeriesSpec:
    limits = (None, None)
    if series.capacity is not None and not counter:
        limits = (-0.05 * series.capacity, 1.1 * series.capacity)
    return SeriesSpec("meter" if counter else series.kind, *limits, step_minutes=series.step_minutes)


ALL_FAULTS = {**FAULTS, **MORE_FAULTS}
MONTHS = (10, 170, 260)  # first days of the months that are looked at


def judged(series: RealSeries, fault: str, seed: int = 1) -> tuple[float, float]:
    """Precision and recall for one fault in one series, without a nameplate given."""
    spec = SeriesSpec(
        "meter" if fault in REGISTER_FAULTS else series.kind,
        step_minutes=series.step_minutes,
        first_slot=series.first_slot,
    )
    clean = counter_of(series.values, series.per_day) if fault in REGISTER_FAULTS else series.values
    before = detect(clean, spec)[1] != 0
    dirty, truth = ALL_FAULTS[fault](series.values, series.per_day, np.random.default_rng(seed))
    result = score(detect(dirty, spec)[1] != 0, truth, before)
    return result.precision, result.recall


def print_faults(faults: list[str] | None = None) -> None:
    """Precision and recall of every series: of its first year, and the mean of three months alone."""
    names = faults or list(ALL_FAULTS)
    print(f"{'precision/recall %':<28}" + "".join(f"{name:>14}" for name in names))
    for series in every_series():
        days = series.values.size // series.per_day
        spans = {"year": [(0, min(365, days))], "month": [(min(first, days - 30), 30) for first in MONTHS]}
        for span, cuts in spans.items():
            row = f"{series.name:<22}{span:<6}"
            for name in names:
                p, r = np.mean([judged(series.days(*cut), name) for cut in cuts], axis=0)
                row += f"{100 * p:>8.0f} /{100 * r:>4.0f}"
            print(row)


def gap_errors(series: RealSeries, hours: int, seed: int = 1) -> dict[str, float]:
    """Mean absolute error on hidden gaps: ours, the line, and the naive of a day and of a week before."""
    per_day = 1440 // series.step_minutes
    length = max(1, hours * per_day // 24)
    random = np.random.default_rng(seed)
    holes = random.permutation(np.arange(15, series.values.size // per_day - 15))[:60]
    starts = holes * per_day + random.integers(0, per_day, holes.size)
    starts = np.sort(starts)
    starts = starts[np.concatenate(([True], np.diff(starts) > length + 2))]
    dirty = series.values.copy()
    for start in starts:
        dirty[start : start + length] = np.nan
    hidden = ~np.isfinite(dirty)
    index = np.arange(dirty.size)
    line = np.interp(index, index[~hidden], dirty[~hidden])
    ours = impute(dirty, spec_of(series))[0]
    estimates: dict[str, Values] = {"ours": ours, "line": line}
    for name, lag in (("day before", per_day), ("week before", 7 * per_day)):
        estimates[name] = np.roll(series.values, lag)
    return {name: float(np.abs(e - series.values)[hidden].mean()) for name, e in estimates.items()}


def gap_ratio(series: RealSeries, hours: int, seeds: int = 4) -> float:
    """Our error over that of the best other, from several sets of hidden gaps."""
    totals: dict[str, float] = {}
    for seed in range(seeds):
        for name, error in gap_errors(series, hours, seed).items():
            totals[name] = totals.get(name, 0.0) + error
    ours = totals.pop("ours")
    return ours / min(totals.values())


def print_gaps() -> None:
    print(f"{'error / best other':<22}" + "".join(f"{hours:>8} h" for hours in GAP_HOURS))
    for series in every_series():
        ratios = [gap_ratio(series, hours) for hours in GAP_HOURS]
        print(f"{series.name:<22}" + "".join(f"{ratio:>10.3f}" for ratio in ratios))


def print_speed(readings: int = 4_000_000) -> None:
    """Readings a second on one core, against polars doing only the arithmetic (rolling median, comparison, fill)."""
    series = real_series()[0]
    dirty, _ = FAULTS["spikes"](series.values, 96, np.random.default_rng(1))
    dirty[::997] = np.nan
    copies = readings // dirty.size
    spec = spec_of(series)
    cleanse(dirty, spec)  # imports are not what is measured
    start = time.process_time()
    for _ in range(copies):
        result = cleanse(dirty, spec)
        pl.DataFrame({"value": result.values, "flag": flag_names(result.codes)})
    ours = copies * dirty.size / (time.process_time() - start)
    frame = pl.DataFrame({"value": np.tile(dirty, copies)}).with_columns(pl.col("value").fill_nan(None))
    start = time.process_time()
    value, median = pl.col("value"), pl.col("value").rolling_median(5, center=True, min_samples=1)
    frame.with_columns(
        pl.when((value - median).abs() > 100).then(None).otherwise(value).interpolate().alias("clean"),
        pl.when(value == value.shift(1)).then(1).otherwise(0).rolling_sum(8).alias("still"),
    )
    plain = copies * dirty.size / (time.process_time() - start)
    print(f"cleansing {ours / 1e6:.2f} M readings/s, plain polars {plain / 1e6:.2f} M/s, ratio {ours / plain:.2f}")


def main() -> None:
    wanted = sys.argv[1:] or ["faults", "gaps", "speed"]
    for name, run in (("faults", print_faults), ("gaps", print_gaps), ("speed", print_speed)):
        if name in wanted:
            run()
            print()


if __name__ == "__main__":
    main()
