"""Rules as tables: one cycle each, from inputs to the setpoints that go out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from control_loop import pcc
from control_loop.context import Context, GridOperatorLimit, ManualCommand
from control_loop.engine import RULES, decide
from control_loop.requests import Layer, Request
from tests.control_loop.harness import LIMIT, MODEL, MONOTONIC, SETPOINT, decisions, plan_of, situation


@dataclass(frozen=True)
class Case:
    """One row: the situation, and what must be sent to whom by which layer."""

    name: str
    expected: dict[str, float]
    layers: dict[str, Layer] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)


def stop(asset: str | None = None, on: float = 1.0, number: int = 1) -> ManualCommand:
    return ManualCommand(number, asset, "emergency_stop", on, None, "smoke", "olga")


def manual(asset: str, value: float, *, quantity: str = SETPOINT, number: int = 2, expires: float | None = None) -> Any:
    return ManualCommand(number, asset, quantity, value, expires, "test run", "olga")


ESS_PLAN = f"ess-1.{SETPOINT}"
CASES = [
    Case("without a plan everything idles", {"ess-1": 0, "pv-1": 120, "genset-1": 0, "cold": 40, "ev-1": 60},
         {"ess-1": Layer.IDLE}),
    Case("the plan is dispatched", {"ess-1": 20}, {"ess-1": Layer.PLAN}, {"plan": {ESS_PLAN: 20}}),
    Case("a plan that has ended is not", {"ess-1": 0}, {"ess-1": Layer.IDLE},
         {"plan": plan_of({ESS_PLAN: 20}, start=situation().now.replace(hour=9))}),
    Case("the ramp bounds the way there", {"ess-1": 25}, {"ess-1": Layer.RAMP}, {"plan": {ESS_PLAN: 90}}),
    Case("and the way back", {"ess-1": 55}, {"ess-1": Layer.RAMP}, {"plan": {ESS_PLAN: -90}, "last": {"ess-1": 80}}),
    Case("a late cycle ramps by its own length", {"ess-1": 50}, {}, {"plan": {ESS_PLAN: 90}, "dt": 2.0}),
    Case("the operator outranks the plan", {"ess-1": -10}, {"ess-1": Layer.OPERATOR},
         {"plan": {ESS_PLAN: 20}, "commands": [manual("ess-1", -10)]}),
    Case("of two commands the newer counts", {"ess-1": 5}, {},
         {"commands": [manual("ess-1", -10, number=2), manual("ess-1", 5, number=9)]}),
    Case("an expired command does not count", {"ess-1": 20}, {"ess-1": Layer.PLAN},
         {"plan": {ESS_PLAN: 20}, "commands": [manual("ess-1", -10, expires=MONOTONIC)]}),
    Case("a command for another quantity is no setpoint", {"ess-1": 0}, {},
         {"commands": [manual("ess-1", -10, quantity="soc")]}),
    Case("full storage does not charge", {"ess-1": 0}, {"ess-1": Layer.PROTECTION},
         {"measured": {"ess-1.soc": 0.9}, "plan": {ESS_PLAN: -20}}),
    Case("above full neither, and it may discharge", {"ess-1": 20}, {"ess-1": Layer.PLAN},
         {"measured": {"ess-1.soc": 0.95}, "plan": {ESS_PLAN: 20}}),
    Case("empty storage does not discharge, ramp or not", {"ess-1": 0}, {},
         {"measured": {"ess-1.soc": 0.1}, "plan": {ESS_PLAN: 20}, "last": {"ess-1": 90}}),
    # 0.001 * 200 kWh / 0.95 within 60 s = 12.63 kW
    Case("near full the power tapers", {"ess-1": -12.6316}, {"ess-1": Layer.PROTECTION},
         {"measured": {"ess-1.soc": 0.899}, "plan": {ESS_PLAN: -20}}),
    # 0.001 * 200 kWh * 0.95 within 60 s = 11.4 kW
    Case("near empty too", {"ess-1": 11.4}, {}, {"measured": {"ess-1.soc": 0.101}, "plan": {ESS_PLAN: 20}}),
    Case("the device's own limits hold", {"ess-1": -7}, {"ess-1": Layer.PROTECTION},
         {"measured": {"ess-1.max_charge_kw": 7}, "plan": {ESS_PLAN: -20}}),
    Case("a device that is not available gets nothing", {"ess-1": 0}, {"ess-1": Layer.PROTECTION},
         {"measured": {"ess-1.available": 0}, "plan": {ESS_PLAN: 20}}),
    Case("an unknown state of charge allows no more power", {"ess-1": 8}, {"ess-1": Layer.PROTECTION},
         {"measured": {"ess-1.soc": None}, "plan": {ESS_PLAN: 20}, "last": {"ess-1": 8}}),
    Case("an emergency stop stops at once", {"ess-1": 0, "pv-1": 0, "genset-1": 0, "cold": 0, "ev-1": 0},
         {"ess-1": Layer.EMERGENCY_STOP}, {"commands": [stop()], "plan": {ESS_PLAN: 90}, "last": {"ess-1": 90}}),
    Case("of one asset only that", {"ess-1": 0, "pv-1": 120}, {}, {"commands": [stop("ess-1")], "last": {"ess-1": 90}}),
    Case("until it is released", {"ess-1": 20}, {"ess-1": Layer.PLAN},
         {"commands": [stop(), stop(on=0.0, number=5)], "plan": {ESS_PLAN: 20}}),
    Case("the grid operator outranks the operator", {"ess-1": 5}, {"ess-1": Layer.GRID_OPERATOR},
         {"commands": [manual("ess-1", 20)], "grid_limits": [GridOperatorLimit("ess-1", maximum=5.0)]}),
    Case("its limit ends", {"ess-1": 20}, {},
         {"commands": [manual("ess-1", 20)], "grid_limits": [GridOperatorLimit("ess-1", maximum=5, expires=1.0)]}),
    Case("a lost meter means safe values", {"ess-1": 0, "pv-1": 95, "cold": 20, "ev-1": 35}, {"ess-1": Layer.FAIL_SAFE},
         {"ages": {"pcc": 10}, "plan": {ESS_PLAN: 20}}),
    Case("along the ramp", {"ess-1": 65}, {"ess-1": Layer.RAMP}, {"ages": {"pcc": 10}, "last": {"ess-1": 90}}),
    Case("a stale asset gets nothing new", {"ess-1": 12}, {"ess-1": Layer.FAIL_SAFE},
         {"ages": {"ess-1": 6}, "plan": {ESS_PLAN: 20}, "last": {"ess-1": 12}}),
    Case("and the safe value after its time to live", {"ess-1": 0}, {"ess-1": Layer.FAIL_SAFE},
         {"ages": {"ess-1": 14}, "plan": {ESS_PLAN: 20}, "last": {"ess-1": 12}}),
    Case("a genset below its least power runs at it", {"genset-1": 30}, {}, {"plan": {f"genset-1.{SETPOINT}": 20}}),
    Case("or not at all", {"genset-1": 0}, {}, {"plan": {f"genset-1.{SETPOINT}": 10}}),
    Case("a genset that just started keeps running", {"genset-1": 30}, {"genset-1": Layer.PROTECTION},
         {"last": {"genset-1": 40}, "since": {"genset-1": MONOTONIC - 60}, "measured": {"genset-1.active_power_kw": 40},
          "plan": {f"genset-1.{SETPOINT}": 0}}),
    Case("one that just stopped rests", {"genset-1": 0}, {"genset-1": Layer.PROTECTION},
         {"since": {"genset-1": MONOTONIC - 60}, "plan": {f"genset-1.{SETPOINT}": 60}}),
    Case("a genset moves by its own ramp", {"genset-1": 42}, {"genset-1": Layer.RAMP},
         {"plan": {f"genset-1.{SETPOINT}": 60}, "last": {"genset-1": 40}, "measured": {"genset-1.active_power_kw": 40},
          "model": replace(MODEL, actuators=tuple(replace(a, ramp_kw_per_s=2.0) for a in MODEL.actuators))}),
    Case("cars keep their least limit", {"ev-1": 5}, {}, {"plan": {f"ev-1.{LIMIT}": 0}, "last": {"ev-1": 6}}),
]  # fmt: skip


@pytest.mark.requirement("module.operation", "energy.09.3")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_one_cycle(case: Case) -> None:
    decided = decisions(situation(**case.given))
    assert {name: decided[name].value for name in case.expected} == pytest.approx(case.expected, abs=1e-3)
    assert {name: decided[name].layer for name in case.layers} == case.layers


PCC_CASES = [
    # predicted 20 + 100 (charging) = 120 kW, allowed 150 less 1 %
    Case("within the limits nothing happens", {"ess-1": -100}, {"ess-1": Layer.PLAN},
         {"plan": {ESS_PLAN: -100}, "last": {"ess-1": -90}}),
    Case("too much import: the storage charges less", {"ess-1": -68.5}, {"ess-1": Layer.PCC},
         {"plan": {ESS_PLAN: -100}, "last": {"ess-1": -90}, "measured": {"pcc.active_power_kw": 80}}),
    Case("or discharges, ramp or not", {"ess-1": 51.5}, {"ess-1": Layer.PCC},
         {"measured": {"pcc.active_power_kw": 200}}),
    Case("then the load of lowest rank gives way, then the cars", {"ess-1": 100, "cold": 0, "ev-1": 0.0}, {},
         {"measured": {"pcc.active_power_kw": 300}}),
    Case("as far as needed", {"ess-1": 100, "cold": 13.5, "ev-1": 60}, {"cold": Layer.PCC},
         {"measured": {"pcc.active_power_kw": 255}}),
    Case("too much export: the storage discharges less", {"ess-1": 9.2}, {"ess-1": Layer.PCC},
         {"plan": {ESS_PLAN: 40}, "last": {"ess-1": 40}, "measured": {"pcc.active_power_kw": -70}}),
    Case("then renewables are curtailed", {"ess-1": 0, "pv-1": 79.2}, {"pv-1": Layer.PCC},
         {"measured": {"pcc.active_power_kw": -120, "pv-1.active_power_kw": 120, "pv-1.available_power_kw": 120,
                       "ess-1.soc": 0.9}}),
    Case("and freed again", {"pv-1": 75}, {"pv-1": Layer.RAMP},
         {"measured": {"pcc.active_power_kw": -10, "pv-1.active_power_kw": 50, "pv-1.available_power_kw": 120,
                       "ess-1.soc": 0.9}, "last": {"pv-1": 50}}),
    Case("the grid operator's limit on the exchange counts", {"ess-1": 12.5}, {"ess-1": Layer.PCC},
         {"grid_limits": [GridOperatorLimit("pcc", maximum=7.6, reason="congestion")]}),
    Case("cars that are given more need not take it: export does not count on them", {"ess-1": 4.2, "ev-1": 35},
         {"ess-1": Layer.PCC},
         {"plan": {ESS_PLAN: 20}, "last": {"ev-1": 10}, "measured": {"pcc.active_power_kw": -75}}),
    Case("import does", {"ess-1": 11.5, "ev-1": 35}, {"ess-1": Layer.PCC},
         {"last": {"ev-1": 10}, "measured": {"pcc.active_power_kw": 135}}),
    Case("where both may break, who makes it uncertain is held back", {"ess-1": 0, "ev-1": 14.75, "pv-1": 54.95},
         {"ev-1": Layer.PCC, "pv-1": Layer.PCC},
         {"last": {"ev-1": 10}, "measured": {"pv-1.available_power_kw": 60},
          "grid_limits": [GridOperatorLimit("pcc", -5, 25)]}),
    Case("one after the other, and no more than needed", {"ess-1": 0, "cold": 20, "ev-1": 14.75}, {"cold": Layer.PCC},
         {"last": {"ev-1": 10, "cold": 20}, "measured": {"pv-1.available_power_kw": 60},
          "grid_limits": [GridOperatorLimit("pcc", -5, 25)]}),
    Case("full protection outranks the exchange", {"ess-1": 0}, {},
         {"measured": {"pcc.active_power_kw": 200, "ess-1.soc": 0.1}}),
]  # fmt: skip


@pytest.mark.requirement("energy.14.6")
@pytest.mark.parametrize("case", PCC_CASES, ids=[case.name for case in PCC_CASES])
def test_exchange_with_the_grid(case: Case) -> None:
    decided = decisions(situation(**case.given))
    assert {name: decided[name].value for name in case.expected} == pytest.approx(case.expected, abs=0.11)
    assert {name: decided[name].layer for name in case.layers} == case.layers


@pytest.mark.parametrize("name", [name for name, (layer, _) in RULES.items() if layer <= Layer.FAIL_SAFE])
def test_a_guard_that_fails_sends_everything_to_safety(name: str) -> None:
    def broken(context: Context) -> list[Request]:
        raise ZeroDivisionError("division by zero")

    outcome = decide(situation(plan={ESS_PLAN: 20}), RULES | {name: (RULES[name][0], broken)})
    assert outcome.decisions["ess-1"].value == 0
    assert outcome.faults == {name: "ZeroDivisionError: division by zero"}


def test_a_planner_that_fails_takes_nothing_with_it() -> None:
    def broken(context: Context) -> list[Request]:
        raise KeyError("soc")

    outcome = decide(situation(commands=[manual("ess-1", 9)]), RULES | {"plan": (Layer.PLAN, broken)})
    assert outcome.decisions["ess-1"].value == 9
    assert set(outcome.faults) == {"plan"}


def test_every_actuator_is_decided_in_every_case() -> None:
    for case in [*CASES, *PCC_CASES]:
        assert set(decisions(situation(**case.given))) == {a.asset_id for a in MODEL.actuators}


def test_an_exchange_rule_that_fails_leaves_nothing_where_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[Request]:
        raise ZeroDivisionError

    monkeypatch.setattr(pcc, "pcc_requests", broken)
    outcome = decide(situation(ages={"ess-1": 6}, last={"ess-1": 12.0}))
    assert (outcome.decisions["ess-1"].value, outcome.decisions["ess-1"].reason) == (0.0, "rule pcc failed")
