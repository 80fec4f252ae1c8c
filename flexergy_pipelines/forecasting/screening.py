"""Days that are wrong by a unit: kW where the rest is in W, or the other way round."""

from __future__ import annotations

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.timegrid import DAY, frame_minutes

# a thousandfold slip is caught, the busiest day of a quiet site is not
TOO_LARGE = 100.0
TOO_SMALL = 1 / 300.0


def screened(frame: pl.DataFrame, kind: str) -> tuple[pl.DataFrame, list[str]]:
    """Without the days whose level is a hundred times and more off the usual one.

    Parameters
    ----------
    frame : polars.DataFrame
        ``time, value``.
    kind : str
        Prices and charging points jump by themselves and are left alone; of PV and wind only what is too large is.

    Returns
    -------
    frame : polars.DataFrame
        The same rows, with null for what was left out.
    notes : list of str
        What was left out and why.
    """
    if kind in ("price", "ev") or frame.is_empty():
        return frame, []
    values = np.asarray(frame["value"].fill_null(float("nan")).to_numpy(), dtype=np.float64)
    good = np.isfinite(values)
    if not good.any():
        return frame, []
    days, index = np.unique(frame_minutes(frame["time"]) // DAY, return_inverse=True)
    top = np.zeros(days.size)
    np.maximum.at(top, index[good], np.abs(values[good]))
    lively = top[top > 0]
    usual = float(np.median(lively)) if lively.size else 0.0
    if usual <= 0 or days.size < 7:
        return frame, []
    large = top > TOO_LARGE * usual
    small = (top > 0) & (top < TOO_SMALL * usual) & (kind not in ("pv", "wind"))
    notes = [
        f"{count} days are {what} to be in the unit of the rest (largest value {shown:g}, usual {usual:g}) and left out"
        for count, what, shown in (
            (int(large.sum()), "too large", float(top[large].max(initial=0.0))),
            (int(small.sum()), "too small", float(top[small].max(initial=0.0))),
        )
        if count
    ]
    wrong = (large | small)[index]
    return frame.with_columns(pl.when(pl.Series(~wrong)).then(pl.col("value")).alias("value")), notes


def beyond_capacity(frame: pl.DataFrame, capacity: float | None) -> list[str]:
    """Says how much of a history exceeds the rated power, above which nothing is forecast.

    Raises
    ------
    ValueError
        When most of what is not zero does: the two are not in the same unit.
    """
    if capacity is None:
        return []
    values = frame["value"].drop_nulls().drop_nans().abs()
    lively = values.filter(values > 0)
    if lively.is_empty():
        return []
    above = float((lively > 1.01 * capacity).mean() or 0.0)  # pyright: ignore[reportArgumentType]
    largest = float(lively.max() or 0.0)  # pyright: ignore[reportArgumentType]
    if above > 0.5:
        raise ValueError(
            f"capacity {capacity:g} is exceeded by {above:.0%} of the values (largest {largest:g}); "
            "give both in the same unit"
        )
    if above > 0.001:
        return [f"{above:.1%} of the values exceed the capacity {capacity:g} (largest {largest:g}); forecasts do not"]
    return []
