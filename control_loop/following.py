"""Whether devices do what they took: the power they show against the setpoint or limit in force."""

from __future__ import annotations

from control_loop.context import Context
from control_loop.model import Actuator

FOLLOW_S = 15.0
"""Time in which a device reaches what it was told, its own ramp and the delay of its meter included."""

GENSET_FOLLOW_S = 180.0
"""A genset has to start, warm up and synchronize first."""


class FollowWatch:
    """Remembers since when each actuator's power is not what it was told."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._ran: set[str] = set()

    def update(self, context: Context) -> dict[str, str]:
        """Look at one cycle.

        Returns
        -------
        dict
            Actuators that have been off for long enough, with a message.

        Notes
        -----
        A setpoint is followed within 5 % of the nameplate; a limit is only broken from above. A storage that its own
        management holds back (full, empty, derated, not available) is excused: the loop's limits see that.
        """
        found: dict[str, str] = {}
        for actuator in context.model.actuators:
            asset_id = actuator.asset_id
            state, measured = context.last.get(asset_id), context.fresh(asset_id, "active_power_kw")
            patience_s = self._patience_s(context, actuator, 0.0 if state is None else state.value)
            if state is None or measured is None or not self._off(context, actuator, state.value, measured):
                self._since.pop(asset_id, None)
                continue
            lasted = context.monotonic - self._since.setdefault(asset_id, context.monotonic)
            if lasted >= patience_s:
                verb = "told" if actuator.steered else "limited to"
                found[asset_id] = f"{asset_id}: {verb} {state.value:g} kW, shows {measured:g} kW for {lasted:.0f} s"
        self._exchange(context, found)
        return found

    def _patience_s(self, context: Context, actuator: Actuator, told: float) -> float:
        """How long an actuator may be off: a genset has time to start, and none when it ran and stopped by itself."""
        if actuator.kind != "genset":
            return FOLLOW_S
        running = context.fresh(actuator.asset_id, "running")
        if told <= 0.0:
            self._ran.discard(actuator.asset_id)
        elif running == 1.0:
            self._ran.add(actuator.asset_id)
        return FOLLOW_S if running == 0.0 and actuator.asset_id in self._ran else GENSET_FOLLOW_S

    def _exchange(self, context: Context, found: dict[str, str]) -> None:
        """The exchange that the grid operator wants, where it is not met."""
        pcc = context.model.pcc_id
        target, measured = context.grid_targets.get(pcc), context.fresh(pcc, "active_power_kw")
        band = max(0.05 * max(context.model.import_limit_kw, context.model.export_limit_kw), 0.5)
        if target is None or measured is None or abs(measured - target.value) <= band:
            self._since.pop(pcc, None)
            return
        lasted = context.monotonic - self._since.setdefault(pcc, context.monotonic)
        if lasted >= FOLLOW_S:
            found[pcc] = f"{pcc}: {target.reason}; wanted {target.value:g} kW, shows {measured:g} kW for {lasted:.0f} s"

    @staticmethod
    def _off(context: Context, actuator: Actuator, told: float, measured: float) -> bool:
        band = max(0.05 * (actuator.maximum_kw - min(actuator.minimum_kw, 0.0)), 0.5)
        if not actuator.steered:
            return measured > told + band
        if actuator.storage is not None:
            soc = context.fresh(actuator.asset_id, "soc")
            edge = soc is None or not actuator.storage.soc_min + 0.02 < soc < actuator.storage.soc_max - 0.02
            if context.fresh(actuator.asset_id, "available") == 0 or (edge and abs(measured) < abs(told)):
                return False
        return abs(measured - told) > band
