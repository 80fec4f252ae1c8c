"""Alarms a cycle finds, and the difference from the cycle before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from control_loop.context import Context
from control_loop.pcc import pcc_limits

AlarmKey = tuple[str, str | None]
"""(code, asset id)."""

ALARM_CODES = frozenset(
    {
        "emergency_stop",
        "meter_lost",
        "no_plan",
        "pcc_limit_exceeded",
        "rule_failed",
        "setpoint_not_delivered",
        "setpoint_without_effect",
        "soc_out_of_range",
        "telemetry_stale",
    }
)
"""Every alarm the loop raises and clears."""

START_S = 15.0
"""Time that links have to come up after a start before their absence is an alarm."""

CRITICAL, HIGH, MEDIUM, LOW = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Alarm:
    """One standing condition.

    Attributes
    ----------
    severity : int
        1 critical .. 4 low.
    """

    code: str
    asset_id: str | None
    severity: int
    message: str

    @property
    def key(self) -> AlarmKey:
        """Identity of the condition."""
        return self.code, self.asset_id


def cycle_alarms(
    context: Context,
    faults: Mapping[str, str],
    without_effect: Mapping[str, str],
    undelivered: Mapping[str, int],
    *,
    running_s: float = math.inf,
) -> dict[AlarmKey, Alarm]:
    """All conditions that stand in this cycle.

    Parameters
    ----------
    faults : mapping
        Rules that raised.
    without_effect : mapping
        Actuators whose acknowledged setpoint did not take effect, with a message.
    undelivered : mapping
        Actuators with the number of times in a row that a setpoint could not be delivered.
    running_s : float
        How long the loop runs; links that are only just being made are no news.
    """
    model = context.model
    found: list[Alarm] = [Alarm("rule_failed", None, CRITICAL, f"rule {n}: {m}") for n, m in faults.items()]
    if any(c.quantity == "emergency_stop" and c.value for c in context.commands):
        found.append(Alarm("emergency_stop", None, CRITICAL, "an emergency stop stands"))
    pcc_kw = context.fresh(model.pcc_id, "active_power_kw")
    if pcc_kw is None and (running_s > START_S or context.image.sample(model.pcc_id, "active_power_kw")):
        found.append(
            Alarm("meter_lost", model.pcc_id, CRITICAL, f"{model.pcc_id}: no reading; actuators go to safe values")
        )
    elif pcc_kw is not None:
        limits = pcc_limits(context, margin_fraction=0.0)
        if not limits.lower_kw - 1e-6 <= pcc_kw <= limits.upper_kw + 1e-6:
            message = f"{model.pcc_id}: {pcc_kw:.1f} kW is outside {limits.lower_kw:.1f}..{limits.upper_kw:.1f} kW"
            found.append(Alarm("pcc_limit_exceeded", model.pcc_id, HIGH, message))
    for actuator in model.actuators:
        asset_id = actuator.asset_id
        if context.blind(asset_id):
            age_s = context.image.age(asset_id, "active_power_kw", context.monotonic)
            found.append(Alarm("telemetry_stale", asset_id, HIGH, f"{asset_id}: {silence(age_s)}"))
        if asset_id in without_effect:
            found.append(Alarm("setpoint_without_effect", asset_id, HIGH, without_effect[asset_id]))
        if undelivered.get(asset_id, 0) >= 3 and running_s > START_S:
            message = f"{asset_id}: {undelivered[asset_id]} setpoints in a row were not delivered"
            found.append(Alarm("setpoint_not_delivered", asset_id, HIGH, message))
        storage, soc = actuator.storage, context.fresh(asset_id, "soc")
        if storage is not None and soc is not None and not storage.soc_min - 0.01 <= soc <= storage.soc_max + 0.01:
            message = f"{asset_id}: state of charge {soc:.3f} is outside {storage.soc_min:g}..{storage.soc_max:g}"
            found.append(Alarm("soc_out_of_range", asset_id, HIGH, message))
    if context.plan is None or not context.plan.covers(context.now):
        found.append(Alarm("no_plan", None, MEDIUM, "no plan covers this moment; storage idles"))
    return {alarm.key: alarm for alarm in found}


def silence(age_s: float) -> str:
    """How long nothing was read, in words; an infinite age means never since the loop started."""
    return f"no reading for {age_s:.0f} s" if math.isfinite(age_s) else "no reading yet"
