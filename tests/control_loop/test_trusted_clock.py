"""A jump of the machine's wall clock moves nothing as long as the store does not confirm it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_loop.trusted_clock import HELD_S, TrustedClock
from flexergy_pipelines.grid import SimulatedClock
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.clock import read_clock

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Machine(SimulatedClock):
    """A clock whose wall time can be wrong."""

    wrong = timedelta()

    def now(self) -> datetime:
        return super().now() + self.wrong

    @property
    def true(self) -> datetime:
        return super().now()


@pytest.fixture
def machine() -> Machine:
    return Machine(NOW)


@pytest.mark.requirement("sysavailability.01.1")
@given(st.lists(st.tuples(st.floats(0, 60), st.sampled_from([-3600.0, -86_400.0, 0.0, 3600.0, 5e6])), max_size=30))
def test_with_a_store_that_knows_the_time_no_jump_is_ever_followed(steps: list[tuple[float, float]]) -> None:
    machine = Machine(NOW)
    clock = TrustedClock(machine)
    for seconds, wrong_s in steps:
        machine.advance(seconds)
        machine.wrong = timedelta(seconds=wrong_s)
        assert abs(clock.now() - machine.true) < timedelta(seconds=1e-3)
        assert clock.off_s == pytest.approx(wrong_s, abs=1e-3)
        clock.heard(machine.true)


def test_a_clock_that_is_set_right_is_followed_when_the_store_says_so(machine: Machine) -> None:
    clock = TrustedClock(machine)
    machine.wrong = HOUR
    assert clock.now() == NOW
    clock.heard(machine.now() + timedelta(seconds=1))
    assert clock.now() == NOW + HOUR
    assert clock.off_s == 0.0


def test_without_a_word_of_the_store_a_jump_is_followed_late(machine: Machine) -> None:
    clock = TrustedClock(machine)
    machine.wrong = -HOUR
    clock.now()
    machine.advance(HELD_S)
    assert clock.now() == machine.true
    machine.advance(1.0)
    assert clock.now() == machine.true - HOUR


def test_a_store_whose_own_clock_jumps_convinces_nobody(machine: Machine) -> None:
    clock = TrustedClock(machine)
    clock.heard(NOW + HOUR)
    assert clock.now() == NOW
    machine.wrong = HOUR
    clock.heard(NOW - HOUR)
    machine.advance(HELD_S / 2)
    assert clock.now() == machine.true


def test_a_clock_that_is_slowed_or_hurried_a_little_is_followed(machine: Machine) -> None:
    clock = TrustedClock(machine)
    for _ in range(1000):
        machine.advance(1.0)
        machine.wrong += timedelta(milliseconds=5)
        assert clock.now() == machine.now()
    assert clock.off_s == 0.0


def test_the_store_says_what_time_it_is(db: TenantStore) -> None:
    assert abs(read_clock(db) - datetime.now(UTC)) < timedelta(minutes=5)
