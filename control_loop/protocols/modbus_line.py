"""What Modbus runs over: a TCP connection of a device's own, plain or with TLS, or a serial line that devices share."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ConnectionException, ModbusException

from flexergy_pipelines.grid.connection import SerialLine
from flexergy_pipelines.grid.tls import TlsError, explain

BITS_A_CHARACTER = 11
OVERHEAD_CHARACTERS = 16
"""Request, and what surrounds the registers in the answer."""
TURNAROUND_S = 0.05
PSEUDO_TERMINALS = "/dev/pts/"
"""Device files of lines that exist in software only, which refuse a parity bit."""

NO_FRAME = "what came is no Modbus frame"
NOTHING_TO_WAIT_FOR = contextlib.nullcontext()

Trace = Callable[[bool, bytes], bytes]


class LineError(Exception):
    """The line could not be opened; says why."""


class ModbusLine(Protocol):
    """The way to a device."""

    serial: bool

    @property
    def place(self) -> str:
        """Where it leads, in words."""
        ...

    @property
    def garbled(self) -> bool:
        """Whether something came during this turn on the line; if it was no answer, noise has spoilt it."""
        ...

    def patience_s(self, timeout_s: float, registers: int) -> float:
        """Longest wait for an answer of so many registers [s]."""
        ...

    async def open(self, timeout_s: float, trace: Trace) -> ModbusBaseClient:
        """A connected client.

        Raises
        ------
        LineError
            It cannot be had.
        """
        ...

    def turn(self, trace: Trace) -> contextlib.AbstractAsyncContextManager[None]:
        """One's turn on the line; frames meanwhile go to `trace`."""
        ...

    def drop(self, client: ModbusBaseClient, *, lost: bool) -> None:
        """Hang up; `lost` says that what comes over it can no longer be trusted."""
        ...


class TcpLine:
    """A TCP connection of the device's own.

    Parameters
    ----------
    address : callable
        Gives host and port at each connect, so that a device that moved is found again.
    context : callable, optional
        Makes the TLS context at each connect, so that renewed certificates are taken up; None is plain Modbus TCP.
    server_name : str, optional
        Name that the device's certificate must carry; None: the host.

    Notes
    -----
    With TLS the frames are those of Modbus TCP (MBAP header), as the Modbus/TCP Security protocol specification has it;
    the library's own TLS client leaves the header out, which devices don't understand.
    """

    serial = False
    garbled = False
    """TCP delivers what was sent or nothing."""

    def __init__(
        self,
        address: Callable[[], tuple[str, int]],
        context: Callable[[], ssl.SSLContext] | None = None,
        server_name: str | None = None,
    ) -> None:
        self._address = address
        self._context = context
        self._server_name = server_name

    @property
    def place(self) -> str:
        host, port = self._address()
        return f"{host}:{port}"

    def patience_s(self, timeout_s: float, registers: int) -> float:
        del registers
        return timeout_s

    async def open(self, timeout_s: float, trace: Trace) -> ModbusBaseClient:
        host, port = self._address()
        try:
            context = self._context() if self._context is not None else None
        except TlsError as error:
            raise LineError(str(error)) from None
        # The library's own retries and reconnects are off: a request must end within one timeout, and a first
        # connect that fails would never be tried again.
        client = AsyncModbusTcpClient(
            host, port=port, timeout=timeout_s, retries=0, reconnect_delay=0, trace_packet=trace
        )
        name = self._server_name or host
        # With TLS 1.3 a device refuses a certificate after the handshake, and often by hanging up.
        hung_up = "the device hung up" + ("; it may want a client certificate it trusts" if context is not None else "")
        problems: list[OSError] = []

        async def create() -> Any:
            try:
                return await client.ctx.loop.create_connection(
                    client.ctx.handle_new_connection,
                    host,
                    port,
                    ssl=context,
                    server_hostname=name if context is not None else None,
                )
            except OSError as error:
                problems.append(error)
                raise

        def lost(exc: Exception | None) -> None:
            # The library lets a request wait out its time when the connection ends under it.
            waiting = client.ctx.response_future
            if not waiting.done():
                reason = explain(exc, name) if isinstance(exc, OSError) else hung_up
                waiting.set_exception(ConnectionException(reason))

        def nonsense() -> None:
            waiting = client.ctx.response_future
            if not waiting.done():
                waiting.set_exception(ConnectionException(NO_FRAME))

        client.ctx.call_create = create
        client.ctx.callback_disconnected = lost
        client.ctx.callback_data = _guarded(client.ctx.callback_data, nonsense)
        if context is not None:
            client.ctx.comm_params.timeout_connect = max(1.0, timeout_s)
        try:
            connected = await client.connect()
        except (OSError, ModbusException) as error:
            client.close()
            raise LineError(str(error)) from None
        if connected:
            return client
        client.close()
        raise LineError(explain(problems[-1], name) if problems else "no connection")

    def turn(self, trace: Trace) -> contextlib.AbstractAsyncContextManager[None]:
        del trace
        return NOTHING_TO_WAIT_FOR

    def drop(self, client: ModbusBaseClient, *, lost: bool) -> None:
        del lost
        client.close()


class SerialBus:
    """A serial line with several devices; one talks at a time.

    Parameters
    ----------
    line : SerialLine
        Device file and its settings.
    device : callable, optional
        Gives the device file whenever the line is opened, for one that moves; None: the one of `line`.
    """

    serial = True

    def __init__(self, line: SerialLine, device: Callable[[], str] | None = None) -> None:
        self._line = line
        self._device = device or (lambda: line.device)
        self._client: AsyncModbusSerialClient | None = None
        self._lock = asyncio.Lock()
        self._trace: Trace | None = None
        self._heard = False

    @property
    def place(self) -> str:
        return self._device()

    @property
    def garbled(self) -> bool:
        return self._heard

    def patience_s(self, timeout_s: float, registers: int) -> float:
        characters = OVERHEAD_CHARACTERS + 2 * registers
        return timeout_s + TURNAROUND_S + characters * BITS_A_CHARACTER / self._line.baud_rate

    async def open(self, timeout_s: float, trace: Trace) -> ModbusBaseClient:
        del trace
        async with self._lock:
            if self._client is not None and self._client.connected:
                return self._client
            line, device = self._line, self._device()
            client = AsyncModbusSerialClient(
                device,
                baudrate=line.baud_rate,
                parity="N" if device.startswith(PSEUDO_TERMINALS) else line.parity,
                stopbits=line.stop_bits,
                timeout=timeout_s,
                retries=0,
                reconnect_delay=0,
                trace_packet=self._traced,
            )
            client.ctx.callback_data = _guarded(client.ctx.callback_data, lambda: None)
            # One device that is silent must not close the line for the others.
            client.set_max_no_responses(1_000_000)
            problems: list[Exception] = []
            create = client.ctx.call_create
            client.ctx.call_create = partial(_noted, create, problems)
            try:
                connected = await client.connect()
            except (OSError, ValueError, ModbusException, termios.error) as error:
                client.close()
                raise LineError(f"{device} does not take the settings of the line: {error}") from None
            if not connected:
                client.close()
                raise LineError(str(problems[-1]) if problems else "the line cannot be opened")
            self._client = client
            return client

    @asynccontextmanager
    async def turn(self, trace: Trace) -> AsyncIterator[None]:
        async with self._lock:
            self._trace, self._heard = trace, False
            try:
                yield
            finally:
                self._trace = None

    def drop(self, client: ModbusBaseClient, *, lost: bool) -> None:
        if client is self._client and (not client.connected or not lost):
            client.close()
            self._client = None

    def _traced(self, sending: bool, data: bytes) -> bytes:
        self._heard |= not sending
        return self._trace(sending, data) if self._trace is not None else data


def _guarded(take: Callable[..., int], nonsense: Callable[[], None]) -> Callable[..., int]:
    """Taking what was received; the library lets what it cannot understand end in the event loop's log."""

    def guarded(data: bytes, addr: tuple[Any, ...] | None = None) -> int:
        try:
            return take(data, addr)
        except ModbusException:
            nonsense()
            return len(data)

    return guarded


async def _noted(create: Callable[[], Any], problems: list[Exception]) -> Any:
    try:
        return await create()
    except (OSError, ValueError) as error:
        problems.append(error)
        raise
