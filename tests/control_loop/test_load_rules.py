"""The load controller: steps, least time between curtailments, longest curtailment, and what outranks them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from control_loop.context import LoadState, ManualCommand
from control_loop.cycle import ControlCycle
from control_loop.load_memory import Limit, replayed
from control_loop.load_rules import recalled
from control_loop.model import CurtailmentRules, SiteModel
from control_loop.protocols.base import MemoryDriver
from flexergy_pipelines.grid.clock import SimulatedClock
from tests.control_loop.harness import ESS, LIMIT, LOAD, MEASURED, NOW, plan_of, point

RULES = CurtailmentRules(steps=(0.75, 0.5, 0.25), min_between_s=600.0, max_s=300.0)
COLD = replace(LOAD, curtailment=RULES)
PUMP = replace(LOAD, asset_id="pump", priority=2, curtailment=RULES)
MODEL = SiteModel("site", (ESS, COLD, PUMP), 150.0, 80.0, ramp_kw_per_s=25.0, cycle_s=10.0, setpoint_ttl_s=60.0)
DEMAND_KW = 20.0


class Bench:
    """A battery that is full of rules and two loads of 20 kW that take what their limit leaves them."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(NOW)
        values = {point(name): value for name, value in MEASURED.items() if name.startswith(("pcc", "ess-1"))}
        values |= {("ess-1", "max_discharge_kw"): 0.0}
        self.device = MemoryDriver("all", dict(values))
        for load in ("cold", "pump"):
            self.device.values.update({(load, "active_power_kw"): DEMAND_KW, (load, LIMIT): 40.0})
        self.base_kw = 0.0
        self.cycle = ControlCycle(MODEL, [self.device], self.clock)

    def run(self, seconds: float, plan: dict[str, float] | None = None) -> list[float]:
        """Let time pass; returns the power of the cold store in each cycle [kW]."""
        self.cycle.plan = None if plan is None else plan_of(plan, start=self.clock.now(), hours=2.0)

        async def cycles() -> list[float]:
            powers = []
            for _ in range(round(seconds / MODEL.cycle_s)):
                await self.cycle.run_once(self.clock.now())
                for load in ("cold", "pump"):
                    limit = self.device.values[load, LIMIT]
                    assert limit is not None
                    self.device.values[load, "active_power_kw"] = min(DEMAND_KW, limit)
                total = sum(self.device.values[load, "active_power_kw"] or 0.0 for load in ("cold", "pump"))
                self.device.values["pcc", "active_power_kw"] = self.base_kw + total
                powers.append(self.device.values["cold", "active_power_kw"] or 0.0)
                self.clock.advance(MODEL.cycle_s)
            return powers

        return asyncio.run(cycles())


PLANNED = {f"cold.{LIMIT}": 11.0}


@pytest.mark.requirement("module.load_controller")
def test_a_load_is_curtailed_in_its_steps() -> None:
    # 11 kW is nearest to half of the demand of 20 kW.
    assert Bench().run(30, PLANNED)[1:] == [10.0, 10.0]
    assert Bench().run(30, {f"cold.{LIMIT}": 14.0})[1:] == [15.0, 15.0]
    assert Bench().run(30, {f"cold.{LIMIT}": 0.0})[1:] == [5.0, 5.0]
    assert Bench().run(30, {f"cold.{LIMIT}": 19.9})[1:] == [20.0, 20.0]


@pytest.mark.requirement("module.load_controller")
def test_not_longer_than_allowed_and_not_again_too_soon() -> None:
    powers = Bench().run(3600, PLANNED)
    curtailed = [power < DEMAND_KW for power in powers]
    changes = [i for i in range(1, len(curtailed)) if curtailed[i] != curtailed[i - 1]]
    spells = [(b - a) * MODEL.cycle_s for a, b in zip([0, *changes], changes, strict=False)]
    lengths = spells if curtailed[0] else spells[1:]
    assert lengths[0::2] == pytest.approx([300.0] * len(lengths[0::2]))
    assert lengths[1::2] == pytest.approx([600.0] * len(lengths[1::2]))
    assert len(lengths) >= 6


@pytest.mark.requirement("module.load_controller")
def test_the_connection_outranks_the_rules_and_takes_the_loads_by_priority() -> None:
    bench = Bench()
    bench.run(330, PLANNED)  # the cold store has just been curtailed for as long as allowed
    bench.base_kw = 120.0
    powers = bench.run(120)
    # 120 + 20 + 20 kW against 148.5 kW: the cold store (priority 7) gives way in spite of its rest, the pump (2) not.
    assert powers[2:] == [5.0] * 10
    assert bench.device.values["pump", "active_power_kw"] == DEMAND_KW


def test_below_its_lowest_step_a_load_cannot_be_counted_on() -> None:
    bench = Bench()
    bench.run(20)
    bench.base_kw = 135.0
    bench.run(60)
    # 135 + 5 kW leave 8.5 kW for the pump, so the next load in line gives the rest: its lowest step.
    assert bench.device.values["cold", "active_power_kw"] == 5.0
    assert bench.device.values["pump", "active_power_kw"] == 5.0


def test_a_meter_that_shows_more_than_the_rating_does_not_turn_the_load_off() -> None:
    bench = Bench()
    bench.device.values["cold", "active_power_kw"] = 10 * LOAD.maximum_kw
    bench.run(10)
    assert bench.cycle._loads["cold"].baseline_kw == LOAD.maximum_kw


def history(bench: Bench, seconds: float, plan: dict[str, float]) -> tuple[list[Limit], list[tuple[datetime, float]]]:
    """Limits and demands of the cold store as a loop sends and measures them meanwhile."""
    limits: list[Limit] = []
    measured: list[tuple[datetime, float]] = []
    for _ in range(round(seconds / MODEL.cycle_s)):
        now = bench.clock.now()
        measured.append((now, bench.device.values["cold", "active_power_kw"] or 0.0))
        bench.run(MODEL.cycle_s, plan)
        limits.append((now, bench.device.values["cold", LIMIT] or 0.0, now + timedelta(seconds=60)))
    return limits, measured


@pytest.mark.requirement("module.load_controller")
@pytest.mark.parametrize("seconds", [100.0, 200.0, 400.0], ids=["running", "running for long", "ended"])
def test_a_loop_that_takes_over_goes_on_with_the_curtailment_of_the_one_before(seconds: float) -> None:
    bench = Bench()
    bench.run(30)
    limits, measured = history(bench, seconds, PLANNED)
    before = bench.cycle._loads["cold"]
    now, monotonic = bench.clock.now(), bench.clock.monotonic()
    state = replayed(COLD, limits, measured, now, monotonic)
    assert state is not None
    assert state.baseline_kw == before.baseline_kw == DEMAND_KW  # not what was left of it
    assert (state.curtailed_since is None) == (before.curtailed_since is None)
    if before.curtailed_since is not None:
        assert state.curtailed_since == pytest.approx(before.curtailed_since, abs=MODEL.cycle_s)
    bench.cycle = ControlCycle(MODEL, [bench.device], bench.clock)
    bench.cycle.remember({"cold": state})
    powers = bench.run(900, PLANNED)
    left = max(0.0, 300.0 - seconds) if before.curtailed_since is not None else 0.0
    assert powers.count(10.0) * MODEL.cycle_s - left <= 300.0 + 3 * MODEL.cycle_s  # one new one at most, after a rest
    first_free = next(n for n, power in enumerate(powers) if power == DEMAND_KW)
    assert first_free * MODEL.cycle_s <= left + 2 * MODEL.cycle_s


def test_what_is_recalled_late_counts_unless_the_loop_has_seen_an_end_itself() -> None:
    running, ended = LoadState(20.0, 100.0, None), LoadState(20.0, None, 90.0)
    own_running, own_ended, fresh = LoadState(10.0, 130.0, None), LoadState(10.0, None, 140.0), LoadState(10.0)
    assert recalled(running, None) == recalled(running, own_running) == recalled(running, fresh) == running
    assert recalled(running, own_ended) == recalled(ended, own_ended) == own_ended
    assert recalled(ended, own_running) == LoadState(10.0, 130.0, 90.0)
    assert recalled(ended, fresh) == LoadState(10.0, None, 90.0)


def test_a_curtailment_that_nobody_renewed_has_ended() -> None:
    began = NOW - timedelta(minutes=30)
    limits = [(began - timedelta(minutes=1), 40.0, began), (began, 10.0, began + timedelta(seconds=60))]
    state = replayed(COLD, limits, [(began - timedelta(seconds=5), 20.0)], NOW, 5000.0)
    assert state == LoadState(None, None, 5000.0 - 29 * 60.0)
    assert replayed(COLD, [], [], NOW, 5000.0) is None


def test_a_stop_knows_no_steps() -> None:
    bench = Bench()
    bench.run(20)
    bench.cycle.commands = [ManualCommand(1, None, "emergency_stop", 1.0, None)]
    bench.run(20)
    assert bench.device.values["cold", LIMIT] == 0.0
