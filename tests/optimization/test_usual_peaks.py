"""What a day's peak is worth: nothing below what later days need anyhow, all of the charge on the period's last day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexergy_pipelines.grid import Site, parse_site, site_to_dict
from flexergy_pipelines.optimization import Horizon, Problem, solve
from flexergy_pipelines.optimization.conditions import paid_peak_kw
from flexergy_pipelines.optimization.site_problem import SiteState, build_problem
from flexergy_pipelines.optimization.usual_peaks import (
    LEAST_SHARE,
    peaks_within_reach,
    read_peaks_within_reach,
    worth_by_level,
)
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.clean import write_clean
from flexergy_pipelines.store.sites import save_site
from tests.optimization.test_site_problem import microgrid


def test_power_and_energy_say_how_far_storage_holds_a_day() -> None:
    day = np.full(96, 50.0)
    day[40:48] = 150.0  # two hours, 200 kWh above 50 kW
    days = np.stack([day, day])
    assert peaks_within_reach(days, 30.0, 1000.0, 1.0) == pytest.approx([120.0, 120.0], abs=0.01)
    assert peaks_within_reach(days, 200.0, 100.0, 1.0) == pytest.approx([100.0, 100.0], abs=0.01)
    assert peaks_within_reach(days, 0.0, 0.0, 1.0) == pytest.approx([150.0, 150.0])
    # What is given above the level in two hours is charged below it in the other 22, losses included.
    for efficiency, level in ((1.0, 50 + 200 / 24), (0.8, 50 + 200 / (2 + 22 * 0.8))):
        assert peaks_within_reach(day[None], 200.0, 1000.0, efficiency) == pytest.approx([level], abs=0.01)
    assert peaks_within_reach(np.full((1, 96), -20.0), 30.0, 50.0, 1.0) == pytest.approx([0.0], abs=0.01)


@given(st.lists(st.floats(0, 500), min_size=7, max_size=28), st.integers(0, 31), st.floats(0, 300), st.floats(0, 600))
def test_a_kilowatt_is_worth_the_chance_that_no_later_day_needs_it(
    peaks: list[float], days: int, paid: float, level: float
) -> None:
    worth = worth_by_level(peaks, days, paid)
    levels = [kw for kw, _ in worth]
    assert levels[0] == paid
    assert levels == sorted(set(levels))
    assert sum(share for _, share in worth) == pytest.approx(1.0)
    assert all(share > 0 for _, share in worth)
    if level > max([*peaks, paid]) + 0.1:
        assert sum(share for kw, share in worth if kw < level) == pytest.approx(1.0)  # a new record counts in full
    if days and paid < level < min(peaks) - 0.1:
        assert sum(share for kw, share in worth if kw < level) == pytest.approx(LEAST_SHARE)


def test_worth_grows_towards_the_end_of_the_period() -> None:
    peaks = np.arange(100.0, 128.0)
    for kw, earlier, later in ((122.0, 27, 3), (122.0, 10, 1), (126.0, 20, 2)):
        first, last = (sum(s for at, s in worth_by_level(peaks.tolist(), n, 0.0) if at < kw) for n in (earlier, later))
        assert first < last
    assert worth_by_level(peaks.tolist(), 0, 90.0) == [(90.0, 1.0)]
    assert worth_by_level([200.0] * 6, 20, 90.0) == [(90.0, 1.0)]  # too few days to say anything


def charged(**tariff: object) -> Site:
    tree = site_to_dict(microgrid())
    tree["tariff"] |= {"demand_charge_eur_per_kw_month": 5.0, "billing_day": 1} | tariff
    return parse_site(tree)


def day_of(site: Site, day: int, usual_kw: tuple[float, ...], so_far_kw: float = 0.0) -> Problem:
    """A day of June whose consumption of 60 kW rises to 140 kW for two hours, at one price."""
    power = {a.id: np.zeros(24) for a in (*site.sources(), *site.loads, *site.controllable_loads(), *site.ev_blocks())}
    power |= {"load-1": np.where(np.isin(np.arange(24), (10, 11)), 140.0, 60.0)}
    start = datetime(2026, 6, day, tzinfo=site.zone)
    state = SiteState(soc={"ess-1": 0.5}, peak_so_far_kw=so_far_kw, usual_peaks_kw=usual_kw)
    horizon = Horizon(start=start, step_minutes=60, steps=24)
    return build_problem(site, horizon, power, np.full(24, 0.1), state)


@pytest.mark.requirement("energy.14.5")
def test_the_first_day_of_a_month_is_not_shaved_below_what_the_month_needs_anyhow() -> None:
    site = charged()
    usual = tuple(np.linspace(100.0, 130.0, 28))
    peak = {}
    for day in (1, 30):
        problem = day_of(site, day, usual)
        peak[day] = float(solve(problem).column("pcc", "active_power_kw").max())
        assert paid_peak_kw(problem).tolist() == [0.0] * 24  # nothing is paid for yet
    assert 110.0 < peak[1] <= 130.0 + 1e-6  # not to 140: that would be the month's highest
    assert peak[30] < 80.0
    assert float(solve(day_of(site, 1, ())).column("pcc", "active_power_kw").max()) < 80.0  # nothing known: in full
    assert float(solve(day_of(site, 1, usual, 150.0)).column("pcc", "active_power_kw").max()) <= 150.0


@pytest.mark.requirement("energy.14.5")
def test_what_storage_could_have_done_is_read_from_whole_days_without_it(db: TenantStore) -> None:
    site = charged()
    save_site(db, site)
    now = datetime(2026, 6, 10, 7, 0, tzinfo=UTC)
    rows = []
    for ago in range(1, 10):
        first = datetime(2026, 6, 10, tzinfo=site.zone) - timedelta(days=ago)
        for quarter in range(96 if ago != 3 else 50):  # one day was not measured whole
            given = 40.0 if quarter == 50 else 0.0
            time = first + timedelta(minutes=15 * quarter)
            busy = 400.0 + ago if quarter == 50 else 400.0
            rows += [("ess-1", "active_power_kw", time, given), ("pcc", "active_power_kw", time, busy - given)]
    frame = pl.DataFrame(rows, schema=["asset_id", "quantity", "time", "value"], orient="row")
    write_clean(db, site.id, frame.with_columns(pl.lit(None, pl.String).alias("flag")))
    found = read_peaks_within_reach(db, site, now)
    # A quarter of an hour above an even day is what storage takes away whole, whatever it did then.
    assert len(found) == 8
    assert all(400.0 <= peak <= 400.2 for peak in found)
    assert read_peaks_within_reach(db, charged(demand_charge_eur_per_kw_month=0.0), now) == ()
