"""Short windows of the shipped series, as the forecasting core takes them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.targets import Location, Target
from flexergy_pipelines.forecasting.timegrid import to_datetimes, to_minute

DATA = Path(__file__).parents[2] / "examples" / "data"
LOAD = Target("victoria", "load-1", "active_power_kw", "load", "Australia/Melbourne", step_minutes=60, country="AU")
WIND = Target("lhb", "wind-1", "active_power_kw", "wind", "Europe/Paris", step_minutes=60, capacity=8200.0)
PRICE = Target(
    "nl", "market", "day_ahead_price_eur_per_kwh", "price", "Europe/Amsterdam", step_minutes=60, country="NL"
)
PV = Target(
    "region", "pv-1", "active_power_kw", "pv", "Europe/Berlin", step_minutes=60, capacity=100.0,
    location=Location(51.5, 9.0, 200.0), tilt_deg=30.0, azimuth_deg=180.0,
)  # fmt: skip


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def window(frame: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    return frame.filter(pl.col("time").is_between(start, end, closed="left"))


def load_series(start: datetime, end: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Demand of Victoria [MW] and its temperature."""
    raw = pl.read_parquet(DATA / "load_victoria_30min.parquet").rename({"time_utc": "time"})
    raw = window(raw, start, end)
    history = raw.select("time", value=pl.col("demand_mwh_per_half_hour").cast(pl.Float64) * 2)
    return history, raw.select("time", pl.col("temperature_c").cast(pl.Float64))


def wind_series(start: datetime, end: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Power of the four turbines of La Haute Borne [kW] and ERA5 wind."""
    raw = pl.read_parquet(DATA / "wind_lahauteborne_60min.parquet").rename({"time_utc": "time"})
    raw = window(raw.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC"))), start, end)
    history = raw.select("time", value=pl.sum_horizontal(pl.col("^p_kw.*$"), ignore_nulls=False).cast(pl.Float64))
    return history, raw.select("time", pl.col("era5_ws100_ms", "era5_wd100_deg").cast(pl.Float64))


def price_series(start: datetime, end: datetime) -> pl.DataFrame:
    """Dutch day-ahead price [EUR/kWh]."""
    raw = pl.read_parquet(DATA / "price_nl_dayahead_60min.parquet").rename({"time_utc": "time"})
    raw = raw.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))
    return window(raw, start, end).select("time", value=pl.col("price_nl_eur_mwh").cast(pl.Float64) / 1000)


def pv_series(start: datetime, end: datetime) -> pl.DataFrame:
    """A PV profile of SimBench, times 100 kW."""
    raw = pl.read_parquet(DATA / "simbench_2016_15min.parquet")
    stamped = raw.select(
        time=pl.col("time_local_cet").dt.replace_time_zone("UTC") - pl.duration(hours=1),
        value=pl.col("PV1").cast(pl.Float64) * 100,
    )
    return window(stamped, start, end)


def issued_weather(plain: pl.DataFrame, every_hours: int = 12, horizon_hours: int = 48) -> pl.DataFrame:
    """Weather forecasts with issue times: the given values, wrong by noise that is the same in every run."""
    rng = np.random.default_rng(1)
    first, last = plain["time"].min(), plain["time"].max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    parts: list[pl.DataFrame] = []
    columns = [c for c in plain.columns if c != "time"]
    for issue in range(to_minute(first), to_minute(last), every_hours * 60):
        stamps = to_datetimes(np.arange(issue, issue + horizon_hours * 60, 60, dtype=np.int64))
        part = pl.DataFrame({"time": stamps}).join(plain, on="time", how="inner")
        noise = [pl.Series(c, part[c].to_numpy() + rng.normal(0, 0.5, part.height)) for c in columns]
        parts.append(part.with_columns(*noise, issued_at=to_datetimes(np.full(part.height, issue, dtype=np.int64))))
    return pl.concat(parts)
