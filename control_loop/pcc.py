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
_SMALL_KW = 1e-9
NOISE_DEVIATIONS = 2.5
NOISE_MARGIN = 0.05
OUTSIDE_FACTOR = 2.0
"""The margin for what moves by itself is so much wider while the exchange is outside its limits: the next cycle has to
bring it back inside, also when what moved it there moves on."""


@dataclass(frozen=True, slots=True)
class PccLimits:
    """Allowed exchange: `lower_kw` (most negative export) to `upper_kw` (import)."""

    lower_kw: float
    upper_kw: float
    reason: str


def pcc_limits(context: Context, margin_fraction: float = 0.01, measured_kw: float | None = None) -> PccLimits:
    """The exchange allowed now: the contract's limits and the grid operator's, less a small margin.

    Parameters
    ----------
    margin_fraction : float
        Share of each limit that is kept free for what moves between two cycles; where it moves more, the margin is
        2.5 times its standard deviation, at most 5 % of the limit. With 0 there is no margin.
    measured_kw : float, optional
        Exchange as measured; where it is outside, the margin for what moves by itself is twice as wide there.
    """
    lower, upper = -context.model.export_limit_kw, context.model.import_limit_kw
    reason = f"PCC limits {lower:g}..{upper:g} kW"
    for limit in context.grid_limits:
        if limit.asset_id != context.model.pcc_id or not limit.stands(context.monotonic):
            continue
        if limit.minimum is not None and limit.minimum > lower:
            lower, reason = min(limit.minimum, upper), limit.reason
        if limit.maximum is not None and limit.maximum < upper:
            upper, reason = max(limit.maximum, lower), limit.reason
    half = (upper - lower) / 2

    def margin(limit_kw: float, *, outside: bool) -> float:
        if margin_fraction <= 0:
            return 0.0
        noise = min(NOISE_DEVIATIONS * context.exchange_noise_kw, NOISE_MARGIN * abs(limit_kw))
        return min(max(margin_fraction * abs(limit_kw), noise * (OUTSIDE_FACTOR if outside else 1.0)), half)

    under, over = measured_kw is not None and measured_kw < lower, measured_kw is not None and measured_kw > upper
    return PccLimits(lower + margin(lower, outside=under), upper - margin(upper, outside=over), reason)


@dataclass(frozen=True, slots=True)
class Reach:
    """Power an actuator may show when told a value, in its own sign: it lies between `least_kw` and `most_kw`."""

    least_kw: float
    most_kw: float


def reach_of(context: Context, actuator: Actuator, value: float) -> Reach:
    """Range of power in which an actuator may answer `value` [kW].

    A setpoint is expected to be followed. Below a limit nobody knows what a consumer or a source will do that the last
    limit held back: it may take all that it is now allowed, or stay where it is.
    """
    if actuator.steered:
        return Reach(value, value)
    measured = context.fresh(actuator.asset_id, "active_power_kw")
    if measured is None:
        return Reach(value, value)
    stays = min(measured, value)
    if not actuator.consumes:
        available = context.fresh(actuator.asset_id, "available_power_kw")
        if available is not None:
            return Reach(stays, min(max(available, measured), value))
    last = context.last_value(actuator)
    held_back = measured >= 0.98 * last - 1e-9 and last < actuator.maximum_kw - 1e-9
    return Reach(stays, value if held_back else stays)


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

    Notes
    -----
    Both limits hold for the worst that may come: import is reckoned with all that consumers may take and sources
    may fail to give, export with the opposite. Where that breaks both, whoever makes the answer uncertain is
    held back, as one setpoint of a storage cannot serve both.
    """
    measured = context.fresh(context.model.pcc_id, "active_power_kw")
    if measured is None:
        return []
    limits = pcc_limits(context, measured_kw=measured)
    most = measured + max(context.exchange_trend_kw, 0.0)
    least = measured + min(context.exchange_trend_kw, 0.0)
    reaches: dict[str, Reach] = {}
    for actuator in context.model.actuators:
        shown_kw = context.power_at_meter(actuator.asset_id)
        if shown_kw is None:
            continue
        reach = reach_of(context, actuator, tentative[actuator.asset_id].value)
        reaches[actuator.asset_id] = reach
        up, down = (reach.most_kw, reach.least_kw) if actuator.consumes else (-reach.least_kw, -reach.most_kw)
        own = shown_kw if actuator.consumes else -shown_kw
        most += up - own
        least += down - own
    over, under = max(0.0, most - limits.upper_kw), max(0.0, limits.lower_kw - least)
    requests: list[Request] = []
    if over > 0 and under > 0:
        requests = _hold_back(context, reaches, over, consumers=True, reason=limits.reason)
        over -= sum(reaches[r.asset_id].most_kw - r.maximum for r in requests if r.maximum is not None)
        sources = _hold_back(context, reaches, under + max(0.0, over), consumers=False, reason=limits.reason)
        under -= sum(reaches[r.asset_id].most_kw - r.maximum for r in sources if r.maximum is not None)
        requests += sources
        reaches = {name: Reach(r.least_kw, r.least_kw) for name, r in reaches.items()}
    if over > _SMALL_KW:
        expected = _expected(context, reaches, importing=True)
        requests += _shed(context, tentative, expected, excess_kw=over, order=_IMPORT_ORDER, reason=limits.reason)
    elif under > _SMALL_KW:
        expected = _expected(context, reaches, importing=False)
        requests += _shed(context, tentative, expected, excess_kw=-under, order=_EXPORT_ORDER, reason=limits.reason)
    return requests


def _hold_back(
    context: Context, reaches: Mapping[str, Reach], excess_kw: float, *, consumers: bool, reason: str
) -> list[Request]:
    """Take from what consumers (or sources) may newly do as much as `excess_kw`, those of lowest rank first."""
    requests: list[Request] = []
    for actuator in sorted(_known(context, reaches), key=lambda a: (-a.priority, a.asset_id)):
        reach = reaches[actuator.asset_id]
        cut = min(excess_kw, reach.most_kw - reach.least_kw)
        if actuator.steered or actuator.consumes != consumers or cut <= _SMALL_KW:
            continue
        excess_kw -= cut
        requests.append(Request(Layer.PCC, actuator.asset_id, maximum=reach.most_kw - cut, reason=reason))
    return requests


def _expected(context: Context, reaches: Mapping[str, Reach], *, importing: bool) -> dict[str, float]:
    """The end of each actuator's range that is worst for import, or for export."""
    return {
        a.asset_id: reaches[a.asset_id].most_kw if a.consumes == importing else reaches[a.asset_id].least_kw
        for a in _known(context, reaches)
    }


def _known(context: Context, reaches: Mapping[str, Reach]) -> list[Actuator]:
    return [a for a in context.model.actuators if a.asset_id in reaches]


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
        if abs(left) < _SMALL_KW:
            break
        decision = tentative[actuator.asset_id]
        if decision.source < Layer.PCC:  # a stop, or power that the grid operator wants of it: it cannot give way
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
