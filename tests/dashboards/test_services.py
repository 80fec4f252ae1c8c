"""An operator sets what the site offers at the markets, with confirmation, and everybody can see who did."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.views.services import offer_from, offer_sentence, offer_table, with_offer, without_offer
from flexergy_pipelines.optimization.errors import ProblemError
from flexergy_pipelines.optimization.settings import (
    Function,
    PlanningSettings,
    ServiceOffer,
    read_settings,
    save_settings,
)
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.commands import pending_replans
from flexergy_pipelines.store.events import list_events
from tests.dashboards.seeding import seed_site
from tests.dashboards.test_pages import open_page, words  # noqa: F401 - the fixture

Open = Callable[..., AppTest]
FORM = {
    "id": "fcr-night", "product": "fcr", "direction": "symmetric", "providers": ["ess-1"], "max_bid_kw": 100.0,
    "block_hours": 4.0, "price_source": "fixed", "price_eur_per_mw_h": 12.5, "min_bid_kw": 10.0, "bid_step_kw": 5.0,
    "duration_minutes": 30, "gate_hours": 16.0, "excludes": [],
}  # fmt: skip


def confirm(page: AppTest) -> None:
    next(box for box in page.checkbox if box.label.startswith("Yes, offer it with")).check().run()


@pytest.mark.requirement("energy.15.3", "energy.16.3")
def test_a_service_is_set_with_confirmation_logged_and_taken_back(open_page: Open, db: TenantStore) -> None:  # noqa: F811
    seed_site(db)
    save_settings(db, "microgrid", PlanningSettings(functions=(Function(name="reserve"),)), user="anna")
    page = open_page("operation")
    assert "No service is offered" in words(page)
    page.text_input(key="service_new_id").input("fcr-night").run()
    assert page.button(key="service_new_go").disabled
    page.number_input(key="service_new_most").set_value(100_000.0).run()
    confirm(page)
    page.button(key="service_new_go").click().run()
    assert any("max_bid_kw 100000 is above the 250 kW of ess-1" in error.value for error in page.error)
    assert read_settings(db, "microgrid").services == ()

    page.number_input(key="service_new_most").set_value(120.0)
    page.selectbox(key="service_new_blocks").set_value(1.0)
    page.selectbox(key="service_new_source").set_value("fixed").run()
    page.number_input(key="service_new_price").set_value(18.0).run()
    assert "up to 120.0 kW" in words(page)
    assert page.button(key="service_new_go").disabled  # other terms were confirmed
    confirm(page)
    page.button(key="service_new_go").click().run()
    kept = read_settings(db, "microgrid")
    [offer] = kept.services
    assert (offer.id, offer.product, offer.max_bid_kw, offer.block_minutes) == ("fcr-night", "fcr", 120.0, 60)
    assert (offer.price_source, offer.providers) == ("fixed", ("ess-1",))
    assert offer.price_eur_per_kw_h == pytest.approx(0.018)
    assert [one.name for one in kept.functions] == ["reserve"]  # what others set stays
    now = datetime.now(UTC)
    event = list_events(db, now - timedelta(minutes=5), now, kind="planning_settings_changed").row(-1, named=True)
    assert event["actor"] == "olga"
    assert json.loads(event["detail"])["services"][0]["id"] == "fcr-night"
    assert "planning settings changed by olga" in {request.reason for request in pending_replans(db)}

    page = open_page("operation")
    assert "18 EUR/MW·h, set" in words(page)
    page.checkbox(key="service_back_sure").check().run()
    page.button(key="service_back_go").click().run()
    assert read_settings(db, "microgrid").services == ()


def test_what_the_form_says_is_checked_by_name() -> None:
    offer = offer_from(FORM)
    assert (offer.block_minutes, offer.gate_closes_minutes, offer.symmetric) == (240, 960, True)
    for field, value, message in (
        ("id", "no spaces", "name 'no spaces'"),
        ("id", "", "name ''"),
        ("max_bid_kw", 0.0, "largest quantity 0.0 kW must be above 0"),
        ("max_bid_kw", 4.0, "max_bid_kw 4 is below the least bid 10"),
        ("price_eur_per_mw_h", 0.0, "price_eur_per_kw_h must be above 0 where the price is fixed"),
        ("min_bid_kw", -1.0, "min_bid_kw"),
        ("duration_minutes", 2000, "duration_minutes"),
        ("gate_hours", 100.0, "gate_closes_minutes"),
        ("max_bid_kw", float("nan"), "max_bid_kw"),
    ):
        with pytest.raises(ProblemError, match=message):
            offer_from({**FORM, field: value})


def test_the_table_says_the_terms_and_offers_are_put_in_and_out() -> None:
    offer = offer_from(FORM)
    other = ServiceOffer(id="afrr", product="afrr", down=False, excludes=("fcr-night",))
    row = offer_table([offer]).row(0, named=True)
    assert row["product"] == "FCR, symmetric"
    assert (row["units"], row["at most"], row["blocks"]) == ("ess-1", "100.0 kW", "4 h")
    assert row["price"] == "12 EUR/MW·h, set"
    assert row["terms"] == "lasts 30 min, from 10.0 kW, in steps of 5.0 kW, gate closes 16.0 h before"
    assert offer_table([other]).row(0, named=True)["product"] == "aFRR, up"
    assert "FCR as fcr-night: up to 100.0 kW" in offer_sentence(offer)
    changed = offer.model_copy(update={"max_bid_kw": 50.0})
    both = with_offer(with_offer([offer], other), changed)
    assert [one.max_bid_kw for one in both] == [50.0, None]
    [left] = without_offer(both, "fcr-night")
    assert left.excludes == ()
