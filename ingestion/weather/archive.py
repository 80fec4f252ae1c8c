"""What the weather was, from the archive of a provider: for sites whose own forecasts do not reach back far enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from ingestion.weather.model import COLUMNS, WeatherError, WeatherProvider, WeatherRequest
from ingestion.weather.open_meteo import OpenMeteo

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

DELAY = timedelta(days=6)
"""Reanalysis comes about five days late."""

LONGEST = timedelta(days=366)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ArchiveResult:
    """What one look into the archive brought.

    Attributes
    ----------
    provider : str
        Whose archive; empty when no provider has one.
    days : int
        Days that were missing and are stored now.
    """

    provider: str
    days: int


def fetch_archive(
    db: TenantStore, site_id: str, now: datetime, providers: Sequence[WeatherProvider], days: int
) -> ArchiveResult:
    """Store what the weather was on the past days for which the store has no archive yet.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    now : datetime
        Aware.
    providers : sequence of WeatherProvider
        The first that has an archive is asked.
    days : int
        How far back [d].

    Returns
    -------
    ArchiveResult

    Raises
    ------
    WeatherError
        When the archive fails; the days that came before are stored.
    """
    from flexergy_pipelines.store.sites import load_site
    from flexergy_pipelines.store.weather import ARCHIVE, read_weather_archive, write_weather_issues

    source = next((p for p in providers if isinstance(p, OpenMeteo) and p.archive_url is not None), None)
    if source is None:
        return ArchiveResult("", 0)
    place = load_site(db, site_id).location
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = midnight - timedelta(days=days), midnight - DELAY
    if start >= end:
        return ArchiveResult(source.name, 0)
    known = read_weather_archive(db, site_id, start, end)
    have = set(known["time"].dt.date().to_list())
    done = 0
    for first, after in missing_spans(start.date(), end.date(), have):
        at = datetime(first.year, first.month, first.day, tzinfo=UTC)
        until = datetime(after.year, after.month, after.day, tzinfo=UTC)
        altitude = float(place.altitude_m or 0.0)
        frame = source.archive(WeatherRequest(place.latitude_deg, place.longitude_deg, altitude, at, until))
        frame = frame.drop_nulls(list(COLUMNS)).select("time", *COLUMNS)
        if frame.is_empty():
            raise WeatherError(f"{source.name} archive: no complete hour from {first} until before {after}")
        known_from = pl.col("time").dt.truncate("1d") + DELAY
        write_weather_issues(db, site_id, source.name + ARCHIVE, frame.with_columns(issued_at=known_from))
        done += frame["time"].dt.date().n_unique()
    return ArchiveResult(source.name, done)


def missing_spans(start: date, end: date, have: set[date]) -> list[tuple[date, date]]:
    """Spans of days in [start, end) that are not in `have`, none longer than a year, as (first, day after the last)."""
    spans: list[tuple[date, date]] = []
    day = start
    while day < end:
        if day in have:
            day += DAY
            continue
        first = day
        while day < end and day not in have and day - first < LONGEST:
            day += DAY
        spans.append((first, day))
    return spans
