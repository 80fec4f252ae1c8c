"""A DLMS/COSEM client over TCP: associations without and with keys, registers, and load profiles by range.

The library gives the protocol without any input or output; this gives it a connection in which no wait is without
an end. Stamps without deviation are taken as UTC.

References
----------
DLMS UA, "DLMS/COSEM architecture and protocols" (Green Book): TCP wrapper 7.3, association 9.3; "COSEM interface
classes and OBIS identification system" (Blue Book): classes 1, 3, 7, units 4.3.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from flexergy_pipelines.metering.ciphering import to_general, to_service_specific
from flexergy_pipelines.metering.keys import Credentials

DATA, REGISTER, EXTENDED_REGISTER, PROFILE, CLOCK, ASSOCIATION = 1, 3, 4, 7, 8, 15
CLOCK_OBIS: Final = "0.0.1.0.0.255"
COUNTER_OBIS: Final = "0.0.43.1.0.255"
PROFILE_OBIS: Final = "1.0.99.1.0.255"
PUBLIC_CLIENT: Final = 16
UNITS: Final = {
    27: ("kW", 1e-3), 28: ("kVA", 1e-3), 29: ("kvar", 1e-3), 30: ("kWh", 1e-3), 31: ("kVAh", 1e-3),
    32: ("kvarh", 1e-3), 33: ("A", 1.0), 35: ("V", 1.0), 44: ("Hz", 1.0),
}  # fmt: skip
"""Units by code: the platform's unit, and the factor that leads to it."""
_WRAPPER: Final = struct.Struct(">HHHH")
_LARGEST_APDU: Final = 65_535
_LARGEST_ANSWER: Final = 8_000_000
_NULL, _BUFFER, _COLUMNS, _PERIOD = 0, 2, 3, 4


class MeterError(Exception):
    """The meter gave no answer, refused, or gave one that makes no sense; the message says which."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A value in the platform's unit of its kind (kW, kvar, kWh, V, ...)."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Entries of a load profile.

    Attributes
    ----------
    obis : tuple of str
        Identifiers of the value columns.
    period_s : int
        Length of an interval [s].
    rows : tuple of (datetime, tuple)
        Stamp of each entry (aware; the *end* of its interval) and its values, None where there is none.
    """

    obis: tuple[str, ...]
    period_s: int
    rows: tuple[tuple[datetime, tuple[Measured | None, ...]], ...]


class DlmsClient:
    """An association with a meter; use it as ``async with DlmsClient(...) as meter``.

    Parameters
    ----------
    host, port : str, int
        Where the meter is.
    credentials : Credentials
        How the client shows who it is.
    timeout_s : float
        Longest wait for connecting and for each answer [s].
    """

    def __init__(self, host: str, port: int, credentials: Credentials | None = None, *, timeout_s: float = 5.0) -> None:
        self.host = host
        self.port = port
        self.credentials = credentials or Credentials()
        self.timeout_s = timeout_s
        self._link: _Link | None = None
        self._scales: dict[tuple[int, str], tuple[float, str]] = {}

    async def __aenter__(self) -> DlmsClient:
        counter = 0
        if self.credentials.ciphered:
            # Anybody may read the last counter the meter took; the next one must be larger.
            public = _Link(self, Credentials(client_address=PUBLIC_CLIENT), 0)
            async with public.opened():
                counter = int(await public.get(DATA, COUNTER_OBIS, _BUFFER)) + 1
        self._link = _Link(self, self.credentials, counter)
        await self._link.open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def get(self, interface: int, obis: str, attribute: int = 2, selection: Any = None) -> Any:
        """An attribute as the protocol's plain data (numbers, bytes, lists).

        Raises
        ------
        MeterError
            No answer in time, a refusal, or an answer that makes no sense.
        """
        if self._link is None:
            raise MeterError(f"{self.host}:{self.port}: no association is open")
        return await self._link.get(interface, obis, attribute, selection)

    async def set(self, interface: int, obis: str, attribute: int, data: bytes) -> None:
        """Write an attribute.

        Parameters
        ----------
        data : bytes
            The value in the protocol's encoding (A-XDR, with its type).

        Raises
        ------
        MeterRefusal
            The meter does not take it; its reason is told.
        MeterError
            No answer in time, or one that makes no sense.
        """
        if self._link is None:
            raise MeterError(f"{self.host}:{self.port}: no association is open")
        await self._link.set(interface, obis, attribute, data)

    async def read(self, obis: str) -> Measured:
        """Present value of a register (class 3) in the platform's unit.

        Raises
        ------
        MeterError
            As of `get`; also when the object has no value now.
        """
        factor, unit = await self._scale(REGISTER, obis)
        value = await self.get(REGISTER, obis)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MeterError(f"{obis}: holds no number")
        return Measured(value * factor, unit)

    async def read_many(self, obis: Sequence[str]) -> dict[str, Measured | None]:
        """Several registers within one association; None for an object the meter does not have or has no value of.

        Raises
        ------
        MeterError
            When the meter does not answer.
        """
        found: dict[str, Measured | None] = {}
        for name in obis:
            try:
                found[name] = await self.read(name)
            except MeterRefusal:
                found[name] = None
        return found

    async def profile(self, obis: str, start: datetime, end: datetime) -> Profile:
        """Entries of a load profile whose stamps lie between `start` and `end`, both included.

        Parameters
        ----------
        obis : str
            Of the profile, such as ``1.0.99.1.0.255``.
        start, end : datetime
            Aware.

        Raises
        ------
        MeterError
            As of `get`.
        """
        from dlms_cosem.cosem import CosemAttribute, Obis
        from dlms_cosem.cosem.capture_object import CaptureObject
        from dlms_cosem.cosem.selective_access import RangeDescriptor
        from dlms_cosem.enumerations import CosemInterface

        columns = [(int(c[0]), _dotted(bytes(c[1]))) for c in await self.get(PROFILE, obis, _COLUMNS)]
        stamps = [place for place, (interface, _) in enumerate(columns) if interface == CLOCK]
        if not stamps:
            raise MeterError(f"{obis}: the profile has no clock among its columns")
        period_s = int(await self.get(PROFILE, obis, _PERIOD))
        clock = CosemAttribute(CosemInterface.CLOCK, Obis(*map(int, CLOCK_OBIS.split("."))), 2)
        restricting = CaptureObject(cosem_attribute=clock, data_index=0)
        selection = RangeDescriptor(
            restricting_object=restricting, from_value=start.astimezone(UTC), to_value=end.astimezone(UTC)
        )
        entries = await self.get(PROFILE, obis, _BUFFER, selection)
        # Status words and the like are no registers: they have no unit and are left out.
        values = [p for p, (interface, name) in enumerate(columns) if interface != CLOCK and name.startswith("1.")]
        scales = {place: await self._scale(*columns[place]) for place in values}
        rows: list[tuple[datetime, tuple[Measured | None, ...]]] = []
        for entry in entries:
            if len(entry) != len(columns):
                raise MeterError(f"{obis}: an entry has {len(entry)} values, the profile {len(columns)} columns")
            stamp = self._stamp(entry[stamps[0]], rows, period_s, obis)
            rows.append((stamp, tuple(_measured(entry[place], *scales[place]) for place in values)))
        return Profile(tuple(columns[place][1] for place in values), period_s, tuple(rows))

    @staticmethod
    def _stamp(raw: Any, rows: list[Any], period_s: int, obis: str) -> datetime:
        """A null stamp is the one before plus the period (compressed profiles)."""
        from datetime import timedelta

        from dlms_cosem.time import datetime_from_bytes

        if raw is None and rows:
            return rows[-1][0] + timedelta(seconds=period_s)
        if not isinstance(raw, bytes | bytearray):
            raise MeterError(f"{obis}: an entry has no readable stamp")
        try:
            stamp, _ = datetime_from_bytes(bytes(raw))
        except ValueError as error:
            raise MeterError(f"{obis}: an entry has no readable stamp") from error
        return stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)

    async def _scale(self, interface: int, obis: str) -> tuple[float, str]:
        """Factor and unit of a register; an increment that is only a column of a profile counts as Wh or varh."""
        key = (interface, obis)
        if key not in self._scales:
            try:
                scaler, code = await self.get(REGISTER, obis, 3)
            except MeterRefusal:
                reactive = obis.split(".")[2] in {"3", "4", "5", "6", "7", "8"}
                scaler, code = 0, 32 if reactive else 30
            unit, factor = UNITS.get(int(code), ("", 1.0))
            self._scales[key] = (factor * 10.0 ** int(scaler), unit)
        return self._scales[key]


class MeterRefusal(MeterError):  # noqa: N818 - a refusal is an answer: the meter is there
    """The meter answered that it does not give this."""


class _Link:
    """One TCP connection with one association."""

    def __init__(self, owner: DlmsClient, credentials: Credentials, counter: int) -> None:
        self._owner = owner
        self._credentials = credentials
        self._protocol = _connection(credentials, counter)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        await self.open()
        try:
            yield
        finally:
            await self.close()

    async def open(self) -> None:
        place = f"{self._owner.host}:{self._owner.port}"
        try:
            async with asyncio.timeout(self._owner.timeout_s):
                self._reader, self._writer = await asyncio.open_connection(self._owner.host, self._owner.port)
        except (OSError, TimeoutError) as error:
            raise MeterError(f"no connection to {place}") from error
        try:
            await self._associate(place)
        except BaseException:
            await self.close(released=False)
            raise

    async def _associate(self, place: str) -> None:
        from dlms_cosem import enumerations, state
        from dlms_cosem.protocol import acse, xdlms

        answer = await self._exchange(self._protocol.get_aarq())
        accepted = enumerations.AssociationResult.ACCEPTED
        if not isinstance(answer, acse.ApplicationAssociationResponse) or answer.result is not accepted:
            raise MeterError(f"{place} refuses the association: password, keys or address are not those of this meter")
        if self._protocol.state.current_state != state.SHOULD_SEND_HLS_SEVER_CHALLENGE_RESULT:
            return
        reply = await self._exchange(self._proof())
        if (
            not isinstance(reply, xdlms.ActionResponseNormalWithData)
            or self._protocol.state.current_state != state.READY
        ):
            raise MeterError(f"{place} refuses the proof of keys, or cannot prove its own")

    def _proof(self) -> Any:
        from dlms_cosem import cosem, dlms_data, enumerations
        from dlms_cosem.protocol import xdlms

        method = cosem.CosemMethod(enumerations.CosemInterface.ASSOCIATION_LN, cosem.Obis(0, 0, 40, 0, 0), 1)
        proof = self._protocol.authentication.hls_generate_reply_data(self._protocol)
        return xdlms.ActionRequestNormal(cosem_method=method, data=dlms_data.OctetStringData(proof).to_bytes())

    async def close(self, *, released: bool = True) -> None:
        if self._writer is None:
            return
        writer = self._writer
        try:
            if released:
                with contextlib.suppress(MeterError):
                    await self._exchange(self._protocol.get_rlrq())
        finally:
            self._writer = None
            writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def get(self, interface: int, obis: str, attribute: int, selection: Any = None) -> Any:
        from dlms_cosem import cosem, enumerations
        from dlms_cosem.protocol import xdlms
        from dlms_cosem.utils import parse_as_dlms_data

        where = cosem.CosemAttribute(
            enumerations.CosemInterface(interface), cosem.Obis(*map(int, obis.split("."))), attribute
        )
        answer = await self._exchange(xdlms.GetRequestNormal(cosem_attribute=where, access_selection=selection))
        body = bytearray()
        while isinstance(answer, xdlms.GetResponseWithBlock):
            body += answer.data
            if len(body) > _LARGEST_ANSWER:
                raise MeterError(f"{obis}: more than {_LARGEST_ANSWER // 1_000_000} MB; ask for a shorter range")
            following = xdlms.GetRequestNext(
                invoke_id_and_priority=answer.invoke_id_and_priority, block_number=answer.block_number
            )
            answer = await self._exchange(following)
        if isinstance(answer, xdlms.GetResponseNormal | xdlms.GetResponseLastBlock):
            try:
                return parse_as_dlms_data(bytes(body + answer.data))
            except (ValueError, LookupError, TypeError) as error:
                raise MeterError(f"{obis}: the answer cannot be read") from error
        raise _refusal(obis, attribute, answer, getattr(answer, "error", None))

    async def set(self, interface: int, obis: str, attribute: int, data: bytes) -> None:
        from dlms_cosem import cosem, enumerations
        from dlms_cosem.protocol import xdlms

        where = cosem.CosemAttribute(
            enumerations.CosemInterface(interface), cosem.Obis(*map(int, obis.split("."))), attribute
        )
        answer = await self._exchange(xdlms.SetRequestNormal(cosem_attribute=where, data=data))
        result = getattr(answer, "result", None)
        if not isinstance(answer, xdlms.SetResponseNormal) or result is not enumerations.DataAccessResult.SUCCESS:
            raise _refusal(obis, attribute, answer, result)

    async def _exchange(self, request: Any) -> Any:
        from dlms_cosem import exceptions

        place = f"{self._owner.host}:{self._owner.port}"
        if self._reader is None or self._writer is None:
            raise MeterError(f"{place}: the connection is closed")
        try:
            apdu = self._protocol.send(request)
            if not self._protocol.conformance.general_protection:
                apdu = to_service_specific(apdu, request.to_bytes())
            source, target = self._credentials.client_address, self._credentials.logical_device
            self._writer.write(_WRAPPER.pack(1, source, target, len(apdu)) + apdu)
            async with asyncio.timeout(self._owner.timeout_s):
                await self._writer.drain()
                _version, _source, _target, length = _WRAPPER.unpack(await self._reader.readexactly(_WRAPPER.size))
                answer = await self._reader.readexactly(length)
                self._protocol.receive_data(to_general(answer, self._protocol.meter_system_title or b""))
            return self._protocol.next_event()
        except TimeoutError as error:
            raise MeterError(f"{place}: no answer within {self._owner.timeout_s:g} s") from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise MeterError(f"{place}: the meter closed the connection") from error
        except (exceptions.DecryptionError, exceptions.CipheringError) as error:
            raise MeterError(
                f"{place}: the answer cannot be deciphered: the keys are not those of this meter"
            ) from error
        except (
            exceptions.LocalDlmsProtocolError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError,
            struct.error, AssertionError,
        ) as error:  # fmt: skip
            raise MeterError(f"{place}: the answer makes no sense ({type(error).__name__})") from error


def _refusal(obis: str, attribute: int, answer: Any, reason: Any) -> MeterRefusal:
    name = getattr(reason, "name", type(answer).__name__).lower().replace("_", " ")
    return MeterRefusal(f"{obis} attribute {attribute}: the meter answers '{name}'")


def _connection(credentials: Credentials, counter: int) -> Any:
    from dlms_cosem import security
    from dlms_cosem.connection import DlmsConnection

    _silence()
    if credentials.ciphered:
        authentication: Any = security.HighLevelSecurityGmacAuthentication(challenge_length=16)
    elif credentials.password is not None:
        authentication = security.LowLevelSecurityAuthentication(secret=credentials.password)
    else:
        authentication = security.NoSecurityAuthentication()
    return DlmsConnection(
        authentication=authentication,
        client_system_title=b"FLX" + os.urandom(5) if credentials.ciphered else None,
        global_encryption_key=credentials.encryption_key,
        global_authentication_key=credentials.authentication_key,
        client_invocation_counter=counter,
        max_pdu_size=_LARGEST_APDU,
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


def _measured(raw: Any, factor: float, unit: str) -> Measured | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    return Measured(raw * factor, unit)


def _dotted(logical_name: bytes) -> str:
    return ".".join(str(group) for group in logical_name)
