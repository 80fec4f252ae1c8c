"""A day-ahead market that publishes its prices as a real one does: the next day's at a quarter to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol

import polars as pl

from flexergy_pipelines.grid import Site
from plant_simulator.weather_api import BadQueryError

PUBLISHED_AT_LOCAL = time(12, 45)
"""Results of the European day-ahead auction are out by 12:45 local time the day before."""

BLOCK_HOURS = 4
SERVICES = (
    ("fcr", "both", 8.0, 0.1, 0.0),
    ("afrr", "up", 5.0, 0.15, 60.0),
    ("afrr", "down", 4.0, 0.15, 60.0),
    ("mfrr", "up", 2.0, 0.1, 90.0),
    ("mfrr", "down", 2.0, 0.1, 90.0),
)
"""Product, direction, least price of holding [EUR/MW/h], share of the price's distance, spread of energy [EUR/MWh]."""


class PriceSource(Protocol):
    """Prices of one replayed site's market area."""

    def price(self, start: datetime, end: datetime, /) -> pl.DataFrame:
        """Hourly prices [EUR/MWh]."""
        ...


def publication_of(day: date, site: Site) -> datetime:
    """When the prices of a local day become known (UTC)."""
    return datetime.combine(day - timedelta(days=1), PUBLISHED_AT_LOCAL, site.zone).astimezone(UTC)


def day_ahead(query: Mapping[str, str], places: Sequence[tuple[Site, PriceSource]], now: datetime) -> dict[str, Any]:
    """Answer a query for day-ahead prices; what is not published yet is left out.

    Parameters
    ----------
    query : Mapping
        `area`, `start` and `end` (ISO times; default today to the end of what is known).
    places : sequence of (Site, PriceSource)
        The simulated sites; the first in the area speaks for its market.
    now : datetime
        Present time.

    Raises
    ------
    BadQueryError
        Unknown area, bad times, or an end that is not after the start.
    """
    areas = {site.tariff.market_area: (site, source) for site, source in reversed(places)}
    area = query.get("area", next(iter(areas)))
    if area not in areas:
        raise BadQueryError(f"area '{area}' is unknown; known: {', '.join(sorted(areas))}")
    site, source = areas[area]
    today = now.astimezone(site.zone).date()
    last_day = today + timedelta(days=1) if now >= publication_of(today + timedelta(days=1), site) else today
    known_until = datetime.combine(last_day + timedelta(days=1), time(), site.zone).astimezone(UTC)
    start = _instant(query, "start", datetime.combine(today, time(), site.zone).astimezone(UTC))
    end = min(_instant(query, "end", known_until), known_until)
    if "start" in query and "end" in query and _instant(query, "end", known_until) <= start:
        raise BadQueryError(f"end {query['end']} is not after start {query['start']}")
    prices = [] if end <= start else _rows(source.price(start, end))
    return {
        "area": area,
        "resolution_minutes": 60,
        "unit": "EUR/MWh",
        "published_at": publication_of(last_day, site).isoformat(),
        "prices": prices,
    }


def ancillary(query: Mapping[str, str], places: Sequence[tuple[Site, PriceSource]], now: datetime) -> dict[str, Any]:
    """Answer a query for prices of balancing services in blocks of four hours; arguments as of `day_ahead`.

    No replayed market has them, so they follow from the day-ahead prices: holding power costs a share of how far the
    block's mean price lies from that of all blocks told, which is what a storage that holds it forgoes.
    """
    told = day_ahead(query, places, now)
    blocks: dict[datetime, list[float]] = {}
    zone = next(site for site, _ in places if site.tariff.market_area == told["area"]).zone
    for row in told["prices"]:
        local = datetime.fromisoformat(row["start"]).astimezone(zone)
        begins = local.replace(hour=local.hour // BLOCK_HOURS * BLOCK_HOURS, minute=0, second=0, microsecond=0)
        blocks.setdefault(begins.astimezone(UTC), []).append(row["price"])
    means = {start: sum(prices) / len(prices) for start, prices in blocks.items()}
    level = sum(means.values()) / len(means) if means else 0.0
    rows = [
        {
            "product": product,
            "direction": direction,
            "start": start.isoformat(),
            "resolution_minutes": BLOCK_HOURS * 60,
            "capacity_price": round(base + share * abs(mean - level), 2),
            "activation_price": None
            if product == "fcr"
            else round(mean + (spread if direction == "up" else -spread), 2),
        }
        for start, mean in sorted(means.items())
        for product, direction, base, share, spread in SERVICES
    ]
    return {
        "area": told["area"],
        "capacity_unit": "EUR/MW/h",
        "activation_unit": "EUR/MWh",
        "published_at": told["published_at"],
        "prices": rows,
    }


def _instant(query: Mapping[str, str], name: str, default: datetime) -> datetime:
    if name not in query:
        return default
    # A "+" of the offset arrives as a space when the client did not escape it.
    text = query[name].replace(" ", "+")
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise BadQueryError(f"{name} '{query[name]}' is not an ISO time") from None
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    value = next(name for name in frame.columns if name != "time")
    return [{"start": t.isoformat(), "price": p} for t, p in frame.select("time", value).sort("time").iter_rows()]
