"""Ancillary services at the market: prices as they were known, sales once each, and a new plan when either changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.ancillary import (
    Transaction,
    read_ancillary_prices,
    read_transactions,
    write_ancillary_prices,
    write_transactions,
)
from flexergy_pipelines.store.commands import close_replan, pending_replans
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.sites import save_site

T0 = datetime(2026, 5, 4, tzinfo=UTC)


def microgrid_in(db: TenantStore) -> str:
    site = sample_site("microgrid")
    save_site(db, site)
    return site.id


def prices(value: float, product: str = "fcr") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "product": product,
            "direction": "both",
            "time": [T0, T0 + timedelta(hours=4)],
            "resolution_minutes": 240,
            "capacity_price_eur_per_kw_h": [value, 0.01],
            "activation_price_eur_per_kwh": [None, 0.09],
        },
        schema_overrides={"time": pl.Datetime("us", "UTC"), "activation_price_eur_per_kwh": pl.Float64},
    )


@pytest.mark.requirement("energy.10.2", "energy.11.2")
def test_prices_are_told_as_they_were_known_and_a_change_asks_for_a_plan(db: TenantStore) -> None:
    site = microgrid_in(db)
    early, late = T0 - timedelta(hours=12), T0 - timedelta(hours=2)
    assert write_ancillary_prices(db, site, prices(0.02), early) == 2
    assert pending_replans(db) == []
    assert write_ancillary_prices(db, site, prices(0.02), late) == 0
    assert write_ancillary_prices(db, site, prices(0.03), late) == 1
    assert [request.reason for request in pending_replans(db)] == ["prices of fcr changed"]
    period = (T0 + timedelta(hours=1), T0 + timedelta(hours=24))
    now, before = read_ancillary_prices(db, site, *period), read_ancillary_prices(db, site, *period, known_at=early)
    assert now["capacity_price_eur_per_kw_h"].to_list() == [0.03, 0.01]
    assert before["capacity_price_eur_per_kw_h"].to_list() == [0.02, 0.01]
    assert now["activation_price_eur_per_kwh"].to_list() == [None, 0.09]
    with pytest.raises(InvalidDataError, match="product 'power' is not one of fcr"):
        write_ancillary_prices(db, site, prices(0.1, "power"), late)


@pytest.mark.requirement("energy.10.3")
def test_a_sale_is_kept_once_and_asks_for_a_plan(db: TenantStore, other_db: TenantStore) -> None:
    site = microgrid_in(db)
    sale = Transaction(
        "regelleistung", "A-17", "fcr", "both", T0, T0 + timedelta(hours=4), 200.0, 0.018, T0 - timedelta(hours=9)
    )
    assert write_transactions(db, site, [sale]) == 1
    requests = pending_replans(db)
    assert [request.reason for request in requests] == ["1 new transaction(s) at the market"]
    close_replan(db, requests[0].id)
    assert write_transactions(db, site, [sale]) == 0
    assert pending_replans(db) == []
    assert read_transactions(db, site, T0 + timedelta(hours=3), T0 + timedelta(hours=9)) == [sale]
    assert read_transactions(db, site, T0 + timedelta(hours=4), T0 + timedelta(hours=9)) == []
    microgrid_in(other_db)
    assert read_transactions(other_db, site, T0, T0 + timedelta(hours=9)) == []
    wrong = Transaction("m", "1", "fcr", "up", T0, T0, 1.0, 0.0, T0)
    with pytest.raises(InvalidDataError, match="transaction 1 of m: ends_at must be after"):
        write_transactions(db, site, [wrong])
