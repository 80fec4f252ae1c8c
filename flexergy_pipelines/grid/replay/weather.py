"""Weather at a sample site, derived from its measured series, and a synthetic forecast of it.

There is no open data set with generation, weather forecasts and prices at one place, so the samples make their own:

- radiation is proportional to the per-unit PV output; cloud cover is what the output lacks to the best of the same
  hour within +-15 days; at night it is carried on between sunset and sunrise;
- wind speed is the reanalysis at 100 m, or the inverse of a cubic power curve where only per-unit power is known;
- temperature is the reanalysis, or a course of the year and the day with a slow random walk (seeded);
- a forecast is the truth plus an error, first-order autoregressive over the lead time, whose standard deviation grows
  with the square root of the lead: sigma(h) = sigma_0 + sigma_1 sqrt(h / 24). It is a function of the seed and the time
  of issue only, so the same question always gets the same answer, and it never equals the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from flexergy_pipelines.grid.replay.rule import PERIOD_DAYS, PERIOD_S, ReplayRule
from flexergy_pipelines.grid.replay.sources import WallGrid, interpolate_periodic, read_column
from flexergy_pipelines.grid.replay_source import ReplaySource

WEATHER_COLUMNS = (
    "shortwave_radiation_w_m2",
    "temperature_2m_c",
    "wind_speed_10m_ms",
    "wind_speed_100m_ms",
    "cloud_cover_pct",
)
HOURS = PERIOD_DAYS * 24
RADIATION_PER_UNIT_W_M2 = 1550.0  # brings the best per-unit output of the samples (0.62) to a clear summer noon
CUT_IN_MS, RATED_MS = 3.0, 12.0
SHEAR = (10 / 100) ** 0.143  # power law between 10 and 100 m over open land
AUTOREGRESSION = 0.9  # of the forecast error, per hour of lead
# Standard deviation of the error at lead 0 and its growth until 24 h: cloud cover [%], temperature [K], wind [m/s].
ERROR_SIGMA = {"cloud": (6.0, 16.0), "temperature": (0.4, 1.1), "wind": (0.5, 1.3)}


@dataclass(frozen=True, slots=True)
class _Hourly:
    """Hourly values over the window of their own source year."""

    year: int
    values: np.ndarray

    def at(self, wall_s: np.ndarray, offset_s: int) -> np.ndarray:
        """Values at wall-clock times, linear between the middles of the hours."""
        position = np.mod(wall_s - offset_s, PERIOD_S) / 3600 - 0.5
        low = np.floor(position).astype(np.int64)
        share = position - low
        return (1 - share) * self.values[low % HOURS] + share * self.values[(low + 1) % HOURS]


def _hourly(grid: WallGrid) -> _Hourly:
    filled = grid.filled
    return _Hourly(grid.year, filled.reshape(HOURS, -1).mean(axis=1))


def _smooth_noise(seed: int, hours: float) -> np.ndarray:
    """Unit-variance periodic noise with a correlation of about `hours`."""
    white = np.random.default_rng(seed).standard_normal(HOURS)
    frequency = np.fft.rfftfreq(HOURS)
    smooth = np.fft.irfft(np.fft.rfft(white) * np.exp(-((frequency * hours * np.pi) ** 2)), HOURS)
    return (smooth - smooth.mean()) / smooth.std()


def _clear_output(solar: np.ndarray) -> np.ndarray:
    """Best output of the same hour within +-15 days."""
    days = solar.reshape(PERIOD_DAYS, 24)
    stacked = np.stack([np.roll(days, shift, axis=0) for shift in range(-15, 16)])
    return stacked.max(axis=0).ravel()


def _cloud_percent(solar: np.ndarray, clear: np.ndarray) -> np.ndarray:
    day = clear > 0.02
    cloud = np.full(HOURS, np.nan)
    cloud[day] = 100 * (1 - np.clip(solar[day] / clear[day], 0, 1))
    return interpolate_periodic(cloud)


def _temperature(year: int, seed: int) -> _Hourly:
    hour = np.arange(HOURS)
    annual = 10.5 - 8.0 * np.cos(2 * np.pi * (hour / 24 - 20) / PERIOD_DAYS)
    daily = (3.5 - 1.5 * np.cos(2 * np.pi * (hour / 24 - 170) / PERIOD_DAYS)) * -np.cos(
        2 * np.pi * (hour % 24 - 3) / 24
    )
    return _Hourly(year, annual + daily + 3.0 * _smooth_noise(seed + 17, 72))


class SampleWeather:
    """Truth and forecasts of the weather at a sample site.

    Parameters
    ----------
    folder : Path
        Folder of the data files.
    """

    def __init__(self, source: ReplaySource, rule: ReplayRule, folder: Path) -> None:
        zone = rule.zone.key
        columns = source.weather
        self._rule = rule
        self._seed = source.seed
        solar = _hourly(read_column(folder, columns.solar, source.source_year, zone))
        wind = _hourly(read_column(folder, columns.wind, source.source_year, zone))
        if columns.temperature is not None:
            kelvin = _hourly(read_column(folder, columns.temperature, source.source_year, zone))
            self._temperature = _Hourly(kelvin.year, kelvin.values - 273.15)
        else:
            self._temperature = _temperature(source.source_year, source.seed)
        clear = _clear_output(solar.values)
        self._clear = _Hourly(solar.year, clear)
        self._cloud = _Hourly(solar.year, _cloud_percent(solar.values, clear))
        self._wind = _Hourly(
            wind.year, self._speed(wind.values) if columns.wind_is == "power_per_unit" else wind.values
        )
        years = {hourly.year for hourly in (self._temperature, self._clear, self._cloud, self._wind)}
        self._offsets = {year: rule.offset_s(year) for year in years}

    def _speed(self, power: np.ndarray) -> np.ndarray:
        """Wind speed at 100 m from per-unit power; where power says nothing (calm, rated) slow noise fills in."""
        noise = _smooth_noise(self._seed + 5, 12)
        speed = CUT_IN_MS + (RATED_MS - CUT_IN_MS) * np.cbrt(np.clip(power, 0, 1))
        speed = np.where(power < 0.005, np.clip(1.8 + 0.7 * noise, 0.1, CUT_IN_MS), speed)
        return np.where(power > 0.97, RATED_MS + np.abs(noise) * 2.0, speed)

    def _at(self, hourly: _Hourly, wall_s: np.ndarray) -> np.ndarray:
        return hourly.at(wall_s, self._offsets[hourly.year])

    def _frame(
        self, times: pl.Series, wall_s: np.ndarray, cloud: np.ndarray, temperature: np.ndarray, wind: np.ndarray
    ) -> pl.DataFrame:
        clear = self._at(self._clear, wall_s)
        # Clear-sky output is interpolated between hours and may come out a hair above zero in the first dark one.
        radiation = np.where(clear > 0.005, RADIATION_PER_UNIT_W_M2 * clear * (1 - cloud / 100), 0.0)
        return pl.DataFrame(
            {
                "time": times,
                "shortwave_radiation_w_m2": radiation,
                "temperature_2m_c": temperature,
                "wind_speed_10m_ms": wind * SHEAR,
                "wind_speed_100m_ms": wind,
                "cloud_cover_pct": cloud,
            }
        )

    def actual(self, start: datetime, end: datetime, step_minutes: int = 60) -> pl.DataFrame:
        """Weather as it comes to pass, from `start` until before `end`."""
        step = timedelta(minutes=step_minutes)
        times = utc_range(start, end, step)
        middle = self._rule.wall_seconds(times) + step.total_seconds() / 2
        return self._frame(
            times,
            middle,
            self._at(self._cloud, middle),
            self._at(self._temperature, middle),
            np.maximum(self._at(self._wind, middle), 0.0),
        )

    def forecast(self, issued_at: datetime, hours: int = 48, step_minutes: int = 60) -> pl.DataFrame:
        """Forecast issued at `issued_at`, from the hour of issue for `hours` hours.

        Raises
        ------
        ValueError
            `hours` or `step_minutes` is out of range.
        """
        if not 1 <= hours <= 384:
            raise ValueError(f"hours {hours} is outside 1..384")
        if step_minutes not in (5, 10, 15, 20, 30, 60):
            raise ValueError(f"step_minutes {step_minutes} is none of 5, 10, 15, 20, 30, 60")
        step = timedelta(minutes=step_minutes)
        start = issued_at.replace(minute=0, second=0, microsecond=0)
        times = utc_range(start, start + timedelta(hours=hours), step)
        middle = self._rule.wall_seconds(times) + step.total_seconds() / 2
        lead = (np.arange(len(times)) + 0.5) * step_minutes / 60
        error = {name: self._error(name, issued_at, hours, lead) for name in ERROR_SIGMA}
        return self._frame(
            times,
            middle,
            np.clip(self._at(self._cloud, middle) + error["cloud"], 0, 100),
            self._at(self._temperature, middle) + error["temperature"],
            np.maximum(self._at(self._wind, middle) + error["wind"], 0.0),
        )

    def _error(self, variable: str, issued_at: datetime, hours: int, lead: np.ndarray) -> np.ndarray:
        base, growth = ERROR_SIGMA[variable]
        issue = int(issued_at.timestamp()) // 3600
        random = np.random.default_rng([self._seed, issue, list(ERROR_SIGMA).index(variable)])
        shocks = random.standard_normal(hours + 2)
        noise = np.empty(hours + 2)
        noise[0] = shocks[0]
        innovation = np.sqrt(1 - AUTOREGRESSION**2)
        for hour in range(1, hours + 2):
            noise[hour] = AUTOREGRESSION * noise[hour - 1] + innovation * shocks[hour]
        return (base + growth * np.sqrt(lead / 24)) * np.interp(lead, np.arange(hours + 2), noise)


def utc_range(start: datetime, end: datetime, step: timedelta) -> pl.Series:
    """UTC stamps from `start` until before `end`."""
    for name, time in (("start", start), ("end", end)):
        if time.tzinfo is None:
            raise ValueError(f"{name} {time!r} has no time zone; give an aware datetime")
    first, last = (int(t.timestamp() * 1e6) for t in (start, end))
    stamps = np.arange(first, last, int(step.total_seconds() * 1e6), dtype=np.int64)
    return pl.Series("time", stamps).cast(pl.Datetime("us", "UTC"))
