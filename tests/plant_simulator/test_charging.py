"""EV charging: cars with a state of charge, a fair share of the limit, and energy that is held back but not lost."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plant_simulator.charging import CONSTANT_CURRENT_UNTIL, ChargingBlock, Plug, Session, share_fairly

POINTS = [Plug("cp-1", 11.0), Plug("cp-2", 11.0), Plug("cp-3", 22.0), Plug("cp-4", 50.0)]


def make_block() -> ChargingBlock:
    return ChargingBlock(POINTS, 80.0, random.Random(3))  # noqa: S311 - physics, not secrets


def run(block: ChargingBlock, wanted_kw: float, minutes: int) -> None:
    for _ in range(minutes * 6):
        block.step(wanted_kw, 10.0)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.integers(1, 60)), min_size=1, max_size=15))
def test_limits_hold_and_energy_adds_up_whatever_is_wanted(phases: list[tuple[float, float, int]]) -> None:
    block = make_block()
    for wanted_kw, limit_kw, steps in phases:
        block.limit_kw = limit_kw
        for _ in range(steps):
            block.step(wanted_kw, 10.0)
            assert block.power_kw <= min(80.0, limit_kw) + 1e-9
            for point in block.points:
                assert 0.0 <= point.power_kw <= point.max_kw + 1e-9
                assert point.session is not None or point.power_kw == 0.0
                assert point.session is None or 0.0 <= point.session.soc <= 1.0
    assert block.energy_kwh == pytest.approx(sum(point.energy_kwh for point in block.points))


def test_without_a_limit_the_block_draws_what_drivers_want() -> None:
    block = make_block()
    run(block, 30.0, 60)
    assert block.power_kw == pytest.approx(30.0, rel=0.05)
    assert block.energy_kwh == pytest.approx(30.0, rel=0.02)


def test_energy_held_back_is_made_up_for_later() -> None:
    block = make_block()
    block.limit_kw = 10.0
    run(block, 30.0, 30)
    assert block.energy_kwh == pytest.approx(5.0, rel=0.05)
    block.limit_kw = 80.0
    run(block, 0.0, 90)
    assert block.energy_kwh == pytest.approx(15.0, rel=0.05)
    assert block.power_kw == 0.0
    assert block.unserved_kwh < 0.1


def test_a_driver_who_waited_too_long_leaves_without() -> None:
    block = make_block()
    block.limit_kw = 0.0
    run(block, 10.0, 60)
    run(block, 0.0, 150)
    assert block.unserved_kwh == pytest.approx(10.0, rel=0.05)
    assert all(point.session is None for point in block.points)


def test_a_car_tapers_towards_full() -> None:
    car = Session(1, 60.0, CONSTANT_CURRENT_UNTIL - 0.1)
    assert car.accepts_kw(50.0) == 50.0
    car.soc = 0.9
    assert car.accepts_kw(50.0) == pytest.approx(25.0)
    car.soc = 1.0
    assert car.accepts_kw(50.0) == 0.0


@given(st.lists(st.floats(0, 50), min_size=1, max_size=10), st.floats(0, 200))
def test_a_fair_share_spends_all_it_can_and_favours_nobody(wishes: list[float], total: float) -> None:
    given_kw = share_fairly(wishes, total)
    assert sum(given_kw) == pytest.approx(min(total, sum(wishes)), abs=1e-6)
    assert all(g <= w + 1e-9 for g, w in zip(given_kw, wishes, strict=True))
    unsatisfied = [g for g, w in zip(given_kw, wishes, strict=True) if g < w - 1e-6]
    if unsatisfied:
        assert min(unsatisfied) == pytest.approx(max(unsatisfied), abs=1e-6)
        assert max(given_kw) <= min(unsatisfied) + 1e-6
