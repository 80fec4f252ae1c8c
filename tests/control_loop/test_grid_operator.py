"""The grid operator's limits and setpoints, contingency procedures, the planned exchange: who holds control, why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from control_loop.context import GridOperatorLimit, GridOperatorSetpoint, GridTarget, LoadState, ManualCommand
from control_loop.cycle import CycleReport
from control_loop.droop import Curve
from control_loop.frequency import FrequencyOrder
from control_loop.grid_orders import limits_in_force
from control_loop.mode import Mode
from control_loop.model import CurtailmentRules, Procedure
from control_loop.requests import Layer
from tests.control_loop.harness import LIMIT, LOAD, MODEL, MONOTONIC, SETPOINT, decisions, plan_of, situation
from tests.control_loop.test_cycle import ESS_SETPOINT
from tests.control_loop.test_cycle import Bench as CycleBench
from tests.control_loop.test_grid_services import Bench, hold

LOADED = plan_of({f"ess-1.{SETPOINT}": 10.0, f"ess-2.{SETPOINT}": 10.0, "pcc.active_power_kw": 20.0})


def ordered(value: float, asset: str = "ess-1", **given: float) -> GridOperatorSetpoint:
    return GridOperatorSetpoint(int(given.pop("number", 1)), asset, value, reason="redispatch", **given)


def told(reports: Sequence[CycleReport]) -> list[float]:
    return [report.decisions["ess-1"].value for report in reports]


@pytest.mark.requirement("energy.11.2", "energy.14.3")
def test_a_setpoint_of_the_grid_operator_is_approached_by_its_ramp_outranks_all_wishes_and_lapses() -> None:
    bench = CycleBench()
    bench.cycle.plan = plan_of({ESS_SETPOINT: -20.0})
    bench.cycle.commands = [ManualCommand(1, "ess-1", SETPOINT, -20.0, None, "test", "olga")]
    bench.run(1)
    start = bench.clock.monotonic()
    newer = ordered(40.0, number=2, ramp_kw_per_s=10.0, expires=start + 8.5)
    bench.cycle.grid_setpoints = [newer, ordered(-30.0, number=1)]
    reports = bench.run(11)
    # 10 kW/s from -20 kW; then back by the site's own ramp of 25 kW/s to the older order, which still stands.
    assert told(reports) == [-10.0, 0.0, 10.0, 20.0, 30.0, 40.0, 40.0, 40.0, 40.0, 15.0, -10.0]
    assert {report.decisions["ess-1"].layer for report in reports} == {Layer.GRID_OPERATOR}
    assert reports[0].decisions["ess-1"].reason == "redispatch"


@pytest.mark.parametrize(
    ("soc", "command", "value", "layer"),
    [
        (0.1, None, 0.0, Layer.PROTECTION),
        (0.5, ManualCommand(1, None, "emergency_stop", 1, None), 0.0, Layer.EMERGENCY_STOP),
        (0.5, None, 20.0, Layer.GRID_OPERATOR),
    ],
)
def test_protection_and_the_stop_outrank_it(
    soc: float, command: ManualCommand | None, value: float, layer: Layer
) -> None:
    bench = CycleBench()
    bench.esc.values["ess-1", "soc"] = soc
    bench.cycle.commands = [command] if command else []
    bench.cycle.grid_setpoints = [ordered(20.0)]
    decision = bench.run(2)[-1].decisions["ess-1"]
    assert (decision.value, decision.layer) == (value, layer)


def test_nothing_is_dispatched_by_it_without_sight() -> None:
    bench = CycleBench()
    bench.cycle.grid_setpoints = [ordered(20.0)]
    bench.run(2)
    bench.rest.values["pcc", "active_power_kw"] = None
    decision = bench.run(2)[-1].decisions["ess-1"]
    assert (decision.value, decision.layer) == (0.0, Layer.FAIL_SAFE)


def test_the_frequency_is_answered_on_top_of_it_and_the_ramp_does_not_count_the_answer_twice() -> None:
    bench = CycleBench()
    bench.cycle.frequency.orders = (FrequencyOrder("ess-1", Curve(((49.8, 30.0), (50.0, 0.0), (50.2, -30.0)))),)
    bench.cycle.grid_setpoints = [ordered(40.0, ramp_kw_per_s=10.0)]

    def frequency(number: int) -> None:
        bench.rest.values["pcc", "frequency_hz"] = 49.8 if 2 <= number < 6 else 50.0

    assert told(bench.run(8, frequency)) == [10.0, 20.0, 60.0, 70.0, 70.0, 70.0, 40.0, 40.0]


def test_a_genset_starts_and_a_load_in_steps_goes_down_however_slow_the_ramp() -> None:
    slow = situation(
        plan={f"genset-1.{SETPOINT}": 60.0, f"cold.{LIMIT}": 10.0},
        model=replace(
            MODEL,
            ramp_kw_per_s=0.5,
            actuators=tuple(
                replace(a, curtailment=CurtailmentRules((0.5,))) if a is LOAD else a for a in MODEL.actuators
            ),
        ),
    )
    decided = decisions(replace(slow, loads={"cold": LoadState(baseline_kw=20.0)}))
    assert decided["genset-1"].value == 30.0
    assert decided["cold"].value == 10.0
    bench = CycleBench()
    bench.cycle.grid_setpoints = [ordered(60.0, "genset-1", ramp_kw_per_s=0.5)]
    assert bench.run(1)[0].decisions["genset-1"].value == 30.0


@pytest.mark.requirement("energy.11.2")
def test_an_exchange_that_the_grid_operator_wants_is_reached_by_its_ramp_and_held() -> None:
    bench = Bench()
    bench.cycle.plan, bench.cycle.mode, bench.cycle.commands = LOADED, Mode("zero_flow"), hold(5.0)
    bench.run([60.0] * 40)
    bench.cycle.grid_setpoints = [ordered(-30.0, "pcc", ramp_kw_per_s=5.0)]
    exchange = bench.run([60.0] * 30)
    steps = [abs(b - a) for a, b in pairwise(exchange)]
    assert max(steps) < 7.0
    assert exchange[-1] == pytest.approx(-30.0, abs=0.3)
    # The way is known ahead, so nothing lags behind it, also while no dead time is known.
    fresh = Bench()
    fresh.cycle.grid_setpoints = [ordered(-60.0, "pcc", ramp_kw_per_s=2.0)]
    assert fresh.run([30.0] * 32)[-1] == pytest.approx(-30.0, abs=5.0)


def test_an_exchange_that_cannot_be_met_is_an_alarm() -> None:
    bench = CycleBench()  # its meter does not feel the battery
    bench.cycle.grid_setpoints = [ordered(-70.0, "pcc")]
    alarms = bench.run(25)[-1].alarms
    assert "redispatch; wanted -70 kW, shows 20 kW" in alarms["setpoint_not_followed", "pcc"].message


def test_the_connections_limit_is_kept_by_others_where_the_grid_operator_commands_the_storage() -> None:
    # 170 kW of import: the battery may not help, so loads and cars do.
    charging = situation(
        {"pcc.active_power_kw": 170.0, "cold.active_power_kw": 20.0, "ev-1.active_power_kw": 60.0},
    )
    asked = replace(charging, grid_targets={"ess-1": GridTarget(0.0, "redispatch")})
    decided = decisions(asked)
    assert (decided["ess-1"].value, decided["ess-1"].layer) == (0.0, Layer.GRID_OPERATOR)
    assert decided["cold"].value == 0.0
    assert decided["ev-1"].value == pytest.approx(58.5, abs=0.1)


FALLBACKS = [
    ([], 30.0),  # what to fall back on without an order
    ([GridOperatorLimit("pv-1", maximum=90.0, order_id=1)], 90.0),
    ([GridOperatorLimit("pv-1", maximum=90.0, order_id=1, begins=MONOTONIC + 60)], 30.0),
    ([GridOperatorLimit("pv-1", maximum=90.0, order_id=1, expires=MONOTONIC)], 30.0),
    ([GridOperatorLimit("ess-1", maximum=0.0, order_id=1)], 30.0),
    ([GridOperatorLimit("pv-1", maximum=90.0), GridOperatorLimit("pv-1", maximum=60.0)], 30.0),
]


@pytest.mark.parametrize(("orders", "value"), FALLBACKS)
def test_a_standing_limit_to_fall_back_on_gives_way_to_an_order(orders: list[GridOperatorLimit], value: float) -> None:
    fallback = GridOperatorLimit("pv-1", maximum=30.0, unless_ordered=True)
    context = situation(grid_limits=limits_in_force([fallback, *orders], [], MONOTONIC))
    assert decisions(context)["pv-1"].value == value


# --- contingency ----------------------------------------------------------------------------------------------------

PROCEDURE = Procedure("battery-lost", "ess-1", (("genset-1", 50.0), ("ev-1", 20.0)), after_s=3.0, hold_s=5.0)


@pytest.mark.requirement("module.operation", "sysavailability.02.1")
def test_a_procedure_starts_when_its_asset_is_lost_and_ends_when_it_is_safely_back() -> None:
    bench = CycleBench(model=replace(MODEL, procedures=(PROCEDURE,)))
    bench.cycle.commands = [ManualCommand(1, "genset-1", SETPOINT, 0.0, None, "test", "olga")]

    def trip(number: int) -> None:
        bench.esc.values["ess-1", "available"] = 0.0 if 2 <= number < 10 else 1.0

    reports = bench.run(20, trip)
    key = ("contingency_procedure", "ess-1")
    assert [number for number, report in enumerate(reports) if key in report.alarms] == list(range(5, 14))
    assert reports[5].alarms[key].message == (
        "ess-1: procedure battery-lost runs (genset-1 50 kW, ev-1 20 kW): ess-1 is not available"
    )
    genset, cars = reports[8].decisions["genset-1"], reports[8].decisions["ev-1"]
    assert (genset.value, genset.layer, genset.reason) == (
        50.0, Layer.CONTINGENCY, "procedure battery-lost: ess-1 is not available",
    )  # fmt: skip
    assert (cars.value, cars.layer) == (20.0, Layer.CONTINGENCY)
    assert reports[-1].decisions["ev-1"].value == 60.0
    assert reports[-1].decisions["genset-1"].reason == "runs 14 s of at least 600 s"


def test_a_procedure_ranks_below_limits_and_tells_nothing_to_what_is_not_seen() -> None:
    lost = replace(PROCEDURE, asset_id="pv-1", powers=(("ess-1", 100.0), ("genset-1", 50.0)), after_s=0.0)
    bench = CycleBench(model=replace(MODEL, procedures=(lost,)))
    bench.cycle.grid_limits = [GridOperatorLimit("genset-1", maximum=40.0)]
    bench.rest.values["pv-1", "active_power_kw"] = None
    bench.esc.values["ess-1", "active_power_kw"] = None
    decided = bench.run(3)[-1].decisions
    assert (decided["genset-1"].value, decided["genset-1"].layer) == (40.0, Layer.GRID_OPERATOR)
    assert (decided["ess-1"].value, decided["ess-1"].layer) == (0.0, Layer.FAIL_SAFE)


# --- the planned exchange -------------------------------------------------------------------------------------------


@pytest.mark.requirement("uc.1")
@pytest.mark.parametrize(
    ("load", "mode", "exchange", "layer"),
    [
        (40.0, None, 20.0, Layer.PLAN),  # as planned
        (43.0, None, 23.0, Layer.PLAN),  # inside the band
        (70.0, None, 25.0, Layer.INTRADAY),  # the load is 30 kW more than was planned
        (0.0, None, 15.0, Layer.INTRADAY),
        (70.0, Mode("zero_flow"), 0.0, Layer.MODE),
        (70.0, Mode("idle"), 70.0, Layer.MODE),
    ],
)
def test_between_plans_the_storage_keeps_the_planned_exchange(
    load: float, mode: Mode | None, exchange: float, layer: Layer
) -> None:
    bench = Bench(band=5.0)
    bench.cycle.plan, bench.cycle.mode = LOADED, mode
    assert bench.run([load] * 60)[-1] == pytest.approx(exchange, abs=0.3)
    decision = bench.reports[-1].decisions["ess-1"]
    assert decision.layer is layer
    if layer is Layer.INTRADAY:
        assert decision.reason == "keeps the exchange within 5 kW of the planned 20 kW"
