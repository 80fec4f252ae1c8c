"""A DLMS/COSEM meter on the network: TCP with the protocol's wrapper, also within TLS, over a line that can fail.

References
----------
DLMS UA, "DLMS/COSEM architecture and protocols" (Green Book): TCP wrapper 7.3.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from plant_simulator.dlms_meter import DlmsMeter
from plant_simulator.dlms_server import Association
from plant_simulator.ports import free_ports

WRAPPER_VERSION = 1


class DlmsServer:
    """The meter on the network: TCP with the protocol's wrapper, a line that can fail.

    Parameters
    ----------
    meter : DlmsMeter
        The meter.
    tls : ssl.SSLContext, optional
        Transport security around its messages.
    """

    def __init__(self, meter: DlmsMeter, tls: ssl.SSLContext | None = None) -> None:
        self.meter = meter
        self._tls = tls
        self.requests = 0
        self.host = ""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return len(self._connections)

    async def start(self, host: str, port: int) -> None:
        """Listen on `port`, or the next free one (0: any).

        Raises
        ------
        NoFreePortError
            If none of the next 500 ports is free.
        """
        for candidate in free_ports(host, port):
            with contextlib.suppress(OSError):
                self._server = await asyncio.start_server(self._accept, host, candidate, ssl=self._tls)
                self.host, self.port = self._server.sockets[0].getsockname()[:2]
                return

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def obey_line(self) -> None:
        """Open or close the port as the line's state wants."""
        if self.meter.signals.down and self._server is not None:
            await self.stop()
        elif not self.meter.signals.down and self._server is None and self.port:
            with contextlib.suppress(OSError):
                self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self._tls)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._converse(reader, writer)
        except asyncio.CancelledError:
            pass  # the line was cut: this task ends here, and its transport with it
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        association = Association(self.meter)
        while True:
            head = await reader.readexactly(8)
            version, source, target, length = (int.from_bytes(head[i : i + 2], "big") for i in (0, 2, 4, 6))
            if version != WRAPPER_VERSION or length == 0:
                return
            apdu = await reader.readexactly(length)
            self.requests += 1
            if self.meter.signals.silent:
                continue
            if self.meter.signals.delay_s > 0:
                await asyncio.sleep(self.meter.signals.delay_s)
            reply = association.answer(apdu)
            parts = (WRAPPER_VERSION, target, source, len(reply))
            writer.write(b"".join(part.to_bytes(2, "big") for part in parts) + reply)
            await writer.drain()
