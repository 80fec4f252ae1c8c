"""Pictures that are kept beside a model: its last backtest week, its errors by hour, and how well it is calibrated."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.trained import TrainedTarget


def write_plots(trained: TrainedTarget, folder: Path) -> list[Path]:
    """Write ``backtest.png``; returns the files, none when there is no backtest to show."""
    from matplotlib.figure import Figure

    frame = trained.backtest.filter(pl.col("truth").is_not_null() & pl.col("truth").is_not_nan())
    if frame.is_empty():
        return []
    figure = Figure(figsize=(11, 8), layout="constrained")
    grid = figure.add_gridspec(2, 3)
    top = figure.add_subplot(grid[0, :])
    left, middle, right = (figure.add_subplot(grid[1, place]) for place in range(3))
    newest = frame["time"].max()
    week = frame.unique("time", keep="last").sort("time")
    if newest is not None:
        week = week.filter(pl.col("time") > pl.lit(newest) - timedelta(days=7))
    times = week["time"].dt.replace_time_zone(None).to_numpy()
    top.fill_between(times, week["p10"].to_numpy(), week["p90"].to_numpy(), alpha=0.25, label="P10–P90")
    top.plot(times, week["truth"].to_numpy(), color="black", linewidth=1.0, label="measured")
    top.plot(times, week["value"].to_numpy(), color="tab:blue", linewidth=1.2, label=f"served ({trained.champion})")
    top.set_ylabel(trained.target.unit)
    top.set_title(f"{trained.target.name}: last week of the backtest")
    top.legend(loc="upper left")
    hours = (
        frame.with_columns(
            hour=pl.col("time").dt.convert_time_zone(trained.target.time_zone).dt.hour(),
            error=(pl.col("value") - pl.col("truth")).abs(),
            naive=(pl.col(trained.mix.best_naive) - pl.col("truth")).abs(),
        )
        .group_by("hour")
        .agg(pl.col("error", "naive").fill_nan(None).mean())
        .sort("hour")
    )
    left.plot(hours["hour"].to_numpy(), hours["naive"].to_numpy(), color="tab:gray", label=trained.mix.best_naive)
    left.plot(hours["hour"].to_numpy(), hours["error"].to_numpy(), color="tab:blue", label="served")
    left.set_xlabel("local hour")
    left.set_ylabel(f"mean absolute error [{trained.target.unit}]")
    left.legend(fontsize=8)
    leads = (
        frame.with_columns(
            lead=((pl.col("time") - pl.col("issued_at")).dt.total_minutes() // 180 * 3 + 1.5),
            error=(pl.col("value") - pl.col("truth")).abs(),
            naive=(pl.col(trained.mix.best_naive) - pl.col("truth")).abs(),
        )
        .group_by("lead")
        .agg(pl.col("error", "naive").fill_nan(None).mean())
        .sort("lead")
    )
    middle.plot(leads["lead"].to_numpy(), leads["naive"].to_numpy(), color="tab:gray", label=trained.mix.best_naive)
    middle.plot(leads["lead"].to_numpy(), leads["error"].to_numpy(), color="tab:blue", label="served")
    middle.set_xlabel("hours ahead")
    levels = np.asarray(trained.calibration.quantiles)
    columns = [column for column in frame.columns if column.startswith("p") and column[1:].isdigit()]
    # by night a PV plant's quantiles are all zero, which says nothing of their calibration
    unsure = frame.filter(pl.col(columns[-1]) > pl.col(columns[0]))
    below = [float((unsure["truth"] <= unsure[column]).mean() or 0.0) for column in columns]  # pyright: ignore[reportArgumentType]
    right.plot([0, 1], [0, 1], color="tab:gray", linewidth=0.8)
    right.plot(levels, below, marker="o", color="tab:blue")
    right.set_xlabel("nominal quantile")
    right.set_ylabel("share of truths below")
    for axes, title in ((left, "error by hour of the day"), (middle, "error by lead time"), (right, "calibration")):
        axes.set_title(title, fontsize=10)
        axes.set_ylim(bottom=0)
    path = folder / "backtest.png"
    figure.savefig(path, dpi=80)
    return [path]
