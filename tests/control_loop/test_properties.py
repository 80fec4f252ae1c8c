"""Whatever is asked and whatever fails, no setpoint leaves the limits of power, state of charge, ramp and PCC."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.control_loop.storm import weather


@pytest.mark.requirement("energy.11.3")
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
@example(1004568)  # a car that was held back and then did not take what it was given
def test_no_setpoint_leaves_the_limits(seed: int) -> None:
    assert weather(seed, 120) == []


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_setpoint_leaves_the_limits_in_a_million_cycles() -> None:
    for seed in range(2_000):
        assert weather(seed, 500) == []
