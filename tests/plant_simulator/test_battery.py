"""The battery: energy is conserved, the state of charge stays within its bounds, limits taper."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plant_simulator.battery import TAPER_SPAN, Battery, BatteryRating

RATING = BatteryRating(
    energy_capacity_kwh=200.0,
    max_charge_kw=100.0,
    max_discharge_kw=80.0,
    charge_efficiency=0.94,
    discharge_efficiency=0.96,
    self_discharge_per_day=0.01,
)

runs = st.lists(st.tuples(st.floats(-300.0, 300.0), st.floats(0.1, 60.0), st.integers(1, 60)), min_size=1, max_size=30)


def run(battery: Battery, setpoint_kw: float, seconds: int, dt_s: float = 1.0) -> None:
    battery.setpoint_kw = setpoint_kw
    for _ in range(round(seconds / dt_s)):
        battery.step(dt_s)


@given(orders=runs, soc=st.floats(0.0, 1.0))
def test_energy_is_conserved_and_soc_stays_within_bounds(orders: list[tuple[float, float, int]], soc: float) -> None:
    battery = Battery(RATING, soc=soc)
    start_kwh = battery.energy_kwh
    charged_kwh = discharged_kwh = 0.0
    for setpoint_kw, dt_s, steps in orders:
        battery.setpoint_kw = setpoint_kw
        for _ in range(steps):
            battery.step(dt_s)
            charged_kwh += max(0.0, -battery.power_kw) * dt_s / 3600
            discharged_kwh += max(0.0, battery.power_kw) * dt_s / 3600
            assert 0.0 <= battery.soc <= 1.0
            assert -RATING.max_charge_kw - 1e-9 <= battery.power_kw <= RATING.max_discharge_kw + 1e-9
    expected = start_kwh + charged_kwh * 0.94 - discharged_kwh / 0.96 - battery.self_discharged_kwh
    assert battery.energy_kwh == pytest.approx(expected, abs=1e-6)


def test_a_round_trip_loses_what_both_efficiencies_say() -> None:
    battery = Battery(BatteryRating(200.0, 100.0, 100.0, charge_efficiency=0.9, discharge_efficiency=0.8))
    start_kwh = battery.energy_kwh
    run(battery, -50.0, 1800)
    while battery.energy_kwh > start_kwh:
        run(battery, 50.0, 1)
    assert battery.discharged_kwh / battery.charged_kwh == pytest.approx(0.72, rel=0.005)


def test_power_tapers_near_full_and_near_empty() -> None:
    nearly_full = Battery(RATING, soc=1.0 - TAPER_SPAN / 2)
    assert nearly_full.max_charge_kw == pytest.approx(50.0)
    assert nearly_full.max_discharge_kw == pytest.approx(80.0)
    nearly_empty = Battery(RATING, soc=TAPER_SPAN / 4)
    assert nearly_empty.max_discharge_kw == pytest.approx(20.0)
    run(nearly_empty, 80.0, 5)
    assert nearly_empty.power_kw <= 20.0


def test_it_follows_a_setpoint_within_a_second_or_two_and_clips_it_to_its_rating() -> None:
    battery = Battery(RATING)
    run(battery, 60.0, 2)
    assert battery.power_kw == pytest.approx(60.0)
    run(battery, -500.0, 4)
    assert battery.power_kw == pytest.approx(-100.0)


def test_self_discharge_at_rest() -> None:
    battery = Battery(RATING, soc=0.8)
    run(battery, 0.0, 86_400, dt_s=60.0)
    assert battery.soc == pytest.approx(0.8 * 0.99, rel=1e-3)


def test_a_trip_opens_the_contactors_at_once() -> None:
    battery = Battery(RATING)
    run(battery, 60.0, 5)
    battery.tripped = True
    run(battery, 60.0, 1)
    assert (battery.power_kw, battery.max_charge_kw, battery.max_discharge_kw) == (0.0, 0.0, 0.0)
    assert not battery.available


def test_work_warms_the_cells_and_ages_them() -> None:
    battery, resting = Battery(RATING), Battery(RATING)
    for _ in range(10):
        run(battery, 80.0, 1800, dt_s=10.0)
        run(battery, -80.0, 1800, dt_s=10.0)
    run(resting, 0.0, 36_000, dt_s=10.0)
    assert battery.temperature_c > resting.temperature_c + 1.0
    assert battery.soh < resting.soh < 1.0
    assert battery.equivalent_full_cycles > 1.0


def test_voltage_sags_under_discharge_and_rises_with_charge() -> None:
    battery = Battery(RATING)
    at_rest = battery.voltage_v
    run(battery, 80.0, 3)
    assert battery.voltage_v < at_rest
    run(battery, -80.0, 3)
    assert battery.voltage_v > at_rest


def test_a_state_of_charge_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"soc 1\.2 is outside 0\.\.1"):
        Battery(RATING, soc=1.2)
