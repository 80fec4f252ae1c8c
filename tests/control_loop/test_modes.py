"""Operation modes: what each does to the setpoints, who says so, and that none begins with a step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from control_loop.mode import Mode
from control_loop.requests import Layer
from tests.control_loop.harness import SETPOINT, decisions, plan_of, situation
from tests.control_loop.test_grid_services import Bench, hold

PLAN = plan_of({f"ess-1.{SETPOINT}": 10.0, f"ess-2.{SETPOINT}": 10.0})


def run(mode: Mode | None, loads: list[float], bench: Bench | None = None) -> Bench:
    bench = bench or Bench()
    bench.cycle.plan = PLAN
    bench.cycle.mode = mode
    bench.exchange = bench.run(loads)
    return bench


@pytest.mark.requirement("energy.09.1")
@pytest.mark.parametrize(
    ("mode", "load", "exchange"),
    [
        (None, 60.0, 40.0),
        (Mode("plan"), 60.0, 40.0),
        (Mode("self_consumption"), 60.0, 40.0),
        (Mode("zero_flow"), 60.0, 0.0),
        (Mode("islanded"), 60.0, 0.0),
        (Mode("peak_shaving", {"import_kw": 25.0}), 60.0, 25.0),
        (Mode("peak_shaving", {"import_kw": 25.0}), 30.0, 10.0),  # inside the band: the plan
        (Mode("peak_shaving", {"import_kw": 25.0}, month_peak_kw=32.0), 60.0, 32.0),  # paid for already
        (Mode("peak_shaving", {"import_kw": 25.0}, month_peak_kw=12.0), 60.0, 25.0),
        (Mode("peak_shaving", {"import_kw": 25.0}, month_peak_kw=500.0), 60.0, 40.0),  # the plan
        (Mode("peak_shaving", {"import_kw": 25.0}, month_peak_kw=500.0), 240.0, 148.5),  # the contract's limit
        (Mode("zero_flow", month_peak_kw=32.0), 60.0, 0.0),
        (Mode("export_cap", {"export_kw": 15.0}), -60.0, -15.0),
        (Mode("export_cap", {"export_kw": 15.0}), 60.0, 40.0),
        (Mode("idle"), 60.0, 60.0),
        (Mode("manual"), 60.0, 60.0),
    ],
)
def test_each_mode_does_what_it_says(mode: Mode | None, load: float, exchange: float) -> None:
    assert run(mode, [load] * 60).exchange[-1] == pytest.approx(exchange, abs=0.3)


def test_the_reason_says_which_peak_is_held() -> None:
    assert Mode("peak_shaving", {"import_kw": 25.0}, "olga", 32.0).text == (
        "mode peak shaving at the month's peak of 32 kW: olga"
    )
    assert Mode("peak_shaving", {"import_kw": 25.0}, "olga", 12.0).text == "mode peak shaving: olga"


@pytest.mark.requirement("energy.09.3")
def test_no_change_of_mode_is_a_step() -> None:
    bench = run(Mode("zero_flow"), [180.0] * 60, Bench(ramp=20.0))
    told = [bench.device.values["ess-1", SETPOINT]]
    for mode in (Mode("idle"), Mode("zero_flow"), None, Mode("peak_shaving", {"import_kw": 40.0}), Mode("manual")):
        for _ in range(12):
            run(mode, [180.0], bench)
            told.append(bench.device.values["ess-1", SETPOINT])
    steps = [abs((after or 0.0) - (before or 0.0)) for before, after in pairwise(told)]
    assert max(steps) <= 20.0 + 0.05  # the site's ramp, and the resolution of what is sent
    assert max(steps) > 15.0  # and the modes lie far apart


def test_a_mode_ranks_below_the_operator_and_above_the_plan_and_says_why() -> None:
    idle = Mode("idle", reason="olga: inspection")
    quiet = replace(situation(plan={f"ess-1.{SETPOINT}": 20.0}), mode=idle)
    decision = decisions(quiet)["ess-1"]
    assert (decision.value, decision.layer, decision.reason) == (0.0, Layer.MODE, "mode idle: olga: inspection")
    assert decisions(quiet)["pv-1"].value == 120.0
    bench = run(Mode("zero_flow"), [60.0] * 40)
    bench.cycle.commands = hold(25.0)
    assert run(Mode("zero_flow"), [60.0] * 40, bench).exchange[-1] == pytest.approx(25.0, abs=0.3)
