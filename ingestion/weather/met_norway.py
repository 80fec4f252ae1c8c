"""Weather from MET Norway's Locationforecast, which knows no irradiance: it follows from cloud cover and clear sky.

References
----------
MET Norway, *Locationforecast 2.0*, https://api.met.no/weatherapi/locationforecast/2.0/documentation (a User-Agent with
a contact is a condition of use).
F. Kasten, G. Czeplak, "Solar and terrestrial radiation dependent on the amount and type of cloud", Solar Energy 24
(1980).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ingestion.weather.model import TIME, WeatherError, WeatherForecast, WeatherRequest, check_values
from ingestion.weather.open_meteo import HOUR, covering
from ingestion.weather.timestep import clear_sky_w_m2
from ingestion.weather.transport import RetryRules, TransportError, get_json

PUBLIC_URL = "https://api.met.no"
OLDEST_UPDATE = timedelta(hours=24)
_SHEAR = 1.0 / 7.0
_UNITS = {"air_temperature": "celsius", "wind_speed": "m/s", "cloud_area_fraction": "%"}


class _Details(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    air_temperature: float | None = None
    wind_speed: float | None = None
    cloud_area_fraction: float | None = None


class _Instant(BaseModel):
    details: _Details


class _Data(BaseModel):
    instant: _Instant


class _Row(BaseModel):
    time: AwareDatetime
    data: _Data


class _Meta(BaseModel):
    updated_at: AwareDatetime
    units: dict[str, str]


class _Properties(BaseModel):
    meta: _Meta
    timeseries: Annotated[list[_Row], Field(min_length=3)]


class _Answer(BaseModel):
    properties: _Properties


@dataclass(frozen=True, slots=True)
class MetNorway:
    """Client of MET Norway's forecast.

    Attributes
    ----------
    contact : str
        Address or site that identifies the user, as MET Norway asks for.
    base_url : str
        Address up to, without, ``/weatherapi``.
    rules : RetryRules
        Attempts and time limits.
    name : str
        Stored with each forecast.
    """

    contact: str
    base_url: str = PUBLIC_URL
    rules: RetryRules = field(default_factory=RetryRules)
    name: str = "met_norway"

    def forecast(self, request: WeatherRequest, now: datetime) -> WeatherForecast:
        """Ask for the hours of ``[start, end)``.

        Raises
        ------
        WeatherError
            When the service fails or its answer is malformed, in wrong units, impossible or stale.
        """
        params = {
            "lat": f"{request.latitude_deg:.4f}",
            "lon": f"{request.longitude_deg:.4f}",
            "altitude": f"{request.altitude_m:.0f}",
        }
        url = f"{self.base_url.rstrip('/')}/weatherapi/locationforecast/2.0/complete"
        try:
            body = get_json(url, params, self.rules, {"User-Agent": f"flexergy {self.contact}"})
        except TransportError as error:
            raise WeatherError(f"{self.name}: {error}") from error
        frame, updated = parse_answer(body, request, self.name)
        if now - updated > OLDEST_UPDATE:
            raise WeatherError(f"{self.name}: stale: last updated {updated:%Y-%m-%dT%H:%MZ}")
        return WeatherForecast(self.name, now, HOUR, covering(frame, request, self.name))


def parse_answer(body: Any, request: WeatherRequest, provider: str) -> tuple[pl.DataFrame, datetime]:
    """Turn an answer into hourly rows, and tell when it was updated.

    Raises
    ------
    WeatherError
        When a field is missing or of another type or unit, or a value is impossible.
    """
    try:
        answer = _Answer.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "answer"
        raise WeatherError(f"{provider}: unexpected answer: {place}: {first['msg']}") from error
    units = answer.properties.meta.units
    for name, unit in _UNITS.items():
        if units.get(name) != unit:
            raise WeatherError(f"{provider}: {name} came in {units.get(name)!r}, expected {unit}")
    rows = [(row.time.astimezone(UTC), row.data.instant.details) for row in answer.properties.timeseries]
    raw = pl.DataFrame(
        [(time, d.air_temperature, d.wind_speed, d.cloud_area_fraction) for time, d in rows],
        schema={"time": TIME, "temperature_2m_c": pl.Float64, "wind_speed_10m_ms": pl.Float64,
                "cloud_cover_pct": pl.Float64},
        orient="row",
    ).unique("time", keep="last").sort("time")  # fmt: skip
    # Beyond two or three days rows are six hours apart; the axis is made hourly and what lies between stays unknown.
    first, last = raw["time"][0], raw["time"][-1]
    axis = pl.DataFrame({"time": pl.datetime_range(first, last, "1h", time_unit="us", eager=True).cast(TIME)})
    frame = axis.join(raw, on="time", how="left")
    cloud = frame["cloud_cover_pct"].fill_null(float("nan")).to_numpy() / 100.0
    clear = clear_sky_w_m2(frame["time"].to_list(), HOUR, request.latitude_deg, request.longitude_deg)
    # The hour's irradiance goes with the cloud of its middle: the mean of the instants around it.
    following = np.append(cloud[1:], cloud[-1])
    middle = np.where(np.isnan(following), cloud, (cloud + following) / 2)
    irradiance = clear * (1.0 - 0.75 * np.clip(middle, 0.0, 1.0) ** 3.4)
    return check_values(
        frame.with_columns(
            pl.Series("shortwave_radiation_w_m2", irradiance).fill_nan(None),
            (pl.col("wind_speed_10m_ms") * (100.0 / 10.0) ** _SHEAR).alias("wind_speed_100m_ms"),
        ),
        provider,
    ), answer.properties.meta.updated_at.astimezone(UTC)
