"""A weather service in Open-Meteo's format, forecasting for the simulated sites.

Only what the forecast API of Open-Meteo offers and a client of it may rely on: hourly values, stamped in the wanted
time zone, radiation as the mean of the *preceding* hour and everything else as the value at the stamp.

References
----------
Open-Meteo, "Weather Forecast API", https://open-meteo.com/en/docs (parameters, units and conventions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import polars as pl

from flexergy_pipelines.grid import Site

COLUMNS = {
    "shortwave_radiation": "shortwave_radiation_w_m2",
    "temperature_2m": "temperature_2m_c",
    "wind_speed_10m": "wind_speed_10m_ms",
    "wind_speed_100m": "wind_speed_100m_ms",
    "cloud_cover": "cloud_cover_pct",
}
WIND_UNITS = {"ms": ("m/s", 1.0), "kmh": ("km/h", 3.6), "mph": ("mp/h", 2.236936), "kn": ("kn", 1.943844)}
MAX_FORECAST_HOURS = 384
MAX_PAST_HOURS = 92 * 24
EARTH_RADIUS_KM = 6371.0


class BadQueryError(ValueError):
    """The query cannot be answered; the message is the reason to send."""


class WeatherSource(Protocol):
    """Weather of one replayed site."""

    def weather_forecast(self, issued_at: datetime, hours: int, step_minutes: int, /) -> pl.DataFrame:
        """Forecast issued at `issued_at` for the next `hours` hours."""
        ...

    def weather_actual(self, start: datetime, end: datetime, /) -> pl.DataFrame:
        """Weather as it was."""
        ...


@dataclass(frozen=True, slots=True)
class _Query:
    latitude_deg: float
    longitude_deg: float
    variables: tuple[str, ...]
    past_hours: int
    forecast_hours: int
    wind_unit: str
    time_zone: str
    issued_at: datetime | None


def forecast(
    query: Mapping[str, str],
    places: Sequence[tuple[Site, WeatherSource]],
    now: datetime,
    *,
    age: timedelta = timedelta(),
) -> dict[str, Any]:
    """Answer a forecast query for the site nearest to the wanted coordinates.

    Parameters
    ----------
    query : Mapping
        Query parameters: `latitude`, `longitude`, `hourly`, `forecast_hours`, `past_hours`, `wind_speed_unit` (or
        `windspeed_unit`), `timezone`, and `issued_at` (ISO) for an issue of the past.
    places : sequence of (Site, WeatherSource)
        The simulated sites.
    now : datetime
        Present time; the answer holds the issue of the present hour.
    age : timedelta
        How much older than that the issue is (a service that stopped updating).

    Raises
    ------
    BadQueryError
        A parameter is missing, unknown or out of range.
    """
    wanted = _parse(query)
    if wanted.issued_at is not None and wanted.issued_at > now:
        raise BadQueryError(f"issued_at {wanted.issued_at.isoformat()} lies in the future")
    site, source = min(places, key=lambda place: _distance_km(place[0], wanted.latitude_deg, wanted.longitude_deg))
    issued_at = ((wanted.issued_at or now) - age).replace(minute=0, second=0, microsecond=0)
    # Radiation at a stamp is the mean of the hour before it, so one more hour is needed in front.
    start = issued_at - timedelta(hours=wanted.past_hours + 1)
    frame = pl.concat(
        [
            source.weather_actual(start, issued_at).select("time", *COLUMNS.values()),
            source.weather_forecast(issued_at, wanted.forecast_hours, 60).select("time", *COLUMNS.values()),
        ]
    ).sort("time")
    return _answer(site, wanted, frame, start)


def _parse(query: Mapping[str, str]) -> _Query:
    variables = tuple(name.strip() for name in query.get("hourly", "").split(",") if name.strip())
    for name in variables:
        if name not in COLUMNS:
            raise BadQueryError(f"hourly variable '{name}' is unknown; known: {', '.join(COLUMNS)}")
    wind_unit = query.get("wind_speed_unit", query.get("windspeed_unit", "kmh"))
    if wind_unit not in WIND_UNITS:
        raise BadQueryError(f"wind_speed_unit '{wind_unit}' is unknown; known: {', '.join(WIND_UNITS)}")
    return _Query(
        latitude_deg=_number(query, "latitude", -90.0, 90.0),
        longitude_deg=_number(query, "longitude", -180.0, 180.0),
        variables=variables,
        past_hours=_hours(query, "past", 0, MAX_PAST_HOURS),
        forecast_hours=_hours(query, "forecast", 168, MAX_FORECAST_HOURS),
        wind_unit=wind_unit,
        time_zone=query.get("timezone", "GMT"),
        issued_at=_instant(query["issued_at"]) if "issued_at" in query else None,
    )


def _number(query: Mapping[str, str], name: str, low: float, high: float) -> float:
    if name not in query:
        raise BadQueryError(f"{name} is missing")
    try:
        value = float(query[name])
    except ValueError:
        raise BadQueryError(f"{name} '{query[name]}' is not a number") from None
    if not low <= value <= high:
        raise BadQueryError(f"{name} {value:g} is outside {low:g}..{high:g}")
    return value


def _hours(query: Mapping[str, str], kind: str, default: int, most: int) -> int:
    name, factor = (f"{kind}_hours", 1) if f"{kind}_hours" in query else (f"{kind}_days", 24)
    if name not in query:
        return default
    hours = _number(query, name, 0, most / factor) * factor
    return int(hours)


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise BadQueryError(f"issued_at '{text}' is not an ISO time") from None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _distance_km(site: Site, latitude_deg: float, longitude_deg: float) -> float:
    """Great-circle distance (haversine) [km]."""
    phi1, phi2 = math.radians(site.location.latitude_deg), math.radians(latitude_deg)
    half_dphi = (phi2 - phi1) / 2
    half_dlambda = math.radians(longitude_deg - site.location.longitude_deg) / 2
    chord = math.sin(half_dphi) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_dlambda) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord)))


def _zone(name: str, site: Site) -> ZoneInfo:
    if name == "auto":
        return site.zone
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadQueryError(f"timezone '{name}' is unknown") from None


def _answer(site: Site, wanted: _Query, frame: pl.DataFrame, start: datetime) -> dict[str, Any]:
    zone = _zone(wanted.time_zone, site)
    offset = start.astimezone(zone).utcoffset() or timedelta()
    rows = {row["time"]: row for row in frame.iter_rows(named=True)}
    stamps = [start + timedelta(hours=i + 1) for i in range(wanted.past_hours + wanted.forecast_hours)]
    unit, per_ms = WIND_UNITS[wanted.wind_unit]
    units = {"shortwave_radiation": "W/m²", "temperature_2m": "°C", "cloud_cover": "%"}
    hourly: dict[str, list[Any]] = {"time": [(stamp + offset).strftime("%Y-%m-%dT%H:%M") for stamp in stamps]}
    for name in wanted.variables:
        shift = timedelta(hours=1) if name == "shortwave_radiation" else timedelta()
        factor = per_ms if name.startswith("wind") else 1.0
        values = [rows.get(stamp - shift, {}).get(COLUMNS[name]) for stamp in stamps]
        hourly[name] = [None if value is None else round(factor * value, 2) for value in values]
    return {
        "latitude": site.location.latitude_deg,
        "longitude": site.location.longitude_deg,
        "generationtime_ms": 0.1,
        "utc_offset_seconds": int(offset.total_seconds()),
        "timezone": "GMT" if wanted.time_zone in {"UTC", "GMT"} else str(zone),
        "timezone_abbreviation": "GMT" if not offset else f"GMT{offset.total_seconds() / 3600:+g}",
        "elevation": site.location.altitude_m,
        "hourly_units": {"time": "iso8601", **{name: units.get(name, unit) for name in wanted.variables}},
        "hourly": hourly,
    }
