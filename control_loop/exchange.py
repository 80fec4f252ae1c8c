"""Holding the exchange with the grid at a set value (zero flow, for one), closed over the PCC meter.

Feed-forward and PI in one: each cycle moves the storage's last setpoint by a share of the error that will be left when
all that was already told has arrived. What was told but is not yet seen is known from the measured dead time, so a
correction is not made twice however slow the plant is (Smith, 1957), and a step of the load is followed at once. As
it goes on from what was really decided, a setpoint that a limit clipped winds nothing up.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_loop.context import Context
from control_loop.dead_time import DeadTime
from control_loop.model import Actuator
from control_loop.requests import Layer, Request

SETPOINT = "active_power_setpoint_kw"


@dataclass(frozen=True, slots=True)
class ExchangeGains:
    """Gains of the exchange controller.

    Attributes
    ----------
    share : float
        Share of the predicted error that is corrected in each cycle, above 0 and at most 1.
    careful_share : float
        The same as long as no dead time is known.
    slack : float
        How far a setpoint may lie beyond the measured power and its correction, as a share of the nameplate; more
        would only wind up against a device that does not follow.

    Notes
    -----
    With a dead time of n cycles and a plant that gives the share a of what it was told, ``u[k+1] = u[k] + g (e[k] -
    (u[k] - u[k-n]))`` and ``e[k] = d - a u[k-n]``: with a = 1 the loop is ``u[k+1] = (1 - g) u[k] + g d``, of any n.
    """

    share: float = 0.6
    careful_share: float = 0.2
    slack: float = 0.1


class ExchangeController:
    """Keeps the PCC of one site at an operator's set value, as long as such a command stands."""

    def __init__(self, gains: ExchangeGains | None = None) -> None:
        self.gains = gains or ExchangeGains()
        self._dead_times: dict[str, DeadTime] = {}

    @property
    def dead_time_cycles(self) -> int:
        """Longest dead time of the storage systems [cycles]."""
        return max((d.cycles for d in self._dead_times.values()), default=1)

    def requests(self, context: Context) -> list[Request]:
        """Setpoints of all storage systems that bring the exchange to the set value.

        Returns
        -------
        list of Request
            Nothing without a command, or while the meter is lost.
        """
        standing = [
            c
            for c in context.commands
            if c.asset_id == context.model.pcc_id and c.quantity == SETPOINT and c.asset_id is not None
        ]
        self._watch(context)
        measured = context.fresh(context.model.pcc_id, "active_power_kw")
        storages = [a for a in context.model.actuators if a.kind == "ess" and not context.blind(a.asset_id)]
        if not standing or measured is None or not storages:
            return []
        command = max(standing, key=lambda c: c.command_id)
        delay = self.dead_time_cycles
        under_way = sum(context.last_value(a) - self._dead_times[a.asset_id].told_before(delay - 1) for a in storages)
        error = measured - command.value
        known = all(self._dead_times[a.asset_id].measured for a in storages)
        move = (self.gains.share if known else self.gains.careful_share) * (error - under_way)
        shares = _shares(context, storages, move)
        reason = f"exchange held at {command.value:g} kW by {command.user or 'operator'}"
        return [
            Request(Layer.OPERATOR, a.asset_id, value=self._bounded(context, a, move * share, error), reason=reason)
            for a, share in zip(storages, shares, strict=True)
        ]

    def _watch(self, context: Context) -> None:
        for actuator in context.model.actuators:
            if actuator.kind == "ess":
                span = actuator.maximum_kw - actuator.minimum_kw
                known = self._dead_times.setdefault(actuator.asset_id, DeadTime(span, len(self._dead_times)))
                known.note(context.last_value(actuator), context.fresh(actuator.asset_id, "active_power_kw"))

    def _bounded(self, context: Context, actuator: Actuator, move_kw: float, error_kw: float) -> float:
        """The last setpoint and its move, but not further from what the device gives than the error explains."""
        wanted = context.last_value(actuator) + move_kw
        gives = context.fresh(actuator.asset_id, "active_power_kw")
        if gives is None:
            return wanted
        slack = self.gains.slack * (actuator.maximum_kw - actuator.minimum_kw)
        return min(max(wanted, gives + min(error_kw, 0.0) - slack), gives + max(error_kw, 0.0) + slack)


def _shares(context: Context, storages: list[Actuator], move_kw: float) -> list[float]:
    """How a move is shared: by the room each storage has in its direction, equally where none has any."""
    rooms: list[float] = []
    for actuator in storages:
        last = context.last_value(actuator)
        rooms.append(max(0.0, actuator.maximum_kw - last if move_kw > 0 else last - actuator.minimum_kw))
    total = sum(rooms)
    return [room / total for room in rooms] if total > 0 else [1.0 / len(storages)] * len(storages)
