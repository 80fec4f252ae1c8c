"""A Modbus TCP device for tests that answers as sound devices do, or as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from control_loop.protocols.modbus_line import TcpLine

Answer = Callable[[bytes, bytes], bytes | None]


@dataclass
class Odd:
    """A device that answers each frame as the test says, or as a sound device of registers n = n.

    Attributes
    ----------
    holes, locked : set of int
        Registers that it does not have, and that it lets nobody write.
    refusals : list of int
        Exception codes of its next answers.
    answer : callable, optional
        Makes the whole answer from the header and the request; None is silence.
    """

    holes: set[int] = field(default_factory=set)
    locked: set[int] = field(default_factory=set)
    refusals: list[int] = field(default_factory=list)
    answer: Answer | None = None
    unknown_codes: frozenset[int] = frozenset()
    largest: int = 125
    requests: list[bytes] = field(default_factory=list)
    written: dict[int, int] = field(default_factory=dict)
    connections: int = 0
    talks: set[asyncio.Task[None]] = field(default_factory=set)

    def pdu(self, request: bytes) -> bytes:
        code, address, second = struct.unpack(">BHH", request[:5])
        refusal = self.refusals.pop(0) if self.refusals else 1 if code in self.unknown_codes else 0
        if code == 3 and not refusal:
            hole = bool(self.holes & set(range(address, address + second)))
            refusal = 3 if second > self.largest else 2 if hole else 0
        if code in {5, 6, 16} and address in self.locked and not refusal:
            refusal = 3
        if refusal:
            return bytes([code | 0x80, refusal])
        if code == 3:
            values = [self.written.get(n, n) & 0xFFFF for n in range(address, address + second)]
            return bytes([3, 2 * second]) + struct.pack(f">{second}H", *values)
        if code == 1:
            return bytes([1, 1, self.written.get(address, 0)])
        if code in {5, 6}:
            self.written[address] = int(second == 0xFF00) if code == 5 else second
            return request[:5]
        values = struct.unpack(f">{second}H", request[6:]) if code == 16 else [request[6]]
        self.written |= {address + i: value for i, value in enumerate(values)}
        return request[:5]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.talks.add(asyncio.create_task(self.talk(reader, writer)))

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                header = await reader.readexactly(7)
                request = await reader.readexactly(int.from_bytes(header[4:6]) - 1)
                self.requests.append(request)
                said = self.answer(header, request) if self.answer is not None else frame(header, self.pdu(request))
                if said is not None:
                    writer.write(said)
                    await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def frame(header: bytes, pdu: bytes, **other: int) -> bytes:
    """A frame with the request's transaction and unit, unless others are given."""
    transaction = other.get("transaction", int.from_bytes(header[:2]))
    return struct.pack(">HHHB", transaction, other.get("protocol", 0), len(pdu) + 1, other.get("unit", header[6])) + pdu


@contextlib.asynccontextmanager
async def served(device: Odd) -> AsyncIterator[TcpLine]:
    """The line to a device that listens."""
    server = await asyncio.start_server(device.serve, "127.0.0.1", 0)
    try:
        yield TcpLine(lambda: server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        await asyncio.gather(*device.talks)
