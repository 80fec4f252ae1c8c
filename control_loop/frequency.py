"""Frequency response: power by the measured frequency, on top of what the storage does otherwise.

Each asset answers by its own P(f) curve, the grid operator's (Regulation (EU) 2016/631, Art. 13 and 15).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from control_loop.context import Context
from control_loop.droop import Curve
from control_loop.model import Actuator
from control_loop.requests import Layer, Request
from flexergy_pipelines.grid import FrequencyRule

ANSWER = "frequency_response_kw"
"""Quantity of the setpoints under which each cycle's answer is kept: owed, told and delivered."""


@dataclass(frozen=True, slots=True)
class FrequencyOrder:
    """What one asset owes at which frequency.

    Attributes
    ----------
    curve : Curve
        Frequency [Hz] to power beyond the schedule [kW], positive into the busbar.
    hysteresis_hz : float
        Once active, the answer ends only when the frequency is so far inside the part that asks for nothing.
    rate_kw_per_s : float or None
        Fastest change of the answer; None answers at once.
    tolerance_kw : float
        Deviation that still counts as delivered.
    source : str
        Who ordered it.
    """

    asset_id: str
    curve: Curve
    hysteresis_hz: float = 0.0
    rate_kw_per_s: float | None = None
    tolerance_kw: float = 1.0
    source: str = "grid operator"


@dataclass(frozen=True, slots=True)
class Answer:
    """One cycle's answer of one asset.

    Attributes
    ----------
    owed_kw : float
        What the curve asks for at the measured frequency, beyond the operating point.
    given_kw : float
        What is told beyond it: `owed_kw`, on the way there as fast as the order allows.
    delivered_kw : float
        What is measured beyond it.
    within : bool
        Whether the measured power is what was told in the cycle before, within the order's tolerance.
    """

    frequency_hz: float
    owed_kw: float
    given_kw: float
    delivered_kw: float
    within: bool


@dataclass(slots=True)
class _State:
    active: bool = False
    given_kw: float = 0.0
    told_kw: float | None = None


class FrequencyService:
    """Gives a site's storage the power that the grid operator's P(f) curves ask for.

    Parameters
    ----------
    orders : sequence of FrequencyOrder
        One an asset; may be exchanged while it runs.

    Attributes
    ----------
    answers : mapping
        This cycle's answer of each asset; none of an asset while frequency or power is not known.
    """

    def __init__(self, orders: Sequence[FrequencyOrder] = ()) -> None:
        self.orders = tuple(orders)
        self.answers: Mapping[str, Answer] = {}
        self._states: dict[str, _State] = {}

    def requests(self, context: Context) -> list[Request]:
        """Setpoints while the frequency calls for power; nothing when it does not or is not measured.

        Notes
        -----
        The answer is added to the operating point that was sold: the operator's setpoint, else the plan's, else rest.
        """
        frequency = context.fresh(context.model.pcc_id, "frequency_hz")
        actuators = {a.asset_id: a for a in context.model.actuators if a.kind == "ess"}
        states, self._states = self._states, {}
        answers: dict[str, Answer] = {}
        requests: list[Request] = []
        for order in self.orders:
            actuator = actuators.get(order.asset_id)
            measured = context.fresh(order.asset_id, "active_power_kw")
            if actuator is None or frequency is None or measured is None:
                continue
            state = self._states[order.asset_id] = states.get(order.asset_id) or _State()
            within = state.told_kw is None or abs(measured - state.told_kw) <= order.tolerance_kw
            self._answer(order, state, frequency, context.dt)
            base = operating_point_kw(context, actuator)
            value = base + state.given_kw
            state.told_kw = min(max(value, actuator.minimum_kw), actuator.maximum_kw)
            answers[order.asset_id] = Answer(frequency, order.curve(frequency), state.given_kw, measured - base, within)
            if state.active:
                reason = f"P(f) of {order.source}: {frequency:.3f} Hz asks for {state.given_kw:+.1f} kW"
                requests.append(Request(Layer.GRID_OPERATOR, order.asset_id, value=value, reason=reason))
        self.answers = answers
        return requests

    @staticmethod
    def _answer(order: FrequencyOrder, state: _State, frequency: float, dt: float) -> None:
        owed = order.curve(frequency)
        edges = (frequency - order.hysteresis_hz, frequency + order.hysteresis_hz)
        asked = owed != 0 or (state.active and any(order.curve(edge) != 0 for edge in edges))
        target = owed if asked else 0.0
        step = abs(target - state.given_kw) if order.rate_kw_per_s is None else order.rate_kw_per_s * dt
        state.given_kw = min(max(target, state.given_kw - step), state.given_kw + step)
        state.active = asked or state.given_kw != 0


def operating_point_kw(context: Context, actuator: Actuator) -> float:
    """Power an actuator would be told without the frequency: the grid operator's setpoint, the newest manual one,
    the plan's, or idle."""
    ordered = context.grid_targets.get(actuator.asset_id)
    if ordered is not None:
        return ordered.value
    manual = [c for c in context.commands if (c.asset_id, c.quantity) == (actuator.asset_id, actuator.quantity)]
    if manual:
        return max(manual, key=lambda c: c.command_id).value
    if context.plan is not None and not (context.mode is not None and context.mode.rests):
        planned = context.plan.value(actuator.asset_id, actuator.quantity, context.now)
        if planned is not None and isfinite(planned):
            return planned
    return actuator.idle_kw


def frequency_orders(rules: Iterable[FrequencyRule], nominal_hz: float) -> list[FrequencyOrder]:
    """Orders from the rules of a site's configuration."""
    orders: list[FrequencyOrder] = []
    for rule in rules:
        table = rule.table(nominal_hz)
        reach = max(abs(power) for _, power in table)
        rate = reach / rule.response_s if rule.response_s > 0 else None
        orders.append(FrequencyOrder(rule.asset, Curve(table), rule.hysteresis_hz, rate, rule.tolerance_kw))
    return orders
