"""Weather: what each provider said, with the time it said it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.store.copying import staged_insert
from flexergy_pipelines.store.frames import TIME, Column, conform, frame_of, period, utc
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

WEATHER_COLUMNS: Final = (
    "shortwave_radiation_w_m2",
    "temperature_2m_c",
    "wind_speed_10m_ms",
    "wind_speed_100m_ms",
    "cloud_cover_pct",
)
SIMILAR_DAY: Final = "similar_day"
"""Name under which a similar day stands in for a provider."""

ARCHIVE: Final = "_archive"
"""End of a provider's name whose rows say what the weather was, not what was forecast."""

_COLUMNS: Final = {
    "time": Column("time"),
    **{name: Column("number", nullable=True, optional=True) for name in WEATHER_COLUMNS},
}
_SCHEMA: Final = {
    "time": TIME,
    **dict.fromkeys(WEATHER_COLUMNS, pl.Float64),
    "issued_at": TIME,
    "provider": pl.String,
}


def write_weather(db: TenantStore, site_id: str, provider: str, issued_at: datetime, frame: pl.DataFrame) -> int:
    """Store one issue of a weather forecast (or of observations); the same issue again replaces it.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id, provider : str
        Site, and who said it.
    issued_at : datetime
        When it became available.
    frame : pl.DataFrame
        time and the columns of `WEATHER_COLUMNS` (W/m2, degree C, m/s, %); those left out are null.

    Returns
    -------
    int
        Rows that were new or changed.
    """
    return write_weather_issues(
        db, site_id, provider, frame.with_columns(issued_at=pl.lit(utc(issued_at, "issued_at")))
    )


def write_weather_issues(db: TenantStore, site_id: str, provider: str, frame: pl.DataFrame) -> int:
    """Store many issues at once: as `write_weather`, with the column issued_at beside time."""
    what = f"weather of {site_id}"
    rows = conform(frame, {"issued_at": Column("time"), **_COLUMNS}, what).unique(
        subset=["issued_at", "time"], keep="last", maintain_order=True
    )
    with db.begin() as connection:
        require_site(connection, site_id)
        return staged_insert(
            connection,
            "weather",
            rows.select(pl.lit(site_id).alias("site_id"), pl.lit(provider).alias("provider"), pl.all()),
            "ON CONFLICT (tenant_id, site_id, issued_at, provider, time) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in WEATHER_COLUMNS),
        )


def read_weather(
    db: TenantStore, site_id: str, start: datetime, end: datetime, known_at: datetime | None = None
) -> pl.DataFrame:
    """The newest known weather for each instant with start <= time < end.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    start, end : datetime
        Period of validity.
    known_at : datetime, optional
        Leave out what was issued later (default: take the newest there is).

    Returns
    -------
    pl.DataFrame
        time, the weather columns, issued_at, provider.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT ON (time) time, shortwave_radiation_w_m2, temperature_2m_c, wind_speed_10m_ms, "
            "wind_speed_100m_ms, cloud_cover_pct, issued_at, provider FROM weather "
            "WHERE site_id = %s AND time >= %s AND time < %s AND issued_at <= coalesce(%s, 'infinity'::timestamptz) "
            "ORDER BY time, issued_at DESC, provider",
            (site_id, first, last, utc(known_at, "known_at") if known_at else None),
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)


def read_weather_as_issued(
    db: TenantStore, site_id: str, start: datetime, end: datetime, lead_hours_min: float = 0
) -> pl.DataFrame:
    """Weather as a forecaster knew it `lead_hours_min` hours or more ahead: for training without hindsight.

    For each instant, the newest issue that was at least `lead_hours_min` old at that instant.

    Returns
    -------
    pl.DataFrame
        time, the weather columns, issued_at, provider.
    """
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT ON (time) time, shortwave_radiation_w_m2, temperature_2m_c, wind_speed_10m_ms, "
            "wind_speed_100m_ms, cloud_cover_pct, issued_at, provider FROM weather "
            "WHERE site_id = %s AND time >= %s AND time < %s AND issued_at <= time - %s::interval "
            "ORDER BY time, issued_at DESC, provider",
            (site_id, first, last, timedelta(hours=lead_hours_min)),
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)


def read_weather_issues(
    db: TenantStore, site_id: str, first: datetime, last: datetime, spacing: timedelta
) -> pl.DataFrame:
    """Whole forecasts as they were issued, thinned: of the issues in each span of `spacing` the newest.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    first, last : datetime
        first < issued_at <= last.
    spacing : timedelta
        Length of the spans.

    Returns
    -------
    pl.DataFrame
        time, issued_at, the weather columns; what archives say is left out.
    """
    begin, end = period(first, last)
    with db.begin() as connection:
        require_site(connection, site_id)
        # In two steps: on tables that were just filled, the planner would join them in the worst of all ways.
        issues = (
            connection.exec_driver_sql(
                "SELECT max(issued_at) FROM weather WHERE site_id = %s AND issued_at > %s AND issued_at <= %s "
                "AND provider NOT LIKE %s GROUP BY date_bin(%s, issued_at, timestamptz '1970-01-01 00:00+00')",
                (site_id, begin, end, f"%{ARCHIVE}", spacing),
            )
            .scalars()
            .all()
        )
        rows = connection.exec_driver_sql(
            "SELECT time, issued_at, shortwave_radiation_w_m2, temperature_2m_c, wind_speed_10m_ms, "
            "wind_speed_100m_ms, cloud_cover_pct FROM weather WHERE site_id = %s AND issued_at = ANY(%s) "
            "AND provider NOT LIKE %s ORDER BY issued_at, time, provider",
            (site_id, list(issues), f"%{ARCHIVE}"),
        ).all()
    schema = {"time": TIME, "issued_at": TIME, **dict.fromkeys(WEATHER_COLUMNS, pl.Float64)}
    return frame_of([tuple(row) for row in rows], schema).unique(
        ["issued_at", "time"], keep="first", maintain_order=True
    )


def read_weather_archive(db: TenantStore, site_id: str, start: datetime, end: datetime) -> pl.DataFrame:
    """What the weather was by the archives of the providers, for start <= time < end: time and the weather columns."""
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT ON (time) time, shortwave_radiation_w_m2, temperature_2m_c, wind_speed_10m_ms, "
            "wind_speed_100m_ms, cloud_cover_pct FROM weather WHERE site_id = %s AND time >= %s "
            "AND time < %s AND provider LIKE %s ORDER BY time, issued_at DESC, provider",
            (site_id, first, last, f"%{ARCHIVE}"),
        ).all()
    return frame_of([tuple(row) for row in rows], {"time": TIME, **dict.fromkeys(WEATHER_COLUMNS, pl.Float64)})
