"""How fast and how accurate forecasts are: on shipped series, beside the peers, and on invented competitions.

    python -m benchmarks.forecasting [--json] [--only NAMES] [--days 56]

Names: ``serving``, ``backtest``, ``peers`` (mlforecast and OpenSTEF in their own environment), ``prices`` (plain LEAR
and deep network), ``solar`` (plain quantile trees). Times are CPU seconds of one core, so that a busy machine disturbs
them little.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.invented_series import MARKETS, market, solar_park
from benchmarks.peers import PeersError, environment
from flexergy_pipelines.forecasting.dataset import Window, backtest_frame
from flexergy_pipelines.forecasting.tables import stamps
from flexergy_pipelines.forecasting.targets import DEFAULT_QUANTILES, Target
from flexergy_pipelines.forecasting.timegrid import to_minute
from flexergy_pipelines.forecasting.trained import make_inputs, train_models

DATA = Path(__file__).parents[1] / "examples" / "data"
GATE_HOUR = 10
PEER_DAYS = 56


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
    report = backtest_frame(history, weather, target, Window(None, None, 60 * GATE_HOUR, 24.0), DEFAULT_QUANTILES)
    served, naive = report.summary["served"], report.summary["naive"]
    return {
        "backtest_26_weeks_s": time.process_time() - began,
        "mae_to_weekly_naive": served["mae"] / naive["naive_week"]["mae"],
        "coverage_80": served["coverage_80"],
    }


def peers(days: int = PEER_DAYS) -> dict[str, float]:
    """Errors and CPU seconds of ours and of the peers at their defaults, on the same days, issues and temperature.

    Every day of the last weeks of Victoria's demand is forecast from 10:00 UTC of the day before. The peers are fitted
    every four weeks; ours is a backtest, with all models, weights and calibration collected over 90 days before.
    """
    history, weather, _ = demand(60)
    hourly = (
        history.join(weather, on="time").sort("time").group_by_dynamic("time", every="1h").agg(pl.all().mean())
    ).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))
    newest: datetime = hourly["time"].to_list()[-1]
    last = newest.replace(hour=0)
    first = last - timedelta(days=days)
    figures: dict[str, float] = {}
    began = time.process_time()
    target = Target("victoria", "load", "value", "load", "UTC", step_minutes=60, horizon_hours=24)
    report = backtest_frame(
        hourly.select("time", "value"), hourly.select("time", "temperature_c"), target,
        Window(first, last, 60 * GATE_HOUR, 24.0), DEFAULT_QUANTILES,
    )  # fmt: skip
    figures["ours_s"] = time.process_time() - began
    figures["ours_mae"] = report.summary["served"]["mae"]
    python = environment("forecasting")
    worker = Path(__file__).with_name("forecasting_peers.py")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "history.parquet"
        hourly.write_parquet(source)
        for peer in ("mlforecast", "openstef"):
            out = Path(folder) / f"{peer}.parquet"
            command = [str(python), str(worker), peer, str(source), str(out), f"{first:%Y-%m-%d}", str(days)]
            done = subprocess.run(
                [*command, str(GATE_HOUR)], capture_output=True, text=True, check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
            if done.returncode:
                raise PeersError(f"{peer} failed: {done.stderr.strip().splitlines()[-1]}")
            seconds = json.loads(done.stdout.strip().splitlines()[-1])
            said = pl.read_parquet(out).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))
            both = said.join(hourly, on="time", suffix="_truth")
            error = float(np.abs(both["value"].to_numpy() - both["value_truth"].to_numpy()).mean())
            figures |= {
                f"{peer}_mae": error,
                f"{peer}_s": seconds["fit_s"] + seconds["predict_s"],
                f"ours_to_{peer}_mae": figures["ours_mae"] / error,
                f"ours_to_{peer}_time": figures["ours_s"] / (seconds["fit_s"] + seconds["predict_s"]),
            }
    return figures


def _competition(frame: pl.DataFrame, kind: Any, time_name: str, value: str, levels: tuple[float, ...]) -> dict:
    times = stamps(frame[time_name], Path("invented"), "UTC")
    history = frame.select(times, frame[value].alias("value"))
    known = frame.drop(time_name, value).with_columns(times)
    target = Target("invented", value, "value", kind, "UTC", step_minutes=60, horizon_hours=24)
    return backtest_frame(history, known, target, Window(None, None, 60 * GATE_HOUR, 24.0), levels).summary


def prices(names: tuple[str, ...] = tuple(MARKETS)) -> dict[str, float]:
    """Error of ours over that of the mean of LEAR and the deep network, on the last 26 weeks of invented markets."""
    from benchmarks.price_references import lear, network

    figures: dict[str, float] = {}
    for name in names:
        frame = market(name, years=4.2)
        ours = _competition(frame, "price", "Date", "Price", DEFAULT_QUANTILES)
        price = frame["Price"].to_numpy().reshape(-1, 24)
        known = frame.select("Load forecast", "Wind forecast").to_numpy().T.reshape(2, -1, 24).astype(np.float64)
        first = price.shape[0] - 182
        mean = (lear(price, known, first) + network(price, known, first)) / 2
        reference = float(np.abs(mean - price[first:]).mean())
        figures |= {
            f"{name}_to_lear_and_network": ours["served"]["mae"] / reference,
            f"{name}_to_weekly_naive": ours["served"]["mae"] / ours["naive"]["naive_week"]["mae"],
            f"{name}_coverage_80": ours["served"]["coverage_80"],
        }
    return figures


def solar() -> dict[str, float]:
    """Pinball loss of nine quantiles of an invented park, over that of plain quantile trees on the same weather."""
    from benchmarks.solar_reference import quantile_trees

    frame = solar_park()
    ours = _competition(frame, "pv", "TIMESTAMP", "POWER", DEFAULT_QUANTILES)
    return {
        "solar_to_quantile_trees": ours["served"]["pinball"] / quantile_trees(frame, 182 * 24, DEFAULT_QUANTILES),
        "solar_coverage_80": ours["served"]["coverage_80"],
    }


PARTS = {"serving": serving, "backtest": backtesting, "peers": peers, "prices": prices, "solar": solar}


def main() -> None:
    """Print one line a figure."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS), help="parts by comma")
    parser.add_argument("--days", type=int, default=PEER_DAYS, help="days the peers forecast")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for name in options.only.split(","):
        if name not in PARTS:
            parser.error(f"part {name!r} is not one of {', '.join(PARTS)}")
        try:
            figures |= peers(options.days) if name == "peers" else PARTS[name]()
        except PeersError as error:
            print(f"peers left out: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28s} {value:10.3f}")


if __name__ == "__main__":
    main()
