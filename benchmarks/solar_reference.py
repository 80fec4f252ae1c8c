"""Plain quantile trees for a solar park, to compare ours with; written apart from ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SUMS = ("VAR169", "VAR175", "VAR178", "VAR228")
REFIT_HOURS = 30 * 24


def quantile_trees(frame: pl.DataFrame, test_hours: int, levels: tuple[float, ...]) -> float:
    """Mean pinball loss of one LightGBM a level on hour, day of the year and the weather, fitted anew every month.

    Sums are taken apart by someone who knows which columns they are; the nights are left out.
    """
    import lightgbm

    power = frame["POWER"].to_numpy()
    hour = (np.arange(power.size) + 1) % 24
    columns: list[Floats] = [hour.astype(np.float64), (np.arange(power.size) // 24 % 365).astype(np.float64)]
    for name in frame.columns:
        if not name.startswith("VAR"):
            continue
        values = frame[name].to_numpy().astype(np.float64)
        if name in SUMS:
            values = np.where(hour == 1, values, np.diff(values, prepend=0.0))
        columns.append(values)
        if name in ("VAR164", "VAR169", "VAR178"):
            columns += [np.roll(values, 1), np.roll(values, -1)]
    X = np.column_stack(columns)
    lit = np.array([power[hour == h].max() for h in range(24)])[hour] > 1e-4
    first = power.size - test_hours
    said = np.zeros((test_hours, len(levels)))
    for begin in range(first, power.size, REFIT_HOURS):
        rows = np.arange(begin, min(begin + REFIT_HOURS, power.size))
        rows = rows[lit[rows]]
        train = np.flatnonzero(lit[:begin])
        data = lightgbm.Dataset(X[train], power[train], params={"max_bin": 127, "verbosity": -1}).construct()
        for k, level in enumerate(levels):
            params = {
                "objective": "quantile", "alpha": level, "num_leaves": 31, "learning_rate": 0.05, "verbosity": -1,
                "min_data_in_leaf": 30, "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1,
                "num_threads": 1,
            }  # fmt: skip
            booster = lightgbm.train(params, data, 250)
            said[rows - first, k] = np.maximum(np.asarray(booster.predict(X[rows])), 0.0)
    gap = power[first:, None] - np.sort(said, axis=1)
    share = np.asarray(levels)[None, :]
    return float(np.maximum(share * gap, (share - 1) * gap).mean())
