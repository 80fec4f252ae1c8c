"""What the plan was worth: nothing for idle storage, everything for a perfect day, and stored beside the indicators."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.optimization import ProblemError
from flexergy_pipelines.optimization.value import StorageDay, account_value, value_of_day
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.kpis_table import read_kpis
from flexergy_pipelines.store.prices import write_prices
from flexergy_pipelines.store.readings import write_readings
from flexergy_pipelines.store.sites import save_site

DAY = date(2026, 6, 10)
START = datetime(2026, 6, 9, 22, 0, tzinfo=UTC)
STEPS = 96
SPOT = np.repeat([0.02, 0.30], 48)
NET = np.full(STEPS, 120.0)
HOURS = 0.25


def run(charge_kw: float, steps: int, discharge_kw: float) -> StorageDay:
    """Charges in the first `steps` quarters of the cheap half and gives in the first ones of the dear half."""
    power = np.zeros(STEPS)
    power[:steps], power[48 : 48 + steps] = -charge_kw, discharge_kw
    return StorageDay(power, 0.3, 0.3)


def test_idle_storage_earned_nothing_and_a_good_day_a_share_of_what_was_possible() -> None:
    site = sample_site("microgrid")
    idle = value_of_day(site, START, NET, SPOT, {"ess-1": run(0, 0, 0)}, peak_so_far_kw=400.0)
    assert idle.earned_eur == pytest.approx(0.0)
    assert idle.possible_eur > 1.0
    assert idle.captured == pytest.approx(0.0)
    some = value_of_day(site, START, NET, SPOT, {"ess-1": run(100.0, 8, 100.0 * 0.95 * 0.95)}, peak_so_far_kw=400.0)
    assert some.captured is not None
    assert 0.2 < some.captured < 1.0
    wrong = value_of_day(site, START, NET, SPOT[::-1], {"ess-1": run(100.0, 8, 90.25)}, peak_so_far_kw=400.0)
    assert wrong.earned_eur < 0
    # A new peak of the month costs what the tariff asks, and the storage that made it is charged with it.
    peaky = value_of_day(site, START, NET, SPOT, {"ess-1": run(100.0, 8, 90.25)}, peak_so_far_kw=150.0)
    assert peaky.earned_eur == pytest.approx(some.earned_eur - 2.5 * (220.0 - 150.0), abs=1e-6)


def test_a_day_that_ends_fuller_is_not_judged_a_loss() -> None:
    site = sample_site("microgrid")
    power = np.where(np.arange(STEPS) < 8, -100.0, 0.0)
    stored = 200.0 * 0.95 / (500.0 * 0.98)
    filled = value_of_day(site, START, NET, np.full(STEPS, 0.1), {"ess-1": StorageDay(power, 0.3, 0.3 + stored)}, 400.0)
    lost = 200.0 * (1 - 0.95 * 0.95) * (0.1 + 0.085)
    assert filled.earned_eur == pytest.approx(-lost, abs=0.01)


def test_the_day_is_judged_from_the_store_once_it_is_over(db: TenantStore) -> None:
    site = sample_site("microgrid")
    # Nothing was measured earlier in the month, so that every kilowatt would count as a new peak.
    site = site.model_copy(update={"tariff": site.tariff.model_copy(update={"demand_charge_eur_per_kw_month": 0.0})})
    save_site(db, site)
    times = [START + timedelta(minutes=15 * k) for k in range(STEPS)]
    own = run(100.0, 8, 90.25)
    flat = {"pv-1": 0.0, "wind-1": 0.0, "genset-1": 0.0, "cold-store": 20.0, "load-1": 100.0, "ev-1": 0.0}
    frames = [
        pl.DataFrame(
            {
                "asset_id": name,
                "quantity": "active_power_kw",
                "time": times,
                "value": values,
                "flag": None,
                "uncertainty": None,
            },
            schema_overrides={"flag": pl.String, "uncertainty": pl.Float64},
        )
        for name, values in [
            *((n, np.full(STEPS, v)) for n, v in flat.items()),
            ("ess-1", own.power_kw),
            ("pcc", NET - own.power_kw),
        ]
    ]
    write_clean(db, site.id, pl.concat(frames))
    soc = pl.DataFrame(
        {
            "asset_id": "ess-1",
            "quantity": "soc",
            "time": [START, START + timedelta(days=1)],
            "value": [0.3, 0.3],
            "quality": 0,
        },
        schema_overrides={"quality": pl.Int16},
    )
    write_readings(db, site.id, soc, "test")
    hours = [START + timedelta(hours=k) for k in range(24)]
    price = pl.DataFrame({"time": hours, "price_eur_per_kwh": SPOT[::4], "resolution_minutes": 60})
    write_prices(db, site.id, "day_ahead", price, START - timedelta(hours=12))
    with pytest.raises(ProblemError, match="2026-06-10 is not over"):
        account_value(db, site.id, DAY, START + timedelta(hours=20))
    found = account_value(db, site.id, DAY, START + timedelta(days=2))
    told = dict(zip(found["kpi"], found["value"], strict=True))
    assert 0.1 < told["value_captured"] < 1.0
    assert told["value_earned"] == pytest.approx(told["value_captured"] * told["value_possible"])
    stored = read_kpis(db, site.id, kpi="value_captured")
    assert stored["value"].to_list() == pytest.approx([told["value_captured"]])
    empty = account_value(db, site.id, DAY + timedelta(days=1), START + timedelta(days=3))
    assert empty["value"].to_list() == [None] * 4
    assert empty["coverage"].to_list() == [0.0] * 4
