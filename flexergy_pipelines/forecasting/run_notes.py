"""What a training run says of itself in MLflow, in words and figures that someone new to the platform can read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting import scores
from flexergy_pipelines.forecasting.monitoring import LEADS_H, lead_name

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.targets import Target
    from flexergy_pipelines.forecasting.trained import TrainedTarget

KIND_WORDS = {
    "pv": "available power of a PV plant",
    "wind": "available power of a wind turbine",
    "load": "consumption that is not controlled",
    "controllable_load": "consumption of a controllable load",
    "ev": "charging of electric vehicles",
    "price": "day-ahead price of electricity",
}

EXPERIMENT_NOTE = """Forecasts of site **{site}**: one run for each training of one target.

Sort by `metrics.skill` (share of the simple rule's error that the model saves) or filter by `tags.asset`.
`metrics.mae` is the mean absolute error of what would have been served in the backtest, in the unit of the target;
`mae.<model>` that of each candidate alone; `mae_00_06h` and so on by how long before the forecast was made;
`coverage_80` the share of measurements inside P10 to P90 (0.8 is right)."""


def metrics_by_lead(trained: TrainedTarget) -> dict[str, float]:
    """Mean absolute error of the backtest by lead time, of what would have been served and of the best naive."""
    frame = trained.backtest
    if frame.is_empty():
        return {}
    lead = ((frame["time"] - frame["issued_at"]).dt.total_minutes() / 60).to_numpy()
    truth, value = frame["truth"].to_numpy(), frame["value"].to_numpy()
    naive = frame[trained.mix.best_naive].to_numpy()
    found: dict[str, float] = {}
    for low, high in LEADS_H:
        inside = (lead >= low) & (lead < high)
        name = lead_name((low, high))
        found[name] = scores.mae(truth[inside], value[inside])
        found[f"naive_{name}"] = scores.mae(truth[inside], naive[inside])
    skill = 1 - trained.metrics.get("mae", math.nan) / (trained.metrics.get("naive_mae") or math.nan)
    return {name: value for name, value in {**found, "skill": skill}.items() if np.isfinite(value)}


def tags(trained: TrainedTarget, *, promoted: bool, note: str) -> dict[str, str]:
    """Tags to filter runs by."""
    target = trained.target
    return {
        "site": target.site_id,
        "asset": target.asset_id,
        "quantity": target.quantity,
        "kind": target.kind,
        "unit": target.unit,
        "champion": trained.champion,
        "serves": "yes" if promoted else "no",
        "choice": note,
        "data_version": trained.data_version,
    }


def description(trained: TrainedTarget, facts: Mapping[str, str | float], *, promoted: bool, note: str) -> str:
    """Markdown shown on the run's page."""
    target, metrics = trained.target, trained.metrics
    unit = target.unit
    lines = [
        f"Forecast of **{target.asset_id}** ({KIND_WORDS[target.kind]}) at site **{target.site_id}**: up to "
        f"{target.horizon_hours} h ahead in steps of {target.step_minutes} min.",
        "",
        f"- **Served model**: {trained.champion}"
        + (f", the weighted mean of {_weights(trained)}" if trained.champion == "ensemble" else ""),
        f"- **Takes over**: {'yes' if promoted else 'no'}" + (f" ({note})" if note else ""),
        f"- **Data**: known until {trained.trained_at:%Y-%m-%d %H:%M %Z}, version `{trained.data_version}`, seed "
        f"{trained.seed}",
    ]
    if "mae" in metrics and metrics.get("naive_mae"):
        better = 1 - metrics["mae"] / metrics["naive_mae"]
        lines.append(
            f"- **Backtest**: mean absolute error {metrics['mae']:.4g} {unit}, the best simple rule "
            f"({trained.mix.best_naive}) {metrics['naive_mae']:.4g} {unit}: {abs(better):.0%} "
            f"{'better' if better >= 0 else 'worse'}"
        )
    if "coverage_80" in metrics:
        lines.append(f"- **Uncertainty**: {metrics['coverage_80']:.0%} of measurements in P10 to P90 (80 % is right)")
    words = {"training_window": "Learnt", "tuning": "Parameters", "excluded_periods": "Left out"}
    lines += [f"- **{word}**: {facts[name]}" for name, word in words.items() if name in facts]
    if facts.get("excluded_h"):
        lines.append(
            f"- **Not learnt from**: {facts['excluded_h']:.0f} h, of which {facts.get('estimated_h', 0):.0f} h "
            f"estimated by cleansing; of {facts.get('curtailed_h', 0):.0f} h of curtailment "
            f"{facts.get('curtailed_restored_h', 0):.0f} h were learnt by their available power"
        )
    if trained.fitted.failures:
        left = "; ".join(f"{name}: {why}" for name, why in trained.fitted.failures.items())
        lines.append(f"- **Models left out**: {left}")
    lines += ["", "Pictures: `plots/backtest.png` (last week, errors, calibration), `plots/importance.png`."]
    return "\n".join(lines)


def _weights(trained: TrainedTarget) -> str:
    ordered = sorted(trained.mix.weights.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {weight:.0%}" for name, weight in ordered)


def model_description(target: Target) -> str:
    """Markdown shown on the registered model's page."""
    return (
        f"Forecasts the {KIND_WORDS[target.kind]}, asset **{target.asset_id}** of site **{target.site_id}**, in "
        f"{target.unit}, {target.step_minutes} min steps, {target.horizon_hours} h ahead. Alias `champion` serves; "
        "`previous` stands in for it when it fails."
    )


def features_table(trained: TrainedTarget, strength: Mapping[str, float]) -> pl.DataFrame:
    """Features with what they bring: share of gain in the trees, and mean absolute Shapley value [unit]."""
    gain = trained.importance
    return pl.DataFrame(
        [(name, gain.get(name, 0.0), strength.get(name, 0.0)) for name in trained.features],
        schema={"feature": pl.String, "gain_share": pl.Float64, "mean_contribution": pl.Float64},
        orient="row",
    ).sort("mean_contribution", descending=True)
