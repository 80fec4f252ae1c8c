"""Rules that ask for a value: fail-safe, the operator's manual setpoints, and the plan."""

from __future__ import annotations

from control_loop.context import Context
from control_loop.requests import Layer, Request


def fail_safe(context: Context) -> list[Request]:
    """Where the loop has lost sight, nothing new is dispatched, and what stands ends in the safe value.

    A lost PCC meter sends every actuator to its safe value along the ramp. An asset whose telemetry is stale keeps
    its last setpoint until that setpoint's time to live has passed since the last fresh value, then goes there too.
    """
    model = context.model
    meter_lost = context.blind(model.pcc_id)
    requests: list[Request] = []
    for actuator in model.actuators:
        asset_id = actuator.asset_id
        if meter_lost:
            requests.append(
                Request(Layer.FAIL_SAFE, asset_id, value=actuator.safe_kw, reason=f"meter {model.pcc_id} lost")
            )
        elif context.blind(asset_id):
            seen = context.last_fresh.get(asset_id)
            age = float("inf") if seen is None else context.monotonic - seen
            held = age <= model.stale_after_s + model.setpoint_ttl_s
            value = context.last_value(actuator) if held else actuator.safe_kw
            reason = f"telemetry stale for {age:.0f} s" if seen is not None else "no telemetry yet"
            requests.append(Request(Layer.FAIL_SAFE, asset_id, value=value, reason=reason))
    return requests


def operator(context: Context) -> list[Request]:
    """Manual setpoints; of several for one actuator the newest counts."""
    quantities = {a.asset_id: a.quantity for a in context.model.actuators}
    newest = sorted(context.commands, key=lambda c: c.command_id, reverse=True)
    return [
        Request(
            Layer.OPERATOR,
            command.asset_id,
            value=command.value,
            reason=f"{command.user or 'operator'}: {command.reason}",
            expires=command.expires,
        )
        for command in newest
        if command.asset_id is not None and quantities.get(command.asset_id) == command.quantity
    ]


def plan(context: Context) -> list[Request]:
    """The plan's value of the running step; a plan that has ended or says nothing asks for nothing."""
    if context.plan is None or not context.plan.covers(context.now):
        return []
    requests: list[Request] = []
    for actuator in context.model.actuators:
        value = context.plan.value(actuator.asset_id, actuator.quantity, context.now)
        if value is not None:
            requests.append(Request(Layer.PLAN, actuator.asset_id, value=value, reason=f"plan {context.plan.version}"))
    return requests
