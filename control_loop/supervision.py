"""Compares operation with the plan and says when a new plan is needed."""

from __future__ import annotations

from dataclasses import dataclass

from control_loop.context import Context


@dataclass(frozen=True, slots=True)
class DeviationPolicy:
    """When a deviation asks for a new plan.

    Attributes
    ----------
    soc : float
        Deviation of a storage's state of charge, fraction.
    pcc_share : float
        Deviation of the PCC's power, share of the larger PCC limit.
    hold_s : float
        How long it must last.
    pause_s : float
        Least time between two requests.
    """

    soc: float = 0.05
    pcc_share: float = 0.25
    hold_s: float = 300.0
    pause_s: float = 900.0


class PlanSupervisor:
    """Watches one site; keeps since when each value deviates."""

    def __init__(self, policy: DeviationPolicy | None = None) -> None:
        self.policy = policy or DeviationPolicy()
        self._since: dict[str, float] = {}
        self._asked: float | None = None

    def update(self, context: Context) -> str | None:
        """Look at one cycle.

        Returns
        -------
        str or None
            Reason for a new plan, when a deviation has lasted and the last request is long enough ago.
        """
        deviations = self._deviations(context)
        self._since = {name: self._since.get(name, context.monotonic) for name in deviations}
        lasting = [
            deviations[name] for name, since in self._since.items() if context.monotonic - since >= self.policy.hold_s
        ]
        paused = self._asked is not None and context.monotonic - self._asked < self.policy.pause_s
        if not lasting or paused:
            return None
        self._asked = context.monotonic
        return "; ".join(lasting)

    def _deviations(self, context: Context) -> dict[str, str]:
        plan = context.plan
        if plan is None or not plan.covers(context.now):
            return {}
        found: dict[str, str] = {}
        for actuator in context.model.actuators:
            if actuator.storage is None:
                continue
            planned = plan.value(actuator.asset_id, "soc", context.now)
            at_step_end = plan.value(actuator.asset_id, "soc", context.now + plan.step)
            measured = context.fresh(actuator.asset_id, "soc")
            if planned is None or measured is None:
                continue
            # A plan's SoC moves within its step, so the measured one may lie anywhere between the step's two ends.
            ends = (planned, planned if at_step_end is None else at_step_end)
            off = max(min(ends) - measured, measured - max(ends), 0.0)
            if off > self.policy.soc:
                found[actuator.asset_id] = f"{actuator.asset_id}: state of charge {measured:.2f}, planned {planned:.2f}"
        planned_kw = plan.value(context.model.pcc_id, "active_power_kw", context.now)
        measured_kw = context.fresh(context.model.pcc_id, "active_power_kw")
        band_kw = self.policy.pcc_share * max(context.model.import_limit_kw, context.model.export_limit_kw)
        if planned_kw is not None and measured_kw is not None and abs(measured_kw - planned_kw) > band_kw:
            found["pcc"] = f"{context.model.pcc_id}: {measured_kw:.0f} kW, planned {planned_kw:.0f} kW"
        return found
