"""A line in front of a protocol server that runs elsewhere, which can be cut, silenced or slowed."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from plant_simulator.modbus_unit import Line
from plant_simulator.ports import free_ports

CHUNK = 65_536


class FaultyLine:
    """A TCP relay from the device's public port to the server behind it.

    Parameters
    ----------
    line : Line
        How the line behaves: down closes the port, silent swallows every answer, a delay holds each chunk back.
    backend : callable
        Gives the address of the server behind, or None while there is none.
    tls : ssl.SSLContext, optional
        Server's side of the transport security; None is plain.
    """

    def __init__(
        self, line: Line, backend: Callable[[], tuple[str, int] | None], tls: ssl.SSLContext | None = None
    ) -> None:
        self._line = line
        self._tls = tls
        self._backend = backend
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self.host = ""
        self.port = 0

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return len(self._relays)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen on `port`, or the next free one (0: any); returns the address really bound.

        Raises
        ------
        NoFreePortError
            If none of the next 500 ports is free.
        """
        for candidate in free_ports(host, port):
            with contextlib.suppress(OSError):
                self._server = await asyncio.start_server(self._accept, host, candidate, ssl=self._tls)
                self.host, self.port = self._server.sockets[0].getsockname()[:2]
                break
        return self.host, self.port

    async def stop(self) -> None:
        """Close the port and cut every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def obey_line(self) -> None:
        """Open or close the port as the line's state wants."""
        if self._line.down and self._server is not None:
            await self.stop()
        elif not self._line.down and self._server is None and self.port:
            with contextlib.suppress(OSError):
                self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self._tls)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)
        backend = self._backend()
        try:
            if backend is not None:
                with contextlib.suppress(OSError):
                    await self._relay(reader, writer, backend)
        except asyncio.CancelledError:
            # The line was cut: this task ends here, and its transports with it.
            pass
        finally:
            writer.transport.abort()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: tuple[str, int]
    ) -> None:
        back_reader, back_writer = await asyncio.open_connection(*backend)
        both = [
            asyncio.create_task(self._pass_on(reader, back_writer, delayed=False)),
            asyncio.create_task(self._pass_on(back_reader, writer, delayed=True)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back_writer.transport.abort()  # before anything is awaited: this task may be cancelled a second time
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, delayed: bool) -> None:
        while chunk := await source.read(CHUNK):
            if self._line.silent:
                continue
            if delayed and self._line.delay_s > 0:
                await asyncio.sleep(self._line.delay_s)
            sink.write(chunk)
            await sink.drain()
