"""How fast and how accurate forecasts are, on the shipped series.

    python -m benchmarks.forecasting [--json]

Times are CPU seconds of this process, so that a busy machine disturbs them little.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from flexergy_pipelines.forecasting.dataset import Window, backtest_frame
from flexergy_pipelines.forecasting.targets import DEFAULT_QUANTILES, Target
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.forecasting.trained import make_inputs, train_models

DATA = Path(__file__).parents[1] / "examples" / "data"


def demand(step_minutes: int) -> tuple[pl.DataFrame, pl.DataFrame, Target]:
    """Demand of Victoria with its temperature."""
    raw = pl.read_parquet(DATA / "load_victoria_30min.parquet").rename({"time_utc": "time"})
    history = raw.select("time", value=pl.col("demand_mwh_per_half_hour").cast(pl.Float64) * 2)
    weather = raw.select("time", pl.col("temperature_c").cast(pl.Float64))
    target = Target("victoria", "load", "value", "load", "Australia/Melbourne", step_minutes=step_minutes)
    return history, weather, target


def serving(targets: int = 100) -> dict[str, float]:
    """CPU seconds to forecast `targets` times 48 h in 15-min steps with nine quantiles, models loaded."""
    history, weather, target = demand(15)
    now = datetime(2014, 6, 1, 7, tzinfo=UTC)
    recent = pl.col("time") > now - timedelta(days=365)
    history, weather = history.filter(recent), weather.filter(recent)
    began = time.process_time()
    trained = train_models(history, weather, target, now, quick=True)
    train_s = time.process_time() - began
    inputs = make_inputs(history, weather, target).known_at(to_minute(now))
    trained.predict(inputs, to_minute(now))
    began = time.process_time()
    for _ in range(targets):
        trained.predict(inputs, to_minute(now))
    return {"train_quick_s": train_s, f"serve_{targets}_targets_s": time.process_time() - began}


def backtesting() -> dict[str, float]:
    """CPU seconds and accuracy of all models over 26 weeks on three years of hours."""
    history, weather, target = demand(60)
    began = time.process_time()
    report = backtest_frame(history, weather, target, Window(None, None, 600, 24.0), DEFAULT_QUANTILES)
    served, naive = report.summary["served"], report.summary["naive"]
    return {
        "backtest_26_weeks_s": time.process_time() - began,
        "mae_to_weekly_naive": served["mae"] / naive["naive_week"]["mae"],
        "coverage_80": served["coverage_80"],
    }


def main() -> None:
    """Print one line a figure."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = serving() | backtesting()
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28s} {value:10.3f}")


if __name__ == "__main__":
    main()
