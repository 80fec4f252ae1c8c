"""Keeping the point of common coupling inside its limits, closed over the PCC meter.

The meter says what flows now; the change the next setpoints will make is added to it. Where the sum would break a
limit, actuators are bounded one after the other until it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_loop.arbitration import Decision
from control_loop.context import Context
from control_loop.model import Actuator
from control_loop.requests import Layer, Request

_IMPORT_ORDER = ("ess", "genset", "controllable_load", "ev")
_EXPORT_ORDER = ("ess", "genset", "pv", "wind")


@dataclass(frozen=True, slots=True)
class PccLimits:
    """Allowed exchange: `lower_kw` (most negative export) to `upper_kw` (import)."""

    lower_kw: float
    upper_kw: float
    reason: str


def pcc_limits(context: Context, margin_fraction: float = 0.01) -> PccLimits:
    """The exchange allowed now: the contract's limits and the grid operator's, less a small margin.

    Parameters
    ----------
    margin_fraction : float
        Share of each limit that is kept free for what moves between two cycles.
    """
    lower, upper = -context.model.export_limit_kw, context.model.import_limit_kw
    reason = f"PCC limits {lower:g}..{upper:g} kW"
    for limit in context.grid_limits:
        if limit.asset_id != context.model.pcc_id or (limit.expires is not None and limit.expires <= context.monotonic):
            continue
        if limit.minimum is not None and limit.minimum > lower:
            lower, reason = min(limit.minimum, upper), limit.reason
        if limit.maximum is not None and limit.maximum < upper:
            upper, reason = max(limit.maximum, lower), limit.reason
    half = (upper - lower) / 2
    return PccLimits(
        lower + min(margin_fraction * abs(lower), half), upper - min(margin_fraction * abs(upper), half), reason
    )


def expected_power_kw(context: Context, actuator: Actuator, value: float) -> float:
    """Power an actuator will show when told `value` [kW], in its own sign.

    A setpoint is expected to be followed. Below a limit a source gives what is available, and a consumer what it
    takes now, or up to the limit when the last limit held it back.
    """
    if actuator.steered:
        return value
    measured = context.fresh(actuator.asset_id, "active_power_kw")
    if measured is None:
        return value
    last = context.last_value(actuator)
    held_back = measured >= 0.98 * last - 1e-9 and last < actuator.maximum_kw - 1e-9
    if actuator.consumes:
        return value if held_back else min(measured, value)
    available = context.fresh(actuator.asset_id, "available_power_kw")
    if available is not None:
        return min(max(available, measured), value)
    return value if held_back else min(measured, value)


def pcc_requests(context: Context, tentative: Mapping[str, Decision]) -> list[Request]:
    """Limits that keep the PCC inside its own, given what the actuators would be told without them.

    Parameters
    ----------
    tentative : mapping
        Decision of each actuator by all layers but this one.

    Returns
    -------
    list of Request
        Nothing when the meter is lost: then the fail-safe rule holds control.
    """
    measured = context.fresh(context.model.pcc_id, "active_power_kw")
    if measured is None:
        return []
    limits = pcc_limits(context)
    predicted = measured
    expected: dict[str, float] = {}
    for actuator in context.model.actuators:
        now_kw = context.fresh(actuator.asset_id, "active_power_kw")
        if now_kw is None:
            continue
        expected[actuator.asset_id] = expected_power_kw(context, actuator, tentative[actuator.asset_id].value)
        change = expected[actuator.asset_id] - now_kw
        predicted += change if actuator.consumes else -change
    if predicted > limits.upper_kw:
        excess_kw = predicted - limits.upper_kw
        return _shed(context, tentative, expected, excess_kw=excess_kw, order=_IMPORT_ORDER, reason=limits.reason)
    if predicted < limits.lower_kw:
        excess_kw = predicted - limits.lower_kw
        return _shed(context, tentative, expected, excess_kw=excess_kw, order=_EXPORT_ORDER, reason=limits.reason)
    return []


def _shed(
    context: Context,
    tentative: Mapping[str, Decision],
    expected: Mapping[str, float],
    *,
    excess_kw: float,
    order: tuple[str, ...],
    reason: str,
) -> list[Request]:
    """Spread `excess_kw` (positive: too much import) over the actuators in `order`, what costs least first."""
    requests: list[Request] = []
    ranked = sorted(
        (a for a in context.model.actuators if a.kind in order and a.asset_id in expected),
        key=lambda a: (order.index(a.kind), -a.priority, a.asset_id),
    )
    left = excess_kw
    for actuator in ranked:
        if abs(left) < 1e-9:
            break
        decision = tentative[actuator.asset_id]
        if decision.source is Layer.EMERGENCY_STOP:
            continue
        # Layers below the PCC's, such as the ramp, do not bind its limits.
        lower, upper = decision.hard_lower, decision.hard_upper
        base = expected[actuator.asset_id]
        if actuator.kind == "genset" and left > 0 and base <= 0:
            continue
        wanted = base - left if actuator.consumes else base + left
        target = min(max(wanted, lower), upper)
        if not actuator.steered and target >= base:
            continue
        taken = (base - target) if actuator.consumes else (target - base)
        left -= taken
        if not actuator.steered or target < base:
            requests.append(Request(Layer.PCC, actuator.asset_id, maximum=target, reason=reason))
        elif target > base:
            requests.append(Request(Layer.PCC, actuator.asset_id, minimum=target, reason=reason))
    return requests
