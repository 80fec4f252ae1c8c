"""One cycle as inputs and outputs: what the tests of the control loop's rules are written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from control_loop.arbitration import Decision
from control_loop.context import Context, GridOperatorLimit, ManualCommand, SentState
from control_loop.engine import decide
from control_loop.image import ProcessImage
from control_loop.model import Actuator, SiteModel, Storage
from control_loop.plan_view import PlanView, plan_view
from flexergy_pipelines.grid.templates.alarm_words import load_alarm_word

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MONOTONIC = 1_000_000.0
SETPOINT = "active_power_setpoint_kw"
LIMIT = "active_power_limit_kw"

ALARMS = "bms_alarm_word"
ESS = Actuator(
    "ess-1", "ess", SETPOINT, "esc-1", -100.0, 100.0, storage=Storage(200.0, 0.1, 0.9, 0.95, 0.95),
    alarm_words=((ALARMS, load_alarm_word("battery_events")),),
)  # fmt: skip
PV = Actuator("pv-1", "pv", LIMIT, "res-1", 0.0, 120.0, idle_kw=120.0, safe_kw=60.0)
GENSET = Actuator(
    "genset-1", "genset", SETPOINT, "gen-1", 0.0, 80.0, running_minimum_kw=30.0, min_up_s=600.0, min_down_s=300.0
)
LOAD = Actuator("cold", "controllable_load", LIMIT, "load-1", 0.0, 40.0, idle_kw=40.0, safe_kw=20.0, priority=7)
EV = Actuator("ev-1", "ev", LIMIT, "ev-1", 0.0, 60.0, idle_kw=60.0, safe_kw=30.0, least_kw=5.0)
MODEL = SiteModel("site", (ESS, PV, GENSET, LOAD, EV), import_limit_kw=150.0, export_limit_kw=80.0, ramp_kw_per_s=25.0)

MEASURED: dict[str, float | None] = {
    "pcc.active_power_kw": 20.0,
    "ess-1.active_power_kw": 0.0,
    "ess-1.soc": 0.5,
    "ess-1.available": 1.0,
    "ess-1.max_charge_kw": 100.0,
    "ess-1.max_discharge_kw": 100.0,
    "pv-1.active_power_kw": 30.0,
    "pv-1.available_power_kw": 30.0,
    "genset-1.active_power_kw": 0.0,
    "cold.active_power_kw": 20.0,
    "ev-1.active_power_kw": 10.0,
}
"""A quiet noon: the inflexible load is 20 kW (20 + 30 - 20 - 10)."""


def point(name: str) -> tuple[str, str]:
    """``"ess-1.soc"`` as a point key."""
    asset, _, quantity = name.partition(".")
    return asset, quantity


def plan_of(values: Mapping[str, float], *, start: datetime = NOW, hours: float = 2.0) -> PlanView:
    """A plan that holds each value of ``{"ess-1.active_power_setpoint_kw": 10}`` over its whole span."""
    quarter = timedelta(minutes=15)
    end = start + timedelta(hours=hours)
    rows = [
        (*point(name), start + i * quarter, value) for name, value in values.items() for i in range(round(hours * 4))
    ]
    return plan_view(7, 3, start=start, end=end, step_minutes=15, rows=rows)


def situation(
    measured: Mapping[str, float | None] | None = None,
    *,
    ages: Mapping[str, float] | None = None,
    plan: PlanView | Mapping[str, float] | None = None,
    commands: Sequence[ManualCommand] = (),
    grid_limits: Sequence[GridOperatorLimit] = (),
    last: Mapping[str, float] | None = None,
    since: Mapping[str, float] | None = None,
    dt: float = 1.0,
    model: SiteModel = MODEL,
) -> Context:
    """Inputs of one cycle: the quiet noon with what the case changes.

    Parameters
    ----------
    measured : mapping
        Values by ``"asset.quantity"``; a point whose value is None answers with "no value".
    ages : mapping
        Age [s] of an asset's points by asset id; a missing asset is fresh.
    last : mapping
        What actuators were told last [kW].
    """
    image = ProcessImage()
    ages = ages or {}
    for name, value in {**MEASURED, **(measured or {})}.items():
        key = point(name)
        age = ages.get(key[0], 0.0)
        image.update({key: value}, NOW - timedelta(seconds=age), MONOTONIC - age)
    held = {a.asset_id: 0.0 if a.steered else a.maximum_kw for a in model.actuators} | dict(last or {})
    since = since or {}
    return Context(
        model=model,
        image=image,
        now=NOW,
        monotonic=MONOTONIC,
        dt=dt,
        plan=plan if isinstance(plan, PlanView) or plan is None else plan_of(plan),
        commands=commands,
        grid_limits=grid_limits,
        last={name: SentState(value, since.get(name, MONOTONIC - 1e6)) for name, value in held.items()},
        last_fresh={a.asset_id: MONOTONIC - ages.get(a.asset_id, 0.0) for a in model.actuators},
    )


def decisions(context: Context) -> dict[str, Decision]:
    """Every actuator's decision in one situation; no rule may fail."""
    outcome = decide(context)
    assert not outcome.faults, dict(outcome.faults)
    return dict(outcome.decisions)
