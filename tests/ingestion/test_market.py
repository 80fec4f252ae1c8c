"""Day-ahead prices over real HTTP into the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flexergy_pipelines.grid import Site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.prices import read_prices
from ingestion.market import MarketError, fetch_prices, parse_prices
from ingestion.weather.transport import RetryRules
from tests.ingestion.answers import as_json, prices_body, serving, status

NOW = datetime(2026, 10, 24, 13, 0, tzinfo=UTC)
ONCE = RetryRules(attempts=1)


def test_prices_are_stored_in_euro_per_kwh_with_the_time_they_were_known(db: TenantStore, site: Site) -> None:
    asked: list[dict[str, str]] = []

    def answer(query: dict[str, str]) -> Any:
        asked.append(query)
        return as_json(prices_body(datetime.fromisoformat(query["start"]), 73))

    with serving(answer) as service:
        result = fetch_prices(db, site.id, NOW, service.url, ONCE)
    # 24 and 26 October are 24 hours long in Amsterdam, 25 October 2026 has 25.
    start, end = (datetime.fromisoformat(asked[0][name]) for name in ("start", "end"))
    assert end - start == timedelta(hours=73)
    stored = read_prices(db, site.id, start, end)
    assert stored.height == 73
    assert stored["price_eur_per_kwh"][5] == pytest.approx(0.03)
    assert set(stored["known_at"].to_list()) == {start + timedelta(hours=1)}
    assert result.reaches == end


def test_no_answer_raises_an_alarm_that_the_next_answer_clears(db: TenantStore, site: Site) -> None:
    with serving(
        status(500), lambda query: as_json(prices_body(datetime.fromisoformat(query["start"]), 48))
    ) as service:
        with pytest.raises(MarketError, match="HTTP 500"):
            fetch_prices(db, site.id, NOW, service.url, ONCE)
        assert list_alarms(db, site.id)["code"].to_list() == ["market_prices_failed"]
        fetch_prices(db, site.id, NOW, service.url, ONCE)
    assert list_alarms(db, site.id).is_empty()


def test_prices_of_the_past_only_are_no_answer(db: TenantStore, site: Site) -> None:
    with (
        serving(lambda query: as_json(prices_body(datetime.fromisoformat(query["start"]), 20))) as service,
        pytest.raises(MarketError, match="no price of today"),
    ):
        fetch_prices(db, site.id, NOW, service.url, ONCE)


def test_without_a_service_the_message_names_the_setting(db: TenantStore, site: Site) -> None:
    with pytest.raises(MarketError, match="FLEXERGY_MARKET_URL"):
        fetch_prices(db, site.id, NOW, None, ONCE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "GBP/MWh"}, "unit: .*'GBP/MWh'"),
        ({"resolution_minutes": 45}, "resolution_minutes"),
        ({"area": "DE"}, "answered for area 'DE', asked for 'NL'"),
        ({"prices": [{"start": "2026-10-24T00:00", "price": 1.0}]}, "has no time zone"),
        ({"prices": [{"start": "noon", "price": 1.0}]}, "'noon' is not ISO 8601"),
        ({"prices": [{"start": "2026-10-24T00:00Z", "price": True}]}, r"prices.0.price"),
        ({"prices": [{"start": "2026-10-24T00:00Z", "price": 90000.0}]}, r"prices.0.price: .* 90000"),
        ({"prices": [{"start": "2026-10-24T00:00Z", "price": 1.0}] * 2}, "two prices 0:00:00 apart"),
        ({"prices": None}, "prices"),
    ],
)
def test_a_changed_answer_is_refused_with_the_field_that_changed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MarketError, match=message):
        parse_prices(prices_body(NOW, 3) | change, "NL")


def test_negative_prices_are_prices() -> None:
    frame, _ = parse_prices(prices_body(NOW, 3), "NL")
    assert frame["price_eur_per_kwh"][0] == pytest.approx(-0.02)
