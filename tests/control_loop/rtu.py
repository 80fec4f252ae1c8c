"""A station of IEC 60870-5-104 written octet by octet, which says what a test wants: any type, any fault.

References
----------
IEC 60870-5-101:2003, 7.2 and 7.3 (application service data units); IEC 60870-5-104:2006, 5 (control information).
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

SPONTANEOUS, INITIALIZED, ACTIVATION, CONFIRMED, DEACTIVATION, TERMINATED, STATION, COUNTERS = 3, 4, 6, 7, 8, 10, 20, 37
UNKNOWN_TYPE, UNKNOWN_CAUSE, UNKNOWN_STATION, UNKNOWN_OBJECT = 44, 45, 46, 47
NEGATIVE = 0x40
INTERROGATION, COUNTER_INTERROGATION, CLOCK, END_OF_INITIALIZATION = 100, 101, 103, 70
U_FRAMES = {0x07: 0x0B, 0x13: 0x23, 0x43: 0x83}
"""What a request without number is confirmed by: start, stop, test."""


@dataclass(frozen=True, slots=True)
class Asdu:
    """An application service data unit with one information object, or several raw ones."""

    kind: int
    cause: int
    station: int
    ioa: int
    octets: bytes
    count: int = 1

    def encoded(self) -> bytes:
        """The octets."""
        head = struct.pack("<BBBBH", self.kind, self.count, self.cause, 0, self.station)
        return head + self.ioa.to_bytes(3, "little") + self.octets

    @classmethod
    def decoded(cls, octets: bytes) -> Asdu:
        """From the octets."""
        kind, count, cause, _, station = struct.unpack("<BBBBH", octets[:6])
        return cls(kind, cause, station, int.from_bytes(octets[6:9], "little"), octets[9:], count)


def cp56(time: datetime) -> bytes:
    """Seven octets of binary time, UTC."""
    utc = time.astimezone(UTC)
    milliseconds = utc.second * 1000 + utc.microsecond // 1000
    day = utc.isoweekday() << 5 | utc.day
    return struct.pack("<HBBBBB", milliseconds, utc.minute, utc.hour, day, utc.month, utc.year % 100)


def short(value: float, quality: int = 0, time: datetime | None = None) -> bytes:
    """A short floating point number with its quality, and with a time tag where there is one."""
    return struct.pack("<fB", value, quality) + (b"" if time is None else cp56(time))


Answer = Callable[[Asdu], Sequence[Asdu | bytes]]


class Master:
    """A connection to the station, with its own numbers of frames."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.received = 0
        self._writer = writer
        self._sent = 0

    def say(self, asdu: Asdu | bytes) -> None:
        """Say an ASDU as the next numbered frame, or octets as they are."""
        if isinstance(asdu, Asdu):
            body = struct.pack("<HH", self._sent << 1, self.received << 1) + asdu.encoded()
            self._sent = (self._sent + 1) % 2**15
            asdu = bytes([0x68, len(body)]) + body
        self._writer.write(asdu)

    def hang_up(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()


class Rtu:
    """The station.

    Attributes
    ----------
    answer : callable
        What is said to an ASDU that came: ASDUs in order, or whole frames.
    heard : list
        Every ASDU that came.
    silent : bool
        Whether it reads, and says nothing more.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heard: list[Asdu] = []
        self.dialled = 0
        self.silent = False
        self.port = 0
        self._masters: list[Master] = []

    def say(self, *asdus: Asdu | bytes) -> None:
        """Say something to whoever is connected."""
        for asdu in asdus:
            for master in self._masters:
                master.say(asdu)

    def hang_up(self) -> None:
        """Cut every connection."""
        for master in self._masters:
            master.hang_up()

    def of(self, kind: int) -> list[Asdu]:
        """What came of one type."""
        return [asdu for asdu in self.heard if asdu.kind == kind]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk with one master."""
        self.dialled += 1
        master = Master(writer)
        self._masters.append(master)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                _, length = await reader.readexactly(2)
                frame = await reader.readexactly(length)
                if self.silent:
                    continue
                if frame[0] in U_FRAMES and length == 4:
                    master.say(bytes([0x68, 4, U_FRAMES[frame[0]], 0, 0, 0]))
                elif not frame[0] & 1:
                    master.received = (master.received + 1) % 2**15
                    asdu = Asdu.decoded(frame[4:])
                    self.heard.append(asdu)
                    for said in self.answer(asdu):
                        master.say(said)
        self._masters.remove(master)
        writer.close()


@contextlib.asynccontextmanager
async def station(answer: Answer) -> AsyncIterator[Rtu]:
    """A station on a free port."""
    rtu = Rtu(answer)
    server = await asyncio.start_server(rtu.serve, "127.0.0.1", 0)
    rtu.port = server.sockets[0].getsockname()[1]
    try:
        yield rtu
    finally:
        server.close()
        rtu.hang_up()
        await server.wait_closed()
