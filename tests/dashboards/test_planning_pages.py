"""What the pages Plan and Operation tell of a plan's reasons, bids and worth, and what an operator schedules there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from dashboards.views.operation_plan import function_table, functions_from, mode_name, mode_table, now_sentence
from dashboards.views.plan_why import (
    bid_table,
    car_table,
    interval_limits,
    made_from,
    reason_table,
    reasons_at,
    value_days,
    value_sentence,
)
from flexergy_pipelines.operation.modes import ModeEntry, ModeInForce
from flexergy_pipelines.optimization.errors import ProblemError
from flexergy_pipelines.optimization.settings import PlanningSettings, function_names
from tests.dashboards.seeding import microgrid

ZONE = ZoneInfo("Europe/Amsterdam")
T0 = datetime(2026, 6, 10, 1, 0, tzinfo=UTC)
INPUTS = {
    "because": ["mode idle scheduled by olga"],
    "why": [
        {
            "asset_id": "ess-1", "start": T0.isoformat(), "end": (T0 + timedelta(hours=1)).isoformat(),
            "sentence": "03:00 to 04:00 ess-1 charges 120 kW: energy at 41 EUR/MWh is kept for 19:00 at 138",
        }
    ],
    "intervals": [
        {
            "time": T0.isoformat(), "energy_price_eur_per_kwh": 0.041,
            "limits": [{"asset_id": "ess-1", "meaning": "ess-1 charges", "saves_eur": 0.01234}],
        }
    ],
    "uncertainty": {"kind": "stochastic", "scenarios": 8, "expected_cost_eur": 100.0, "worst_cost_eur": 130.0},
    "bids": [
        {
            "service": "fcr", "product": "fcr", "direction": "both", "start": T0.isoformat(),
            "end": (T0 + timedelta(hours=4)).isoformat(), "bid_kw": 50.0, "price_eur_per_kw_h": 0.008,
            "market_price_eur_per_kw_h": 0.02, "sold_kw": 0.0, "revenue_eur": 4.0,
        }
    ],
}  # fmt: skip


def test_an_interval_tells_its_reason_its_price_and_what_binds() -> None:
    assert reasons_at(INPUTS, T0 + timedelta(minutes=30))[0].startswith("03:00 to 04:00 ess-1 charges 120 kW")
    assert reasons_at(INPUTS, T0 + timedelta(hours=1)) == []
    price, limits = interval_limits(INPUTS, T0)
    assert price == 0.041
    assert limits.rows() == [("Ess-1 charges", "0.012 EUR")]
    assert reason_table(INPUTS, ZONE, T0)["why"][0].startswith("charges 120 kW: energy at 41 EUR/MWh")
    assert reason_table(INPUTS, ZONE, T0 + timedelta(hours=2)).is_empty()
    assert any("8 scenarios" in line for line in made_from(INPUTS))
    assert reasons_at({}, T0) == []


@pytest.mark.requirement("energy.15.3")
def test_bids_are_shown_with_quantity_and_price() -> None:
    row = bid_table(INPUTS["bids"], ZONE).row(0, named=True)
    assert row["bid"] == "50.0 kW"
    assert row["at least"] == "8 EUR/MW·h"
    assert row["price"] == "20 EUR/MW·h"
    more = {**INPUTS["bids"][0], "units": ["ess-1", "ess-2"], "max_bid_kw": 80.0, "price_source": "fixed"}
    row = bid_table([more], ZONE).row(0, named=True)
    assert (row["units"], row["bid"], row["price"]) == ("ess-1, ess-2", "50.0 kW of 80.0", "20 EUR/MW·h set")
    assert row["period"].endswith("03:00–07:00")


@pytest.mark.requirement("energy.13.4")
def test_each_car_is_told_when_it_charges() -> None:
    car = {
        "charge_point": "cp-02", "source": "now", "arrival": T0.isoformat(), "asked_kwh": 12.0, "planned_kwh": 11.0,
        "departure": (T0 + timedelta(hours=9)).isoformat(), "from": (T0 + timedelta(hours=1)).isoformat(),
        "to": (T0 + timedelta(hours=2)).isoformat(), "pattern_kw": [[T0.isoformat(), 7.0], [T0.isoformat(), 4.0]],
    }  # fmt: skip
    later = {**car, "charge_point": "cp-01", "source": "history", "planned_kwh": 0.0, "from": None, "pattern_kw": []}
    table = car_table([later, car], ZONE)
    assert table.row(0) == ("cp-02", "is there", "Wed 12:00", "12.0 kWh", "11.0 kWh", "Wed 04:00–Wed 05:00", "7.0 kW")
    assert table.row(1)[1:] == ("expected Wed 03:00", "Wed 12:00", "12.0 kWh", "0.0 kWh", "–", "0.0 kW")


def test_the_worth_of_days_adds_up_and_unjudged_days_are_left_out() -> None:
    rows = [
        {"period_start": T0 + timedelta(days=d), "kpi": kpi, "value": value}
        for d, values in ((0, (30.0, 40.0, 0.75)), (1, (None, None, None)), (2, (10.0, 10.0, 1.0)))
        for kpi, value in zip(("value_earned", "value_possible", "value_captured"), values, strict=True)
    ]
    days = value_days(pl.DataFrame(rows), ZONE)
    assert days["day"].to_list() == ["2026-06-10", "2026-06-12"]
    assert value_sentence(days).startswith("Storage earned 40.00 EUR in 2 days, 80.0 %")


def test_functions_keep_the_order_of_their_priorities() -> None:
    rows = function_table(PlanningSettings()).to_dicts()
    swapped = [{**row, "priority": len(rows) - place} for place, row in enumerate(rows)]
    assert [one.name for one in functions_from(swapped)] == list(reversed(function_names()))
    with pytest.raises(ProblemError, match="a number of its own"):
        functions_from([{**row, "priority": 1} for row in rows])


@pytest.mark.requirement("energy.09.2")
def test_the_mode_in_force_and_what_is_scheduled_are_told_in_words() -> None:
    site = microgrid()
    assert now_sentence(None, site) == (
        "**Plan** is in force: the site follows the plan of least cost. No other mode holds."
    )
    assert mode_name(None, site) == "Plan"
    own = site.model_copy(update={"operation": site.operation.model_copy(update={"mode": "self_consumption"})})
    assert "own energy first" in now_sentence(None, own)
    assert mode_name(None, own) == "Plan, own energy first"
    held = ModeInForce("peak_shaving", {"import_kw": 150.0}, T0, T0 + timedelta(hours=4), "olga", "works")
    assert "holds the import at or below a limit: 150.0 kW" in now_sentence(held, site)
    assert mode_name(held, own) == "Peak shaving 150.0 kW"
    table = mode_table([ModeEntry(1, "idle", T0, None, "works", "olga", T0)], ZONE)
    assert table.row(0, named=True)["to"] == "further notice"
