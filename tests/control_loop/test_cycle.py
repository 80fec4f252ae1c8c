"""The cycle against devices: dispatch, read-back, late and broken devices, schedules, supervision."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from control_loop.context import Context, ManualCommand
from control_loop.cycle import ControlCycle, CycleReport
from control_loop.dispatch import Dispatcher
from control_loop.image import PointKey
from control_loop.model import SiteModel
from control_loop.protocols.base import DriverError, MemoryDriver
from control_loop.requests import Layer, Request
from control_loop.supervision import DeviationPolicy, PlanSupervisor
from flexergy_pipelines.grid.clock import SimulatedClock
from tests.control_loop.harness import ESS, MEASURED, MODEL, NOW, SETPOINT, plan_of, point

ESS_SETPOINT = f"ess-1.{SETPOINT}"


class Bench:
    """A site of in-memory devices and a cycle that drives them, a second at a time."""

    def __init__(self, esc: MemoryDriver | None = None, model: SiteModel = MODEL, **options: Any) -> None:
        self.clock = SimulatedClock(NOW)
        values = {point(name): value for name, value in MEASURED.items()}
        self.esc = esc or MemoryDriver("esc-1")
        self.esc.values.update({key: value for key, value in values.items() if key[0] == "ess-1"})
        self.esc.values[point(ESS_SETPOINT)] = 0.0
        rest = {key: value for key, value in values.items() if key[0] != "ess-1"}
        rest |= {(a.asset_id, a.quantity): a.idle_kw for a in MODEL.actuators if a.asset_id != "ess-1"}
        self.rest = MemoryDriver("rest", rest, frozenset({"pv-1"}))
        self.cycle = ControlCycle(model, [self.esc, self.rest], self.clock, **options)

    def run(self, count: int = 1, each: Callable[[int], None] | None = None) -> list[CycleReport]:
        """Run cycles one second apart."""

        async def cycles() -> list[CycleReport]:
            reports = []
            for number in range(count):
                if each is not None:
                    each(number)
                reports.append(await self.cycle.run_once(self.clock.now()))
                self.clock.advance(1.0)
            await self.cycle.close()
            return reports

        return asyncio.run(cycles())

    def sent_to_ess(self) -> list[float]:
        return [value for asset, _, value in self.esc.writes if asset == "ess-1"]


def test_the_plan_reaches_the_device_along_the_ramp_and_is_sent_once() -> None:
    bench = Bench()
    bench.cycle.plan = plan_of({ESS_SETPOINT: 60.0})
    bench.run(6)
    # The grid connection of the bench does not feel the battery, so only the ramp of 25 kW/s shapes the way.
    assert bench.sent_to_ess() == [25.0, 50.0, 60.0]


def test_an_unchanged_setpoint_is_renewed_before_its_time_to_live_ends() -> None:
    bench = Bench()
    bench.cycle.plan = plan_of({ESS_SETPOINT: 20.0})
    reports = bench.run(21)
    renewed = [r.cycle for r in reports if any(s.actuator is ESS for s in r.sent)]
    assert renewed == [1, 6, 11, 16, 21]
    assert all(s.valid_until - s.created == MODEL.setpoint_ttl_s for r in reports for s in r.sent)


def test_the_last_bit_down_to_zero_is_sent_however_small() -> None:
    bench = Bench()
    bench.cycle.plan = plan_of({ESS_SETPOINT: 0.015})
    bench.run(2)
    bench.cycle.plan = None
    bench.run(2)
    assert bench.sent_to_ess() == [0.015, 0.0]


@pytest.mark.requirement("energy.12.1")
def test_the_next_hour_goes_out_on_each_plan_and_each_quarter() -> None:
    bench = Bench(esc=MemoryDriver("esc-1", {}, frozenset({"ess-1"})))
    quarter = timedelta(minutes=15)
    plan = plan_of({ESS_SETPOINT: 60.0, "pv-1.active_power_limit_kw": 90.0}, hours=0.75)
    bench.cycle.plan = plan
    first, again = bench.run(2)
    assert {s.asset_id for s in first.schedules} == {"ess-1", "pv-1"}
    assert again.schedules == []
    # The plan covers three quarters; the fourth is idle, so that the device does not go on with an old plan.
    assert bench.esc.schedules["ess-1"] == (NOW, (60.0, 60.0, 60.0, 0.0))
    assert bench.rest.schedules["pv-1"] == (NOW, (90.0, 90.0, 90.0, 120.0))
    bench.clock.advance(quarter.total_seconds())
    bench.run(1)
    assert bench.esc.schedules["ess-1"] == (NOW + quarter, (60.0, 60.0, 0.0, 0.0))
    bench.cycle.plan = None
    bench.run(1)
    assert bench.esc.schedules["ess-1"] == (NOW + quarter, (0.0, 0.0, 0.0, 0.0))


def test_the_plan_that_follows_is_known_before_and_a_device_that_was_away_is_told_again() -> None:
    bench = Bench(esc=MemoryDriver("esc-1", {}, frozenset({"ess-1"})))
    end = NOW + timedelta(minutes=30)
    bench.cycle.plan = plan_of({ESS_SETPOINT: 20.0}, hours=0.5)
    bench.cycle.next_plan = replace(plan_of({ESS_SETPOINT: 15.0}, start=end, hours=0.5), plan_id=8, version=4)
    bench.run(2)
    assert bench.esc.schedules["ess-1"] == (NOW, (20.0, 20.0, 15.0, 15.0))
    bench.esc.schedules.clear()
    bench.run(1)
    assert not bench.esc.schedules
    bench.esc.health.reconnects += 1
    bench.run(1)
    assert bench.esc.schedules["ess-1"] == (NOW, (20.0, 20.0, 15.0, 15.0))
    bench.clock.advance((end - bench.clock.now()).total_seconds() - 1.0)
    reports = bench.run(2)
    assert [r.decisions["ess-1"].value for r in reports] == [20.0, 15.0]
    assert reports[1].decisions["ess-1"].reason == "plan 4"
    assert not any(("no_plan", None) in r.alarms for r in reports)
    bench.clock.advance(1800.0)
    last = bench.run(1)[0]
    assert ("no_plan", None) in last.alarms
    assert (last.decisions["ess-1"].value, last.decisions["ess-1"].layer) == (0.0, Layer.IDLE)


def test_a_schedule_holds_nothing_that_the_device_cannot_do() -> None:
    bench = Bench(esc=MemoryDriver("esc-1", {}, frozenset({"ess-1"})))
    bench.cycle.plan = plan_of({ESS_SETPOINT: 500.0, "pv-1.active_power_limit_kw": math.nan})
    bench.run(1)
    assert bench.esc.schedules["ess-1"][1] == (100.0,) * 4
    assert bench.rest.schedules["pv-1"][1] == (120.0,) * 4


class BrokenController:
    """A controller with a fault in it."""

    def requests(self, context: Context) -> list[Request]:
        raise ZeroDivisionError(context.model.site_id)


def test_a_controller_that_fails_takes_nothing_with_it() -> None:
    bench = Bench(controllers=[BrokenController()])
    bench.cycle.plan = plan_of({ESS_SETPOINT: 20.0})
    reports = bench.run(2)
    assert reports[1].decisions["ess-1"].value == 20.0
    assert reports[1].alarms["rule_failed", None].message == "rule BrokenController: ZeroDivisionError: site"


class Deaf(MemoryDriver):
    """Acknowledges setpoints and does nothing with them."""

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        self.writes.append((asset_id, quantity, value))


def test_an_acknowledged_setpoint_without_effect_raises_an_alarm_within_two_cycles() -> None:
    bench = Bench(esc=Deaf("esc-1"))
    bench.cycle.plan = plan_of({ESS_SETPOINT: 20.0})
    reports = bench.run(3)
    key = ("setpoint_without_effect", "ess-1")
    assert [key in r.alarms for r in reports] == [False, False, True]
    assert "20 kW was acknowledged, but the device holds 0 kW" in reports[2].alarms[key].message
    assert bench.cycle.dispatcher.status("ess-1") == "no_effect"


class Failing(MemoryDriver):
    """Refuses to answer while it is down."""

    down = False

    async def read(self) -> Mapping[PointKey, float | None]:
        if self.down:
            raise DriverError("esc-1: no answer")
        return await super().read()

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        if self.down:
            raise DriverError("esc-1: no answer")
        await super().write(asset_id, quantity, value)


@pytest.mark.requirement("com.01.3")
def test_a_device_that_comes_back_goes_on_from_the_value_it_holds() -> None:
    device = Failing("esc-1")
    bench = Bench(esc=device)
    bench.cycle.plan = plan_of({ESS_SETPOINT: 80.0})

    def fault(number: int) -> None:
        device.down = 2 <= number < 30
        if number == 20:
            device.values[point(ESS_SETPOINT)] = 10.0  # its own revert timer ran out

    reports = bench.run(34, fault)
    assert not reports[0].alarms.keys() - {("no_plan", None)}
    assert ("telemetry_stale", "ess-1") in reports[10].alarms
    assert ("setpoint_not_delivered", "ess-1") in reports[20].alarms
    assert reports[12].decisions["ess-1"].layer is Layer.FAIL_SAFE
    assert bench.sent_to_ess() == [25.0, 50.0, 35.0, 60.0, 80.0]
    assert not {"telemetry_stale", "setpoint_not_delivered"} & {code for code, _ in reports[-1].alarms}


class Late(MemoryDriver):
    """Answers only when it is let."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.let = asyncio.Event()

    async def read(self) -> Mapping[PointKey, float | None]:
        await self.let.wait()
        return await super().read()


def test_a_late_device_does_not_hold_up_the_cycle_and_its_answer_counts_later() -> None:
    device = Late("esc-1")
    bench = Bench(esc=device, read_deadline_s=0.01)

    async def cycles() -> tuple[CycleReport, CycleReport, CycleReport]:
        first = await bench.cycle.run_once(NOW)
        second = await bench.cycle.run_once(NOW)
        device.let.set()
        third = await bench.cycle.run_once(NOW)
        await bench.cycle.close()
        return first, second, third

    first, second, third = asyncio.run(cycles())
    assert first.late == second.late == ("esc-1",)
    assert bench.cycle.image.sample("pcc", "active_power_kw") is not None
    assert third.late == ()
    assert first.decisions["ess-1"].layer is Layer.FAIL_SAFE
    assert third.decisions["ess-1"].layer is Layer.IDLE


class Stuck(MemoryDriver):
    """Takes a setpoint and never acknowledges it."""

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        self.writes.append((asset_id, quantity, value))
        await asyncio.Event().wait()


def test_a_device_that_never_acknowledges_is_not_sent_a_second_setpoint_meanwhile() -> None:
    bench = Bench(esc=Stuck("esc-1"), write_deadline_s=0.001)
    bench.cycle.plan = plan_of({ESS_SETPOINT: 80.0})
    reports = bench.run(4)
    assert bench.sent_to_ess() == [25.0]
    assert [len([s for s in r.sent if s.actuator.controller == "esc-1"]) for r in reports] == [1, 0, 0, 0]


def test_the_silence_of_what_is_only_metered_is_an_alarm_and_moves_nothing() -> None:
    bench = Bench()
    bench.cycle.model = replace(MODEL, metered=("hall", "house"))
    bench.rest.values |= {("hall", "active_power_kw"): 12.0, ("house", "active_power_kw"): 3.0}

    def fault(number: int) -> None:
        if number == 5:
            bench.rest.values["hall", "active_power_kw"] = None
            del bench.rest.values["house", "active_power_kw"]

    reports = bench.run(20, fault)
    assert not {key for key in reports[4].alarms if key[0] == "telemetry_stale"}
    found = {asset: alarm for (code, asset), alarm in reports[-1].alarms.items() if code == "telemetry_stale"}
    assert {asset: alarm.severity for asset, alarm in found.items()} == {"hall": 3, "house": 3}
    assert found["hall"].message == "hall: its device answers, but gives no value of its power"
    assert found["house"].message.startswith("house: no reading for 1")
    assert all(decision.layer is Layer.IDLE for decision in reports[-1].decisions.values())


class Broken(MemoryDriver):
    """A driver with a bug."""

    async def read(self) -> Mapping[PointKey, float | None]:
        raise RuntimeError("index out of range")

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        raise RuntimeError(f"no room for {asset_id} {quantity} {value}")


def test_a_driver_with_a_bug_stops_nobody_else() -> None:
    broken = Broken("esc-1")
    bench = Bench(esc=broken)
    reports = bench.run(33)
    assert reports[-1].errors == {"esc-1": "index out of range"}
    assert ("telemetry_stale", "ess-1") not in reports[29].alarms  # it may still be on its way
    assert reports[-1].decisions["pv-1"].layer is Layer.IDLE
    assert ("telemetry_stale", "ess-1") in reports[-1].alarms


def test_a_setpoint_of_an_older_lease_or_past_its_end_is_never_sent() -> None:
    dispatcher = Dispatcher(MODEL, epoch=4)
    bench = Bench()
    bench.cycle.plan = plan_of({ESS_SETPOINT: 20.0})
    decisions = bench.run(1)[0].decisions
    setpoint = next(s for s in dispatcher.due(decisions, 100.0) if s.actuator is ESS)
    assert dispatcher.may_send(setpoint, 100.0)
    assert not dispatcher.may_send(setpoint, 100.0 + MODEL.setpoint_ttl_s)
    dispatcher.epoch = 5
    assert not dispatcher.may_send(setpoint, 100.0)


def test_the_lost_meter_ramps_everything_down_with_a_critical_alarm() -> None:
    bench = Bench()
    bench.cycle.plan = plan_of({ESS_SETPOINT: 60.0})

    def unplug(number: int) -> None:
        if number == 4:
            del bench.rest.values["pcc", "active_power_kw"]

    reports = bench.run(12, unplug)
    assert bench.sent_to_ess() == [25.0, 50.0, 60.0, 35.0, 10.0, 0.0]
    assert reports[-1].alarms["meter_lost", "pcc"].severity == 1


def test_a_manual_setpoint_ends_on_time_and_the_plan_takes_over() -> None:
    bench = Bench()
    bench.cycle.plan = plan_of({ESS_SETPOINT: 20.0})
    bench.cycle.commands = [ManualCommand(1, "ess-1", SETPOINT, -5.0, 3.0, "test", "olga")]
    reports = bench.run(5)
    assert [r.decisions["ess-1"].layer for r in reports] == [Layer.OPERATOR] * 3 + [Layer.PLAN] * 2


@pytest.mark.requirement("module.operation")
def test_a_lasting_deviation_asks_for_a_plan_once_in_a_while() -> None:
    policy = DeviationPolicy(soc=0.05, hold_s=5.0, pause_s=20.0)
    bench = Bench(supervisor=PlanSupervisor(policy))
    bench.cycle.plan = plan_of({"ess-1.soc": 0.7})
    asked = {r.cycle: r.replan_reason for r in bench.run(40) if r.replan_reason is not None}
    assert list(asked) == [6, 26]
    assert asked[6] == "ess-1: state of charge 0.50, planned 0.70"


def test_a_passing_deviation_does_not() -> None:
    bench = Bench(supervisor=PlanSupervisor(DeviationPolicy(hold_s=5.0)))
    bench.cycle.plan = plan_of({"pcc.active_power_kw": 20.0})

    def gust(number: int) -> None:
        bench.rest.values["pcc", "active_power_kw"] = -70.0 if number % 5 < 4 else 20.0

    assert all(r.replan_reason is None for r in bench.run(20, gust))


def test_the_wall_clock_may_jump_without_any_value_growing_old() -> None:
    bench = Bench()
    bench.cycle.plan = plan_of({ESS_SETPOINT: 20.0})

    async def cycles() -> list[CycleReport]:
        reports = []
        for jump in (0, 3600, -3600, 0):
            now: datetime = bench.clock.now() + timedelta(seconds=jump)
            reports.append(await bench.cycle.run_once(now))
            bench.clock.advance(1.0)
        return reports

    reports = asyncio.run(cycles())
    assert not any(code in {"telemetry_stale", "meter_lost"} for r in reports for code, _ in r.alarms)
    assert [r.decisions["ess-1"].value for r in reports] == [20.0, 20.0, 0.0, 20.0]
