"""A real Modbus TCP server for one device, whose line can be made to fail."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from pymodbus.constants import ExcCodes
from pymodbus.datastore import ModbusServerContext
from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.transaction import TransactionManager
from pymodbus.transport import CommParams, CommType

from plant_simulator.modbus_unit import ModbusUnit
from plant_simulator.ports import free_ports


class _Handler(ServerRequestHandler):
    """One connection: answers every request of a segment, each under its own transaction id, as the line allows.

    The library's handler keeps only the newest request of a segment and labels late answers with its id.
    """

    def __init__(self, owner: _Server) -> None:
        super().__init__(owner, None, None, None)
        self._line = owner.line
        self._received = b""
        self._answers: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._received:
            try:
                used = TransactionManager.callback_data(self, self._received)
            except ModbusIOException as error:
                refusal = ExceptionResponse(
                    error.fcode or 0,
                    ExcCodes.ILLEGAL_FUNCTION,
                    device_id=error.dev_id,
                    transaction=error.transaction_id,
                )
                self._send(refusal)
                self._received = b""
                return
            if not used:
                break
            self._received = self._received[used:]
            if self.last_pdu is not None:
                task = self.loop.create_task(self._answer(self.last_pdu))
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)
        if len(self._received) > self.max_buffer_size:
            self._received = b""

    async def _answer(self, request: ModbusPDU) -> None:
        if self._line.silent:
            return
        server: _Server = self.server
        if request.dev_id not in server.unit_ids:
            response = ExceptionResponse(request.function_code, ExcCodes.GATEWAY_NO_RESPONSE)
        else:
            response = await request.datastore_update(cast(ModbusServerContext, server.context), request.dev_id)
        response.transaction_id = request.transaction_id
        response.dev_id = request.dev_id
        if self._line.delay_s > 0:
            self.loop.call_later(self._line.delay_s, self._send, response)
        else:
            self._send(response)

    def _send(self, response: ModbusPDU) -> None:
        if self.transport is not None:
            self.server_send(response, None)


class _Server(ModbusTcpServer):
    """The library's server with our connections."""

    def __init__(self, unit: ModbusUnit, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        if tls is not None:
            # The library reads this attribute; its own TLS server leaves out the header of Modbus TCP.
            self.tls_setup = CommParams(
                comm_type=CommType.TLS,
                comm_name="server_listener",
                reconnect_delay=0.0,
                reconnect_delay_max=0.0,
                timeout_connect=0.0,
                sslctx=tls,
            )
        super().__init__(unit.sim_device(), address=(host, port))
        self.line = unit.line
        self.unit_ids = {unit.unit_id}

    def callback_new_connection(self) -> _Handler:
        return _Handler(self)


class ModbusDevice:
    """A Modbus TCP device on the network.

    Parameters
    ----------
    unit : ModbusUnit
        The unit that answers, as its line lets it.
    tls : ssl.SSLContext, optional
        Server's side of the transport security (Modbus/TCP Security); None is plain.
    """

    def __init__(self, unit: ModbusUnit, tls: ssl.SSLContext | None = None) -> None:
        self.unit = unit
        self._tls = tls
        self._server: _Server | None = None
        self.host = ""
        self.port = 0

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return 0 if self._server is None else len(self._server.active_connections)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen on `port`, or the next free one (0: any); returns the address really bound.

        Raises
        ------
        NoFreePortError
            If none of the next 500 ports is free.
        """
        for candidate in free_ports(host, port):
            server = _Server(self.unit, host, candidate, self._tls)
            if await server.listen():
                self._server = server
                self.host, self.port = cast(asyncio.Server, server.transport).sockets[0].getsockname()[:2]
                break
        return self.host, self.port

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            await self._server.shutdown()
            self._server = None

    async def obey_line(self) -> None:
        """Open or close the port as the line's state wants."""
        if self.unit.line.down and self._server is not None:
            await self.stop()
        elif not self.unit.line.down and self._server is None and self.port:
            server = _Server(self.unit, self.host, self.port, self._tls)
            if await server.listen():
                self._server = server
