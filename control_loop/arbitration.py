"""The one rule for conflicts: the highest-priority request wins, clipped to what the higher ones left feasible.

It is written once and holds for every actuator and every layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from control_loop.requests import Layer, Request


@dataclass(frozen=True, slots=True)
class Decision:
    """What an actuator is told, and who decided.

    Attributes
    ----------
    value : float
        The value to send [kW].
    requested : float
        What the winning layer asked for before clipping [kW].
    layer : Layer
        The layer that holds control: the one that clipped last, else the one that asked.
    reason : str
        Reason of that layer.
    source : Layer
        The layer whose value was taken.
    lower, upper : float
        Range that the layers above the winner left feasible [kW].
    hard_lower, hard_upper : float
        Range that the layers above the ramp left feasible: the limits that may never be broken [kW].
    """

    value: float
    requested: float
    layer: Layer
    reason: str
    source: Layer
    lower: float
    upper: float
    hard_lower: float
    hard_upper: float


def arbitrate(
    minimum_kw: float, maximum_kw: float, requests: Iterable[Request], monotonic: float, idle_kw: float = 0.0
) -> Decision:
    """Decide one actuator's value.

    Parameters
    ----------
    minimum_kw, maximum_kw : float
        Nameplate range; nothing leaves it.
    requests : iterable of Request
        All requests for this actuator, in any order.
    monotonic : float
        Monotonic time [s]; expired requests are ignored.
    idle_kw : float
        Value when nobody asks for one.

    Returns
    -------
    Decision
        A value inside the nameplate range, and who holds control.

    Notes
    -----
    Layers are taken from the highest down. Limits narrow the feasible range; limits that lie wholly outside it
    narrow it to its nearest edge, so that a lower layer can never undo a higher one. The first value met wins; of
    one layer, limits count before values.
    Requests with a number that is not finite are ignored: a broken wish must not become a setpoint.
    """
    lower, upper = minimum_kw, maximum_kw
    bound: dict[str, tuple[Layer, str] | None] = {"lower": None, "upper": None}
    hard = (minimum_kw, maximum_kw)
    winner: Request | None = None
    for request in sorted(requests, key=lambda r: (r.layer, r.value is not None)):
        if not request.alive(monotonic) or not _finite(request):
            continue
        if request.minimum is not None and request.minimum > lower:
            lower = min(request.minimum, upper)
            bound["lower"] = (request.layer, request.reason)
        if request.maximum is not None and request.maximum < upper:
            upper = max(request.maximum, lower)
            bound["upper"] = (request.layer, request.reason)
        if request.layer < Layer.RAMP:
            hard = (lower, upper)
        if request.value is not None:
            winner = request
            break
    requested = idle_kw if winner is None or winner.value is None else winner.value
    source = Layer.IDLE if winner is None else winner.layer
    layer, reason = source, ("no request" if winner is None else winner.reason)
    value = min(max(requested, lower), upper)
    if value != requested:
        edge = bound["lower"] if value > requested else bound["upper"]
        layer, reason = edge or (Layer.PROTECTION, f"nameplate range {minimum_kw:g}..{maximum_kw:g} kW")
    return Decision(value, requested, layer, reason, source, lower, upper, *hard)


def _finite(request: Request) -> bool:
    value, minimum, maximum = request.value, request.minimum, request.maximum
    return (
        (value is None or math.isfinite(value))
        and (minimum is None or math.isfinite(minimum))
        and (maximum is None or math.isfinite(maximum))
    )
