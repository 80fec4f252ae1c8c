"""Invented series in the form of the usual public competitions, for what no shipped series shows.

A solar park with twelve variables of a weather model, some accumulated since midnight; a wind farm with wind components
at two heights; day-ahead markets with the forecasts of load and wind that are published before them. The processes are
simple, but what makes such data hard is in them: forecast errors that last for hours, seasons, weekdays, scarcity
prices, spikes, and fuel prices that drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Market:
    """What makes one market differ from another.

    Attributes
    ----------
    wind_share : float
        Installed wind over mean load.
    noise : float
        Standard deviation of the part of the price that nothing explains [EUR/MWh].
    scarcity : float
        Steepness of the dear end of the supply curve.
    spikes_per_year : float
        Days on which prices are several times higher than the fundamentals say.
    regime_days : float
        Time over which fuel prices and outages change [days].
    """

    wind_share: float
    noise: float
    scarcity: float
    spikes_per_year: float
    regime_days: float


MARKETS = {
    "windy": Market(0.9, 3.0, 2.0, 2, 60),
    "spiky": Market(0.15, 7.0, 4.0, 12, 25),
    "hydro": Market(0.1, 1.5, 1.5, 3, 20),
}


def _memory(rng: np.random.Generator, n: int, hours: float) -> Floats:
    """Noise of unit variance that forgets itself over `hours`."""
    from scipy.signal import lfilter

    keep = float(np.exp(-1.0 / hours))
    noise = rng.normal(0, np.sqrt(1 - keep**2), n)
    noise[0] = rng.normal()
    return np.asarray(lfilter([1.0], [1.0, -keep], noise), dtype=np.float64)


def _stamps(start: datetime, n: int) -> list[datetime]:
    return [start + timedelta(hours=k) for k in range(n)]


def market(name: str, years: float = 3.0, seed: int = 1) -> pl.DataFrame:
    """Hourly prices [EUR/MWh] with the day-ahead forecasts of load and wind [MW].

    Columns ``Date``, ``Price``, ``Load forecast``, ``Wind forecast``; 24 hours every day, as such data sets have them.
    """
    m, rng = MARKETS[name], np.random.default_rng([seed, sum(name.encode())])
    n = int(years * 365.25) * 24
    hour, day = np.arange(n) % 24, np.arange(n) // 24
    weekday, season = (day + 3) % 7, np.cos(2 * np.pi * (day - 15) / 365.25)
    shape = 1.0 + 0.16 * np.sin((hour - 8) * np.pi / 12) + 0.09 * np.sin((hour - 4) * np.pi / 6) * (0.7 + 0.5 * season)
    calendar = np.where(weekday == 6, 0.82, np.where(weekday == 5, 0.88, 1.0))
    weather = _memory(rng, n, 90)
    demand = 1.0 * shape * calendar * (1 + 0.12 * season + 0.045 * weather + 0.012 * _memory(rng, n, 8))
    blow = 0.9 * _memory(rng, n, 34) + 0.35 * season
    wind = m.wind_share / (1 + np.exp(-1.5 * (blow - 0.6)))
    demand_said = demand * (1 + 0.010 * _memory(rng, n, 12))
    wind_said = wind * np.exp(0.10 * _memory(rng, n, 10) - 0.005)
    fuel = 1.0 + 0.22 * _memory(rng, n, m.regime_days * 24) + 0.08 * np.sin(day / 200.0)
    outage = 0.05 * _memory(rng, n, m.regime_days * 8)
    residual = demand - wind + outage
    middle, width = float(np.median(residual)), float(residual.std())
    x = (residual - middle) / width
    curve = 38 + 9 * x + m.scarcity * np.exp(1.1 * (x - 0.9)) - 2.5 * np.exp(1.3 * (-x - 1.2))
    # all hours of a day are set in one auction: the unexplained is common to the day and to its peak
    per_day = rng.normal(size=(n // 24, 2))
    common, peak = per_day[day, 0], per_day[day, 1] * np.exp(-(((hour - 19) / 4.0) ** 2))
    rest = m.noise * (0.5 * common + 0.5 * peak + 0.45 * _memory(rng, n, 4) + 0.5 * _memory(rng, n, 72))
    spike = (rng.random(n // 24) < m.spikes_per_year / 365.25) * rng.exponential(60, n // 24)
    shock = spike[day] * np.exp(-(((hour - 18) / 3.0) ** 2))
    price = fuel * curve + rest + shock
    return pl.DataFrame(
        {
            "Date": [f"{t:%Y-%m-%d %H:%M:%S}" for t in _stamps(datetime(2013, 1, 1, tzinfo=UTC), n)],
            "Price": np.round(price, 2),
            "Load forecast": np.round(40_000 * demand_said, 0),
            "Wind forecast": np.round(40_000 * wind_said, 0),
        }
    )


def solar_park(zone: int = 1, days: int = 820, seed: int = 1) -> pl.DataFrame:
    """Hourly power of a solar park in south-eastern Australia, per unit, and the weather forecast of midnight UTC.

    Columns as a weather centre codes them: ``VAR78`` cloud water, ``VAR79`` cloud ice, ``VAR134`` pressure, ``VAR157``
    humidity, ``VAR164`` cloud cover, ``VAR165`` and ``VAR166`` wind, ``VAR167`` temperature, and accumulated since
    midnight ``VAR169`` irradiance, ``VAR175`` thermal radiation, ``VAR178`` net radiation at the top [J/m2], ``VAR228``
    rain [m]. Stamps are the ends of intervals.
    """
    from flexergy_pipelines.forecasting.solar import plane_of_array, sun
    from flexergy_pipelines.forecasting.targets import Location
    from flexergy_pipelines.forecasting.timegrid import to_minute

    rng = np.random.default_rng([seed, zone])
    start, n = datetime(2012, 4, 1, tzinfo=UTC), days * 24
    minutes = to_minute(start) + 60 * np.arange(n, dtype=np.int64)
    elevation, azimuth, clear = sun(minutes, 60, Location(-35.3, 149.1, 600.0))
    season = np.cos(2 * np.pi * (np.arange(n) / 24 + 91 - 15) / 365.25)
    front, local = _memory(rng, n, 40), _memory(rng, n, 3)
    wrong = _memory(rng, n, 9)

    def cover(latent: Floats) -> Floats:
        return 1 / (1 + np.exp(-2.4 * (latent - 0.45)))

    true_cover, said_cover = cover(0.9 * front + 0.55 * local), cover(0.95 * front + 0.33 * wrong)
    ghi, said_ghi = clear * (1 - 0.72 * true_cover**2.2), clear * (1 - 0.72 * said_cover**2.2)
    warmth = 287 + 7 * season + 5 * np.sin(2 * np.pi * (np.arange(n) % 24 + 2) / 24) + 3 * _memory(rng, n, 70)
    poa = plane_of_array(minutes, ghi, elevation, azimuth, tilt_deg=25.0 + 3 * zone, azimuth_deg=10.0 * (zone - 1))
    power = 0.86 * poa / 1000 * (1 - 0.004 * (warmth - 287 + poa / 40)) * (1 + 0.03 * _memory(rng, n, 24 * 30))
    power = np.where(elevation > 0, np.clip(power, 0, 0.82), 0.0)

    def accumulated(flux: Floats) -> Floats:
        return np.cumsum(flux.reshape(-1, 24), axis=1).reshape(-1)

    rain = np.maximum(0, said_cover - 0.8) * rng.gamma(0.5, 0.002, n)
    return pl.DataFrame(
        {
            "TIMESTAMP": [f"{t + timedelta(hours=1):%Y%m%d %H:%M}" for t in _stamps(start, n)],
            "VAR78": said_cover**3 * rng.gamma(2, 0.05, n),
            "VAR79": cover(front - 0.5) * rng.gamma(2, 0.03, n),
            "VAR134": 94_000 + 600 * _memory(rng, n, 60),
            "VAR157": 60 + 25 * (said_cover - 0.5) + 8 * _memory(rng, n, 20),
            "VAR164": np.round(said_cover, 3),
            "VAR165": 3 * _memory(rng, n, 20),
            "VAR166": 3 * _memory(rng, n, 20),
            "VAR167": warmth + 0.8 * _memory(rng, n, 12),
            "VAR169": np.round(accumulated(3600 * said_ghi)),
            "VAR175": np.round(accumulated(3600 * (300 + 60 * said_cover + 20 * season))),
            "VAR178": np.round(accumulated(3600 * 1.05 * clear * (1 - 0.5 * said_cover**2.2))),
            "VAR228": accumulated(rain),
            "POWER": np.round(power, 6),
        }
    )


def wind_farm(days: int = 800, seed: int = 1) -> pl.DataFrame:
    """Hourly power of a wind farm, per unit, with forecast wind components at 10 m and 100 m [m/s]."""
    rng = np.random.default_rng(seed)
    start, n = datetime(2012, 1, 1, tzinfo=UTC), days * 24
    clock = np.arange(n)
    latent = 0.93 * _memory(rng, n, 26) + 0.25 * np.cos(2 * np.pi * clock / 8766) + 0.25 * _memory(rng, n, 2)
    speed = 7.6 * np.exp(0.42 * latent)
    turn = np.cumsum(rng.normal(0, 0.12, n))
    said = 7.6 * np.exp(0.42 * (latent + 0.34 * _memory(rng, n, 7))) * (1 + 0.05 * np.cos(turn))
    wake = 1 - 0.06 * (1 + np.cos(2 * turn))
    power = np.clip(1 / (1 + np.exp(-(speed * wake - 9.0) / 1.45)) - 0.004, 0, 1) * (1 - 0.04 * rng.random(n))
    shear = (10 / 100) ** (0.16 + 0.06 * np.sin(2 * np.pi * (clock + 3) / 24))
    low = said * shear * (1 + 0.04 * rng.normal(size=n))
    said_turn = turn + 0.15 * _memory(rng, n, 6)
    return pl.DataFrame(
        {
            "TIMESTAMP": [f"{t + timedelta(hours=1):%Y%m%d %H:%M}" for t in _stamps(start, n)],
            "TARGETVAR": np.round(power, 6),
            "U10": low * np.sin(said_turn),
            "V10": low * np.cos(said_turn),
            "U100": said * np.sin(said_turn),
            "V100": said * np.cos(said_turn),
        }
    )


def utility_load(days: int = 1096, seed: int = 1) -> pl.DataFrame:
    """Hourly load of a utility [MW] that heats and cools, in Berlin's clock with its holidays; no weather given."""
    import holidays

    rng = np.random.default_rng(seed)
    start, n = datetime(2015, 1, 1, tzinfo=UTC), days * 24
    hour, day = np.arange(n) % 24, np.arange(n) // 24
    free = {(d - start.date()).days for d in holidays.country_holidays("DE", years=range(2015, 2020))}
    resting = ((day + 3) % 7 == 6) | np.isin(day, list(free))
    weekend = np.where(resting, 0.80, np.where((day + 3) % 7 == 5, 0.88, 1.0))
    warmth = 11 - 10 * np.cos(2 * np.pi * (day - 20) / 365.25) + 4 * np.sin(2 * np.pi * (hour - 9) / 24)
    warmth = warmth + 3.6 * _memory(rng, n, 75)
    heat, cool = np.maximum(0, 15 - warmth), np.maximum(0, warmth - 20)
    shape = 1 + 0.20 * np.sin((hour - 9) * np.pi / 12) + 0.07 * np.sin((hour - 5) * np.pi / 6)
    slow = 0.02 * _memory(rng, n, 24 * 40)
    load = 1000 * (weekend * shape * (1 + slow) + 0.013 * heat + 0.022 * cool + 0.012 * _memory(rng, n, 6))
    return pl.DataFrame({"time": _stamps(start, n), "load_mw": np.round(load, 2)})
