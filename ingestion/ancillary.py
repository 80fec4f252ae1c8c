"""Prices of ancillary services from the market service, where a site offers services at the market's price."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from ingestion.market import URL_VARIABLE, MarketError
from ingestion.weather.transport import RetryRules, TransportError, get_json

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

ALARM_CODE = "ancillary_prices_failed"
PATH = "/market/ancillary"
HIGHEST_EUR_PER_MW_H, HIGHEST_EUR_PER_MWH = 10_000.0, 99_999.0
"""Highest believable prices of power held, and of energy given (balancing energy in Europe is capped there)."""


class _Price(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    product: Literal["fcr", "afrr", "mfrr", "capacity", "congestion", "reactive", "demand_response"]
    direction: Literal["up", "down", "both"]
    start: AwareDatetime
    resolution_minutes: Annotated[int, Field(ge=5, le=1440, strict=True)]
    capacity_price: Annotated[float, Field(ge=0, le=HIGHEST_EUR_PER_MW_H, strict=True)] | None = None
    activation_price: Annotated[float, Field(ge=-HIGHEST_EUR_PER_MWH, le=HIGHEST_EUR_PER_MWH, strict=True)] | None = (
        None
    )


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    area: str
    capacity_unit: Literal["EUR/MW/h"]
    activation_unit: Literal["EUR/MWh"]
    published_at: AwareDatetime | None = None
    prices: Annotated[list[_Price], Field(max_length=40_000)]


def parse_ancillary(body: Any, area: str) -> tuple[pl.DataFrame, datetime | None]:
    """Turn an answer into rows as the store takes them, and its publication time.

    Raises
    ------
    MarketError
        When a field is missing or wrong, or the answer is for another area.
    """
    try:
        answer = _Answer.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "answer"
        raise MarketError(f"ancillary prices: {place}: {first['msg']}, got {first['input']!r:.80}") from error
    if answer.area != area:
        raise MarketError(f"ancillary prices: answered for area {answer.area!r}, asked for {area!r}")
    rows = [
        {
            "product": one.product,
            "direction": one.direction,
            "time": one.start.astimezone(UTC),
            "resolution_minutes": one.resolution_minutes,
            "capacity_price_eur_per_kw_h": None if one.capacity_price is None else one.capacity_price / 1000.0,
            "activation_price_eur_per_kwh": None if one.activation_price is None else one.activation_price / 1000.0,
        }
        for one in answer.prices
    ]
    schema = {
        "product": pl.String,
        "direction": pl.String,
        "time": pl.Datetime("us", "UTC"),
        "resolution_minutes": pl.Int64,
        "capacity_price_eur_per_kw_h": pl.Float64,
        "activation_price_eur_per_kwh": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema), answer.published_at


def fetch_ancillary(
    db: TenantStore, site_id: str, now: datetime, base_url: str | None, rules: RetryRules | None = None
) -> int | None:
    """Acquire the prices of the services that a site offers at the market's price, today and tomorrow, and store them.

    Parameters
    ----------
    db : TenantStore
    site_id : str
        Site whose market area is asked for.
    now : datetime
        Time of asking, aware.
    base_url : str or None
        Address of the market service; None when none is configured.
    rules : RetryRules, optional
        Attempts and time limits.

    Returns
    -------
    int or None
        Prices that are new; None where the site offers nothing at the market's price, so that nothing was asked.

    Raises
    ------
    MarketError
        When there is no service, its answer is unusable, or it has no price of a product that is offered; an alarm is
        active until the next good answer.
    """
    from flexergy_pipelines.optimization.settings import read_settings
    from flexergy_pipelines.store.alarms import clear_alarm, raise_alarm
    from flexergy_pipelines.store.ancillary import write_ancillary_prices
    from flexergy_pipelines.store.sites import load_site

    offered = {one.product for one in read_settings(db, site_id).services if one.price_source == "market"}
    if not offered:
        clear_alarm(db, site_id, ALARM_CODE)
        return None
    site = load_site(db, site_id)
    midnight = now.astimezone(site.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        frame, published = _ask(base_url, site.tariff.market_area, midnight, rules or RetryRules())
        ahead = frame.filter(pl.col("time") + pl.duration(minutes=pl.col("resolution_minutes")) > now)
        missing = sorted(offered - set(ahead["product"].to_list()))
        if missing:
            raise MarketError(f"ancillary prices: none of {', '.join(missing)} for now or later came")
    except MarketError as error:
        raise_alarm(db, site_id, ALARM_CODE, 3, f"prices of services not updated: {error}")
        raise
    # A price was known at the latest when it was read; a publication time in the future is the service's mistake.
    stored = write_ancillary_prices(db, site_id, frame, min(published or now, now))
    clear_alarm(db, site_id, ALARM_CODE)
    return stored


def _ask(
    base_url: str | None, area: str | None, midnight: datetime, rules: RetryRules
) -> tuple[pl.DataFrame, datetime | None]:
    if base_url is None:
        raise MarketError(f"no market service is configured; set {URL_VARIABLE}")
    if not area:
        raise MarketError("the site's tariff names no market_area")
    end = midnight + timedelta(days=2)
    params = {"area": area, "start": midnight.astimezone(UTC).isoformat(), "end": end.astimezone(UTC).isoformat()}
    try:
        body = get_json(f"{base_url.rstrip('/')}{PATH}", params, rules)
    except TransportError as error:
        raise MarketError(f"ancillary prices: {error}") from error
    return parse_ancillary(body, area)
