"""Limit rules: emergency stop, protection of each device, the grid operator's limits, and the ramp."""

from __future__ import annotations

import math

from control_loop.context import Context
from control_loop.model import Actuator
from control_loop.requests import Layer, Request
from flexergy_pipelines.grid.templates.alarm_words import AlarmBit, standing_bits

SOC_LOOK_AHEAD_S = 60.0
"""Power is limited so that a storage needs at least this long to reach the end of its SoC range."""

DERATING_K = 2.0
"""Over the last kelvins before an end of its temperature range a storage's power falls to zero, evenly, so that it
does not switch off and on."""


def emergency_stop(context: Context) -> list[Request]:
    """Everything named by a standing emergency stop goes to zero at once.

    Of several commands for one target the newest counts, so that 0 releases what 1 stopped.
    """
    newest: dict[str | None, tuple[int, bool, str]] = {}
    for command in context.commands:
        if command.quantity != "emergency_stop":
            continue
        known = newest.get(command.asset_id)
        if known is None or command.command_id > known[0]:
            newest[command.asset_id] = (command.command_id, command.value != 0, command.reason)
    requests: list[Request] = []
    for actuator in context.model.actuators:
        for target in (None, actuator.asset_id):
            _, stopped, reason = newest.get(target, (0, False, ""))
            if stopped:
                requests.append(
                    Request(Layer.EMERGENCY_STOP, actuator.asset_id, value=0.0, reason=f"emergency stop: {reason}")
                )
    return requests


def protection(context: Context) -> list[Request]:
    """What the devices themselves bear: state of charge, their own power limits, availability, genset times."""
    requests: list[Request] = []
    for actuator in context.model.actuators:
        if actuator.kind == "ess":
            requests += _storage_limits(context, actuator)
        elif actuator.kind == "genset":
            requests += _genset_times(context, actuator)
        requests += _alarm_limits(context, actuator)
    return requests


def _alarm_limits(context: Context, actuator: Actuator) -> list[Request]:
    """What the device's own alarms forbid."""
    requests: list[Request] = []
    for bit in device_alarms(context, actuator):
        if bit.forbids == "nothing":
            continue
        low = 0.0 if bit.forbids in {"charge", "all"} else None
        high = 0.0 if bit.forbids in {"discharge", "all"} else None
        reason = f"device's alarm: {bit.text}"
        requests.append(Request(Layer.PROTECTION, actuator.asset_id, minimum=low, maximum=high, reason=reason))
    return requests


def device_alarms(context: Context, actuator: Actuator) -> list[AlarmBit]:
    """Bits that stand in the alarm words of an actuator's device; none while they are not read."""
    found: list[AlarmBit] = []
    for quantity, bits in actuator.alarm_words:
        word = context.fresh(actuator.asset_id, quantity)
        if word is not None:
            found += standing_bits(bits, word)
    return found


def _storage_limits(context: Context, actuator: Actuator) -> list[Request]:
    asset_id, storage = actuator.asset_id, actuator.storage
    if storage is None:
        return []

    def limit(reason: str, minimum: float | None = None, maximum: float | None = None) -> Request:
        return Request(Layer.PROTECTION, asset_id, minimum=minimum, maximum=maximum, reason=reason)

    requests: list[Request] = []
    if context.fresh(asset_id, "available") == 0:
        return [limit("device not available", 0.0, 0.0)]
    soc = context.fresh(asset_id, "soc")
    if soc is None:
        held = context.last_value(actuator)
        return [limit("state of charge unknown", min(held, 0.0), max(held, 0.0))]
    hours = max(SOC_LOOK_AHEAD_S, 2 * context.dt, 2 * context.model.cycle_s) / 3600.0
    room_kwh = max(0.0, storage.soc_max - soc) * storage.energy_capacity_kwh
    store_kwh = max(0.0, soc - storage.soc_min) * storage.energy_capacity_kwh
    requests.append(
        limit(
            f"state of charge {soc:.3f} of {storage.soc_min:g}..{storage.soc_max:g}",
            -room_kwh / storage.charge_efficiency / hours,
            store_kwh * storage.discharge_efficiency / hours,
        )
    )
    warm = context.fresh(asset_id, "temperature_c")
    if warm is not None:
        room_k = min(storage.temperature_max_c - warm, warm - storage.temperature_min_c)
        share = min(max(room_k / DERATING_K, 0.0), 1.0)
        if share < 1.0:
            reason = f"{warm:.1f} °C of {storage.temperature_min_c:g}..{storage.temperature_max_c:g} °C"
            requests.append(limit(reason, share * actuator.minimum_kw, share * actuator.maximum_kw))
    charge_kw = context.fresh(asset_id, "max_charge_kw")
    if charge_kw is not None:
        requests.append(limit(f"device allows {charge_kw:g} kW charge", minimum=-max(0.0, charge_kw)))
    discharge_kw = context.fresh(asset_id, "max_discharge_kw")
    if discharge_kw is not None:
        requests.append(limit(f"device allows {discharge_kw:g} kW discharge", maximum=max(0.0, discharge_kw)))
    return requests


def _genset_times(context: Context, actuator: Actuator) -> list[Request]:
    state = context.last.get(actuator.asset_id)
    if state is None:
        return []
    held_s = context.monotonic - state.since
    if state.value > 0 and held_s < actuator.min_up_s:
        reason = f"runs {held_s:.0f} s of at least {actuator.min_up_s:.0f} s"
        return [Request(Layer.PROTECTION, actuator.asset_id, minimum=actuator.running_minimum_kw, reason=reason)]
    if state.value <= 0 and held_s < actuator.min_down_s:
        reason = f"stopped {held_s:.0f} s of at least {actuator.min_down_s:.0f} s"
        return [Request(Layer.PROTECTION, actuator.asset_id, maximum=0.0, reason=reason)]
    return []


def grid_operator(context: Context) -> list[Request]:
    """Fixed limits of the grid operator on single actuators; its limits on the PCC are met by the PCC rule."""
    return [
        Request(Layer.GRID_OPERATOR, limit.asset_id, None, limit.minimum, limit.maximum, limit.reason, limit.expires)
        for limit in context.grid_limits
        if limit.asset_id != context.model.pcc_id and limit.stands(context.monotonic)
    ]


def ramp(context: Context) -> list[Request]:
    """No step: a value leaves the last one at most by the ramp, unless a higher layer's limit forces it."""
    requests: list[Request] = []
    for actuator in context.model.actuators:
        rate = min(context.model.ramp_kw_per_s, actuator.ramp_kw_per_s or context.model.ramp_kw_per_s)
        low, high = ramp_band(actuator, context.last_value(actuator), rate * context.dt)
        if math.isfinite(high - low):
            reason = f"ramp {rate:g} kW/s"
            requests.append(Request(Layer.RAMP, actuator.asset_id, minimum=low, maximum=high, reason=reason))
    return requests


def ramp_band(actuator: Actuator, last: float, step: float) -> tuple[float, float]:
    """Values [kW] that an actuator told `last` may be told next, when it may move by `step`.

    A genset's start and stop between zero and its least power is its own controller's business, so the band
    reaches across that gap. A load that is curtailed in steps has no value between them, and no ramp.
    """
    if actuator.curtailment is not None:
        return -math.inf, math.inf
    low, high = last - step, last + step
    if actuator.running_minimum_kw > 0:
        if last < actuator.running_minimum_kw:
            high = max(high, actuator.running_minimum_kw)
        if low < actuator.running_minimum_kw:
            low = min(low, 0.0)
    return low, high


def least_limits(context: Context) -> list[Request]:
    """What consumers are left with unless a layer above needs less, so that cars keep charging."""
    return [
        Request(Layer.RAMP, a.asset_id, minimum=a.least_kw, reason=f"least limit {a.least_kw:g} kW")
        for a in context.model.actuators
        if a.least_kw > 0
    ]
