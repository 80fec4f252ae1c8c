"""A conversation by OCPP 1.6J with whoever dials: what is no message, and what nobody asked for, does no harm."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from typing import Any

from ocpp.exceptions import OCPPError, ProtocolError
from ocpp.v16 import ChargePoint as OcppChargePoint
from websockets.asyncio.server import ServerConnection

from control_loop.protocols.ocpp_reading import readable
from flexergy_pipelines.logs import get_logger

ANSWER_S = 15
"""Longest wait for an answer; links over mobile networks take most of it."""
SEND_S = 10.0
"""Who does not take what is sent to it for so long is hung up on."""
COMPLAINT_S = 60.0
"""What a charge point sends wrongly is logged once in so long."""
SHOWN = 200
NO_MESSAGE = (TypeError, ValueError, AttributeError, KeyError, RecursionError)
"""What the library stumbles over where a message has another shape than any of the protocol's."""

log = get_logger(__name__)


class _Complaints:
    """What the library logs of one connection: of wrong messages a line now and then, of our own faults everything."""

    def __init__(self, charge_point: str) -> None:
        self._log = log.bind(charge_point=charge_point)
        self._due = float("-inf")

    def info(self, message: str, *details: object) -> None:
        """Each message that comes and goes; a trace shows them when somebody wants them."""

    def warning(self, message: str, *details: object) -> None:
        """The other side answered with an error."""
        self._log.warning(_line(message, details))

    def error(self, message: str, *details: object) -> None:
        """An answer came too late."""
        self._log.debug(_line(message, details))

    def exception(self, message: str, *details: object) -> None:
        """A message was wrong, or could not be seen to."""
        error = sys.exception()
        if isinstance(error, OCPPError):
            reason = (error.details or {}).get("cause") or error.description
            self.wrong(f"{_line(message, details)}: {reason}"[: 3 * SHOWN])
        else:
            self._log.error(_line(message, details), exc_info=error)

    def wrong(self, what: str) -> None:
        """The other side sends what the protocol does not have."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + COMPLAINT_S
            self._log.warning("charge point sends what is wrong", what=what)


def _line(message: str, details: tuple[object, ...]) -> str:
    return (message % tuple(str(item)[:SHOWN] for item in details))[: 2 * SHOWN]


class _Answers(asyncio.Queue[Any]):
    """Answers that somebody waits for; others, and second ones, are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: set[str] = set()

    def put_nowait(self, item: Any) -> None:
        if item.unique_id in self.awaited:
            self.awaited.discard(item.unique_id)
            super().put_nowait(item)


class Conversation(OcppChargePoint):
    """One connection; the library finds handlers of what the other side asks by name.

    Parameters
    ----------
    name : str
        The charge point's identity.
    connection : ServerConnection
        The WebSocket.
    """

    def __init__(self, name: str, connection: ServerConnection) -> None:
        self._complaints: Any = _Complaints(name)  # as much of a logger as the library uses
        super().__init__(name, connection, response_timeout=ANSWER_S, logger=self._complaints)
        self._response_queue = self._answers = _Answers()

    async def route_message(self, raw_msg: Any) -> None:
        """Take a message; what cannot be one is left alone, and the connection stays."""
        try:
            await super().route_message(raw_msg)
        except NO_MESSAGE as error:
            self._complaints.wrong(f"{type(error).__name__} over {raw_msg[:SHOWN]!r}")

    async def call(
        self,
        payload: Any,
        suppress: bool = True,
        unique_id: str | None = None,
        skip_schema_validation: bool = False,
    ) -> Any:
        """Ask, and wait for the answer to this question; None when the other side answers with an error.

        Raises
        ------
        TimeoutError
            No answer in time.
        OCPPError
            The answer is not what the protocol wants.
        """
        number = unique_id or str(uuid.uuid4())
        self._answers.awaited.add(number)
        try:
            return await super().call(payload, suppress, number, skip_schema_validation)
        finally:
            self._answers.awaited.discard(number)

    async def _handle_call(self, msg: Any) -> Any:
        """See to what is asked, where it must be as it was meant; the library calls it by this name."""
        if not isinstance(msg.action, str):
            raise ProtocolError(details={"cause": "the action is no word"})
        try:
            return await super()._handle_call(msg)
        except OCPPError:
            read = readable(msg.action, msg.payload)
            if read == msg.payload:
                raise
            msg.payload = read
            return await super()._handle_call(msg)

    async def _send(self, message: str) -> None:
        """Send, and hang up on who does not take it; the library calls it by this name."""
        try:
            async with asyncio.timeout(SEND_S):
                await super()._send(message)
        except TimeoutError:
            self._connection.transport.abort()
            raise
