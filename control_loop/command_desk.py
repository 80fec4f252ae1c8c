"""Commands of operators on their way into the loop: checked, taken once, answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime

from control_loop import exchange
from control_loop.context import ManualCommand
from control_loop.cycle import ControlCycle
from control_loop.news import StoredCommand
from control_loop.outbox import Outbox
from control_loop.protocols.base import DriverError, Obeying
from flexergy_pipelines.grid.clock import Clock
from flexergy_pipelines.logs import get_logger

ORDER_PREFIX = "charge_point/"
"""What the quantity of a command begins with that is an order for one charge point, not a setpoint."""


class CommandDesk:
    """Takes the open commands of one site each time the store tells them, and answers each once.

    Parameters
    ----------
    cycle : ControlCycle
        What can be commanded.
    outbox : Outbox
        Where answers go.
    clock : Clock
        Time.
    """

    def __init__(self, cycle: ControlCycle, outbox: Outbox, clock: Clock) -> None:
        self._cycle = cycle
        self._outbox = outbox
        self._clock = clock
        self._answered: set[int] = set()
        self._taken: set[int] = set()
        self._orders: set[asyncio.Task[None]] = set()
        self._log = get_logger(__name__).bind(site=cycle.model.site_id)

    def take(self, stored: Iterable[StoredCommand]) -> list[ManualCommand]:
        """Commands that are to be in force; the newest of those for the same thing.

        Orders for charge points are given to their driver, once.
        """
        newest: dict[tuple[str | None, str], StoredCommand] = {}
        for command in sorted(stored, key=lambda c: c.command_id):
            if command.quantity.startswith(ORDER_PREFIX):
                self._take_order(command)
                continue
            older = newest.get((command.asset_id, command.quantity))
            if older is not None:
                self._answer(older, "superseded", f"by command {command.command_id} of {command.user}")
            newest[command.asset_id, command.quantity] = command
        commands: list[ManualCommand] = []
        for command in newest.values():
            problem = self._problem(command)
            if problem is not None:
                self._answer(command, "refused", problem)
            elif command.value is None or (command.quantity == "emergency_stop" and command.value == 0):
                self._answer(command, "done", "handed back")
            else:
                self._take(command)
                commands.append(self._manual(command, command.value))
        return commands

    async def close(self) -> None:
        """End orders that are under way."""
        for task in self._orders:
            task.cancel()
        await asyncio.gather(*self._orders, return_exceptions=True)

    def _take(self, command: StoredCommand) -> None:
        """Tell the operator that a command is in force."""
        if command.command_id not in self._taken:
            self._taken.add(command.command_id)
            if not command.taken:
                self._outbox.acknowledge(command.command_id, "in_force", "")

    def _take_order(self, command: StoredCommand) -> None:
        """Have a driver do, once, what is no setpoint."""
        if command.command_id in self._taken:
            return
        if command.taken:
            message = "the control loop that took it ended before it told what became of it; look, and ask again"
            self._answer(command, "refused", message)
            return
        self._take(command)
        task = asyncio.get_running_loop().create_task(self._obey(command))
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)

    async def _obey(self, command: StoredCommand) -> None:
        drivers = [d for d in self._cycle.drivers.values() if command.asset_id in d.assets and isinstance(d, Obeying)]
        try:
            if not drivers:
                raise ValueError(f"{command.asset_id}: no device of it takes {command.quantity}")
            message = await drivers[0].obey(command.quantity)
        except (DriverError, ValueError) as error:
            self._answer(command, "refused", str(error))
        else:
            self._answer(command, "done", message)

    def _answer(self, command: StoredCommand, status: str, message: str) -> None:
        if command.command_id not in self._answered:
            self._answered.add(command.command_id)
            self._outbox.acknowledge(command.command_id, status, message)
            self._log.info("command answered", command=command.command_id, status=status, message=message)

    def _problem(self, command: StoredCommand) -> str | None:
        reactive = {a.asset_id: a for a in self._cycle.actuators if a.quantity == command.quantity}
        actuators = {a.asset_id: a for a in self._cycle.model.actuators} | reactive
        if command.asset_id is None:
            return None if command.quantity == "emergency_stop" else f"{command.quantity}: no asset named"
        actuator = actuators.get(command.asset_id)
        if command.asset_id == self._cycle.model.pcc_id:
            return self._exchange_problem(command)
        if actuator is None:
            return f"{command.asset_id} cannot be commanded; it must be one of {', '.join(actuators)}"
        if command.quantity not in {actuator.quantity, "emergency_stop"}:
            return f"{command.asset_id}: {command.quantity} cannot be commanded; it takes {actuator.quantity}"
        low, high = actuator.minimum_kw, actuator.maximum_kw
        if command.quantity == actuator.quantity and command.value is not None and not low <= command.value <= high:
            unit = actuator.unit
            return f"{command.asset_id}: {command.value:g} {unit} is outside {low:g}..{high:g} {unit}"
        return None

    def _exchange_problem(self, command: StoredCommand) -> str | None:
        model = self._cycle.model
        if command.quantity != exchange.SETPOINT:
            return f"{command.asset_id}: {command.quantity} cannot be commanded; it takes {exchange.SETPOINT}"
        low, high = -model.export_limit_kw, model.import_limit_kw
        if command.value is not None and not low <= command.value <= high:
            return f"{command.asset_id}: {command.value:g} kW is outside {low:g}..{high:g} kW"
        return None

    def _manual(self, command: StoredCommand, value: float) -> ManualCommand:
        expires = None
        if command.valid_until is not None:
            expires = monotonic_of(self._clock, command.valid_until)
        return ManualCommand(
            command.command_id, command.asset_id, command.quantity, value, expires, command.reason, command.user
        )


def monotonic_of(clock: Clock, moment: datetime) -> float:
    """A moment of the wall clock on the monotonic clock [s]."""
    return clock.monotonic() + (moment - clock.now()).total_seconds()
