"""Formulas against answers that were published or follow from arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexergy_pipelines.kpis.battery import (
    availability,
    count_cycles,
    cycle_damage,
    measured_capacity,
    round_trip_efficiency,
    useful_energy,
)
from flexergy_pipelines.kpis.economics import capital_recovery_factor, levelized_cost, net_present_value
from flexergy_pipelines.kpis.frequency import asked_power, droop_curve, frequency_response
from flexergy_pipelines.kpis.reliability import capacity_outage_table, interruption_indices, loss_of_load


@pytest.mark.parametrize(
    ("series", "counts"),
    [
        ([-2, 1, -3, 5, -1, 3, -4, 4, -2], [(3, 0.5), (4, 1.5), (6, 0.5), (8, 1.0), (9, 0.5)]),
    ],
)
def test_rainflow_counts_as_the_example_of_astm_e1049(series: list[float], counts: list[tuple[float, float]]) -> None:
    assert count_cycles(series) == counts


@given(st.lists(st.integers(0, 1000).map(lambda mille: mille / 1000), min_size=2, max_size=60))
def test_rainflow_counts_every_half_turn_once(soc: list[float]) -> None:
    """The largest range is the range of the series, and a turn more never makes the damage smaller."""
    cycles = [(depth, count) for depth, count in count_cycles(soc) if depth > 0]
    if max(soc) > min(soc):
        assert max(depth for depth, _ in cycles) == pytest.approx(max(soc) - min(soc))
    damage = cycle_damage(soc, lambda depth: 4500 / depth, 24).damage
    assert cycle_damage([*soc, *soc], lambda depth: 4500 / depth, 48).damage >= damage - 1e-15


def test_a_single_discharge_is_half_a_cycle() -> None:
    assert count_cycles([1.0, 0.2]) == [(0.8, 0.5)]
    assert count_cycles([0.5]) == count_cycles([]) == []


def test_one_full_cycle_a_day_lasts_as_long_as_the_curve_says() -> None:
    wear = cycle_damage([1.0, 0.2] * 10 + [1.0], lambda _depth: 5000.0, 240)
    assert wear.damage == pytest.approx(10 / 5000)
    assert wear.full_cycles == pytest.approx(8.0)
    assert wear.cycles_to_failure == pytest.approx(4000.0)
    assert wear.years_left == pytest.approx(5000 * 24 / 8766)
    idle = cycle_damage([0.5, math.nan, 0.5], lambda _depth: 5000.0, 24)
    assert (idle.damage, idle.cycles_to_failure) == (0.0, math.inf)


def test_interruptions_of_the_sample_system_of_ieee_1366() -> None:
    minutes = [(8.17, 200), (71.3, 600), (30.3, 25), (267.2, 90), (120, 700), (10, 1500), (40, 100), (4.9, 2000)]
    found = interruption_indices([(m / 60, n) for m, n in minutes], 2000, 8760)
    assert found.saifi == pytest.approx(1.6075)
    assert found.saidi_hours * 60 == pytest.approx(86.10975)
    assert found.caidi_hours * 60 == pytest.approx(53.567496)
    assert found.asai == pytest.approx(0.999836, abs=1e-6)


@pytest.mark.parametrize(
    ("fused", "saifi", "saidi", "caidi", "asai"),
    [(False, 2.2, 6.0, 2.73, 0.999315), (True, 1.15, 3.91, 3.39, 0.999554)],
)
def test_interruptions_of_a_radial_feeder_with_and_without_fuses(
    fused: bool, saifi: float, saidi: float, caidi: float, asai: float
) -> None:
    customers, mains, laterals = [1000, 800, 700, 500], [2, 1, 3, 2], [1, 3, 2, 1]
    interruptions = [(4.0, 0.1 * length * sum(customers)) for length in mains]
    for length, behind in zip(laterals, customers, strict=True):
        interruptions.append((2.0, 0.2 * length * (behind if fused else sum(customers))))
    found = interruption_indices(interruptions, sum(customers), 8760)
    assert (found.saifi, found.saidi_hours) == (pytest.approx(saifi, abs=0.005), pytest.approx(saidi, abs=0.01))
    assert (found.caidi_hours, found.asai) == (pytest.approx(caidi, abs=0.01), pytest.approx(asai, abs=1e-6))


RBTS_UNITS = [(5, 0.01)] * 2 + [(20, 0.015)] * 4 + [(40, 0.02), (10, 0.02), (20, 0.025), (40, 0.03), (40, 0.03)]
WEEKLY = [
    86.2, 90.0, 87.8, 83.4, 88.0, 84.1, 83.2, 80.6, 74.0, 73.7, 71.5, 72.7, 70.4, 75.0, 72.1, 80.0, 75.4, 83.7, 87.0,
    88.0, 85.6, 81.1, 90.0, 88.7, 89.6, 86.1, 75.5, 81.6, 80.1, 88.0, 72.2, 77.6, 80.0, 72.9, 72.6, 70.5, 78.0, 69.5,
    72.4, 72.4, 74.3, 74.4, 80.0, 88.1, 88.5, 90.9, 94.0, 89.0, 94.2, 97.0, 100.0, 95.2,
]  # fmt: skip
DAILY = [93, 100, 98, 96, 94, 77, 75]


def test_loss_of_load_of_the_roy_billinton_test_system_by_daily_peaks() -> None:
    """LOLE in days of a published system; weekly and daily peaks of the IEEE reliability test system."""
    peaks = np.array([185 * week * day / 1e4 for week in WEEKLY for day in DAILY])
    assert loss_of_load(RBTS_UNITS, peaks).hours == pytest.approx(0.14694612, rel=1e-4)


def test_loss_of_load_of_two_units_by_hand() -> None:
    table = capacity_outage_table([(3, 0.1), (2, 0.2)], 1)
    assert table == pytest.approx([0.72, 0, 0.18, 0.08, 0, 0.02])
    found = loss_of_load([(3, 0.1), (2, 0.2)], np.array([2.5, 5.0, 0.0]))
    assert found.hours == pytest.approx((0.08 + 0.02) + (0.18 + 0.08 + 0.02))
    assert found.energy == pytest.approx(0.08 * 0.5 + 0.02 * 2.5 + 0.18 * 2 + 0.08 * 3 + 0.02 * 5)


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=8), st.floats(0, 400))
def test_an_outage_table_is_a_distribution_and_more_load_is_never_safer(units: list, load: float) -> None:
    table = capacity_outage_table(units, 1)
    assert table.sum() == pytest.approx(1.0)
    assert (table >= 0).all()
    lower, higher = (loss_of_load(units, np.array([value])) for value in (load, load + 1.0))
    assert lower.hours <= higher.hours + 1e-12
    assert 0 <= lower.energy <= higher.energy + 1e-9
    assert lower.energy >= load - sum(capacity for capacity, _ in units) - 1e-9


def test_net_present_value_of_a_published_pro_forma() -> None:
    yearly = [167621.63, 170974.06, 174393.55, 177881.42, 181439.04]
    yearly += [185067.83, 188769.18, 192544.57, 196395.46, 200323.37]
    assert net_present_value(0.07, [-1_600_000.0, *yearly]) == pytest.approx(-324985.89, abs=0.1)


def test_the_capital_recovery_factor_repays_what_was_lent() -> None:
    factor = capital_recovery_factor(0.07, 20)
    assert factor == pytest.approx(0.0943929, abs=1e-7)
    assert net_present_value(0.07, [-1.0] + [factor] * 20) == pytest.approx(0.0, abs=1e-12)
    assert capital_recovery_factor(0.0, 20) == pytest.approx(0.05)


@given(
    st.floats(0.7, 1.0),
    st.lists(st.floats(-100, 100), min_size=2, max_size=40).filter(lambda p: min(p) < -1 and max(p) > 1),
)
def test_round_trip_efficiency_is_found_again_whatever_is_left_in_the_store(eta: float, powers: list[float]) -> None:
    charged, discharged = -sum(p for p in powers if p < 0), sum(p for p in powers if p > 0)
    left = charged * eta - discharged / eta
    assert round_trip_efficiency(charged, discharged, 50.0, 50.0 + left) == pytest.approx(eta**2, rel=1e-6)


def test_useful_energy_and_availability() -> None:
    assert useful_energy(500, 0.98, (0.1, 0.95), 0.95) == pytest.approx(395.675)
    assert availability(np.array([1.0, 0.0, math.nan, 1.0])) == pytest.approx(2 / 3)
    assert availability(np.array([1.0, 1.0]), np.array([50.0, 150.0]), 100.0) == pytest.approx(0.75)
    assert availability(np.array([math.nan])) is None


def test_levelized_cost_by_hand() -> None:
    assert levelized_cost(1000, 500, years=10, rate=0.0, operation_eur=50, fuel_eur=25) == pytest.approx(175 / 500)
    assert levelized_cost(1000, 0, years=10) is None


@given(
    st.floats(50, 5000),
    st.floats(0.8, 1.0),
    st.floats(0.8, 1.0),
    st.lists(st.sampled_from([-40.0, 0.0, 25.0, 40.0]), min_size=8, max_size=60),
)
def test_the_capacity_is_found_from_use(capacity: float, eta_c: float, eta_d: float, powers: list[float]) -> None:
    power = np.array(powers)
    into = np.where(power > 0, -power / eta_d, -power * eta_c) * 0.25
    soc = 0.5 + np.concatenate([[0.0], np.cumsum(into)[:-1]]) / capacity
    found = measured_capacity(power, soc, 0.25, charge_efficiency=eta_c, discharge_efficiency=eta_d)
    if found is not None:
        assert found.capacity_kwh == pytest.approx(capacity, rel=1e-6)
        assert found.error_kwh <= 1e-6 * capacity


def test_the_capacity_is_not_guessed_from_little_use() -> None:
    idle = np.zeros(96)
    assert measured_capacity(idle, idle + 0.5, 0.25, charge_efficiency=1, discharge_efficiency=1) is None
    assert measured_capacity(idle * np.nan, idle, 0.25, charge_efficiency=1, discharge_efficiency=1) is None


@pytest.mark.parametrize(
    ("droop", "threshold", "full", "points"),
    [
        (0.05, 50.2, 51.5, [(50.0, 0), (50.2, 0), (50.3, -0.04), (50.7, -0.2), (51.2, -0.4), (51.5, -0.52)]),
        (0.05, 49.8, 49.0, [(49.8, 0), (49.7, 0.04), (49.5, 0.12), (49.0, 0.32)]),
        (0.12, 50.2, 51.5, [(50.2, 0), (50.7, -0.083333), (51.2, -0.166667)]),
    ],
)
def test_droop_asks_for_the_power_of_the_network_code(
    droop: float, threshold: float, full: float, points: list[tuple[float, float]]
) -> None:
    curve = droop_curve(1.0, droop, threshold_hz=threshold, full_at_hz=full)
    frequency = np.array([point[0] for point in points])
    assert asked_power(frequency, curve) == pytest.approx([point[1] for point in points], abs=1e-6)


def test_frequency_response_counts_activated_samples_only() -> None:
    curve = [(49.8, 100.0), (50.0, 0.0), (50.2, -100.0)]
    frequency = np.array([49.9, 49.95, 50.0, 50.1, math.nan, 50.2])
    delivered = np.array([50.0, 40.0, 7.0, -52.0, 10.0, math.nan])
    found = frequency_response(frequency, delivered, curve, tolerance_kw=5.0, step_hours=0.5)
    assert (found.activated_hours, found.share_within) == (1.5, pytest.approx(2 / 3))
    assert (found.energy_up_kwh, found.energy_down_kwh) == (pytest.approx(45.0), pytest.approx(26.0))
    assert frequency_response(np.array([50.0]), np.array([0.0]), curve, tolerance_kw=5.0).share_within is None


def test_levelized_cost_of_several_sources_is_paid_off_over_the_life_of_each() -> None:
    from flexergy_pipelines.kpis.economics import levelized_cost_of

    # 7 % over 20 a is an annuity of 0.0943929, over 25 a of 0.0858105 (tables of capital recovery factors).
    cost = levelized_cost_of([(100_000.0, 20.0, 1_000.0), (50_000.0, 25.0, 0.0)], 100_000.0, fuel_eur=500.0)
    assert cost == pytest.approx((9_439.29 + 1_000 + 4_290.53 + 500) / 100_000, rel=1e-5)
    half = levelized_cost_of([(100_000.0, 20.0, 1_000.0)], 50_000.0, period_years=0.5)
    assert half == pytest.approx((9_439.29 + 1_000) / 100_000, rel=1e-5)
    assert levelized_cost_of([(1.0, 20.0, 0.0)], 0.0) is None
