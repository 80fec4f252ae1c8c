"""Security of supply, congestion, declared profiles and hindsight: cases told by hand, and bounds that hold."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexergy_pipelines.kpis import market, supply
from flexergy_pipelines.kpis.declared import similar_day_baseline
from flexergy_pipelines.kpis.supply import StorageLimits, SupplyAssumptions
from tests.kpis.cases import flows

NAN = math.nan
LIMITS = {"ess-1": StorageLimits(max_discharge_kw=50, soc_min=0.1, deliverable_kwh_per_soc=100)}


def test_an_outage_is_bridged_by_energy_and_by_power() -> None:
    """Two hours ahead need 20, 50, 70, 40 kWh; the store can give 40 (enough), 40 (too little), 80 at 40 kW, 40."""
    period = flows([20, 0, 50, 40], [0, 0, 0, 20], [0, 0, 0, 0], soc=[0.5, 0.5, 0.9, 0.5])
    hours = SupplyAssumptions(bridge_hours=2.0)
    assert supply.outage_risk(period, LIMITS, 0.0, hours).value == pytest.approx(1 / 4)
    assert supply.outage_risk(period, LIMITS, 50.0, hours).value == 0.0
    weak = {"ess-1": StorageLimits(max_discharge_kw=30, soc_min=0.1, deliverable_kwh_per_soc=1000)}
    assert supply.outage_risk(period, weak, 0.0, hours).value == pytest.approx(2 / 4)
    blind = flows([20, 20], [0, 0], [0, 0])
    assert (supply.outage_risk(blind, LIMITS, 0.0, hours).value, supply.outage_risk(blind, {}, 0.0, hours).value) == (
        None,
        1.0,
    )


def test_the_largest_source_may_be_lost() -> None:
    """Without the grid (80 kW) remain PV and what the store can give: 30 + 40, 0 + 40, 0 + 0."""
    period = flows([60, 60, 10], [30, 0, 0], [0, 0, 0], soc=[0.5, 0.5, 0.1])
    limited = replace(period, import_limit_kw=80.0)
    assert supply.security_of_supply(limited, LIMITS, {}).value == pytest.approx(1 / 3)
    assert supply.security_of_supply(limited, LIMITS, {"genset-1": 80.0}).value == 1.0


def test_loss_of_load_of_grid_and_store_by_hand() -> None:
    """Load 60 of a grid of 50 (q 0.1): the store of 20 kW (q 0.2) is needed always."""
    period = flows([60], [0], [0], soc=[0.3])
    limited = replace(period, import_limit_kw=50.0)
    rates = SupplyAssumptions(grid_outage_rate=0.1, ess_outage_rate=0.2)
    hours, reliability = supply.loss_of_load_figures(limited, LIMITS, {}, rates)
    lost = 1 - 0.9 * 0.8
    assert hours.value == pytest.approx(lost * 8760)
    short = 0.1 * 0.2 * 60 + 0.1 * 0.8 * 40 + 0.9 * 0.2 * 10
    assert reliability.value == pytest.approx(1 - short / 60)
    assert supply.loss_of_load_figures(flows([NAN], [0], [0]), {}, {}, rates)[0].value is None


def test_congestion_with_and_without_storage() -> None:
    period = flows([10, 150], [140, 0], [-30, 60], export_limit_kw=100)
    limited = replace(period, import_limit_kw=120.0)
    hours, energy = supply.congestion(limited)
    assert (hours.value, energy.value) == (0.0, 0.0)
    assert hours.reference is not None
    assert hours.reference.startswith("without ESS: 2 h")
    assert energy.reference is not None
    assert energy.reference.startswith("without ESS: 60 kWh")


def test_storage_that_closes_half_the_error_doubles_predictability() -> None:
    period = flows([0, 0, 0], [40, 60, 50], [5, -5, 0])
    found = market.predictability(period, np.array([50.0, 50.0, NAN]))
    assert found.value == pytest.approx(0.5)
    assert found.coverage == pytest.approx(2 / 3)
    assert market.predictability(period, np.full(3, NAN)).value is None


def test_revenue_of_the_park_is_sales_less_deviations() -> None:
    period = flows([0, 0], [40, 60], [0, 0])
    spot, profile = np.array([0.1, -0.05]), np.array([50.0, 60.0])
    assert market.park_revenue(period, spot, profile, np.full(2, NAN)).value == pytest.approx(4 - 3)
    assert market.park_revenue(period, spot, profile, np.full(2, 0.2)).value == pytest.approx(4 - 3 - 2)


STORE = market.Storage(50, 50, 0.0, 100.0, 0.9, 0.9, 0.0, 0.0, 0.0)


def test_the_best_schedule_in_hindsight_by_hand() -> None:
    """One cheap and one dear hour: 50 kWh bought, 45 stored, 40.5 given back."""
    period = flows([60, 60], [0, 0], [0, 0], price=[0.1, 0.5], export_price=0.0)
    assert market.best_value_in_hindsight(period, STORE) == pytest.approx(40.5 * 0.5 - 50 * 0.1)
    assert market.allocation(period, [(period, STORE)], 7.625).value == pytest.approx(0.5)
    assert market.allocation(period, [(period, STORE)] * 2, 7.625).value == pytest.approx(0.25)
    flat = flows([60, 60], [0, 0], [0, 0], price=0.3, export_price=0.0)
    assert market.allocation(flat, [(flat, STORE)], 0.0).value is None
    blind = flows([NAN], [0], [0])
    assert market.best_value_in_hindsight(blind, STORE) is None
    assert market.allocation(period, [(period, STORE), (blind, STORE)], 1.0).value is None
    assert market.allocation(period, [], 1.0).value is None


def test_the_parts_of_a_period_are_the_period() -> None:
    whole = flows([1, 2, 3, 4], [5, 6, 7, 8], [0, 1, 0, 1], price=[0.1, 0.2, 0.3, 0.4], soc=[0.1, 0.2, 0.3, 0.4])
    first, second = whole.part(0, 3), whole.part(3, 4)
    assert (first.intervals, second.intervals) == (3, 1)
    assert second.start == whole.start + timedelta(hours=3)
    assert np.concatenate([first.pcc(), second.pcc()]).tolist() == whole.pcc().tolist()
    assert second.soc["ess-1"].tolist() == [0.4]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 100), min_size=6, max_size=6),
    st.lists(st.floats(0.05, 0.5), min_size=6, max_size=6),
    st.lists(st.floats(-50, 50), min_size=5, max_size=5),
)
def test_no_schedule_beats_the_best_in_hindsight(load: list, price: list, wish: list) -> None:
    """Any schedule that the store can do earns at most the bound, and the best is never a loss."""
    energy, power = [0.0], []
    for asked in [*wish, 50.0]:
        low, high = -min(50.0, (100 - energy[-1]) / 0.9), min(50.0, energy[-1] * 0.9)
        given_kw = min(max(asked, low), high)
        power.append(given_kw)
        energy.append(energy[-1] - (given_kw / 0.9 if given_kw > 0 else given_kw * 0.9))
    period = flows(load, [0.0] * 6, power, price=price, export_price=0.02, export_limit_kw=1000)
    store = market.Storage(50, 50, 0.0, 100.0, 0.9, 0.9, 0.0, 0.0, max(energy[-1], 0.0))
    best = market.best_value_in_hindsight(period, store)
    assert best is not None
    pcc = period.pcc()
    cost = float(np.sum(np.where(pcc > 0, pcc * period.import_price, pcc * period.export_price)))
    idle = float(np.sum(np.array(load) * period.import_price))
    assert idle - cost <= best + 1e-6
    assert all(later >= -1e-9 for _, later in pairwise(energy))


def test_energy_is_moved_only_as_far_as_it_was_charged_cheap() -> None:
    period = flows([50] * 4, [0] * 4, [-30, -10, 20, 30], price=[0.1, 0.1, 0.3, 0.4])
    moved, share = market.shifted_energy(period)
    assert (moved.value, share.value) == (pytest.approx(40), pytest.approx(40 / 200))


def test_the_baseline_is_the_mean_of_ten_similar_days_at_the_same_local_time() -> None:
    """Across the end of summer time; weekends, the day itself and what is older do not count."""
    zone = "Europe/Amsterdam"
    start, end = datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 10, 28, tzinfo=UTC)
    times = pl.DataFrame({"time": pl.datetime_range(start, end, "1h", closed="left", eager=True, time_zone="UTC")})
    local = pl.col("time").dt.convert_time_zone(zone)
    history = times.with_columns(
        value=pl.when(local.dt.weekday() > 5).then(1000.0).otherwise(local.dt.hour().cast(pl.Float64) + local.dt.day())
    )
    day = datetime(2026, 10, 27, 11, tzinfo=UTC)
    wanted = pl.DataFrame({"time": [day, day + timedelta(hours=1)]}).with_columns(
        pl.col("time").cast(pl.Datetime("us", "UTC"))
    )
    days = [13, 14, 15, 16, 19, 20, 21, 22, 23, 26]
    assert similar_day_baseline(history, wanted, zone) == pytest.approx([12 + np.mean(days), 13 + np.mean(days)])
    assert np.isnan(similar_day_baseline(history.clear(), wanted, zone)).all()
