"""View model of forecasts: which targets there are, and how good the forecasts were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from dashboards.words import number, percent
from flexergy_pipelines.grid import Site

FORECAST_KINDS = ("load", "controllable_load", "ev", "pv", "wind")
LEVEL_WORDS = {
    0: "champion model",
    1: "previous model (fallback 1)",
    2: "similar day (fallback 2)",
    3: "naive (fallback 3)",
    4: "guess from the configuration (fallback 4)",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Something that is forecast.

    Attributes
    ----------
    unit : str
        Unit on the screen.
    scale : float
        What a stored value is multiplied with to be in that unit.
    """

    asset_id: str
    quantity: str
    kind: str
    unit: str
    scale: float = 1.0

    @property
    def title(self) -> str:
        """As it is named on the screen."""
        return "Day-ahead price" if self.asset_id == "market" else self.asset_id


def targets(site: Site) -> list[Target]:
    """The forecast targets of a site; the market price last."""
    found = [
        Target(asset.id, "active_power_kw", asset.kind, "kW")
        for kind in FORECAST_KINDS
        for asset in site.assets()
        if asset.kind == kind and asset.id not in site.forecasts.excluded_assets
    ]
    if "market" in site.forecasts.excluded_assets:
        return found
    return [*found, Target("market", "day_ahead_price_eur_per_kwh", "price", "EUR/MWh", scale=1000.0)]


def scaled(frame: pl.DataFrame, target: Target) -> pl.DataFrame:
    """Values and quantiles of a frame in the unit of the screen."""
    numbers = [c for c in frame.columns if c == "value" or (c.startswith("p") and c[1:].isdigit())]
    return frame.with_columns(pl.col(numbers) * target.scale)


def level_word(level: int) -> str:
    """What stands behind a fallback level."""
    return LEVEL_WORDS.get(level, f"fallback {level}")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far a forecast was off where both forecast and measurement exist.

    Attributes
    ----------
    mae : float
        Mean absolute error, in the target's unit.
    naive_mae : float or None
        The same for "as a week before"; None when last week is unknown.
    covered : float or None
        Share of measurements between the 10 % and the 90 % quantile (80 % is right).
    intervals : int
        How many intervals were compared.
    """

    mae: float
    naive_mae: float | None
    covered: float | None
    intervals: int


def accuracy(forecast: pl.DataFrame, measured: pl.DataFrame, week_before: pl.DataFrame) -> Accuracy | None:
    """Compare forecast with measurement, interval by interval; None when nothing can be compared.

    Parameters
    ----------
    forecast : pl.DataFrame
        Columns ``time``, ``value``, ``p10``, ``p90``.
    measured, week_before : pl.DataFrame
        Columns ``time``, ``value``; the second of the week before.
    """
    actual = measured.drop_nulls("value").select("time", pl.col("value").alias("actual"))
    both = forecast.drop_nulls("value").join(actual, on="time", how="inner")
    if both.is_empty():
        return None
    error = (both["value"] - both["actual"]).abs().mean()
    naive = week_before.drop_nulls("value").select(
        (pl.col("time") + timedelta(days=7)).alias("time"), pl.col("value").alias("naive")
    )
    beside = both.join(naive, on="time", how="inner")
    naive_error = (beside["naive"] - beside["actual"]).abs().mean() if beside.height else None
    banded = both.drop_nulls(["p10", "p90"])
    covered = None
    if banded.height:
        inside = banded.filter((pl.col("actual") >= pl.col("p10")) & (pl.col("actual") <= pl.col("p90")))
        covered = inside.height / banded.height
    return Accuracy(
        mae=float(error) if isinstance(error, int | float) else 0.0,
        naive_mae=float(naive_error) if isinstance(naive_error, int | float) else None,
        covered=covered,
        intervals=both.height,
    )


@dataclass(frozen=True, slots=True)
class Score:
    """How the serving model did in the backtest of the last training.

    Attributes
    ----------
    mae, naive_mae : float or None
        Mean absolute errors of the model and of the best simple rule, in the stored unit.
    covered : float or None
        Share of the backtest's measurements inside the 10-90 % band.
    model : str
        What serves.
    """

    mae: float
    naive_mae: float | None
    covered: float | None
    model: str


def training_scores(kpis: pl.DataFrame) -> dict[str, Score]:
    """Newest score of each target (``asset/quantity``) from the rows that training leaves in the KPI table."""
    scores: dict[str, Score] = {}
    naive: dict[str, float] = {}
    for row in kpis.sort("period_start").iter_rows(named=True):
        if row["value"] is None:
            continue
        if row["kpi"] == "naive_mae":
            naive[row["scope"]] = row["value"]
        elif row["kpi"] == "forecast_mae":
            scores[row["scope"]] = Score(row["value"], None, row["coverage"], row["reference"] or "")
    return {scope: Score(score.mae, naive.get(scope), score.covered, score.model) for scope, score in scores.items()}


def score_words(score: Score, target: Target) -> str:
    """A score as one line of text."""
    parts = [f"backtest of the last training: mean error {number(score.mae * target.scale, 2)} {target.unit}"]
    if score.naive_mae:
        better = 1 - score.mae / score.naive_mae
        word = "better" if better >= 0 else "worse"
        parts.append(f"{percent(abs(better), 0)} {word} than the best simple rule")
    if score.covered is not None:
        parts.append(f"{percent(score.covered, 0)} inside the 10–90 % band")
    return " · ".join([*parts, score.model] if score.model else parts)
