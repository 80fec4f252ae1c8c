"""A picture of a backtest from the forecasts that ``flexergy backtest --out`` wrote.

    python -m benchmarks.forecast_pictures FORECASTS.parquet PICTURE.png --title TEXT --unit MW [--from 2014-11-03]

On the left a week as it was forecast and as it came; on the right how often the truth lay below each quantile.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl


def picture(forecasts: Path, target: Path, *, title: str, unit: str, start: datetime | None) -> None:
    """Draw one file of forecasts; `start` is the first instant shown, None takes the last full week."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.dates import DateFormatter

    frame = pl.read_parquet(forecasts).sort("time")
    newest: datetime = frame["time"].to_list()[-1]
    first = start or newest - timedelta(days=7)
    week = frame.filter(pl.col("time").is_between(first, first + timedelta(days=7), closed="left"))
    times = week["time"].to_list()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=(2.6, 1), layout="constrained")
    left.fill_between(times, week["p10"].to_numpy(), week["p90"].to_numpy(), color="#9ecae1", label="P10 to P90", lw=0)
    left.plot(times, week["value"].to_numpy(), color="#08519c", lw=1.2, label="forecast of the day before")
    left.plot(times, week["truth"].to_numpy(), color="black", lw=1.0, label="measured")
    left.set_title(title, loc="left", fontsize=10)
    left.set_ylabel(unit)
    left.xaxis.set_major_formatter(DateFormatter("%a %d %b"))
    left.tick_params(labelsize=7)
    left.legend(fontsize=7, frameon=False, loc="upper left", ncols=3)
    left.margins(x=0)
    left.set_ylim(top=left.get_ylim()[1] + 0.15 * float(np.ptp(left.get_ylim())))
    unsure = frame.filter(pl.col("p90") > pl.col("p10"))
    levels = [name for name in (f"p{q}" for q in range(10, 100, 10)) if name in frame.columns]
    below = [100.0 * float(np.mean(unsure["truth"].to_numpy() < unsure[name].to_numpy())) for name in levels]
    nominal = [float(name[1:]) for name in levels]
    right.plot([0, 100], [0, 100], color="grey", lw=0.8, ls="--")
    right.plot(nominal, below, color="#08519c", marker="o", ms=3, lw=1.2)
    right.set_title("calibration", loc="left", fontsize=10)
    right.set_xlabel("quantile, %", fontsize=8)
    right.set_ylabel("measured below it, %", fontsize=8)
    right.tick_params(labelsize=7)
    right.set_aspect("equal")
    figure.savefig(target, dpi=90, pil_kwargs={"optimize": True})
    plt.close(figure)


def main() -> None:
    """Draw one picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("forecasts", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--unit", required=True)
    parser.add_argument("--from", dest="start", type=lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC))
    options = parser.parse_args()
    picture(options.forecasts, options.target, title=options.title, unit=options.unit, start=options.start)


if __name__ == "__main__":
    main()
