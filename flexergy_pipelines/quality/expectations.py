"""What each source of data is expected to look like: plain values, for whatever tool checks them.

Structure is *blocking* (what does not hold together is not used), content only *warns*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.replay import WEATHER_COLUMNS

Severity = Literal["blocking", "warning"]


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """Allowed values of one column; at least `mostly` of the rows must lie inside."""

    column: str
    minimum: float | None
    maximum: float | None
    mostly: float = 1.0
    severity: Severity = "warning"


@dataclass(frozen=True, slots=True)
class PointExpectation:
    """Allowed values of one point of a site, and how much of a day must be there.

    Attributes
    ----------
    minimum, maximum : float
        From the nameplate [unit of the point].
    least_coverage : float
        Share of a day's intervals with a measured value below which a warning is due.
    """

    asset_id: str
    quantity: str
    minimum: float
    maximum: float
    least_coverage: float = 0.9
    severity: Severity = "warning"


@dataclass(frozen=True, slots=True)
class SourceExpectations:
    """Expectations of one source.

    Attributes
    ----------
    columns : tuple of str
        Columns that must be there (blocking).
    unique : tuple of str
        Columns whose combination is unique (blocking).
    not_null : tuple of str
        Columns without missing values (blocking).
    ranges : tuple of ColumnRange
        Ranges of values.
    largest_gap_minutes, oldest_minutes : float or None
        Longest step between neighbouring times, and oldest newest value, before a warning is due.
    """

    source: str
    columns: tuple[str, ...]
    unique: tuple[str, ...] = ()
    not_null: tuple[str, ...] = ()
    ranges: tuple[ColumnRange, ...] = ()
    points: tuple[PointExpectation, ...] = ()
    largest_gap_minutes: float | None = None
    oldest_minutes: float | None = None


# Physical limits of weather near the ground in Europe, generous enough for any day on record.
_WEATHER_RANGES: dict[str, tuple[float, float]] = {
    "shortwave_radiation_w_m2": (0.0, 1400.0),
    "temperature_2m_c": (-50.0, 55.0),
    "wind_speed_10m_ms": (0.0, 60.0),
    "wind_speed_100m_ms": (0.0, 90.0),
    "cloud_cover_pct": (0.0, 100.0),
}


def raw_readings(site: Site) -> SourceExpectations:
    """Readings as they came in."""
    return SourceExpectations(
        source="raw_meter_readings",
        columns=("asset_id", "quantity", "time", "value", "quality"),
        unique=("asset_id", "quantity", "time"),
        not_null=("asset_id", "quantity", "time", "quality"),
        ranges=(ColumnRange("quality", 0, 4, severity="blocking"),),
        points=tuple(
            PointExpectation(p.asset_id, p.quantity, p.minimum, p.maximum) for p in site.points() if not p.writable
        ),
        largest_gap_minutes=60.0,
        oldest_minutes=30.0,
    )


def clean_readings(site: Site) -> SourceExpectations:
    """The clean 15-minute series."""
    return SourceExpectations(
        source="clean_readings",
        columns=("asset_id", "quantity", "time", "value", "flag", "uncertainty"),
        unique=("asset_id", "quantity", "time"),
        not_null=("asset_id", "quantity", "time"),
        ranges=(ColumnRange("uncertainty", 0.0, None, severity="blocking"),),
        points=tuple(
            PointExpectation(p.asset_id, p.quantity, p.minimum, p.maximum, least_coverage=0.8, severity="blocking")
            for p in site.points()
            if not p.writable
        ),
        largest_gap_minutes=15.0,
    )


def weather(site: Site) -> SourceExpectations:
    """Weather forecasts as issued."""
    return SourceExpectations(
        source="weather",
        columns=("time", *WEATHER_COLUMNS, "issued_at"),
        unique=("time", "issued_at"),
        not_null=("time", "issued_at"),
        ranges=tuple(ColumnRange(name, *_WEATHER_RANGES[name]) for name in WEATHER_COLUMNS),
        largest_gap_minutes=float(site.forecasts.weather_granularity_minutes),
        oldest_minutes=2.0 * site.forecasts.weather_period_minutes,
    )


def day_ahead_prices(site: Site) -> SourceExpectations:
    """Day-ahead prices; the limits are those of the European auction (-500 to 4000 EUR/MWh) with room for its rises."""
    del site  # one market rule for all sites
    return SourceExpectations(
        source="day_ahead_prices",
        columns=("time", "price_eur_per_kwh", "known_at"),
        unique=("time", "known_at"),
        not_null=("time", "price_eur_per_kwh", "known_at"),
        ranges=(
            ColumnRange("price_eur_per_kwh", -0.5, 6.0, severity="blocking"),
            ColumnRange("price_eur_per_kwh", -0.2, 1.0, mostly=0.99),
        ),
        largest_gap_minutes=60.0,
    )


def expectations_of(site: Site) -> tuple[SourceExpectations, ...]:
    """Expectations of every source of a site."""
    return (raw_readings(site), clean_readings(site), weather(site), day_ahead_prices(site))
