"""A DLMS/COSEM meter made of a list of attributes, that does what the meters of this world do: its own way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from plant_simulator.dlms_selection import EntryRange, TimeRange
from plant_simulator.dlms_server import Association


def octets(content: bytes) -> bytes:
    return bytes([9, len(content)]) + content


def column(interface: int, obis: str, attribute: int = 2) -> bytes:
    name = octets(bytes(int(group) for group in obis.split(".")))
    return b"\x02\x04\x12" + interface.to_bytes(2) + name + bytes([15, attribute, 0x12, 0, 0])


def array(items: list[bytes]) -> bytes:
    return b"\x01" + (bytes([len(items)]) if len(items) < 128 else b"\x82" + len(items).to_bytes(2)) + b"".join(items)


@dataclass
class OddMeter:
    """What the server side of an association asks of a meter.

    Attributes
    ----------
    objects : dict
        Encoded attribute, or what gives it for a selection, by logical name and number.
    mangle : callable
        What becomes of an answer on its way to the client; None: nothing is answered.
    """

    objects: dict[tuple[str, int], bytes | Callable[[Any], bytes]]
    mangle: Callable[[bytes], bytes | None] = lambda answer: answer
    client_counter: int = 0
    general_protection: bool = True
    system_title: bytes = b"ODD00001"
    asked: list[TimeRange | EntryRange | None] = field(default_factory=list)

    def read(self, obis: str, attribute: int, selection: TimeRange | EntryRange | None = None) -> bytes:
        found = self.objects[obis, attribute]
        if isinstance(found, bytes):
            return found
        self.asked.append(selection)
        return found(selection)

    def write(self, obis: str, attribute: int, value: object) -> None:
        raise KeyError(f"{obis} {attribute} {value}")


@contextlib.asynccontextmanager
async def serving(meter: OddMeter) -> AsyncIterator[int]:
    """The meter on a free port."""

    talks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(task := asyncio.current_task())  # pyright: ignore[reportArgumentType]
        association = Association(meter)  # pyright: ignore[reportArgumentType]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readexactly(8)
                answer = association.answer(await reader.readexactly(int.from_bytes(head[6:8])))
                answer = meter.mangle(b"\x00\x01\x00\x01\x00\x01" + len(answer).to_bytes(2) + answer)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        writer.transport.abort()
        talks.discard(task)  # pyright: ignore[reportArgumentType]

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks)
