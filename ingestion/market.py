"""Day-ahead prices from a market service, in EUR/kWh, with the time from which they were known."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flexergy_pipelines.settings import Settings, read_endpoints
from ingestion.weather.transport import RetryRules, TransportError, get_json

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

ALARM_CODE = "market_prices_failed"
URL_VARIABLE = "FLEXERGY_MARKET_URL"
LOWEST_EUR_PER_MWH, HIGHEST_EUR_PER_MWH = -1000.0, 10_000.0
"""Wider than the harmonised limits of the European day-ahead auction (−500 and 4000 EUR/MWh, 2025)."""


class MarketError(Exception):
    """The market gave no usable prices; the message says why."""


class _Price(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    start: str
    price: Annotated[float, Field(ge=LOWEST_EUR_PER_MWH, le=HIGHEST_EUR_PER_MWH)]


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    area: str
    resolution_minutes: Literal[15, 30, 60]
    unit: Literal["EUR/MWh"]
    published_at: str | None = None
    prices: Annotated[list[_Price], Field(max_length=40_000)]


@dataclass(frozen=True, slots=True)
class PriceResult:
    """What one acquisition brought: the rows stored, and how far they reach."""

    frame: pl.DataFrame
    known_at: datetime
    reaches: datetime | None


def market_url(settings: Settings) -> str | None:
    """Address of the market service: FLEXERGY_MARKET_URL, else the running simulator's, else none."""
    return os.environ.get(URL_VARIABLE) or read_endpoints(settings).get("market")


def parse_prices(body: Any, area: str) -> tuple[pl.DataFrame, datetime | None]:
    """Turn an answer into rows ``time, price_eur_per_kwh, resolution_minutes`` and its publication time.

    Raises
    ------
    MarketError
        When a field is missing or of another type, area or unit, a price is outside the limits, or intervals overlap.
    """
    try:
        answer = _Answer.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "answer"
        raise MarketError(f"market: unexpected answer: {place}: {first['msg']}, got {first['input']!r:.80}") from error
    if answer.area != area:
        raise MarketError(f"market: answered for area {answer.area!r}, asked for {area!r}")
    frame = (
        pl.DataFrame(
            {
                "time": [_instant(row.start) for row in answer.prices],
                "price_eur_per_kwh": [row.price / 1000.0 for row in answer.prices],
            },
            schema={"time": pl.Datetime("us", "UTC"), "price_eur_per_kwh": pl.Float64},
        )
        .with_columns(pl.lit(answer.resolution_minutes, dtype=pl.Int32).alias("resolution_minutes"))
        .sort("time")
    )
    gaps = frame["time"].diff().drop_nulls()
    shortest = gaps.min()
    if isinstance(shortest, timedelta) and shortest < timedelta(minutes=answer.resolution_minutes):
        raise MarketError(f"market: two prices {shortest} apart at {answer.resolution_minutes} min resolution")
    return frame, _instant(answer.published_at) if answer.published_at else None


def fetch_prices(
    db: TenantStore,
    site_id: str,
    now: datetime,
    base_url: str | None,
    rules: RetryRules | None = None,
) -> PriceResult:
    """Acquire the day-ahead prices of a site's market area, from yesterday to the end of tomorrow, and store them.

    Parameters
    ----------
    db : TenantStore
        Where the site, the prices and the alarms are.
    site_id : str
        Site whose market area is asked for.
    now : datetime
        Time of asking, aware.
    base_url : str or None
        Address of the market service; None when none is configured.
    rules : RetryRules, optional
        Attempts and time limits.

    Raises
    ------
    MarketError
        When there is no service, or its answer is unusable; an alarm is active until the next good answer.
    """
    from flexergy_pipelines.store.alarms import clear_alarm, raise_alarm
    from flexergy_pipelines.store.prices import write_prices
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    local_midnight = now.astimezone(site.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = local_midnight - timedelta(days=1), local_midnight + timedelta(days=2)
    try:
        frame, published = _ask(base_url, site.tariff.market_area, start, end, rules or RetryRules())
        if frame.filter(pl.col("time") >= local_midnight.astimezone(UTC)).is_empty():
            raise MarketError(f"market: no price of today ({local_midnight:%Y-%m-%d}) or later came")
    except MarketError as error:
        raise_alarm(db, site_id, ALARM_CODE, 3, f"day-ahead prices not updated: {error}")
        raise
    # A price was known at the latest when it was read; a publication time in the future is the service's mistake.
    known_at = min(published or now, now)
    write_prices(db, site_id, "day_ahead", frame, known_at)
    clear_alarm(db, site_id, ALARM_CODE)
    return PriceResult(frame, known_at, _reach(frame))


def _ask(
    base_url: str | None, area: str | None, start: datetime, end: datetime, rules: RetryRules
) -> tuple[pl.DataFrame, datetime | None]:
    if base_url is None:
        raise MarketError(f"no market service is configured; set {URL_VARIABLE}")
    if not area:
        raise MarketError("the site's tariff names no market_area")
    params = {
        "area": area,
        "start": start.astimezone(UTC).isoformat(),
        "end": end.astimezone(UTC).isoformat(),
    }
    try:
        body = get_json(f"{base_url.rstrip('/')}/market/day-ahead", params, rules)
    except TransportError as error:
        raise MarketError(f"market: {error}") from error
    return parse_prices(body, area)


def _reach(frame: pl.DataFrame) -> datetime | None:
    if frame.is_empty():
        return None
    start, minutes = frame.select("time", "resolution_minutes").row(-1)
    return start + timedelta(minutes=minutes)


def _instant(text: str) -> datetime:
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError as error:
        raise MarketError(f"market: time {text!r} is not ISO 8601") from error
    if stamp.tzinfo is None:
        raise MarketError(f"market: time {text!r} has no time zone")
    return stamp.astimezone(UTC)


__all__: Sequence[str] = ["MarketError", "PriceResult", "fetch_prices", "market_url", "parse_prices"]
