"""Contingency: what is done, by procedures of the site's configuration, when an asset is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_loop.context import Context
from control_loop.limits import device_alarms
from control_loop.model import Actuator, Procedure
from control_loop.requests import Layer, Request


@dataclass(slots=True)
class _State:
    """When an asset was first lost, and last seen lost [s, monotonic]; and whether the procedure runs."""

    since: float | None = None
    last: float = 0.0
    runs: bool = False
    why: str = ""


class ContingencyWatch:
    """Starts a procedure once its asset has been lost for long enough, and ends it once the asset is safely back.

    Parameters
    ----------
    procedures : sequence of Procedure
        Where two that run say something of the same actuator, the one that stands first counts.

    Attributes
    ----------
    running : dict
        Assets whose loss keeps procedures running, with a message.
    """

    def __init__(self, procedures: Sequence[Procedure] = ()) -> None:
        self._procedures = tuple(procedures)
        self._states = [_State() for _ in procedures]
        self.running: dict[str, str] = {}

    def requests(self, context: Context) -> list[Request]:
        """What the procedures that run ask for; of an actuator that is not seen nothing."""
        found: dict[str, Request] = {}
        running: dict[str, list[str]] = {}
        for procedure, state in zip(self._procedures, self._states, strict=True):
            self._look(context, procedure, state)
            if not state.runs:
                continue
            told = ", ".join(f"{asset} {power_kw:g} kW" for asset, power_kw in procedure.powers)
            running.setdefault(procedure.asset_id, []).append(f"procedure {procedure.name} runs ({told}): {state.why}")
            powers = dict(procedure.powers)
            for actuator in context.model.actuators:
                power_kw = powers.get(actuator.asset_id)
                if power_kw is None or context.blind(actuator.asset_id):
                    continue
                value, most = (power_kw, None) if actuator.steered else (None, power_kw)
                reason = f"procedure {procedure.name}: {state.why}"
                request = Request(Layer.CONTINGENCY, actuator.asset_id, value, maximum=most, reason=reason)
                found.setdefault(actuator.asset_id, request)
        self.running = {asset: f"{asset}: {'; '.join(texts)}" for asset, texts in running.items()}
        return list(found.values())

    @staticmethod
    def _look(context: Context, procedure: Procedure, state: _State) -> None:
        why = lost(context, procedure.asset_id)
        if why is not None:
            state.since = context.monotonic if state.since is None else state.since
            state.last, state.why = context.monotonic, why
            state.runs = state.runs or context.monotonic - state.since >= procedure.after_s
            return
        state.since = None
        if state.runs and context.monotonic - state.last >= procedure.hold_s:
            state.runs = False


def lost(context: Context, asset_id: str) -> str | None:
    """Why an asset counts as lost: silent, frozen, not available, or with an alarm that forbids all; else None."""
    if asset_id in context.image.distrusted:
        return f"{asset_id} repeats itself"
    if context.blind(asset_id):
        return f"{asset_id} is silent"
    if context.fresh(asset_id, "available") == 0:
        return f"{asset_id} is not available"
    for actuator in _named(context, asset_id):
        for bit in device_alarms(context, actuator):
            if bit.forbids == "all":
                return f"{asset_id}: {bit.text}"
    return None


def _named(context: Context, asset_id: str) -> list[Actuator]:
    return [actuator for actuator in context.model.actuators if actuator.asset_id == asset_id]
