"""Alarms a cycle finds, and the difference from the cycle before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from control_loop.context import Context
from control_loop.limits import device_alarms
from control_loop.pcc import pcc_limits

AlarmKey = tuple[str, str | None]
"""(code, asset id)."""

ALARM_CODES = frozenset(
    {
        "contingency_procedure",
        "control_dissent",
        "control_no_majority",
        "control_voters_missing",
        "device_clock_off",
        "emergency_stop",
        "grid_frequency_off",
        "grid_voltage_off",
        "meter_disagrees",
        "meter_lost",
        "meter_reversed",
        "no_plan",
        "own_clock_off",
        "pcc_limit_exceeded",
        "rule_failed",
        "setpoint_not_delivered",
        "setpoint_without_effect",
        "setpoint_not_followed",
        "soc_out_of_range",
        "telemetry_frozen",
        "telemetry_stale",
    }
)
"""Every alarm the loop raises and clears, beside those that devices themselves report."""

OF_DEVICE = "device_"
"""What the code of a device's own alarm begins with; the name of the bit follows."""

START_S = 15.0
"""Time that parts have to find together after a start before what does not work between them is an alarm."""

FIRST_ANSWER_S = 30.0
"""Time that a device has after a start to answer for the first time before its silence is an alarm."""

CRITICAL, HIGH, MEDIUM, LOW = 1, 2, 3, 4
MOST_TOLD = 5


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
    frozen: Mapping[str, str] = MappingProxyType({}),
    not_followed: Mapping[str, str] = MappingProxyType({}),
    procedures: Mapping[str, str] = MappingProxyType({}),
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
    frozen : mapping
        Assets whose measurements stand still, with what gave them away.
    not_followed : mapping
        Actuators whose power is not what their device was told, with a message.
    procedures : mapping
        Assets whose loss has set a contingency procedure going, with a message.
    """
    model = context.model
    found: list[Alarm] = [Alarm("rule_failed", None, CRITICAL, f"rule {n}: {m}") for n, m in faults.items()]
    if any(c.quantity == "emergency_stop" and c.value for c in context.commands):
        found.append(Alarm("emergency_stop", None, CRITICAL, "an emergency stop stands"))
    if context.meter_reversed:
        message = (
            f"{model.pcc_id}: the exchange moves with the site's own power, not against it; the sign of the meter "
            "is wrong; actuators go to safe values"
        )
        found.append(Alarm("meter_reversed", model.pcc_id, CRITICAL, message))
    if context.plan is None or not context.plan.covers(context.now):
        found.append(Alarm("no_plan", None, MEDIUM, "no plan covers this moment; storage idles"))
    for asset_id, why in frozen.items():
        meter = asset_id == model.pcc_id
        message = f"{asset_id}: {why}; actuators go to safe values" if meter else f"{asset_id}: {why}"
        found.append(Alarm("telemetry_frozen", asset_id, CRITICAL if meter else HIGH, message))
    told = (
        (without_effect, "setpoint_without_effect"),
        (not_followed, "setpoint_not_followed"),
        (procedures, "contingency_procedure"),
    )
    for texts, code in told:
        found += [Alarm(code, asset_id, HIGH, message) for asset_id, message in texts.items()]
    # Only alarms wait: what a blind loop does to be safe, it does from its first cycle on.
    for asset_id in (model.pcc_id, *(a.asset_id for a in model.actuators), *model.metered):
        due = running_s > FIRST_ANSWER_S or context.was_fresh(asset_id)
        known = asset_id in frozen or (asset_id == model.pcc_id and context.meter_reversed)
        if context.blind(asset_id) and not known and due:
            found.append(_silent(context, asset_id))
    for asset_id, times in undelivered.items():
        if times >= 3 and running_s > (START_S if context.was_fresh(asset_id) else FIRST_ANSWER_S):
            message = f"{asset_id}: {times} setpoints in a row were not delivered"
            found.append(Alarm("setpoint_not_delivered", asset_id, HIGH, message))
    return {alarm.key: alarm for alarm in [*found, *_out_of_range(context), *_of_devices(context)]}


def is_own(code: str) -> bool:
    """Whether an alarm of this code is one that the loop raises and clears."""
    return code in ALARM_CODES or code.startswith(OF_DEVICE)


def _of_devices(context: Context) -> list[Alarm]:
    """What the devices report as alarms, each bit one of its own."""
    stopped = {"charge": "; it is not charged", "discharge": "; it is not discharged", "all": "; it is told 0 kW"}
    return [
        Alarm(OF_DEVICE + bit.name, a.asset_id, bit.severity, f"{a.asset_id}: {bit.text}{stopped.get(bit.forbids, '')}")
        for a in context.model.actuators
        for bit in device_alarms(context, a)
    ]


def clock_alarm(device: str, asset_id: str, offset_s: float, others: int = 0) -> Alarm:
    """A device, and how many more like it, whose time stamps differ from this machine's time (positive: ahead) [s]."""
    side = "ahead of" if offset_s > 0 else "behind"
    message = f"{device}: its clock is {abs(offset_s):.0f} s {side} this machine's; its time stamps are not used"
    message += f"; so it is with {others} more" if others else ""
    return Alarm("device_clock_off", asset_id, LOW, message)


def fault_alarm(device: str, asset_id: str, faults: Mapping[str, str]) -> Alarm:
    """Parts of a device that say themselves what is wrong with them."""
    told = [f"{name}: {what}" for name, what in sorted(faults.items())]
    more = f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
    return Alarm(OF_DEVICE + "fault", asset_id, MEDIUM, f"{device}: {'; '.join(told[:MOST_TOLD])}{more}")


def own_clock_alarm(off_s: float) -> Alarm:
    """This machine's wall clock has jumped by `off_s` (positive: ahead), and the store does not confirm it."""
    side = "ahead" if off_s > 0 else "back"
    message = f"this machine's clock has jumped {abs(off_s):.0f} s {side}; the time it had before is counted on"
    return Alarm("own_clock_off", None, HIGH, message)


def _silent(context: Context, asset_id: str) -> Alarm:
    if asset_id == context.model.pcc_id:
        return Alarm("meter_lost", asset_id, CRITICAL, f"{asset_id}: no reading; actuators go to safe values")
    age_s = context.image.age(asset_id, "active_power_kw", context.monotonic)
    why = "its device answers, but gives no value of its power" if age_s < context.model.cycle_s else silence(age_s)
    severity = MEDIUM if asset_id in context.model.metered else HIGH
    return Alarm("telemetry_stale", asset_id, severity, f"{asset_id}: {why}")


def _out_of_range(context: Context) -> list[Alarm]:
    """Measured values outside what is allowed."""
    found: list[Alarm] = []
    pcc_id = context.model.pcc_id
    pcc_kw = context.fresh(pcc_id, "active_power_kw")
    limits = pcc_limits(context, margin_fraction=0.0)
    if pcc_kw is not None and not limits.lower_kw - 1e-6 <= pcc_kw <= limits.upper_kw + 1e-6:
        message = f"{pcc_id}: {pcc_kw:.1f} kW is outside {limits.lower_kw:.1f}..{limits.upper_kw:.1f} kW"
        found.append(Alarm("pcc_limit_exceeded", pcc_id, HIGH, message))
    for actuator in context.model.actuators:
        asset_id, storage, soc = actuator.asset_id, actuator.storage, context.fresh(actuator.asset_id, "soc")
        if storage is not None and soc is not None and not storage.soc_min - 0.01 <= soc <= storage.soc_max + 0.01:
            message = f"{asset_id}: state of charge {soc:.3f} is outside {storage.soc_min:g}..{storage.soc_max:g}"
            found.append(Alarm("soc_out_of_range", asset_id, HIGH, message))
    return found


def silence(age_s: float) -> str:
    """How long nothing was read, in words; an infinite age means never since the loop started."""
    return f"no reading for {age_s:.0f} s" if math.isfinite(age_s) else "no reading yet"
