"""A device that always says the same, and one that does not do what it took: both are found, and nothing is made up."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from control_loop.cycle import ControlCycle, CycleReport
from control_loop.protocols.base import MemoryDriver
from control_loop.requests import Layer
from flexergy_pipelines.grid.clock import SimulatedClock
from tests.control_loop.harness import ESS, LIMIT, MODEL, NOW, PV, SETPOINT, plan_of, point

SITE = replace(MODEL, actuators=(ESS, PV))
PLAN = plan_of({f"ess-1.{SETPOINT}": -50.0}, hours=4.0)


class Plant:
    """A battery, a PV plant and a meter whose values move by a hair each second, unless a test holds them."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(NOW)
        self.held: dict[str, float] = {}
        self.devices = {name: MemoryDriver(name) for name in ("pcc", "ess-1", "pv-1")}
        self.soc, self.power, self.sun, self.second = 0.5, 0.0, 60.0, 0
        self.stuck = False
        self._show()
        self.cycle = ControlCycle(SITE, list(self.devices.values()), self.clock)
        self.cycle.plan = PLAN

    def _show(self) -> None:
        hair = 0.01 * math.sin(self.second)
        values = {
            "pcc.active_power_kw": 20.0 - self.sun - self.power + hair,
            "pcc.frequency_hz": 50.0 + hair,
            "pcc.voltage_l1_v": 230.0 + hair,
            "ess-1.active_power_kw": self.power,
            "ess-1.soc": self.soc,
            "ess-1.available": 1.0,
            "pv-1.active_power_kw": self.sun + hair,
            "pv-1.available_power_kw": self.sun + hair,
        } | self.held
        for name, value in values.items():
            key = point(name)
            self.devices[key[0]].values[key] = value

    def hold(self, *assets: str) -> None:
        """From now on the devices of these assets repeat themselves."""
        for asset in assets:
            self.held |= {
                f"{name}.{q}": v
                for (name, q), v in self.devices[asset].values.items()
                if v is not None and q not in {SETPOINT, LIMIT}
            }

    def run(self, seconds: int, before: Callable[[int], None] | None = None) -> list[CycleReport]:
        async def cycles() -> list[CycleReport]:
            reports = []
            for number in range(seconds):
                if before is not None:
                    before(number)
                self._show()
                reports.append(await self.cycle.run_once(self.clock.now()))
                if not self.stuck:
                    self.power = self.devices["ess-1"].values.get(("ess-1", SETPOINT)) or 0.0
                self.soc -= self.power / 3600 / 200 * (0.95 if self.power < 0 else 1 / 0.95)
                self.second += 1
                self.clock.advance(1.0)
            return reports

        return asyncio.run(cycles())


def alarms(report: CycleReport) -> set[tuple[str, str | None]]:
    return set(report.alarms)


def test_a_plant_that_moves_raises_nothing() -> None:
    plant = Plant()
    for report in plant.run(400):
        assert alarms(report) == set()


def test_a_meter_that_repeats_itself_is_lost_and_the_site_goes_to_safe_values() -> None:
    plant = Plant()
    plant.run(20)
    plant.hold("pcc")
    reports = plant.run(45)
    first = next(i for i, r in enumerate(reports) if ("telemetry_frozen", "pcc") in r.alarms)
    assert 28 <= first <= 31
    assert reports[first - 1].decisions["ess-1"].source is Layer.PLAN
    assert reports[-1].decisions["ess-1"].source is Layer.FAIL_SAFE
    assert reports[-1].decisions["ess-1"].value == 0.0
    # Down along the ramp, and no meter_lost beside it.
    assert abs(reports[first].decisions["ess-1"].value + 25.0) < 0.01
    assert ("meter_lost", "pcc") not in reports[-1].alarms
    plant.held.clear()
    back = plant.run(4)[-1]
    assert alarms(back) == set()
    assert back.decisions["ess-1"].source is Layer.PLAN


def test_sooner_when_the_site_moved_meanwhile() -> None:
    plant = Plant()
    plant.cycle.plan = None
    plant.run(20)
    plant.hold("pcc")
    plant.cycle.plan = PLAN
    reports = plant.run(12)
    assert ("telemetry_frozen", "pcc") in reports[-1].alarms


def test_a_battery_whose_charge_stands_still_under_load_is_not_charged_on() -> None:
    plant = Plant()
    plant.run(20)
    plant.hold("ess-1")
    # 1.5 % of 200 kWh at 50 kW: 216 s; then its setpoint ends with its time to live.
    reports = plant.run(240)
    first = next(i for i, r in enumerate(reports) if ("telemetry_frozen", "ess-1") in r.alarms)
    assert 200 <= first <= 225
    ended = plant.run(30)[-1]
    assert ended.decisions["ess-1"].source is Layer.FAIL_SAFE
    assert ended.decisions["ess-1"].value == 0.0


def test_what_may_stand_still_does() -> None:
    plant = Plant()
    plant.cycle.plan = None
    plant.sun = 0.0
    plant.run(2)
    plant.hold("ess-1", "pv-1")  # at rest, and after sunset
    assert all(alarms(report) == {("no_plan", None)} for report in plant.run(400))


def test_a_full_battery_that_takes_its_own_losses_and_a_meter_of_power_alone_may_stand_still() -> None:
    full = Plant()
    full.soc, full.cycle.plan = 1.0, None
    full.run(2)
    full.held = {"ess-1.soc": 1.0, "ess-1.active_power_kw": -10.0}
    assert not any(code == "telemetry_frozen" for report in full.run(1200) for code, _ in alarms(report))
    plain = Plant()
    plain.cycle.plan = None
    plain.held = {"pcc.active_power_kw": 5.0, "pcc.frequency_hz": math.nan, "pcc.voltage_l1_v": math.nan}
    assert all(alarms(report) == {("no_plan", None)} for report in plain.run(60))


def test_a_meter_that_is_silent_is_lost_not_frozen() -> None:
    plant = Plant()
    plant.run(20)
    plant._show = lambda: None
    plant.devices["pcc"].values.clear()
    assert alarms(plant.run(60)[-1]) & {("meter_lost", "pcc"), ("telemetry_frozen", "pcc")} == {("meter_lost", "pcc")}


def test_a_source_that_repeats_itself_is_noticed_unless_its_limit_holds_it() -> None:
    plant = Plant()
    plant.run(5)
    plant.hold("pv-1")
    assert ("telemetry_frozen", "pv-1") in plant.run(305)[-1].alarms
    held = Plant()
    held.cycle.plan = plan_of({f"pv-1.{LIMIT}": 60.0})
    held.run(5)
    held.hold("pv-1")
    assert ("telemetry_frozen", "pv-1") not in held.run(320)[-1].alarms


def test_a_battery_that_takes_a_setpoint_and_does_nothing_raises_an_alarm() -> None:
    plant = Plant()
    plant.stuck = True
    reports = plant.run(25)
    assert ("setpoint_not_followed", "ess-1") in reports[-1].alarms
    assert reports[-1].alarms["setpoint_not_followed", "ess-1"].message == ("ess-1: told -50 kW, shows 0 kW for 23 s")
    plant.stuck = False
    assert alarms(plant.run(4)[-1]) == set()


def test_a_battery_that_its_own_management_holds_back_near_full_is_excused() -> None:
    plant = Plant()
    plant.stuck, plant.power, plant.soc = True, -10.0, 0.885
    assert ("setpoint_not_followed", "ess-1") not in plant.run(25)[-1].alarms


@pytest.mark.parametrize("answers_from", [3, 10_000])
def test_a_start_raises_no_alarm_until_devices_had_their_chance(answers_from: int) -> None:
    plant = Plant()

    def slow_start(second: int) -> None:
        for device in plant.devices.values():
            if second < answers_from:
                device.values = dict.fromkeys(device.values)

    def show() -> None:
        return None

    normal, plant._show = plant._show, show
    reports = plant.run(3, slow_start)
    assert all(alarms(report) == set() for report in reports)
    if answers_from == 3:
        plant._show = normal
        assert all(alarms(report) == set() for report in plant.run(30))
    else:
        found = alarms(plant.run(40, slow_start)[-1])
        assert {("meter_lost", "pcc"), ("telemetry_stale", "ess-1"), ("telemetry_stale", "pv-1")} <= found
