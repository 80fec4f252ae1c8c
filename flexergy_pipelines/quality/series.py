"""Cleansing of one regular series: detect, take out, impute, and say what was done to each value."""

from __future__ import annotations

import numpy as np
import polars as pl

from flexergy_pipelines.quality import detection, flags
from flexergy_pipelines.quality.imputation import impute
from flexergy_pipelines.quality.spec import SeriesSpec


def clean_series(frame: pl.DataFrame, spec: SeriesSpec) -> pl.DataFrame:
    """Cleanse a series that has one row an interval.

    Parameters
    ----------
    frame : DataFrame
        `time` and `value` (null where nothing was measured), in order of time, one row for each interval.
    spec : SeriesSpec
        What is known of the series.

    Returns
    -------
    DataFrame
        `time`, `value`, `flag` (null: the value is as it came; else see `flexergy_pipelines.quality.flags`) and
        `uncertainty` (standard deviation of an estimate, null for measured values).
    """
    values = frame["value"].cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    found = np.full(values.size, None, dtype=object)
    for rule, name in (
        (detection.out_of_range, flags.OUT_OF_RANGE),
        (detection.frozen, flags.FROZEN),
        (detection.spikes, flags.SPIKE),
    ):
        mask = rule(values, spec)
        found[mask] = name
        values = np.where(mask, np.nan, values)
    clean, reason, uncertainty = impute(values, spec)
    # What was found wrong is the more telling reason, unless nothing could be put in its place.
    flag = [f if f is not None and r not in flags.EMPTY else r for f, r in zip(found, reason, strict=True)]
    return pl.DataFrame(
        {
            "time": frame["time"],
            "value": pl.Series(clean).fill_nan(None),
            "flag": pl.Series(flag, dtype=pl.String),
            "uncertainty": pl.Series(uncertainty).fill_nan(None),
        }
    )
