"""Zero flow and frequency response: controllers that close a loop over the meter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_loop.context import ManualCommand
from control_loop.cycle import ControlCycle, CycleReport
from control_loop.dead_time import DeadTime
from control_loop.droop import Curve, fcr_share, ieee1547_power, lfsm_over, lfsm_under
from control_loop.model import SiteModel
from control_loop.protocols.base import MemoryDriver
from flexergy_pipelines.grid.clock import SimulatedClock
from tests.control_loop.harness import ESS, MEASURED, NOW, SETPOINT, plan_of, point

MODEL = SiteModel("site", (ESS, replace(ESS, asset_id="ess-2")), 150.0, 80.0, ramp_kw_per_s=200.0)


class Bench:
    """Two batteries that follow after `delay` cycles, behind a meter that feels them."""

    def __init__(self, delay: int = 1, gain: float = 1.0, ramp: float = 200.0, band: float | None = None) -> None:
        self.clock = SimulatedClock(NOW)
        values = {point(name): value for name, value in MEASURED.items() if name.startswith("ess-1")}
        values |= {("ess-2", key[1]): value for key, value in values.items()}
        values |= {(e, SETPOINT): 0.0 for e in ("ess-1", "ess-2")}
        self.device = MemoryDriver("all", {**values, ("pcc", "active_power_kw"): 0.0, ("pcc", "frequency_hz"): 50.0})
        self.past = [0.0] * delay
        self.gain = gain
        model = replace(MODEL, ramp_kw_per_s=ramp, exchange_band_kw=band)
        self.cycle = ControlCycle(model, [self.device], self.clock)
        self.reports: list[CycleReport] = []
        self.exchange: list[float] = []

    def run(self, loads: list[float], before: Callable[[int], None] | None = None) -> list[float]:
        """Let the load take these values, a second each; returns the exchange [kW]."""

        async def cycles() -> list[float]:
            exchange = []
            for number, load in enumerate(loads):
                if before is not None:
                    before(number)
                power = self.gain * self.past[0] / 2
                self.device.values.update({("ess-1", "active_power_kw"): power, ("ess-2", "active_power_kw"): power})
                self.device.values["pcc", "active_power_kw"] = load - 2 * power
                exchange.append(load - 2 * power)
                self.reports.append(await self.cycle.run_once(self.clock.now()))
                told = sum(self.device.values[e, SETPOINT] or 0.0 for e in ("ess-1", "ess-2"))
                self.past = [*self.past[1:], told]
                self.clock.advance(1.0)
            return exchange

        return asyncio.run(cycles())


def hold(value: float) -> list[ManualCommand]:
    return [ManualCommand(4, "pcc", SETPOINT, value, None, "test", "olga")]


@pytest.mark.requirement("energy.14.5")
@pytest.mark.parametrize("gain", [1.0, 0.9], ids=["exact", "weak"])
@pytest.mark.parametrize("delay", [1, 2, 5, 10])
def test_zero_flow_is_reached_and_held_against_steps_of_the_load(delay: int, gain: float) -> None:
    bench = Bench(delay, gain=gain)
    bench.cycle.commands = hold(0.0)
    exchange = bench.run([40.0] * 60 + [75.0] * 60 + [-30.0] * 60)
    for end in (60, 120, 180):
        assert all(abs(value) < 1.0 for value in exchange[end - 5 : end])
    # Once the dead time is known a step is answered without a swing beyond it.
    assert max(abs(v) for v in exchange[61:120]) <= 35.5
    settled = next(i for i in range(60) if all(abs(v) < 1.0 for v in exchange[120 + i : 180]))
    assert settled <= 3 * delay + 9
    # Shared by the room each has: equally, of two equal batteries.
    assert bench.device.values["ess-1", SETPOINT] == pytest.approx(bench.device.values["ess-2", SETPOINT], abs=0.1)


def test_the_dead_time_is_found_in_any_movement() -> None:
    rng = Random(3)  # noqa: S311 - repeatable, not secret
    for delay in (1, 3, 7, 14):
        known = DeadTime(100.0)
        told = [0.0] * delay
        for number in range(120):
            known.note(told[-1], 0.97 * told[-delay] - 1.5 + rng.gauss(0, 0.5))
            told.append(told[-1] + (rng.choice([-4.0, 3.0, 0.0, 5.0]) if number % 3 == 0 else 0.0))
        assert known.measured
        assert known.cycles == delay
    quiet = DeadTime(100.0)
    for _ in range(120):
        quiet.note(10.0, 10.0 + rng.gauss(0, 0.5))
    assert not quiet.measured


def test_what_a_limit_holds_back_does_not_wind_up() -> None:
    bench = Bench()
    bench.cycle.commands = hold(0.0)
    exchange = bench.run([320.0] * 60 + [40.0] * 40)
    assert exchange[50] == pytest.approx(120.0, abs=0.5)  # 200 kW is all the batteries have
    # A wound-up controller would go on discharging for as long as it was held back.
    settled = next(i for i, value in enumerate(exchange[60:]) if abs(value) < 0.5)
    assert settled < 20


def test_a_device_that_does_not_follow_is_not_waited_for_with_a_wound_up_setpoint() -> None:
    bench = Bench(gain=0.2)  # gives a fifth of what it is told
    bench.cycle.commands = hold(0.0)
    bench.run([60.0] * 60)
    told = sum(bench.device.values[name, SETPOINT] or 0.0 for name in ("ess-1", "ess-2"))
    # 60 kW would need 300 kW; at most what is missing beyond what it gives, and a tenth of both ranges.
    assert told <= 60.0 + 0.1 * 400 + 1.0


def test_without_the_command_the_plan_takes_over() -> None:
    bench = Bench()
    bench.cycle.plan = plan_of({f"ess-1.{SETPOINT}": 10.0, f"ess-2.{SETPOINT}": 10.0})
    bench.cycle.commands = hold(5.0)
    bench.run([40.0] * 30)
    bench.cycle.commands = []
    assert bench.run([40.0] * 30)[-1] == pytest.approx(20.0, abs=0.1)


RFG = [  # LFSM points of Regulation (EU) 2016/631 by its formula, reserve points of a battery without dead band
    (lfsm_over, 0.05, 50.2, 0.0), (lfsm_over, 0.05, 50.3, -0.04), (lfsm_over, 0.05, 50.5, -0.12),
    (lfsm_over, 0.05, 51.0, -0.32), (lfsm_over, 0.05, 51.5, -0.52), (lfsm_over, 0.12, 50.7, -0.083333),
    (lfsm_over, 0.12, 51.2, -0.166667), (lfsm_over, 0.05, 50.0, 0.0), (lfsm_under, 0.05, 49.8, 0.0),
    (lfsm_under, 0.05, 49.7, 0.04), (lfsm_under, 0.05, 49.5, 0.12), (lfsm_under, 0.05, 49.0, 0.32),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "droop", "frequency", "expected"), RFG)
def test_limited_frequency_sensitive_modes(
    mode: Callable[[float, float], float], droop: float, frequency: float, expected: float
) -> None:
    assert mode(frequency, droop) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("frequency", "share"),
    [(49.99, 0.05), (49.95, 0.25), (49.9, 0.5), (49.8, 1), (49.7, 1), (50.0, 0), (50.05, -0.25), (50.2, -1)],
)
def test_frequency_containment_reserve(frequency: float, share: float) -> None:
    assert fcr_share(frequency) == pytest.approx(share, abs=1e-6)


IEEE = [  # computed with OpenDER 2.2.0: dead band [Hz], droop, frequency [Hz], power [per unit] from 0.5 before
    (0.036, 0.05, 59.0, 0.821333333), (0.036, 0.05, 59.5, 0.654666667), (0.036, 0.05, 59.9, 0.521333333),
    (0.036, 0.05, 60.0, 0.5), (0.036, 0.05, 60.05, 0.495333333), (0.036, 0.05, 61.2, 0.112),
    (0.017, 0.03, 59.0, 1.0), (0.017, 0.03, 59.5, 0.768333333), (0.017, 0.03, 60.2, 0.398333333),
    (0.017, 0.03, 61.0, 0.0), (0.1, 0.05, 59.9, 0.5), (0.1, 0.05, 60.2, 0.466666667), (0.1, 0.05, 61.2, 0.133333333),
]  # fmt: skip


@pytest.mark.parametrize(("dead_band", "droop", "frequency", "power"), IEEE)
def test_frequency_droop_of_ieee_1547(dead_band: float, droop: float, frequency: float, power: float) -> None:
    assert ieee1547_power(frequency, 0.5, dead_band_hz=dead_band, droop=droop) == pytest.approx(power, abs=1e-6)


FCR = Curve(((49.8, 1.0), (49.99, 0.0), (50.01, 0.0), (50.2, -1.0)))


@given(st.floats(45, 55))
def test_a_curve_is_linear_between_its_points_and_flat_beyond(frequency: float) -> None:
    value = FCR(frequency)
    assert -1.0 <= value <= 1.0
    if 49.99 <= frequency <= 50.01:
        assert value == pytest.approx(0.0, abs=1e-9)
    if frequency >= 50.2:
        assert value == -1.0
    assert FCR(frequency + 0.001) <= value + 1e-9


@pytest.mark.parametrize("points", [((50.0, 1.0),), ((50.0, 1.0), (50.0, 0.0)), ((50.0, 1.0), (49.0, 0.0))])
def test_a_curve_that_is_none_is_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match=r"curve"):
        Curve(points)
