"""What a weather forecast is to the platform, and what any provider of one must be able to do.

Rows are stamped with the *start* of their interval, UTC. Providers convert their own convention at their own edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

import polars as pl

Physics = Literal["irradiance", "state", "sum", "direction"]


@dataclass(frozen=True, slots=True)
class WeatherColumn:
    """One weather quantity: how it behaves in time and what is physically possible.

    Attributes
    ----------
    physics : Physics
        ``irradiance`` follows the clear sky, ``state`` changes continuously, ``sum`` accumulates over the interval,
        ``direction`` is an angle.
    unit : str
        Unit of the values.
    minimum, maximum : float
        Smallest and largest value on Earth, with margin; anything outside is an error of the provider.
    """

    physics: Physics
    unit: str
    minimum: float
    maximum: float


COLUMNS: dict[str, WeatherColumn] = {
    "shortwave_radiation_w_m2": WeatherColumn("irradiance", "W/m²", 0.0, 1500.0),
    "temperature_2m_c": WeatherColumn("state", "°C", -90.0, 60.0),
    "wind_speed_10m_ms": WeatherColumn("state", "m/s", 0.0, 115.0),
    "wind_speed_100m_ms": WeatherColumn("state", "m/s", 0.0, 130.0),
    "cloud_cover_pct": WeatherColumn("state", "%", 0.0, 100.0),
}
"""The quantities every stored forecast has."""

OPTIONAL_COLUMNS: dict[str, WeatherColumn] = {
    "wind_direction_100m_deg": WeatherColumn("direction", "°", 0.0, 360.0),
    "precipitation_mm": WeatherColumn("sum", "mm", 0.0, 500.0),
}
"""Quantities a provider may add; they take part in the change of time step."""

TIME = pl.Datetime("us", "UTC")


class WeatherError(Exception):
    """A provider gave no usable forecast; the message names the provider and what was wrong."""


@dataclass(frozen=True, slots=True)
class WeatherRequest:
    """What is wanted of a provider.

    Attributes
    ----------
    latitude_deg, longitude_deg, altitude_m : float
        The place, WGS 84, altitude above sea level [m].
    start, end : datetime
        Valid time wanted, aware, half open.
    """

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class WeatherForecast:
    """One answer of one provider.

    Attributes
    ----------
    provider : str
        Who said so.
    issued_at : datetime
        When it was believed, aware.
    step : timedelta
        Length of each row's interval.
    frame : polars.DataFrame
        ``time`` (start of the interval, UTC) and the columns of `COLUMNS`, null where the provider had a gap.
    """

    provider: str
    issued_at: datetime
    step: timedelta
    frame: pl.DataFrame


class WeatherProvider(Protocol):
    """Anything that can be asked for a forecast."""

    @property
    def name(self) -> str: ...

    def forecast(self, request: WeatherRequest, now: datetime) -> WeatherForecast:
        """Ask for a forecast; raise `WeatherError` when there is none that can be trusted."""
        ...


def check_values(frame: pl.DataFrame, provider: str) -> pl.DataFrame:
    """Refuse a forecast with impossible values; nulls pass (they are gaps, filled later).

    Raises
    ------
    WeatherError
        Naming column, value, time and allowed range of the first impossible value.
    """
    for name, column in (COLUMNS | OPTIONAL_COLUMNS).items():
        if name not in frame.columns:
            continue
        wrong = frame.filter(
            pl.col(name).is_not_null()
            & ~(pl.col(name).is_finite() & pl.col(name).is_between(column.minimum, column.maximum))
        )
        if not wrong.is_empty():
            when, value = wrong.select("time", name).row(0)
            raise WeatherError(
                f"{provider}: {name} {value} at {when:%Y-%m-%dT%H:%MZ} is outside "
                f"{column.minimum:g}..{column.maximum:g} {column.unit}"
            )
    return frame
