"""How often P10 to P90 hold the truth, by the length of the history that models learnt from.

    python -m benchmarks.forecast_coverage [--by training|backtest] [--days 28,60,90] [--series NAMES] [--origins 4]
                                           [--full] [--out FILE.csv]

For each shipped series and length of history, at several origins spread over the data:

- ``training``: models are trained as production trains them, and forecast the week that follows (after which production
  trains again) twice a day, 48 h each time, their bands following the coverage of the days before;
- ``backtest``: ``flexergy backtest`` runs on nothing but that history, and its last third is scored.

Temperature and ERA5 are as measured; there is no weather for the other series.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting import scores
from flexergy_pipelines.forecasting.dataset import Window, backtest_frame
from flexergy_pipelines.forecasting.live_width import Covered, live_width
from flexergy_pipelines.forecasting.tables import DataError
from flexergy_pipelines.forecasting.targets import DEFAULT_QUANTILES, Kind, Location, Target
from flexergy_pipelines.forecasting.timegrid import DAY, Series, frame_minutes, to_datetimes, to_minute
from flexergy_pipelines.forecasting.trained import TooLittleHistoryError, make_inputs, train_models

DATA = Path(__file__).parents[1] / "examples" / "data"
TEST_DAYS = 7
GATE_MINUTE = 600
EV_POINTS = ("ev_HLS_A_11.0", "ev_HLS_B_11.0", "ev_APLS_A_11.0", "ev_APLS_B_11.0", "ev_APLS_A_22.0")
Sample = tuple[Target, pl.DataFrame, pl.DataFrame | None]


def _target(name: str, kind: Kind, zone: str, **more: object) -> Target:
    return replace(Target("shipped", name, "value", kind, zone, step_minutes=60), **more)  # pyright: ignore[reportArgumentType]


def _utc(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    stamp = pl.col(column).cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("time")
    return frame.with_columns(stamp)


def victoria(*, warmth: bool) -> Sample:
    """Demand of Victoria [MW], with or without its temperature."""
    raw = pl.read_parquet(DATA / "load_victoria_30min.parquet").rename({"time_utc": "time"})
    history = raw.select("time", value=pl.col("demand_mwh_per_half_hour").cast(pl.Float64) * 2)
    weather = raw.select("time", pl.col("temperature_c").cast(pl.Float64)) if warmth else None
    return _target("victoria", "load", "Australia/Melbourne", country="AU"), history, weather


def simbench(column: str, kind: Kind) -> Sample:
    """A profile of SimBench times 100 kW."""
    raw = pl.read_parquet(DATA / "simbench_2016_15min.parquet")
    place = {"location": Location(51.5, 9.0, 200.0), "capacity": 100.0} if kind == "pv" else {}
    history = raw.select(_simbench_time(), value=pl.col(column).cast(pl.Float64) * 100.0)
    return _target(column, kind, "Europe/Berlin", country="DE", **place), history, None


def _simbench_time() -> pl.Expr:
    local = pl.col("time_local_cet").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return local.dt.offset_by("-1h").alias("time")


def charging(*columns: str) -> Sample:
    """Profiles of charging points, each eight times with weeks between, added up [kW]."""
    raw = pl.read_parquet(DATA / "simbench_2016_15min.parquet")
    total = np.zeros(raw.height)
    for column in columns:
        power = raw[column].cast(pl.Float64).to_numpy() * float(column.rsplit("_", 1)[1])
        total += np.sum([np.roll(power, 96 * 42 * k) for k in range(8)], axis=0)
    history = raw.select(_simbench_time(), value=pl.Series(total))
    return _target("car park", "ev", "Europe/Berlin", country="DE"), history, None


def inverter(system: str, rated_kw: float) -> Sample:
    """Power of a PV inverter [kW], without the values it sends when it fails."""
    raw = _utc(pl.read_parquet(DATA / "pv_inverters_5min_raw.parquet").filter(pl.col("system") == system), "time")
    good = pl.col("ac_power_kw").is_between(-1.0, 2 * rated_kw)
    history = raw.select("time", value=pl.when(good).then(pl.col("ac_power_kw")).cast(pl.Float64))
    return _target(system, "pv", "UTC", capacity=rated_kw), history, None


def turbine(name: str | None, *, era5: bool) -> Sample:
    """Power of one turbine of La Haute Borne or of all four [kW], with or without ERA5."""
    raw = _utc(pl.read_parquet(DATA / "wind_lahauteborne_60min.parquet"), "time_utc")
    power = pl.col(f"p_kw_{name}") if name else pl.sum_horizontal(pl.col("^p_kw.*$"), ignore_nulls=False)
    history = raw.select("time", value=power.cast(pl.Float64))
    weather = raw.select("time", pl.col("era5_ws100_ms", "era5_wd100_deg").cast(pl.Float64)) if era5 else None
    return _target(name or "park", "wind", "Europe/Paris", capacity=2050.0 if name else 8200.0), history, weather


def dutch_price() -> Sample:
    """Day-ahead price of the Netherlands, 2015 to 2019 [EUR/kWh]."""
    raw = _utc(pl.read_parquet(DATA / "price_nl_dayahead_60min.parquet"), "time_utc")
    raw = raw.filter(pl.col("time") < datetime(2020, 1, 1, tzinfo=UTC))
    history = raw.select("time", value=pl.col("price_nl_eur_mwh").cast(pl.Float64) / 1000)
    return _target("price", "price", "Europe/Amsterdam", country="NL"), history, None


SERIES: dict[str, Callable[[], Sample]] = {
    "load Victoria, temperature": lambda: victoria(warmth=True),
    "load Victoria": lambda: victoria(warmth=False),
    "households H0-A": lambda: simbench("H0-A_p", "load"),
    "households H0-C": lambda: simbench("H0-C_p", "load"),
    "business G1-B": lambda: simbench("G1-B_p", "load"),
    "business G3-H": lambda: simbench("G3-H_p", "load"),
    "farm L2-A": lambda: simbench("L2-A_p", "load"),
    "heat pumps WB-H": lambda: simbench("WB-H_p", "controllable_load"),
    "EV, 40 points": lambda: charging(*EV_POINTS),
    "PV SimBench PV1": lambda: simbench("PV1", "pv"),
    "PV inverter 27 kW": lambda: inverter("trio_27kw", 27.6),
    "PV inverter 7 kW": lambda: inverter("sma_7kw", 7.0),
    "wind park, ERA5": lambda: turbine(None, era5=True),
    "turbine R80711, ERA5": lambda: turbine("R80711", era5=True),
    "turbine R80736": lambda: turbine("R80736", era5=False),
    "price NL": dutch_price,
}


def origins(history: pl.DataFrame, days: int, count: int) -> list[datetime]:
    """Instants with `days` of history before and a week after them, spread over the data."""
    times = history.drop_nulls("value")["time"]
    first, last = to_minute(times.min()), to_minute(times.max())  # pyright: ignore[reportArgumentType]
    begin, end = first // DAY + 1 + days, last // DAY - TEST_DAYS - 2
    if end < begin:
        return []
    chosen = np.unique(np.linspace(begin, end, count).astype(np.int64))
    return [to_datetimes(np.array([day * DAY + GATE_MINUTE], dtype=np.int64))[0] for day in chosen]


def trial(sample: Sample, days: int, origin: datetime, *, quick: bool) -> dict[str, float] | None:
    """Train on `days` before the origin and forecast a week; None where there is too little in them."""
    target, history, weather = sample
    past = history.filter(pl.col("time") >= origin - timedelta(days=days))
    began = time.process_time()
    try:
        trained = train_models(past, weather, target, origin, quick)
    except TooLittleHistoryError:
        return None
    seconds = time.process_time() - began
    inputs = make_inputs(past, weather, target)
    parts: list[pl.DataFrame] = []
    for k in range(2 * TEST_DAYS):
        issue = to_minute(origin) + k * DAY // 2
        width = live_width(covered_before(parts, inputs.series, issue), origin)
        parts.append(trained.predict(inputs.known_at(issue), issue, width=width))
    figures = scored(pl.concat(parts), inputs.series)
    return figures and {**figures, "in_backtest": trained.metrics.get("coverage_80", float("nan")), "seconds": seconds}


def covered_before(parts: list[pl.DataFrame], series: Series, issue: int) -> Covered:
    """What monitoring would have said of the whole days before `issue`: their starts and shares covered."""
    if not parts:
        return []
    made = pl.concat(parts)
    minutes = frame_minutes(made["time"])
    truth, low, high = series.at(minutes), made["p10"].to_numpy(), made["p90"].to_numpy()
    shares: Covered = []
    for day in np.unique(minutes // DAY):
        own = minutes // DAY == day
        share = scores.coverage(truth[own], low[own], high[own])
        if (day + 1) * DAY <= issue and np.isfinite(share):
            shares.append((to_datetimes(np.array([day * DAY], dtype=np.int64))[0], share))
    return shares


def scored(made: pl.DataFrame, series: Series) -> dict[str, float] | None:
    """Scores of forecasts ``time, value, p10..p90``; None where fewer than a hundred can be judged."""
    truth, value = series.at(frame_minutes(made["time"])), made["value"].to_numpy()
    low, high = made["p10"].to_numpy(), made["p90"].to_numpy()
    judged = np.isfinite(truth) & (high > low)
    if judged.sum() < 100:
        return None
    band = made.select(f"p{round(100 * level)}" for level in DEFAULT_QUANTILES).to_numpy()
    return {
        "rows": int(judged.sum()),
        "inside": int((judged & (truth >= low) & (truth <= high)).sum()),
        "below": int((judged & (truth < low)).sum()),
        "above": int((judged & (truth > high)).sum()),
        "mae": scores.mae(truth, value),
        "pinball": scores.pinball(truth, band, DEFAULT_QUANTILES),
    }


def backtested(sample: Sample, days: int, origin: datetime) -> dict[str, float] | None:
    """`flexergy backtest` on the `days` before the origin; None where there is too little in them."""
    target, history, weather = sample
    past = history.filter((pl.col("time") >= origin - timedelta(days=days)) & (pl.col("time") < origin))
    began = time.process_time()
    try:
        report = backtest_frame(past, weather, target, Window(None, None, GATE_MINUTE, 24.0), DEFAULT_QUANTILES)
    except DataError:
        return None
    seconds = time.process_time() - began
    figures = scored(report.forecasts, make_inputs(past, None, target).series)
    naive = report.summary["naive"]["mae"] or float("nan")
    return figures and {**figures, "to_naive": figures["mae"] / naive, "seconds": seconds}


def measured(names: list[str], lengths: list[int], count: int, *, backtest: bool, quick: bool) -> pl.DataFrame:
    """One row for each series, length and origin."""
    rows: list[dict] = []
    for name in names:
        sample = SERIES[name]()
        for days in lengths:
            for origin in origins(sample[1], days, count):
                found = backtested(sample, days, origin) if backtest else trial(sample, days, origin, quick=quick)
                if found is not None:
                    rows.append({"series": name, "days": days, "origin": origin.date().isoformat(), **found})
                    print(f"{name}, {days} d, {origin:%Y-%m-%d}: {_text(rows[-1])}", file=sys.stderr, flush=True)
    return pl.DataFrame(rows)


def _text(row: dict) -> str:
    more = ", ".join(f"{key} {row[key]:.3f}" for key in ("in_backtest", "to_naive") if key in row)
    return f"{row['inside'] / row['rows']:.3f} ({more}), {row['seconds']:.1f} s"


def summary(rows: pl.DataFrame) -> pl.DataFrame:
    """Share inside over all origins, a row for each series, a column for each length."""
    pooled = rows.group_by("series", "days", maintain_order=True).agg(pl.sum("inside") / pl.sum("rows"))
    pooled = pooled.with_columns((pl.col("inside") * 100).round(1))
    return pooled.pivot(on="days", index="series", values="inside")


def main() -> None:
    """Print the table; `--out` keeps each origin."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--by", choices=("training", "backtest"), default="training")
    parser.add_argument("--days", default="28,60,90,180,365")
    parser.add_argument("--series", default=";".join(SERIES), help="names by semicolon")
    parser.add_argument("--origins", type=int, default=4)
    parser.add_argument("--full", action="store_true", help="train all models at full size; a backtest always does")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    names = options.series.split(";")
    unknown = [name for name in names if name not in SERIES]
    if unknown:
        parser.error(f"series {unknown[0]!r} is not one of {'; '.join(SERIES)}")
    lengths = [int(days) for days in options.days.split(",")]
    rows = measured(names, lengths, options.origins, backtest=options.by == "backtest", quick=not options.full)
    if options.out:
        rows.write_csv(options.out)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True, fmt_str_lengths=40):
        print(summary(rows))


if __name__ == "__main__":
    main()
