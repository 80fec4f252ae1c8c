"""Prices of services from the market service into the store, asked for where they are needed, missed with an alarm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from flexergy_pipelines.grid import Site
from flexergy_pipelines.optimization.settings import PlanningSettings, ServiceOffer, save_settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.ancillary import read_ancillary_prices
from ingestion.ancillary import fetch_ancillary, parse_ancillary
from ingestion.market import MarketError
from ingestion.weather.transport import RetryRules
from plant_simulator.market_api import ancillary
from tests.ingestion.answers import as_json, serving, status

NOW = datetime(2026, 10, 24, 13, 0, tzinfo=UTC)
ONCE = RetryRules(attempts=1)


class Prices:
    """Dear from 16:00 to 20:00 UTC, cheap else."""

    def price(self, start: datetime, end: datetime) -> pl.DataFrame:
        hours = [start + timedelta(hours=k) for k in range(int((end - start) / timedelta(hours=1)))]
        return pl.DataFrame({"time": hours, "price": [200.0 if 16 <= hour.hour < 20 else 50.0 for hour in hours]})


@pytest.mark.requirement("energy.10.2")
def test_prices_of_offered_services_come_from_the_market_and_their_lack_is_an_alarm(
    db: TenantStore, site: Site
) -> None:
    def answer(query: dict[str, str]) -> Any:
        return as_json(ancillary(query, [(site, Prices())], NOW))

    assert fetch_ancillary(db, site.id, NOW, None, ONCE) is None  # nothing is offered, nobody is asked
    offers = (ServiceOffer(id="a", product="afrr"), ServiceOffer(id="f", product="fcr"))
    save_settings(db, site.id, PlanningSettings(services=offers), user="olga")
    with serving(status(500), answer) as service:
        with pytest.raises(MarketError, match="HTTP 500"):
            fetch_ancillary(db, site.id, NOW, service.url, ONCE)
        assert list_alarms(db, site.id)["code"].to_list() == ["ancillary_prices_failed"]
        stored = fetch_ancillary(db, site.id, NOW, service.url, ONCE)
    assert stored
    assert list_alarms(db, site.id).is_empty()
    prices = read_ancillary_prices(db, site.id, NOW, NOW + timedelta(hours=12))
    up = prices.filter((pl.col("product") == "afrr") & (pl.col("direction") == "up")).sort("time")
    assert up["resolution_minutes"].unique().to_list() == [240]
    held = up["capacity_price_eur_per_kw_h"].to_list()
    assert 0.005 <= min(held) < max(held) < 0.05
    assert prices["known_at"].max() <= NOW  # type: ignore[operator]
    only = (ServiceOffer(id="c", product="congestion"),)
    save_settings(db, site.id, PlanningSettings(services=only), user="olga")
    with serving(answer) as service, pytest.raises(MarketError, match="none of congestion for now or later came"):
        fetch_ancillary(db, site.id, NOW, service.url, ONCE)
    fixed = (only[0].model_copy(update={"price_source": "fixed", "price_eur_per_kw_h": 0.1}),)
    save_settings(db, site.id, PlanningSettings(services=fixed), user="olga")
    assert fetch_ancillary(db, site.id, NOW, None, ONCE) is None
    assert list_alarms(db, site.id).is_empty()


def test_an_unusable_answer_is_refused_by_field() -> None:
    row = {"product": "fcr", "direction": "both", "start": NOW.isoformat(), "resolution_minutes": 240,
           "capacity_price": 9.0, "activation_price": None}  # fmt: skip
    body = {"area": "NL", "capacity_unit": "EUR/MW/h", "activation_unit": "EUR/MWh", "prices": [row]}
    frame, published = parse_ancillary(body, "NL")
    assert (frame["capacity_price_eur_per_kw_h"].to_list(), published) == ([0.009], None)
    for changed, message in (
        ({**body, "capacity_unit": "EUR/MW"}, "capacity_unit"),
        ({**body, "prices": [{**row, "product": "magic"}]}, r"prices\.0\.product"),
        ({**body, "prices": [{**row, "capacity_price": float("nan")}]}, r"prices\.0\.capacity_price"),
        ({**body, "prices": [{**row, "capacity_price": -1.0}]}, r"prices\.0\.capacity_price"),
        ({**body, "prices": [{**row, "start": "2026-10-24T13:00:00"}]}, r"prices\.0\.start"),
        ([], "answer"),
    ):
        with pytest.raises(MarketError, match=message):
            parse_ancillary(changed, "NL")
    with pytest.raises(MarketError, match="asked for 'DE'"):
        parse_ancillary(body, "DE")
