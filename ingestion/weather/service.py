"""Acquiring a site's weather: ask the providers in turn, else let history stand in and tell the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from flexergy_pipelines.logs import get_logger
from flexergy_pipelines.store.weather import SIMILAR_DAY
from ingestion.weather.model import COLUMNS, TIME, WeatherError, WeatherForecast, WeatherProvider, WeatherRequest
from ingestion.weather.similar_day import similar_day
from ingestion.weather.timestep import change_step, fill_gaps

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

ALARM_CODE = "weather_provider_failed"
SEVERITY_FALLBACK = 3
SEVERITY_NOTHING = 2
EARLIER_FORECAST = "earlier_forecast"

_EARLIER_USABLE = timedelta(hours=24)
"""An earlier forecast this young is better than any similar day."""
_ARCHIVE = timedelta(days=400)

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WeatherResult:
    """What one acquisition brought.

    Attributes
    ----------
    provider : str
        Who supplied it: a provider's name, ``earlier_forecast`` or ``similar_day``.
    issued_at : datetime
        Issue time, aware.
    frame : polars.DataFrame
        ``time`` and weather columns at the site's granularity over its horizon.
    fallback : bool
        Whether history stood in.
    filled : int
        Values filled in short gaps of the answer.
    failures : tuple of str
        One line for each provider that failed.
    """

    provider: str
    issued_at: datetime
    frame: pl.DataFrame
    fallback: bool = False
    filled: int = 0
    failures: tuple[str, ...] = field(default=())


def fetch_weather(db: TenantStore, site_id: str, now: datetime, providers: Sequence[WeatherProvider]) -> WeatherResult:
    """Acquire the weather forecast of a site and store it with its issue time.

    Parameters
    ----------
    db : TenantStore
        Where the site, the archive and the alarms are.
    site_id : str
        Site whose location, granularity and horizon are used.
    now : datetime
        Time of asking, aware; becomes the issue time.
    providers : sequence of WeatherProvider
        Asked in this order until one answers well.

    Returns
    -------
    WeatherResult
        Stored already. With ``fallback`` an alarm is active; the next good answer clears it.

    Raises
    ------
    WeatherError
        When no provider answered and the archive holds nothing that could stand in.
    """
    from flexergy_pipelines.store.alarms import clear_alarm, raise_alarm
    from flexergy_pipelines.store.sites import load_site
    from flexergy_pipelines.store.weather import write_weather

    site = load_site(db, site_id)
    step = timedelta(minutes=site.forecasts.weather_granularity_minutes)
    request = request_for(site, now, step)
    failures: list[str] = []
    for provider in providers:
        try:
            frame, filled = _usable(provider.forecast(request, now), request, step)
        except WeatherError as error:
            _log.warning("weather provider failed", site=site_id, provider=provider.name, error=str(error))
            failures.append(str(error))
            continue
        write_weather(db, site_id, provider.name, now, frame)
        clear_alarm(db, site_id, ALARM_CODE)
        return WeatherResult(provider.name, now, frame, filled=filled, failures=tuple(failures))
    why = "; ".join(failures) or "no provider is configured"
    try:
        result = _from_history(db, site_id, request, step, now=now, failures=failures)
    except WeatherError as error:
        raise_alarm(db, site_id, ALARM_CODE, SEVERITY_NOTHING, f"no weather forecast: {why}; {error}")
        raise WeatherError(f"{site_id}: {why}; {error}") from error
    raise_alarm(
        db, site_id, ALARM_CODE, SEVERITY_FALLBACK, f"weather forecast failed, {result.provider} stands in: {why}"
    )
    return result


def request_for(site: Site, now: datetime, step: timedelta) -> WeatherRequest:
    """The span a site wants: from the running interval to the end of its horizon, in whole intervals."""
    seconds = int(step.total_seconds())
    start = datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, tz=now.tzinfo)
    steps = -(-timedelta(hours=site.forecasts.weather_horizon_hours) // step)
    place = site.location
    return WeatherRequest(
        place.latitude_deg, place.longitude_deg, float(place.altitude_m or 0.0), start, start + step * steps
    )


def _usable(answer: WeatherForecast, request: WeatherRequest, step: timedelta) -> tuple[pl.DataFrame, int]:
    place = (request.latitude_deg, request.longitude_deg)
    full, filled = fill_gaps(answer.frame, answer.step, *place)
    for name in COLUMNS:
        missing = full[name].null_count()
        if missing:
            hours = missing * answer.step.total_seconds() / 3600
            raise WeatherError(f"{answer.provider}: {name} is missing for {hours:g} h, at most 3 h in a row are filled")
    try:
        frame = change_step(full, answer.step, step, *place)
    except ValueError as error:
        raise WeatherError(f"{answer.provider}: {error}") from error
    cut = frame.filter((pl.col("time") >= request.start) & (pl.col("time") < request.end))
    return cut.select("time", *COLUMNS).drop_nulls(), filled


def _from_history(
    db: TenantStore, site_id: str, request: WeatherRequest, step: timedelta, *, now: datetime, failures: list[str]
) -> WeatherResult:
    from flexergy_pipelines.store.weather import read_weather, write_weather

    known = read_weather(db, site_id, request.start, request.end, known_at=now)
    if "issued_at" in known.columns:
        known = known.filter(pl.col("issued_at") >= now - _EARLIER_USABLE)
    if "provider" in known.columns:
        known = known.filter(pl.col("provider") != SIMILAR_DAY)
    known = known.select("time", *COLUMNS).drop_nulls()
    wanted = pl.DataFrame({"time": _axis(request, step)}, schema={"time": TIME})
    missing = wanted.join(known, on="time", how="anti")
    if missing.is_empty():
        frame = wanted.join(known, on="time", how="left")
        return WeatherResult(EARLIER_FORECAST, now, frame, fallback=True, failures=tuple(failures))
    archive = read_weather(db, site_id, now - _ARCHIVE, request.start, known_at=now).select("time", *COLUMNS)
    archive = _at_step(archive, step, request)
    found = similar_day(archive, request.start, request.end, step)
    if found is None:
        raise WeatherError("the archive holds no complete day of this season to stand in")
    # Only what is missing is written: a similar day must not overrule a forecast that is still good.
    stand_in = missing.join(found.frame, on="time", how="left")
    write_weather(db, site_id, SIMILAR_DAY, now, stand_in)
    frame = pl.concat([known, stand_in]).join(wanted, on="time", how="semi").sort("time")
    return WeatherResult(SIMILAR_DAY, now, frame, fallback=True, failures=tuple(failures))


def _at_step(archive: pl.DataFrame, step: timedelta, request: WeatherRequest) -> pl.DataFrame:
    """The archive at the wanted step; its own is the commonest distance of its rows."""
    if archive.height < 2:
        return archive
    own = archive.sort("time")["time"].diff().drop_nulls().mode().min()
    if not isinstance(own, timedelta) or own == step:
        return archive
    return change_step(archive.sort("time"), own, step, request.latitude_deg, request.longitude_deg)


def _axis(request: WeatherRequest, step: timedelta) -> list[datetime]:
    return [request.start + step * i for i in range((request.end - request.start) // step)]
