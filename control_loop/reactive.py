"""Reactive power of storage and PV inverters: by the grid operator's rule, the operator, or the plan.

Unit and sign: kvar, positive into the site's busbar (over-excited). What active power leaves of an inverter's
apparent power bounds it: ``|Q| <= sqrt(S^2 - P^2)``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from control_loop import limits, wishes
from control_loop.arbitration import Decision
from control_loop.context import Context, SentState
from control_loop.dispatch import Dispatcher
from control_loop.droop import Curve
from control_loop.engine import Rule, decide
from control_loop.model import REACTIVE_SETPOINT, Actuator, SiteModel
from control_loop.requests import Layer, Request
from control_loop.shared_image import ReactiveMemory
from flexergy_pipelines.grid import ReactiveRule

RULES: dict[str, tuple[Layer, Rule]] = {
    "emergency_stop": (Layer.EMERGENCY_STOP, limits.emergency_stop),
    "ramp": (Layer.RAMP, limits.ramp),
    "fail_safe": (Layer.FAIL_SAFE, wishes.fail_safe),
    "operator": (Layer.OPERATOR, wishes.operator),
    "plan": (Layer.PLAN, wishes.plan),
}
"""Rules that reactive power shares with active power."""

_PHASES = ("voltage_l1_v", "voltage_l2_v", "voltage_l3_v")


class ReactiveControl:
    """Decides and remembers the reactive setpoints of a site.

    Parameters
    ----------
    model : SiteModel
        The site with its reactive actuators: the range of each is its apparent power either way.
    rules : sequence of ReactiveRule
        The grid operator's, at most one an asset.
    nominal_v : float
        Nominal voltage between phases at the connection, as the meter shows it [V].
    rated_kw : mapping
        Rated active power of each asset, the base of Q(P).
    epoch : int
        Lease of the loop.
    """

    def __init__(
        self,
        model: SiteModel,
        rules: Sequence[ReactiveRule] = (),
        *,
        nominal_v: float = 400.0,
        rated_kw: Mapping[str, float] | None = None,
        epoch: int = 1,
    ) -> None:
        if any(a.quantity != REACTIVE_SETPOINT for a in model.actuators):
            raise ValueError("a reactive model has reactive actuators only")
        self.model = model
        self.dispatcher = Dispatcher(model, epoch)
        self.rules = {rule.asset: rule for rule in rules}
        self._nominal_v = nominal_v
        self._rated_kw = dict(rated_kw or {})
        self._voltage_pu: dict[str, float] = {}

    def memory(self) -> ReactiveMemory:
        """What the next decisions rest on, beside the image."""
        return ReactiveMemory(self.dispatcher.state(), dict(self._voltage_pu))

    def decide_from(
        self, memory: ReactiveMemory, context: Context, active: Mapping[str, Decision]
    ) -> dict[str, Decision]:
        """What `decide` gives where another instance remembers `memory`."""
        self._voltage_pu = dict(memory.voltage_pu)
        return self._decide(context, memory.last, active)

    def decide(self, context: Context, active: Mapping[str, Decision]) -> dict[str, Decision]:
        """This cycle's decisions.

        Parameters
        ----------
        context : Context
            What the cycle knows; its `model` and `last` are those of active power.
        active : mapping
            The active power decided in this cycle.
        """
        return self._decide(context, self.dispatcher.state(), active)

    def _decide(
        self, context: Context, last: Mapping[str, SentState], active: Mapping[str, Decision]
    ) -> dict[str, Decision]:
        own = replace(context, model=self.model, last=last, requests=())
        requests: list[Request] = []
        for actuator in self.model.actuators:
            requests += self._capability(own, actuator, active.get(actuator.asset_id))
            rule = self.rules.get(actuator.asset_id)
            wanted = None if rule is None else self._ordered(own, actuator, rule)
            if rule is not None and wanted is not None:
                reason = f"{rule.mode.replace('_', ' ')} of the grid operator"
                requests.append(Request(Layer.GRID_OPERATOR, actuator.asset_id, value=wanted, reason=reason))
        return dict(decide(replace(own, requests=requests), RULES, hold_exchange=False).decisions)

    def _capability(self, context: Context, actuator: Actuator, active: Decision | None) -> list[Request]:
        """What active power, as measured and as told, leaves of the apparent power; nothing of a device that is out."""
        measured = context.fresh(actuator.asset_id, "active_power_kw")
        told = 0.0 if active is None or actuator.kind != "ess" else active.value
        used = max(abs(told), abs(measured) if measured is not None else self._rated_kw.get(actuator.asset_id, 0.0))
        room = math.sqrt(max(actuator.maximum_kw**2 - used**2, 0.0))
        reason = f"{used:.1f} kW of {actuator.maximum_kw:.1f} kVA"
        if context.fresh(actuator.asset_id, "available") == 0:
            room, reason = 0.0, "device not available"
        return [Request(Layer.PROTECTION, actuator.asset_id, minimum=-room, maximum=room, reason=reason)]

    def _ordered(self, context: Context, actuator: Actuator, rule: ReactiveRule) -> float | None:
        """The rule's value, on the way there as fast as it allows; None when its input is not known."""
        target = self._target(context, actuator, rule)
        if target is None or context.blind(actuator.asset_id):
            return None
        if rule.response_s <= 0:
            return target
        last = context.last_value(actuator)
        step = actuator.maximum_kw / rule.response_s * context.dt
        return min(max(target, last - step), last + step)

    def _target(self, context: Context, actuator: Actuator, rule: ReactiveRule) -> float | None:
        if rule.mode == "fixed":
            return rule.kvar
        if rule.mode == "q_of_u":
            voltage = self._voltage(context, rule)
            return None if voltage is None else Curve(rule.points)(voltage)
        power = context.fresh(actuator.asset_id, "active_power_kw")
        if power is None:
            return None
        if rule.mode == "cos_phi":
            size = abs(power) * math.tan(math.acos(rule.cos_phi))
            return size if rule.supplies else -size
        return Curve(rule.points)(power / (self._rated_kw.get(actuator.asset_id) or actuator.maximum_kw))

    def _voltage(self, context: Context, rule: ReactiveRule) -> float | None:
        """Mean voltage over the nominal one, moved only by more than the hysteresis."""
        values = [context.fresh(context.model.pcc_id, phase) for phase in _PHASES]
        known = [value for value in values if value is not None]
        if not known:
            return None
        voltage = sum(known) / len(known) / (self._nominal_v / math.sqrt(3))
        held = self._voltage_pu.get(rule.asset)
        if held is None or abs(voltage - held) >= rule.hysteresis_pu:
            self._voltage_pu[rule.asset] = held = voltage
        return held
