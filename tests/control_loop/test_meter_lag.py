"""The exchange's limits and set values with meters that are late, slow or wrong, and with devices that show late."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import pytest

from control_loop.context import ManualCommand
from control_loop.cycle import ControlCycle, CycleReport
from control_loop.model import SiteModel
from control_loop.protocols.base import MemoryDriver
from flexergy_pipelines.grid.clock import SimulatedClock
from tests.control_loop.harness import ESS, LIMIT, MEASURED, NOW, PV, SETPOINT, point

SITE = SiteModel("site", (ESS, PV), import_limit_kw=150.0, export_limit_kw=80.0, ramp_kw_per_s=25.0)


@dataclass
class Line:
    """A battery, a sun, a load, and a meter, each with its delay [s] where it has one; a cycle is `cycle_s`.

    Attributes
    ----------
    answers, shows : float
        Time in which the battery does what it is told, and by which it shows its power later than it gives it.
    late, every : float
        Time by which the meter is late, and in which it renews its value.
    sign : float
        -1 for a meter that is connected the wrong way round.
    """

    answers: float = 0.0
    shows: float = 0.0
    late: float = 0.0
    every: float = 0.0
    cycle_s: float = 1.0
    noise_kw: float = 0.0
    sign: float = 1.0
    hold_kw: float | None = None
    export_limit_kw: float = 80.0

    def run(self, seconds: float, load: Callable[[float], float], sun: Callable[[float], float]) -> list[float]:
        """The exchange in each cycle [kW]; what the loop reported is kept in `reports`."""
        rng = Random(5)  # noqa: S311 - repeatable, not secret
        clock, values = SimulatedClock(NOW), {point(n): v for n, v in MEASURED.items() if n[:3] in {"ess", "pv-"}}
        device = MemoryDriver("all", values | {("ess-1", SETPOINT): 0.0, ("pv-1", LIMIT): 120.0})
        model = replace(SITE, cycle_s=self.cycle_s, export_limit_kw=self.export_limit_kw)
        cycle = ControlCycle(model, [device], clock)
        if self.hold_kw is not None:
            cycle.commands = [ManualCommand(1, "pcc", SETPOINT, self.hold_kw, None, "test", "olga")]
        told, given, flows = [0.0], [0.0], [0.0]
        renewed = -math.inf
        self.reports: list[CycleReport] = []

        def before(series: list[float], time_s: float) -> float:
            return series[max(len(series) - 1 - round(time_s / self.cycle_s), 0)]

        async def cycles() -> None:
            nonlocal renewed
            for number in range(round(seconds / self.cycle_s)):
                now_s = number * self.cycle_s
                given.append(before(told, self.answers))
                pv = min(sun(now_s), device.values["pv-1", LIMIT] or 0.0)
                flows.append(load(now_s) + rng.gauss(0, self.noise_kw) - given[-1] - pv)
                if now_s - renewed >= self.every - 1e-6:
                    renewed = now_s
                    device.values["pcc", "active_power_kw"] = self.sign * before(flows, self.late)
                device.values["ess-1", "active_power_kw"] = before(given, self.shows)
                device.values |= {("pv-1", "active_power_kw"): pv, ("pv-1", "available_power_kw"): sun(now_s)}
                self.reports.append(await cycle.run_once(clock.now()))
                told.append(device.values["ess-1", SETPOINT] or 0.0)
                clock.advance(self.cycle_s)

        asyncio.run(cycles())
        return flows[1:]


def dark(_: float) -> float:
    return 0.0


LINES = [
    pytest.param(Line(late=2), id="a late meter"),
    pytest.param(Line(late=4, answers=5), id="a very late meter and a slow battery"),
    pytest.param(Line(every=3), id="a meter that renews its value each third cycle"),
    pytest.param(Line(cycle_s=0.2, every=1), id="and each fifth"),
    pytest.param(Line(cycle_s=0.2, answers=3, late=2), id="a fast cycle with a late meter and a slow battery"),
    pytest.param(Line(shows=3, answers=1), id="a battery that shows its power late"),
    pytest.param(Line(shows=2, late=1, noise_kw=0.05), id="both late"),
]


@pytest.mark.requirement("energy.14.5")
@pytest.mark.parametrize("line", LINES)
def test_an_exchange_is_held_without_a_swing(line: Line) -> None:
    exchange = replace(line, hold_kw=0.0).run(120, lambda s: 40.0 if s < 60 else 90.0, dark)
    for end in (60, 120):
        rest = exchange[round((end - 8) / line.cycle_s) : round(end / line.cycle_s)]
        assert max(map(abs, rest)) < 1.5


@pytest.mark.requirement("energy.14.6")
@pytest.mark.parametrize("line", LINES)
def test_a_limit_is_kept_without_a_swing(line: Line) -> None:
    exchange = line.run(140, lambda s: 30.0 if s < 20 else (200.0 if s < 80 else 215.0), dark)
    for end in (80, 140):
        rest = exchange[round((end - 8) / line.cycle_s) : round(end / line.cycle_s)]
        assert max(rest) - min(rest) < 1.0
        assert 145.0 < max(rest) <= 150.0


@pytest.mark.requirement("energy.14.6")
def test_a_sun_that_rises_fast_leads_outside_the_limit_for_no_more_than_a_cycle() -> None:
    line = Line(export_limit_kw=20.0)
    exchange = line.run(200, lambda _: 10.0, lambda s: 60.0 - 60.0 * math.cos(s / 12))
    outside = [value < -20.0 for value in exchange]
    assert not any(now and then for now, then in pairwise(outside))
    assert min(exchange) > -22.0


def test_a_meter_that_counts_the_wrong_way_round_is_found_and_not_controlled_by() -> None:
    for sign in (1.0, -1.0):
        line = Line(sign=sign, hold_kw=0.0, noise_kw=0.5)
        exchange = line.run(60, lambda _: 20.0, dark)
        assert (("meter_reversed", "pcc") in line.reports[-1].alarms) is (sign < 0)
        assert exchange[-1] == pytest.approx(20.0 if sign < 0 else 0.0, abs=3.0)
        assert ("meter_lost", "pcc") not in line.reports[-1].alarms
