"""The grid operator's orders: power by frequency, and reactive power, with their conflicts."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from control_loop.arbitration import Decision
from control_loop.context import ManualCommand
from control_loop.cycle import ControlCycle
from control_loop.droop import Curve
from control_loop.frequency import Answer, FrequencyOrder, FrequencyService, frequency_orders
from control_loop.mode import Mode
from control_loop.model import REACTIVE_SETPOINT, Actuator
from control_loop.protocols.base import MemoryDriver
from control_loop.reactive import ReactiveControl
from control_loop.requests import Layer
from flexergy_pipelines.grid import FrequencyRule, ReactiveRule
from flexergy_pipelines.grid.clock import SimulatedClock
from tests.control_loop.harness import ESS, MEASURED, MODEL, NOW, PV, SETPOINT, decisions, plan_of, point, situation

CURVE = Curve(((49.8, 40.0), (49.99, 0.0), (50.01, 0.0), (50.2, -40.0)))
ORDER = FrequencyOrder("ess-1", CURVE, source="TSO")
ESS_PLAN = f"ess-1.{SETPOINT}"


def manual(value: float, quantity: str = SETPOINT) -> ManualCommand:
    return ManualCommand(2, "ess-1", quantity, value, None, "test run", "olga")


@dataclass(frozen=True)
class Case:
    """One cycle with a frequency: what the battery is told, and by whom."""

    name: str
    frequency: float | None
    value: float
    layer: Layer
    given: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("in the dead band the plan goes on", 50.005, 10, Layer.PLAN, {"plan": {ESS_PLAN: 10}}),
    Case("half way down half the reserve, on top of the plan", 49.895, 30, Layer.GRID_OPERATOR, {"plan": {ESS_PLAN: 10}}),
    Case("all of it, ramp or not", 49.7, 50, Layer.GRID_OPERATOR, {"plan": {ESS_PLAN: 10}}),
    Case("and the other way", 50.3, -30, Layer.GRID_OPERATOR, {"plan": {ESS_PLAN: 10}}),
    Case("on top of the operator's setpoint", 49.7, 45, Layer.GRID_OPERATOR,
         {"plan": {ESS_PLAN: 10}, "commands": [manual(5)]}),
    Case("a mode that rests gives it from rest", 49.7, 40, Layer.GRID_OPERATOR,
         {"plan": {ESS_PLAN: 10}, "mode": Mode("idle")}),
    Case("an empty battery gives nothing", 49.7, 0, Layer.PROTECTION, {"measured": {"ess-1.soc": 0.1}}),
    Case("nor one that its device holds back", 49.7, 12, Layer.PROTECTION,
         {"measured": {"ess-1.max_discharge_kw": 12}}),
    Case("an emergency stop stops that too", 49.7, 0, Layer.EMERGENCY_STOP,
         {"commands": [ManualCommand(1, None, "emergency_stop", 1, None)]}),
    Case("a frequency that is not read asks for nothing", None, 10, Layer.PLAN, {"plan": {ESS_PLAN: 10}}),
    Case("it outranks the exchange's limits", 49.7, 40, Layer.GRID_OPERATOR,
         {"measured": {"pcc.active_power_kw": -79}}),
]  # fmt: skip
# ruff: noqa: E501 - one case a line reads as a table


@pytest.mark.requirement("energy.11.1", "energy.14.3")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_power_by_frequency(case: Case) -> None:
    measured = {**case.given.get("measured", {}), "pcc.frequency_hz": case.frequency}
    given = {k: v for k, v in case.given.items() if k not in {"mode", "measured"}}
    context = replace(situation(measured, **given), mode=case.given.get("mode"))
    decision = decisions(replace(context, requests=FrequencyService([ORDER]).requests(context)))["ess-1"]
    assert decision.value == pytest.approx(case.value, abs=1e-6)
    assert decision.layer is case.layer


def test_the_answer_takes_the_time_it_may_and_ends_well_inside() -> None:
    # 40 kW in 8 s, and 8 mHz of hysteresis.
    service = FrequencyService([replace(ORDER, rate_kw_per_s=5.0, hysteresis_hz=0.008)])
    told: list[float | None] = []
    for frequency in [50.0, 49.7, 49.7, 49.7, 49.995, 49.995, 49.995, 49.995, 50.0, 49.995]:
        requests = service.requests(situation({"pcc.frequency_hz": frequency}))
        told.append(requests[0].value if requests else None)
    assert told == [None, 5.0, 10.0, 15.0, 10.0, 5.0, 0.0, 0.0, None, None]


def test_accuracy_is_told_of_every_cycle() -> None:
    service = FrequencyService([ORDER])
    service.requests(situation({"pcc.frequency_hz": 49.7}))
    assert service.answers == {"ess-1": Answer(49.7, 40.0, 40.0, 0.0, within=True)}
    service.requests(situation({"pcc.frequency_hz": 49.8, "ess-1.active_power_kw": 39.5}))
    assert service.answers == {"ess-1": Answer(49.8, 40.0, 40.0, 39.5, within=True)}
    service.requests(situation({"pcc.frequency_hz": 50.0, "ess-1.active_power_kw": 38.5}))
    assert service.answers == {"ess-1": Answer(50.0, 0.0, 0.0, 38.5, within=False)}
    service.requests(situation({"pcc.frequency_hz": None}))
    assert service.answers == {}


def test_a_droop_of_the_configuration_becomes_an_order() -> None:
    rule = FrequencyRule(asset="ess-1", droop=0.004, reserve_kw=40.0, dead_band_hz=0.01, response_s=20.0)
    (order,) = frequency_orders([rule], 50.0)
    assert [order.curve(f) for f in (49.5, 49.89, 50.0, 50.5)] == pytest.approx([40.0, 20.0, 0.0, -40.0])
    assert order.rate_kw_per_s == 2.0


# --- reactive power -------------------------------------------------------------------------------------------------

S_KVA = 110.0
REACTIVE = replace(
    MODEL,
    actuators=tuple(Actuator(a.asset_id, a.kind, REACTIVE_SETPOINT, a.controller, -S_KVA, S_KVA) for a in (ESS, PV)),
)
Q_U = ReactiveRule(
    asset="ess-1", mode="q_of_u", points=((0.94, 60.0), (0.98, 0.0), (1.02, 0.0), (1.06, -60.0)), response_s=0
)
VOLTS = {f"pcc.voltage_l{i}_v": 400 / math.sqrt(3) for i in (1, 2, 3)}


def reactive(rule: ReactiveRule | None, **given: Any) -> Decision:
    """What the battery's inverter is told in one cycle."""
    measured = {**VOLTS, **given.pop("measured", {})}
    context = situation(measured, **given)
    rules = [] if rule is None else [rule]
    control = ReactiveControl(REACTIVE, rules, nominal_v=400.0, rated_kw={"ess-1": 100.0, "pv-1": 120.0})
    return control.decide(context, decisions(context))["ess-1"]


def volts(share: float) -> dict[str, float]:
    return {name: share * value for name, value in VOLTS.items()}


FIXED = ReactiveRule(asset="ess-1", mode="fixed", kvar=20.0, response_s=0)
Q_PLAN = f"ess-1.{REACTIVE_SETPOINT}"


REACTIVE_CASES: list[tuple[ReactiveRule | None, dict[str, Any], float, Layer]] = [
    (None, {}, 0.0, Layer.IDLE),
    (FIXED, {}, 20.0, Layer.GRID_OPERATOR),
    (Q_U, {}, 0.0, Layer.GRID_OPERATOR),
    (Q_U, {"measured": volts(0.96)}, 30.0, Layer.GRID_OPERATOR),
    (Q_U, {"measured": volts(1.2)}, -60.0, Layer.GRID_OPERATOR),
    (Q_U, {"measured": volts(0.96) | {"pcc.voltage_l2_v": None}}, 30.0, Layer.GRID_OPERATOR),
    (Q_U, {"measured": dict.fromkeys(VOLTS)}, 0.0, Layer.IDLE),
    (ReactiveRule(asset="ess-1", mode="cos_phi", cos_phi=0.8, supplies=False, response_s=0),
     {"measured": {"ess-1.active_power_kw": -40.0}}, -30.0, Layer.GRID_OPERATOR),
    (ReactiveRule(asset="ess-1", mode="q_of_p", points=((0.0, 0.0), (1.0, -50.0)), response_s=0),
     {"measured": {"ess-1.active_power_kw": 50.0}}, -25.0, Layer.GRID_OPERATOR),
    # 110 kVA and 100 kW leave 45.8 kvar.
    (ReactiveRule(asset="ess-1", mode="fixed", kvar=90.0, response_s=0),
     {"measured": {"ess-1.active_power_kw": 100.0}}, 45.826, Layer.PROTECTION),
    (FIXED, {"measured": {"ess-1.available": 0.0}}, 0.0, Layer.PROTECTION),
    (FIXED, {"commands": [manual(-15.0, REACTIVE_SETPOINT)]}, 20.0, Layer.GRID_OPERATOR),
    (None, {"commands": [manual(-15.0, REACTIVE_SETPOINT)], "plan": {Q_PLAN: 9.0}}, -15.0, Layer.OPERATOR),
    (None, {"commands": [manual(-15.0)], "plan": {Q_PLAN: 9.0}}, 9.0, Layer.PLAN),
    (FIXED, {"commands": [ManualCommand(1, None, "emergency_stop", 1, None)]}, 0.0, Layer.EMERGENCY_STOP),
    (FIXED, {"ages": {"ess-1": 90.0}}, 0.0, Layer.FAIL_SAFE),
]  # fmt: skip


@pytest.mark.requirement("energy.14.3")
@pytest.mark.parametrize(("rule", "given", "value", "layer"), REACTIVE_CASES)
def test_reactive_power(rule: ReactiveRule | None, given: dict[str, Any], value: float, layer: Layer) -> None:
    decision = reactive(rule, **dict(given))
    assert decision.value == pytest.approx(value, abs=1e-3)
    assert decision.layer is layer


def test_a_voltage_that_flickers_within_the_hysteresis_moves_nothing() -> None:
    control = ReactiveControl(REACTIVE, [Q_U.model_copy(update={"hysteresis_pu": 0.01})], nominal_v=400.0)
    told = []
    for share in (0.96, 0.965, 0.957, 0.949, 0.955, 0.9601):
        context = situation(volts(share))
        told.append(control.decide(context, decisions(context))["ess-1"].value)
    assert told == pytest.approx([30.0, 30.0, 30.0, 46.5, 46.5, 29.85])


def test_reactive_power_goes_to_the_device_and_is_checked_there() -> None:
    clock = SimulatedClock(NOW)
    zeros = {f"ess-1.{REACTIVE_SETPOINT}": 0.0, "ess-1.reactive_power_kvar": 0.0}
    device = MemoryDriver("all", {point(name): v for name, v in (MEASURED | VOLTS | zeros).items()})
    rule = FIXED.model_copy(update={"response_s": 11.0})  # 10 kvar/s
    control = ReactiveControl(REACTIVE, [rule])
    cycle = ControlCycle(MODEL, [device], clock, reactive=control)
    cycle.plan = plan_of({ESS_PLAN: 5.0})

    async def run(cycles: int) -> set[tuple[str, str | None]]:
        alarms: set[tuple[str, str | None]] = set()
        for _ in range(cycles):
            alarms = set((await cycle.run_once(clock.now())).alarms)
            clock.advance(1.0)
        return alarms

    assert asyncio.run(run(1)) == set()
    assert device.values["ess-1", REACTIVE_SETPOINT] == 10.0
    assert asyncio.run(run(2)) == set()
    assert (device.values["ess-1", REACTIVE_SETPOINT], device.values["ess-1", SETPOINT]) == (20.0, 5.0)
    assert {a.asset_id for a in cycle.actuators if a.quantity == REACTIVE_SETPOINT} == {"ess-1", "pv-1"}
    take = device.write

    async def deaf(asset_id: str, quantity: str, value: float) -> None:
        await take(asset_id, quantity, value)
        device.values["ess-1", REACTIVE_SETPOINT] = 20.0

    device.write = deaf
    control.rules["ess-1"] = rule.model_copy(update={"kvar": -5.0})
    assert ("setpoint_without_effect", "ess-1") in asyncio.run(run(6))
