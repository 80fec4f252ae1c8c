"""What an operator asks of a single charge point: how it is written in a command's row, and done over OCPP 1.6.

A command for the block load whose quantity is ``charge_point/<name>/<action>`` with the arguments as JSON behind it,
such as ``charge_point/cp-01/unlock/["1"]``. It is done once, answered with what the charge point said, and audited like
any command.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from ocpp.v16 import call
from ocpp.v16.datatypes import AuthorizationData
from ocpp.v16.enums import AvailabilityType, Log, MessageTrigger, ResetType, UpdateType

from control_loop.protocols.base import DriverError
from control_loop.protocols.ocpp_post import MOST_CONNECTORS

if TYPE_CHECKING:
    from control_loop.protocols.ocpp16 import OcppDriver

PREFIX = "charge_point/"
MOST_KW = 10_000.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChargerOrder:
    """One order for one charge point."""

    charge_point: str
    action: str
    arguments: tuple[str, ...] = ()

    @property
    def quantity(self) -> str:
        """As a command's row has it."""
        return f"{PREFIX}{self.charge_point}/{self.action}/{json.dumps(self.arguments)}"


def order_of(quantity: str) -> ChargerOrder:
    """The order in a command's quantity.

    Raises
    ------
    ValueError
        It is none, names no action that there is, or has too few or too many arguments.
    """
    parts = quantity.split("/", 3)
    if len(parts) != 4 or f"{parts[0]}/" != PREFIX:
        raise ValueError(f"{quantity}: is no order for a charge point")
    try:
        arguments = json.loads(parts[3])
    except ValueError:
        arguments = None
    if not isinstance(arguments, list) or not all(isinstance(item, str) for item in arguments):
        raise ValueError(f"{quantity}: the arguments are no list of words")
    order = ChargerOrder(parts[1], parts[2], tuple(arguments))
    check(order)
    return order


def check(order: ChargerOrder) -> None:
    """Whether there is such an action with so many arguments.

    Raises
    ------
    ValueError
        There is not.
    """
    found = ACTIONS.get(order.action)
    if found is None:
        raise ValueError(f"{order.action}: no such action; there are {', '.join(ACTIONS)}")
    if not found.least <= len(order.arguments) <= found.most:
        raise ValueError(f"{order.action}: takes {found.usage or 'no arguments'}, got {len(order.arguments)}")


async def obey(driver: OcppDriver, order: ChargerOrder) -> str:
    """Do it; returns what became of it, in words.

    Raises
    ------
    DriverError
        The charge point is not connected, does not answer, or refuses.
    ValueError
        An argument is not what it must be.
    """
    check(order)
    return await ACTIONS[order.action].do(driver, order.charge_point, order.arguments)


async def _start(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    limit_kw = _kilowatts(arguments[2]) if len(arguments) > 2 else None
    if not await driver.remote_start(name, arguments[0], _connector(arguments[1:]), limit_kw):
        raise DriverError(f"{name}: does not start for {arguments[0]}")
    return f"{name} starts for {arguments[0]}" + (f" with at most {limit_kw:g} kW" if limit_kw is not None else "")


async def _stop(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    running = list(driver.posts[name].transactions.values()) if name in driver.posts else []
    wanted = [_whole("transaction", arguments[0], 2**31 - 1)] if arguments else running
    if not wanted:
        raise DriverError(f"{name}: no transaction runs")
    refused = [number for number in wanted if not await driver.remote_stop(name, number)]
    if refused:
        raise DriverError(f"{name}: does not stop transaction {', '.join(map(str, refused))}")
    return f"{name} stops transaction {', '.join(map(str, wanted))}"


async def _trigger(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    message = _one_of("message", arguments[0], {item.value: item for item in MessageTrigger})
    connector = _connector(arguments[1:]) if len(arguments) > 1 else None
    if not await driver.trigger(name, message, connector):
        raise DriverError(f"{name}: does not send {message.value}")
    return f"{name} sends {message.value}"


async def _reset(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    kinds = {item.value.lower(): item for item in ResetType}
    kind = _one_of("kind", arguments[0].lower() if arguments else "soft", kinds)
    if not await driver.reset(name, kind):
        raise DriverError(f"{name}: does not restart")
    return f"{name} restarts"


async def _unlock(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    if not await driver.unlock(name, _connector(arguments)):
        raise DriverError(f"{name}: the cable is not released")
    return f"{name}: the cable is released"


async def _available(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    kind = _one_of("availability", arguments[0].capitalize(), {item.value: item for item in AvailabilityType})
    connector = _whole("connector", arguments[1], MOST_CONNECTORS) if len(arguments) > 1 else 0
    answer = await driver.ask(name, call.ChangeAvailability(connector_id=connector, type=kind))
    if answer is None or answer.status == "Rejected":
        raise DriverError(f"{name}: does not become {kind.value.lower()}")
    return f"{name}: {kind.value.lower()}, {str(answer.status).lower()}"


async def _configuration(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    settings = await driver.configuration(name, arguments)
    missing = [key for key in arguments if key not in settings]
    if missing:
        raise DriverError(f"{name}: knows no setting {', '.join(missing)}")
    return ", ".join(f"{key}={value}" for key, value in sorted(settings.items())) or f"{name}: has no settings"


async def _configure(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    said = await driver.configure(name, arguments[0], arguments[1])
    if said not in {"Accepted", "RebootRequired"}:
        raise DriverError(f"{name}: {arguments[0]}={arguments[1]} is answered with {said}")
    return f"{name}: {arguments[0]}={arguments[1]}" + (" after a restart" if said == "RebootRequired" else "")


async def _schedule(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    seconds = _whole("duration", arguments[0], 86_400) if arguments else 3600
    periods = await driver.composite_schedule(name, seconds)
    if not periods:
        raise DriverError(f"{name}: tells no schedule")
    return ", ".join(f"from {start} s {limit:g} kW" for start, limit in periods)


async def _clear(driver: OcppDriver, name: str, _: Sequence[str]) -> str:
    if not await driver.clear_profiles(name):
        raise DriverError(f"{name}: has no limit of ours")
    return f"{name}: the limit is taken back until the loop sets it again"


async def _firmware(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    await driver.update_firmware(name, arguments[0], datetime.now(UTC))
    return f"{name} fetches its firmware from {arguments[0]}"


async def _diagnostics(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    file = await driver.get_diagnostics(name, arguments[0])
    if not file:
        raise DriverError(f"{name}: has no diagnostics")
    return f"{name} uploads {file} to {arguments[0]}"


async def _log(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    kinds = {"security": Log.security_log, "diagnostics": Log.diagnostics_log}
    kind = _one_of("log", arguments[0], kinds)
    wanted = call.GetLog(log={"remote_location": arguments[1]}, log_type=kind, request_id=_number())
    answer = await driver.ask(name, wanted)
    if answer is None or answer.status == "Rejected":
        raise DriverError(f"{name}: gives no {arguments[0]} log")
    return f"{name} uploads {answer.filename or 'its log'} to {arguments[1]}"


async def _local_list(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    what = _one_of("local-list", arguments[0] if arguments else "show", {w: w for w in ("show", "send", "clear")})
    if what == "show":
        answer = await driver.ask(name, call.GetLocalListVersion())
        if answer is None or answer.list_version < 0:
            raise DriverError(f"{name}: keeps no list of tags")
        return f"{name}: " + (f"list {answer.list_version}" if answer.list_version else "has no list of tags yet")
    tags = driver.access.tags if what == "send" else {}
    told = [AuthorizationData(tag, driver.access.info(tag)) for tag in tags]
    answer = await driver.ask(name, call.SendLocalList(_number(), UpdateType.full, told))
    if answer is None or answer.status != "Accepted":
        raise DriverError(f"{name}: does not take a list of {len(told)} tags ({_said(answer)})")
    return f"{name} keeps a list of {len(told)} tags"


async def _cache(driver: OcppDriver, name: str, _: Sequence[str]) -> str:
    answer = await driver.ask(name, call.ClearCache())
    if answer is None or answer.status != "Accepted":
        raise DriverError(f"{name}: does not forget the tags it knows ({_said(answer)})")
    return f"{name} has forgotten the tags it knew"


async def _reserve(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    minutes = _whole("minutes", arguments[1], 7 * 24 * 60)
    connector = _whole("connector", arguments[2], MOST_CONNECTORS) if len(arguments) > 2 else 1
    until, number = datetime.now(UTC) + timedelta(minutes=minutes), _number()
    when = until.strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = await driver.ask(name, call.ReserveNow(connector, when, arguments[0], number))
    if answer is None or answer.status != "Accepted":
        raise DriverError(f"{name}: is not kept for {arguments[0]} ({_said(answer)})")
    return f"{name}: kept for {arguments[0]} until {when}, reservation {number}"


async def _cancel(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    number = _whole("reservation", arguments[0], 2**31 - 1)
    answer = await driver.ask(name, call.CancelReservation(number))
    if answer is None or answer.status != "Accepted":
        raise DriverError(f"{name}: has no reservation {number}")
    return f"{name}: reservation {number} is taken back"


async def _data(driver: OcppDriver, name: str, arguments: Sequence[str]) -> str:
    vendor, message, data = (*arguments, None, None)[:3]
    answer = await driver.ask(name, call.DataTransfer(str(vendor), message, data))
    if answer is None or answer.status != "Accepted":
        raise DriverError(f"{name}: does not take data of {vendor} ({_said(answer)})")
    return f"{name}: {answer.data or 'accepted'}"


@dataclass(frozen=True, slots=True)
class Action:
    """How an action is done, and how many arguments it takes."""

    do: Callable[[OcppDriver, str, Sequence[str]], Awaitable[str]]
    usage: str = ""
    least: int = 0
    most: int = 0


ACTIONS: Mapping[str, Action] = MappingProxyType({
    "start": Action(_start, "TAG [CONNECTOR [LIMIT_KW]]", 1, 3),
    "stop": Action(_stop, "[TRANSACTION]", 0, 1),
    "trigger": Action(_trigger, "MESSAGE [CONNECTOR]", 1, 2),
    "reset": Action(_reset, "[soft|hard]", 0, 1),
    "unlock": Action(_unlock, "[CONNECTOR]", 0, 1),
    "availability": Action(_available, "operative|inoperative [CONNECTOR]", 1, 2),
    "configuration": Action(_configuration, "[KEY]...", 0, 20),
    "configure": Action(_configure, "KEY VALUE", 2, 2),
    "schedule": Action(_schedule, "[SECONDS]", 0, 1),
    "clear": Action(_clear),
    "firmware": Action(_firmware, "URL", 1, 1),
    "diagnostics": Action(_diagnostics, "URL", 1, 1),
    "log": Action(_log, "security|diagnostics URL", 2, 2),
    "local-list": Action(_local_list, "[show|send|clear]", 0, 1),
    "cache": Action(_cache),
    "reserve": Action(_reserve, "TAG MINUTES [CONNECTOR]", 2, 3),
    "cancel": Action(_cancel, "RESERVATION", 1, 1),
    "data": Action(_data, "VENDOR [MESSAGE [DATA]]", 1, 3),
})  # fmt: skip


def _connector(arguments: Sequence[str]) -> int:
    return _whole("connector", arguments[0], MOST_CONNECTORS) if arguments else 1


def _number() -> int:
    """A number that no earlier order had: seconds since 1970."""
    return int(datetime.now(UTC).timestamp())


def _said(answer: Any) -> str:
    return "an error" if answer is None else str(answer.status)


def _kilowatts(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= MOST_KW:
        raise ValueError(f"limit {text}: must be a number of 0..{MOST_KW:g} kW")
    return value


def _whole(what: str, text: str, most: int) -> int:
    if not text.isdecimal() or int(text) > most:
        raise ValueError(f"{what} {text}: must be a whole number of 0..{most}")
    return int(text)


def _one_of(what: str, text: str, known: Mapping[str, T]) -> T:
    if text not in known:
        raise ValueError(f"{what} {text}: must be one of {', '.join(known)}")
    return known[text]
