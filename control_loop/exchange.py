"""Holding the exchange with the grid at a set value (zero flow, for one), closed over the PCC meter.

A PI controller in velocity form: each cycle moves the storage's last setpoint by what the error and its change ask for.
As it goes on from what was really decided, a setpoint that a limit clipped winds nothing up.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_loop.context import Context
from control_loop.model import Actuator
from control_loop.requests import Layer, Request

SETPOINT = "active_power_setpoint_kw"


@dataclass(frozen=True, slots=True)
class ExchangeGains:
    """Gains of the exchange controller.

    Attributes
    ----------
    integral : float
        Share of the error that is corrected in each cycle.
    proportional : float
        Share of the error's change that is corrected at once.

    Notes
    -----
    The defaults hold for a meter and devices that show a setpoint one to two cycles after it was sent: the loop
    ``u[n+1] = u[n] + ki e[n] + kp (e[n] - e[n-1])``, ``e[n] = d - u[n-2]`` has its poles inside the circle of 0.8.
    """

    integral: float = 0.3
    proportional: float = 0.1


class ExchangeController:
    """Keeps the PCC of one site at an operator's set value, as long as such a command stands."""

    def __init__(self, gains: ExchangeGains | None = None) -> None:
        self.gains = gains or ExchangeGains()
        self._error_kw: float | None = None

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
        measured = context.fresh(context.model.pcc_id, "active_power_kw")
        storages = [a for a in context.model.actuators if a.kind == "ess" and not context.blind(a.asset_id)]
        if not standing or measured is None or not storages:
            self._error_kw = None
            return []
        command = max(standing, key=lambda c: c.command_id)
        error = measured - command.value
        before = error if self._error_kw is None else self._error_kw
        self._error_kw = error
        move = self.gains.integral * error + self.gains.proportional * (error - before)
        shares = _shares(context, storages, move)
        reason = f"exchange held at {command.value:g} kW by {command.user or 'operator'}"
        return [
            Request(Layer.OPERATOR, a.asset_id, value=context.last_value(a) + move * share, reason=reason)
            for a, share in zip(storages, shares, strict=True)
        ]


def _shares(context: Context, storages: list[Actuator], move_kw: float) -> list[float]:
    """How a move is shared: by the room each storage has in its direction, equally where none has any."""
    rooms: list[float] = []
    for actuator in storages:
        last = context.last_value(actuator)
        rooms.append(max(0.0, actuator.maximum_kw - last if move_kw > 0 else last - actuator.minimum_kw))
    total = sum(rooms)
    return [room / total for room in rooms] if total > 0 else [1.0 / len(storages)] * len(storages)
