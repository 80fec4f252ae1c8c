"""Gradient-boosted trees: the point forecast and the spread of the quantiles around its median."""

# ruff: noqa: ARG002 - one interface for all models; not every model needs all that it is given
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import lightgbm

    from flexergy_pipelines.forecasting.features import Inputs
    from flexergy_pipelines.forecasting.models.base import Table
    from flexergy_pipelines.forecasting.timegrid import Floats

MIN_ROWS = 200


# small bins and few features a tree: hardly less accurate, much faster
COMMON = {
    "num_threads": 1,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
    "num_leaves": 31,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "min_data_in_leaf": 20,
    "max_bin": 63,
}


# what a search may set on top of COMMON
TUNABLE = (
    "num_leaves", "min_data_in_leaf", "feature_fraction", "bagging_fraction", "lambda_l2", "learning_rate", "rounds",
)  # fmt: skip


def tuning(tuned: Mapping[str, float] | None) -> dict[str, float]:
    """Tuned parameters as LightGBM takes them (whole numbers where it counts).

    Raises
    ------
    ValueError
        For a name that is not in `TUNABLE`.
    """
    unknown = sorted(set(tuned or {}) - set(TUNABLE))
    if unknown:
        raise ValueError(f"tree parameter {unknown[0]!r} is not one of {', '.join(TUNABLE)}")
    whole = ("num_leaves", "min_data_in_leaf", "rounds")
    return {name: int(value) if name in whole else float(value) for name, value in (tuned or {}).items()}


def binned(table: Table) -> lightgbm.Dataset:
    """The table as LightGBM keeps it; made once and shared by all boosters of a fit."""
    import lightgbm

    names = [f"f{i}" for i in range(len(table.names))]
    return lightgbm.Dataset(table.X, table.y, feature_name=names, params=COMMON, free_raw_data=False).construct()


def _boost(data: lightgbm.Dataset, params: dict, rounds: int, seed: int) -> lightgbm.Booster:
    import lightgbm

    return lightgbm.train(COMMON | params | {"seed": seed}, data, rounds)


def importance(booster: lightgbm.Booster, names: tuple[str, ...]) -> dict[str, float]:
    """Share of the gain that each feature brought, largest first."""
    gain = booster.feature_importance("gain")
    total = float(gain.sum()) or 1.0
    return {names[i]: float(gain[i]) / total for i in np.argsort(-gain)}


class LightGBMPoint:
    """Trees on all features; absolute loss and random thresholds for loads and prices, squared loss for the rest."""

    name = "lightgbm"

    def __init__(self, tuned: Mapping[str, float] | None = None) -> None:
        self.booster: lightgbm.Booster | None = None
        self.names: tuple[str, ...] = ()
        self.tuned = tuning(tuned)

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        if len(table) < MIN_ROWS:
            raise ValueError(f"{inputs.target.name}: {len(table)} usable rows, {MIN_ROWS} needed for boosted trees")
        self.names = table.names
        rounds, rate = (90, 0.12) if quick else (500, 0.04)
        params: dict[str, str | float | bool] = {"objective": "regression", "learning_rate": rate}
        if inputs.target.kind in ("load", "price"):
            # random thresholds differ most from the trees of the median, and are fitted faster
            params |= {"objective": "regression_l1", "extra_trees": True}
            if not quick:
                rounds, params["learning_rate"] = 350, 0.09
        params |= self.tuned
        rounds = int(params.pop("rounds", rounds))
        self.booster = _boost(binned(table), params, rounds, seed)

    def predict(self, table: Table, inputs: Inputs) -> Floats:
        if self.booster is None:
            return np.full(len(table), np.nan)
        return np.asarray(self.booster.predict(aligned(table, self.names), num_threads=1), dtype=np.float64)


def aligned(table: Table, names: tuple[str, ...]) -> Floats:
    """The features that a model was fitted on; those that are gone (a weather source changed) are NaN."""
    if table.names == names:
        return table.X
    return np.column_stack([table.column(name) for name in names])


class LightGBMQuantiles:
    """Trees for a few quantile levels; other levels lie between them on the scale of the normal distribution."""

    name = "lightgbm_quantiles"

    def __init__(self, tuned: Mapping[str, float] | None = None) -> None:
        # the quantiles keep their own pace: rate and number of rounds are tuned for the point forecast
        self.tuned = {k: v for k, v in tuning(tuned).items() if k not in ("learning_rate", "rounds")}
        self.levels: tuple[float, ...] = ()
        self.boosters: list[lightgbm.Booster] = []
        self.names: tuple[str, ...] = ()

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        self.levels = (0.1, 0.5, 0.9) if quick else (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
        self.names, self.boosters = table.names, []
        if len(table) < MIN_ROWS:
            return
        rounds, rate = (50, 0.15) if quick else (200, 0.06)
        # sun and wind say less of the tails than they seem to: smaller trees are wider and more accurate
        small = {"num_leaves": 15, "min_data_in_leaf": 60} if inputs.target.kind in ("pv", "wind") else {}
        data = binned(table)
        for level in self.levels:
            params = {"objective": "quantile", "alpha": level, "learning_rate": rate} | small | self.tuned
            self.boosters.append(_boost(data, params, rounds, seed))

    def predict(self, table: Table, quantiles: tuple[float, ...]) -> Floats | None:
        """Quantile forecasts, shape (rows, quantiles), sorted; None when there was too little to learn from."""
        from scipy.stats import norm

        if not self.boosters:
            return None
        matrix = aligned(table, self.names)
        raw = np.column_stack([np.asarray(booster.predict(matrix, num_threads=1)) for booster in self.boosters])
        raw = np.sort(raw, axis=1)
        known, wanted = norm.ppf(self.levels), norm.ppf(quantiles)
        out = np.empty((len(table), len(quantiles)))
        for j, z in enumerate(wanted):
            i = int(np.clip(np.searchsorted(known, z) - 1, 0, len(known) - 2))
            share = (z - known[i]) / (known[i + 1] - known[i])
            out[:, j] = raw[:, i] + share * (raw[:, i + 1] - raw[:, i])
        return np.sort(out, axis=1)

    def median(self, table: Table) -> Floats:
        """The middle quantile alone; NaN when there was too little to learn from."""
        if not self.boosters:
            return np.full(len(table), np.nan)
        booster = self.boosters[self.levels.index(0.5)]
        return np.asarray(booster.predict(aligned(table, self.names), num_threads=1), dtype=np.float64)


class MedianTrees:
    """The median of the quantile trees as a forecast of its own: absolute loss beside the squared one of the others."""

    name = "lightgbm_median"

    def __init__(self, quantiles: LightGBMQuantiles) -> None:
        self.quantiles = quantiles

    def fit(self, table: Table, inputs: Inputs, *, seed: int, quick: bool) -> None:
        """The quantile trees are fitted before and shared."""
        if not self.quantiles.boosters:
            raise ValueError(f"{inputs.target.name}: {len(table)} usable rows, {MIN_ROWS} needed for boosted trees")

    def predict(self, table: Table, inputs: Inputs) -> Floats:
        return self.quantiles.median(table)
