"""The device's own time stamps: believed where they can be, and never by a wrong clock's word alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_loop.cycle import ControlCycle, CycleReport
from control_loop.image import PointKey
from control_loop.protocols.base import MemoryDriver
from control_loop.source_time import LATE_S, STEADY_S, SourceClock
from control_loop.telemetry import PointPolicy, TelemetryFilter
from flexergy_pipelines.grid.clock import SimulatedClock
from tests.control_loop.harness import ESS, MODEL, NOW

SOC = ("ess-1", "soc")
POWER = ("ess-1", "active_power_kw")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def told(clock: SourceClock, second: float, stamp: float, wall_error_s: float = 0.0) -> tuple[float | None, bool]:
    """What is made of a new value at `second`, stamped `stamp`: its believed time, and whether it is of the past."""
    times, late = clock.judge({SOC: after(stamp)}, after(second + wall_error_s), second)
    return (None if SOC not in times else (times[SOC] - NOW).total_seconds()), SOC in late


def test_a_stamp_of_a_moment_ago_is_when_the_value_became_so() -> None:
    clock = SourceClock()
    told(clock, 0, 0)
    assert told(clock, 1, 0.4) == (0.4, False)
    assert clock.offset_s == 0.0


def test_a_value_that_stands_keeps_its_old_stamp_and_counts() -> None:
    clock = SourceClock()
    assert told(clock, 0, -86_400) == (None, False)
    assert told(clock, 3600, -86_400) == (None, False)


def test_what_was_kept_back_is_of_the_past_until_it_has_caught_up() -> None:
    clock = SourceClock()
    told(clock, 0, -700)
    replayed = [told(clock, 1 + i, -600 + 60 * i) for i in range(9)]
    assert all(late for _, late in replayed)
    assert [time for time, _ in replayed] == [-600 + 60 * i for i in range(9)]
    assert told(clock, 30, 29.5) == (29.5, False)
    assert clock.offset_s == 0.0


@pytest.mark.parametrize("skew_s", [3600.0, 40.0, -40.0, -3600.0])
def test_a_wrong_clock_is_known_as_such_and_its_values_go_on_counting(skew_s: float) -> None:
    clock = SourceClock()
    results = [told(clock, t, t + skew_s) for t in range(40)]
    settled = results[int(STEADY_S) + 2 :]
    assert not any(late for _, late in settled)
    assert not any(time for time, _ in settled)
    assert clock.offset_s == pytest.approx(skew_s, abs=1)
    assert told(clock, 41, 41) == (41, False)  # it was set
    assert clock.offset_s == 0.0


@given(st.floats(-7200, 7200), st.integers(5, 60), st.integers(1, 60))
def test_a_jump_of_this_machines_own_clock_makes_nothing_late(jump_s: float, at: int, lasting: int) -> None:
    clock = SourceClock()
    for t in range(160):
        wrong = at <= t < at + lasting
        assert not told(clock, t, t, jump_s if wrong else 0.0)[1]
    assert clock.offset_s == 0.0


def test_the_state_after_an_outage_counts_whenever_it_became_so() -> None:
    clock = SourceClock()
    told(clock, 0, 0)
    clock.lost()
    assert told(clock, 900, 300) == (None, False)
    assert SourceClock(first_counts=True).judge({SOC: after(300)}, after(900), 900.0)[1] == {SOC}


@dataclass
class StampingDriver(MemoryDriver):
    """A device that says since when its values are so."""

    stamps: dict[PointKey, datetime] = field(default_factory=dict)

    def source_times(self) -> Mapping[PointKey, datetime]:
        return self.stamps


@pytest.mark.requirement("com.01.3")
def test_nothing_is_controlled_by_the_past_and_history_keeps_its_time() -> None:
    clock = SimulatedClock(NOW)
    values: dict[PointKey, float | None] = {SOC: 0.5, POWER: 0.0}
    device = StampingDriver("esc-1", values, stamps={POWER: NOW})
    cycle = ControlCycle(MODEL, [device, MemoryDriver("m", {("pcc", "active_power_kw"): 20.0})], clock)
    kept = TelemetryFilter(lambda *_: PointPolicy(1e9, 0.1))

    async def step(power: float, stamp: datetime) -> tuple[bool, list[tuple[datetime, float | None, int]]]:
        clock.advance(1.0)
        device.values[POWER] = power
        device.stamps[POWER] = stamp
        await cycle.run_once(clock.now())
        rows = [row[2:] for row in kept.select(cycle.image) if row[:2] == POWER]
        sample = cycle.image.value(*POWER, clock.monotonic(), 3.0)
        return sample is not None, rows

    async def run() -> None:
        await step(0.0, NOW)
        assert await step(10.0, after(1.25)) == (True, [(after(1.25), 10.0, 0)])
        past = after(-2 * LATE_S)
        assert await step(-30.0, past) == (False, [(past, -30.0, 0)])
        assert (await step(11.0, clock.now()))[0]

    asyncio.run(run())


def test_a_wrong_clock_of_a_device_is_alarmed_and_its_battery_stays_in_control() -> None:
    clock = SimulatedClock(NOW)
    device = StampingDriver("esc-1", {SOC: 0.5, POWER: 0.0})
    cycle = ControlCycle(MODEL, [device, MemoryDriver("m", {("pcc", "active_power_kw"): 20.0})], clock)

    async def run() -> None:
        reports: list[CycleReport] = []
        for _ in range(3):
            device.stamps[POWER] = clock.now() + timedelta(hours=1)
            reports.append(await cycle.run_once(clock.now()))
            clock.advance(1.0)
        assert "3600 s ahead" in reports[-1].alarms["device_clock_off", ESS.asset_id].message
        assert cycle.image.value(*POWER, clock.monotonic(), 3.0) == 0.0

    asyncio.run(run())
