"""One TCP connection with one DLMS/COSEM association: opening, getting, setting, and the end of it.

The library gives the protocol without any input or output; this gives it a connection in which no wait is without
an end, and which ends with the first answer that did not come or made no sense: what arrives later is never taken for
the answer to something else.

References
----------
DLMS UA, "DLMS/COSEM architecture and protocols" (Green Book): TCP wrapper 7.3, association 9.3, security 9.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

from flexergy_pipelines.metering.axdr import AxdrError, decode
from flexergy_pipelines.metering.ciphering import is_enciphered, to_general, to_service_specific
from flexergy_pipelines.metering.keys import Credentials

_WRAPPER: Final = struct.Struct(">HHHH")
_VERSION: Final = 1
_HDLC_FLAG: Final = 0x7E
_LARGEST_APDU: Final = 65_535
_LARGEST_ANSWER: Final = 8_000_000
_LAST_COUNTER: Final = 0xFFFF_FFFF
_EXCEPTION, _SERVICE_ERROR, _ASSOCIATED, _RELEASED = 0xD8, 0x0E, 0x61, 0x63


class MeterError(Exception):
    """The meter gave no answer, refused, or gave one that makes no sense; the message says which."""


class MeterRefusal(MeterError):  # noqa: N818 - a refusal is an answer: the meter is there
    """The meter answered that it does not give this."""


class Selection(Protocol):
    """Which entries of an attribute are asked for."""

    def to_bytes(self) -> bytes:
        """Selector and its parameters in the protocol's encoding."""
        ...


class MeterLink:
    """One TCP connection with one association.

    Parameters
    ----------
    host, port : str, int
        Where the meter is.
    credentials : Credentials
        How the client shows who it is.
    counter : int
        First invocation counter of enciphered messages.
    timeout_s : float
        Longest wait for connecting and for each answer [s].

    Attributes
    ----------
    bytes_sent, bytes_received : int
        On the wire, wrappers included.
    """

    def __init__(self, host: str, port: int, credentials: Credentials, counter: int, timeout_s: float) -> None:
        if counter > _LAST_COUNTER:
            raise MeterError(f"{host}:{port}: the invocation counter of its key is used up; the key must be changed")
        self.bytes_sent = self.bytes_received = 0
        self._host = host
        self._port = port
        self._place = f"{host}:{port}"
        self._credentials = credentials
        self._timeout_s = timeout_s
        self._protocol = _connection(credentials, counter)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def selects(self) -> bool:
        """Whether the meter has agreed to give parts of attributes."""
        return bool(self._protocol.conformance.selective_access)

    @property
    def next_counter(self) -> int:
        """Invocation counter of the next enciphered message."""
        return self._protocol.client_invocation_counter

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Connected and associated meanwhile."""
        await self.open()
        try:
            yield
        finally:
            await self.close()

    async def open(self) -> None:
        """Connect and associate.

        Raises
        ------
        MeterError
            Nobody answers, or the meter refuses.
        """
        await self._connect()
        try:
            await self._associate()
        except BaseException:
            self._abort()
            raise

    async def _connect(self) -> None:
        from flexergy_pipelines.grid.tls import TlsError, explain

        tls = self._credentials.tls
        try:
            more = {} if tls is None else {"ssl": tls.context(), "server_hostname": tls.server_name}
            async with asyncio.timeout(self._timeout_s):
                self._reader, self._writer = await asyncio.open_connection(self._host, self._port, **more)
        except TlsError as error:
            raise MeterError(str(error)) from error
        except (OSError, TimeoutError) as error:
            why = f": {explain(error, tls.server_name)}" if tls is not None and isinstance(error, ssl.SSLError) else ""
            raise MeterError(f"no connection to {self._place}{why}") from error

    async def _associate(self) -> None:
        from dlms_cosem import enumerations, state
        from dlms_cosem.protocol import acse, xdlms

        answer = await self._exchange(self._protocol.get_aarq())
        if not isinstance(answer, acse.ApplicationAssociationResponse):
            hint = "; the keys may not be those of this meter" if self._credentials.ciphered else ""
            raise MeterError(f"{self._place} answers the association with {_words(answer)}{hint}")
        if answer.result is not enumerations.AssociationResult.ACCEPTED:
            reason = _plain_name(answer.result_source_diagnostics)
            raise MeterError(
                f"{self._place} refuses the association ({reason}): password, keys or address are not those of "
                "this meter"
            )
        self._protocol.max_pdu_size = self._protocol.max_pdu_size or _LARGEST_APDU  # 0: as long as it may be
        if self._protocol.state.current_state != state.SHOULD_SEND_HLS_SEVER_CHALLENGE_RESULT:
            return
        reply = await self._exchange(self._proof())
        if (
            not isinstance(reply, xdlms.ActionResponseNormalWithData)
            or self._protocol.state.current_state != state.READY
        ):
            raise MeterError(f"{self._place} refuses the proof of keys, or cannot prove its own")

    def _proof(self) -> Any:
        from dlms_cosem import cosem, dlms_data, enumerations
        from dlms_cosem.protocol import xdlms

        method = cosem.CosemMethod(enumerations.CosemInterface.ASSOCIATION_LN, cosem.Obis(0, 0, 40, 0, 0), 1)
        proof = self._protocol.authentication.hls_generate_reply_data(self._protocol)
        return xdlms.ActionRequestNormal(cosem_method=method, data=dlms_data.OctetStringData(proof).to_bytes())

    async def close(self) -> None:
        """Release the association and hang up; nothing where that was done or the link broke."""
        if self._writer is None:
            return
        with contextlib.suppress(MeterError):
            await self._exchange(self._protocol.get_rlrq())
        self._abort()

    def _abort(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    async def get(self, interface: int, obis: str, attribute: int, selection: Selection | None = None) -> Any:
        """An attribute, put together from its blocks.

        Raises
        ------
        MeterRefusal
            The meter does not give it; its reason is told.
        MeterError
            No answer in time, or one that makes no sense.
        """
        from dlms_cosem.protocol import xdlms

        where = _attribute(interface, obis, attribute)
        answer = await self._exchange(xdlms.GetRequestNormal(cosem_attribute=where, access_selection=selection))
        body, number = bytearray(), 0
        while isinstance(answer, xdlms.GetResponseWithBlock):
            number += 1
            body += answer.data
            if answer.block_number != number or not answer.data:
                self._abort()
                raise MeterError(
                    f"{obis}: block {answer.block_number} with {len(answer.data)} bytes follows {number - 1}"
                )
            if len(body) > _LARGEST_ANSWER:
                self._abort()
                raise MeterError(f"{obis}: more than {_LARGEST_ANSWER // 1_000_000} MB; ask for a shorter range")
            following = xdlms.GetRequestNext(
                invoke_id_and_priority=answer.invoke_id_and_priority, block_number=answer.block_number
            )
            answer = await self._exchange(following)
        if isinstance(answer, xdlms.GetResponseNormal | xdlms.GetResponseLastBlock):
            try:
                return decode(bytes(body + answer.data))
            except AxdrError as error:
                raise MeterError(f"{obis} attribute {attribute}: the answer cannot be read: {error}") from error
        raise _refusal(obis, attribute, answer, getattr(answer, "error", None))

    async def set(self, interface: int, obis: str, attribute: int, data: bytes) -> None:
        """Write an attribute, given in the protocol's encoding.

        Raises
        ------
        MeterRefusal
            The meter does not take it; its reason is told.
        MeterError
            No answer in time, or one that makes no sense.
        """
        from dlms_cosem import enumerations
        from dlms_cosem.protocol import xdlms

        where = _attribute(interface, obis, attribute)
        answer = await self._exchange(xdlms.SetRequestNormal(cosem_attribute=where, data=data))
        result = getattr(answer, "result", None)
        if not isinstance(answer, xdlms.SetResponseNormal) or result is not enumerations.DataAccessResult.SUCCESS:
            raise _refusal(obis, attribute, answer, result)

    async def _exchange(self, request: Any) -> Any:
        """A request's answer; the link ends when there is none that can be taken."""
        try:
            return await self._ask(request)
        except BaseException:
            self._abort()
            raise

    async def _ask(self, request: Any) -> Any:
        from dlms_cosem import exceptions
        from dlms_cosem.connection import ProtectionError

        if self._reader is None or self._writer is None:
            raise MeterError(f"{self._place}: the connection is closed")
        try:
            apdu = self._protocol.send(request)
            if not self._protocol.conformance.general_protection:
                apdu = to_service_specific(apdu, request.to_bytes())
            source, target = self._credentials.client_address, self._credentials.logical_device
            self._writer.write(_WRAPPER.pack(_VERSION, source, target, len(apdu)) + apdu)
            self.bytes_sent += _WRAPPER.size + len(apdu)
            async with asyncio.timeout(self._timeout_s):
                await self._writer.drain()
                answer = await self._receive(self._reader)
            self.bytes_received += _WRAPPER.size + len(answer)
            return self._understand(answer)
        except TimeoutError as error:
            raise MeterError(f"{self._place}: no answer within {self._timeout_s:g} s") from error
        except asyncio.IncompleteReadError as error:
            told = f" after {len(error.partial)} of {error.expected} bytes of an answer" if error.partial else ""
            raise MeterError(f"{self._place}: the meter closed the connection{told}") from error
        except OSError as error:
            raise MeterError(f"{self._place}: the meter closed the connection") from error
        except (exceptions.DecryptionError, exceptions.CipheringError, ProtectionError) as error:
            raise MeterError(
                f"{self._place}: the answer cannot be deciphered: the keys are not those of this meter"
            ) from error
        except (
            exceptions.LocalDlmsProtocolError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError,
            ArithmeticError, struct.error, AssertionError, RecursionError,
        ) as error:  # fmt: skip
            if "invocation counter" in str(error):
                raise MeterError(f"{self._place}: the answer was sent before: its counter does not grow") from error
            raise MeterError(f"{self._place}: the answer makes no sense ({type(error).__name__})") from error

    async def _receive(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(_WRAPPER.size)
        version, _source, _target, length = _WRAPPER.unpack(head)
        if head[0] == _HDLC_FLAG:
            raise MeterError(f"{self._place} speaks HDLC; the TCP wrapper is wanted")
        if version != _VERSION:
            raise MeterError(f"{self._place} is no DLMS/COSEM meter: its answer begins with {head.hex(' ')}")
        return await reader.readexactly(length)

    def _understand(self, answer: bytes) -> Any:
        from dlms_cosem import state
        from dlms_cosem.protocol import xdlms

        kind = answer[0]
        if kind in {_EXCEPTION, _SERVICE_ERROR}:
            # Either may come at any time; the association, where there is one, goes on.
            awaits = self._protocol.state.current_state
            associating = awaits in {state.AWAITING_ASSOCIATION_RESPONSE, state.AWAITING_HLS_CLIENT_CHALLENGE_RESULT}
            self._protocol.state.current_state = state.NO_ASSOCIATION if associating else state.READY
            reading = xdlms.ExceptionResponse if kind == _EXCEPTION else xdlms.ConfirmedServiceError
            told: Any = reading.from_bytes(answer)
            if self._credentials.ciphered and not associating and _not_deciphered(told):
                # Another one may use the same key, with larger counters: only a new association mends that.
                raise MeterError(f"{self._place}: the meter answers {_words(told)}")
            return told
        if self._credentials.ciphered and kind not in {_ASSOCIATED, _RELEASED} and not is_enciphered(answer):
            raise MeterError(f"{self._place} answers in plain what was asked enciphered")
        self._protocol.receive_data(to_general(answer, self._protocol.meter_system_title or b""))
        return self._protocol.next_event()


def _not_deciphered(answer: Any) -> bool:
    """Whether a meter says that it could not make anything of an enciphered message, or of its counter."""
    from dlms_cosem.enumerations import ServiceException as Reason

    unreadable = {Reason.DECIPHERING_ERROR, Reason.INVOCATION_COUNTER_ERROR, Reason.OTHER_REASON}
    return getattr(answer, "service_error", None) in unreadable


def _attribute(interface: int, obis: str, attribute: int) -> Any:
    from dlms_cosem import cosem, enumerations

    groups = cosem.Obis(*map(int, obis.split(".")))
    return cosem.CosemAttribute(enumerations.CosemInterface(interface), groups, attribute)


def _refusal(obis: str, attribute: int, answer: Any, reason: Any) -> MeterRefusal:
    return MeterRefusal(f"{obis} attribute {attribute}: the meter answers {_words(answer, reason)}")


def _words(answer: Any, reason: Any = None) -> str:
    """What a meter answers instead of what it was asked."""
    if reason is None and hasattr(answer, "service_error"):
        return f"'exception: {_plain_name(answer.state_error)}, {_plain_name(answer.service_error)}'"
    if reason is None and hasattr(answer, "error"):
        return f"'service error: {_plain_name(answer.error)}'"
    return f"'{_plain_name(reason if reason is not None else type(answer))}'"


def _plain_name(item: Any) -> str:
    return str(getattr(item, "name", None) or getattr(item, "__name__", item)).lower().replace("_", " ")


def _connection(credentials: Credentials, counter: int) -> Any:
    from dlms_cosem import security
    from dlms_cosem.connection import DlmsConnection
    from dlms_cosem.protocol.xdlms.conformance import Conformance

    _silence()
    if credentials.ciphered:
        authentication: Any = security.HighLevelSecurityGmacAuthentication(challenge_length=16)
    elif credentials.password is not None:
        authentication = security.LowLevelSecurityAuthentication(secret=credentials.password)
    else:
        authentication = security.NoSecurityAuthentication()
    # Only what is understood here: the library by itself offers general block transfer, too, and cannot do it.
    offered = Conformance(
        general_protection=credentials.ciphered, block_transfer_with_get_or_read=True, selective_access=True, get=True,
        set=True, action=True,
    )  # fmt: skip
    return DlmsConnection(
        authentication=authentication,
        client_system_title=b"FLX" + os.urandom(5) if credentials.ciphered else None,
        global_encryption_key=credentials.encryption_key,
        global_authentication_key=credentials.authentication_key,
        client_invocation_counter=counter,
        meter_invocation_counter=-1,  # the first one may be 0
        max_pdu_size=_LARGEST_APDU,
        conformance=offered,
    )


def _silence() -> None:
    """The library writes every request, passwords too, to its log at level INFO."""
    import structlog
    from dlms_cosem import connection, state

    quiet = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    for module in (connection, state):
        setattr(module, "LOG", quiet)  # noqa: B010 - a name of the library's own
