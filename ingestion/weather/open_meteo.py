"""Weather from Open-Meteo, or any service that answers in its format.

Open-Meteo stamps `shortwave_radiation` with the *end* of the hour it averages, and states (temperature, wind, cloud)
with the instant. Rows here begin at their stamp: irradiance moves back by one hour, states stay.

References
----------
Open-Meteo, *Weather Forecast API*, https://open-meteo.com/en/docs
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ingestion.weather.model import (
    TIME,
    WeatherError,
    WeatherForecast,
    WeatherRequest,
    check_values,
)
from ingestion.weather.transport import RetryRules, TransportError, get_json

PUBLIC_URL = "https://api.open-meteo.com"
PUBLIC_ARCHIVE_URL = "https://archive-api.open-meteo.com"
HOUR = timedelta(hours=1)

_NAMES = {
    "shortwave_radiation": "shortwave_radiation_w_m2",
    "temperature_2m": "temperature_2m_c",
    "wind_speed_10m": "wind_speed_10m_ms",
    "wind_speed_100m": "wind_speed_100m_ms",
    "cloud_cover": "cloud_cover_pct",
}
_UNITS = {
    "shortwave_radiation": {"W/m²", "W/m2"},
    "temperature_2m": {"°C"},
    "wind_speed_10m": {"m/s"},
    "wind_speed_100m": {"m/s"},
    "cloud_cover": {"%"},
}

_Series = list[float | None]


class _Hourly(BaseModel):
    """The block of series; more series than asked for are ignored, fewer are an error."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    time: list[str]
    shortwave_radiation: _Series
    temperature_2m: _Series
    wind_speed_10m: _Series
    wind_speed_100m: _Series
    cloud_cover: _Series

    @model_validator(mode="after")
    def _same_length(self) -> _Hourly:
        for name in _NAMES:
            length = len(getattr(self, name))
            if length != len(self.time):
                raise ValueError(f"{name} has {length} values for {len(self.time)} times")
        return self


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    utc_offset_seconds: int = 0
    hourly: _Hourly
    hourly_units: dict[str, str]


@dataclass(frozen=True, slots=True)
class OpenMeteo:
    """Client of one Open-Meteo-format service.

    Attributes
    ----------
    base_url : str
        Address up to, without, ``/v1/forecast``.
    rules : RetryRules
        Attempts and time limits.
    name : str
        Stored with each forecast.
    ensemble : bool
        Ask the ensemble endpoint and take the mean of its members.
    models : str or None
        Which models to ask for; None leaves the choice to the service.
    archive_url : str or None
        Address of the archive of what the weather was, up to, without, ``/v1/archive``; None when there is none.
    """

    base_url: str = PUBLIC_URL
    rules: RetryRules = field(default_factory=RetryRules)
    name: str = "open_meteo"
    ensemble: bool = False
    models: str | None = None
    archive_url: str | None = None

    def archive(self, request: WeatherRequest) -> pl.DataFrame:
        """Hourly values of what the weather was in ``[start, end)``, whole UTC days; nulls where the archive has gaps.

        Raises
        ------
        WeatherError
            When there is no archive, it fails, or its answer is malformed, in wrong units or impossible.
        """
        if self.archive_url is None:
            raise WeatherError(f"{self.name}: has no archive; give it an archive_url")
        params = {
            "latitude": f"{request.latitude_deg:.5f}",
            "longitude": f"{request.longitude_deg:.5f}",
            "elevation": f"{request.altitude_m:.0f}",
            "hourly": ",".join(_NAMES),
            "timezone": "UTC",
            "timeformat": "iso8601",
            "wind_speed_unit": "ms",
            "start_date": f"{request.start:%Y-%m-%d}",
            # the mean irradiance of the last hour is stamped with the midnight after it
            "end_date": f"{request.end:%Y-%m-%d}",
        }
        try:
            body = get_json(self.archive_url.rstrip("/") + "/v1/archive", params, self.rules)
        except TransportError as error:
            raise WeatherError(f"{self.name} archive: {error}") from error
        frame = parse_answer(body, f"{self.name} archive")
        return frame.filter((pl.col("time") >= request.start) & (pl.col("time") < request.end))

    def forecast(self, request: WeatherRequest, now: datetime) -> WeatherForecast:
        """Ask for hourly values of ``[start, end)``.

        Raises
        ------
        WeatherError
            When the service fails or its answer is malformed, in wrong units, impossible or stale.
        """
        hours_back = max(0, -(-int((now - request.start).total_seconds()) // 3600)) + 1
        hours_ahead = -(-int((request.end - now).total_seconds()) // 3600) + 2
        params = {
            "latitude": f"{request.latitude_deg:.5f}",
            "longitude": f"{request.longitude_deg:.5f}",
            "elevation": f"{request.altitude_m:.0f}",
            "hourly": ",".join(_NAMES),
            "timezone": "UTC",
            "timeformat": "iso8601",
            "wind_speed_unit": "ms",
            "past_hours": str(hours_back),
            "forecast_hours": str(hours_ahead),
        }
        if self.models is not None:
            params["models"] = self.models
        path = "/v1/ensemble" if self.ensemble else "/v1/forecast"
        try:
            body = get_json(self.base_url.rstrip("/") + path, params, self.rules)
        except TransportError as error:
            raise WeatherError(f"{self.name}: {error}") from error
        frame = parse_answer(mean_of_members(body) if self.ensemble else body, self.name)
        return WeatherForecast(self.name, now, HOUR, covering(frame, request, self.name))


def parse_answer(body: Any, provider: str = "open_meteo") -> pl.DataFrame:
    """Turn an answer into rows stamped with the start of their hour.

    Parameters
    ----------
    body : object
        Parsed JSON.
    provider : str
        Named in errors.

    Raises
    ------
    WeatherError
        When a field is missing, has another type, unit or length, or a value is impossible.
    """
    try:
        answer = _Answer.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "answer"
        raise WeatherError(f"{provider}: unexpected answer: {place}: {first['msg']}") from error
    for name, allowed in _UNITS.items():
        unit = answer.hourly_units.get(name)
        if unit not in allowed:
            raise WeatherError(f"{provider}: {name} came in {unit!r}, expected {' or '.join(sorted(allowed))}")
    times = [_instant(text, answer.utc_offset_seconds, provider) for text in answer.hourly.time]
    if len(times) < 3 or any(b - a != HOUR for a, b in itertools.pairwise(times)):
        raise WeatherError(f"{provider}: times are not hourly and ascending ({len(times)} rows)")
    raw = pl.DataFrame(
        {"time": times} | {column: getattr(answer.hourly, name) for name, column in _NAMES.items()},
        schema={"time": TIME} | dict.fromkeys(_NAMES.values(), pl.Float64),
    )
    frame = raw.with_columns(pl.col("shortwave_radiation_w_m2").shift(-1)).head(-1)
    return check_values(frame, provider)


def mean_of_members(body: Any) -> Any:
    """An answer of the ensemble endpoint as one of the ordinary: each series the mean of its members.

    Anything unexpected is left as it is, for `parse_answer` to name.
    """
    if not isinstance(body, dict) or not isinstance(body.get("hourly"), dict):
        return body
    hourly = dict(body["hourly"])
    for name in _NAMES:
        members = [series for key, series in hourly.items() if re.fullmatch(rf"{name}(_member\d+)?", key)]
        if len(members) < 2 or any(not isinstance(series, list) for series in members):
            continue
        if len({len(series) for series in members}) != 1:
            continue
        hourly[name] = [_mean(values) for values in zip(*members, strict=True)]
    return {**body, "hourly": hourly}


def _mean(values: tuple[Any, ...]) -> Any:
    known = [value for value in values if value is not None]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in known):
        return next(value for value in known if isinstance(value, bool) or not isinstance(value, int | float))
    return sum(known) / len(known) if known else None


def covering(frame: pl.DataFrame, request: WeatherRequest, provider: str) -> pl.DataFrame:
    """Cut `frame` to the request; a forecast that ends early is stale and refused.

    Raises
    ------
    WeatherError
        Naming until when the forecast reaches.
    """
    cut = frame.filter((pl.col("time") > request.start - HOUR) & (pl.col("time") < request.end))
    first, last = frame["time"].min(), frame["time"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        raise WeatherError(f"{provider}: answer is empty")
    if first > request.start or last + HOUR < request.end:
        raise WeatherError(
            f"{provider}: stale: covers {first:%Y-%m-%dT%H:%MZ} to {last + HOUR:%Y-%m-%dT%H:%MZ}, "
            f"wanted {request.start:%Y-%m-%dT%H:%MZ} to {request.end:%Y-%m-%dT%H:%MZ}"
        )
    return cut


def _instant(text: str, offset_s: int, provider: str) -> datetime:
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError as error:
        raise WeatherError(f"{provider}: time {text!r} is not ISO 8601") from error
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=UTC) - timedelta(seconds=offset_s)
    return stamp.astimezone(UTC)
