"""The engine: from what is known to one decision for each actuator. Pure, so that a day fits into a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from control_loop import grid_orders, limits, load_rules, mode, pcc, wishes
from control_loop.arbitration import Decision, arbitrate
from control_loop.context import Context
from control_loop.model import Actuator
from control_loop.requests import Layer, Request

Rule = Callable[[Context], list[Request]]

RULES: dict[str, tuple[Layer, Rule]] = {
    "emergency_stop": (Layer.EMERGENCY_STOP, limits.emergency_stop),
    "protection": (Layer.PROTECTION, limits.protection),
    "load_capability": (Layer.PROTECTION, load_rules.load_capability),
    "grid_operator": (Layer.GRID_OPERATOR, limits.grid_operator),
    "grid_setpoints": (Layer.GRID_OPERATOR, grid_orders.grid_setpoints),
    "load_comfort": (Layer.RAMP, load_rules.load_comfort),
    "least_limits": (Layer.RAMP, limits.least_limits),
    "ramp": (Layer.RAMP, limits.ramp),
    "fail_safe": (Layer.FAIL_SAFE, wishes.fail_safe),
    "operator": (Layer.OPERATOR, wishes.operator),
    "mode": (Layer.MODE, mode.mode),
    "plan": (Layer.PLAN, wishes.plan),
}
"""Every rule but the PCC's, which needs the others' outcome first."""


class Controller(Protocol):
    """A rule with a memory of its own."""

    def requests(self, context: Context) -> list[Request]:
        """What it asks for in this cycle; called once each cycle."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cycle decided.

    Attributes
    ----------
    decisions : mapping
        One decision for each actuator.
    faults : mapping
        Name of each rule that raised, with its message.
    """

    decisions: MappingProxyType[str, Decision]
    faults: MappingProxyType[str, str]


def decide(
    context: Context, rules: dict[str, tuple[Layer, Rule]] | None = None, *, hold_exchange: bool = True
) -> Outcome:
    """Decide every actuator's value.

    Parameters
    ----------
    context : Context
        What is known.
    rules : mapping, optional
        Rules by name with their layer; by default all of `RULES`.
    hold_exchange : bool
        Whether the actuators move the active power at the PCC, whose limits then bound them.

    Notes
    -----
    A rule that raises takes nothing with it. If it was one that guards (fail-safe layer or higher), no value below
    it can be trusted, so every actuator goes to its safe value; a lower one is left out.
    """
    requests: list[Request] = list(context.requests)
    faults: dict[str, str] = {}
    for name, (layer, rule) in (rules or RULES).items():
        try:
            requests += rule(context)
        except Exception as error:
            faults[name] = f"{type(error).__name__}: {error}"
            if layer <= Layer.FAIL_SAFE:
                requests += [
                    Request(Layer.FAIL_SAFE, a.asset_id, value=a.safe_kw, reason=f"rule {name} failed")
                    for a in context.model.actuators
                ]
    decisions = _arbitrate_all(context, requests)
    try:
        bounds = pcc.pcc_requests(context, decisions) if hold_exchange else []
    except Exception as error:
        faults["pcc"] = f"{type(error).__name__}: {error}"
        bounds = [
            Request(Layer.FAIL_SAFE, a.asset_id, value=a.safe_kw, reason="rule pcc failed")
            for a in context.model.actuators
        ]
        requests = [r for r in requests if r.layer is not Layer.FAIL_SAFE]
    if bounds:
        decisions = _arbitrate_all(context, [*requests, *bounds])
    return Outcome(MappingProxyType(decisions), MappingProxyType(faults))


def ask(controllers: Iterable[Controller], context: Context) -> tuple[list[Request], dict[str, str]]:
    """What controllers ask for, and those that failed, with the message: one that fails takes nothing with it."""
    asked: list[Request] = []
    faults: dict[str, str] = {}
    for controller in controllers:
        try:
            asked += controller.requests(context)
        except Exception as error:
            faults[type(controller).__name__] = f"{type(error).__name__}: {error}"
    return asked, faults


def _arbitrate_all(context: Context, requests: list[Request]) -> dict[str, Decision]:
    by_asset: dict[str, list[Request]] = {a.asset_id: [] for a in context.model.actuators}
    for request in requests:
        by_asset.get(request.asset_id, []).append(request)
    return {
        a.asset_id: _possible(
            context,
            a,
            arbitrate(a.minimum_kw, a.maximum_kw, by_asset[a.asset_id], context.monotonic, a.idle_kw),
        )
        for a in context.model.actuators
    }


def _possible(context: Context, actuator: Actuator, decision: Decision) -> Decision:
    """Move a decision to a value the device can take: a genset off or at its least power or more, a load in steps."""
    value = decision.value
    least = actuator.running_minimum_kw
    if 0 < value < least:
        wish = max(decision.requested, value)
        start = (wish >= least / 2 or decision.hard_lower > 0) and least <= decision.hard_upper
        value = least if start else 0.0
    elif actuator.curtailment is not None:
        value = load_rules.to_step(actuator, context.loads.get(actuator.asset_id), decision)
    return decision if value == decision.value else replace(decision, value=value)
