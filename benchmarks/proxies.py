"""Links that can fail: a proxy in front of a TCP or Unix socket, which notes when a Modbus client wrote."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

WRITES = frozenset({5, 6, 15, 16})
"""Modbus function codes that write."""
_MBAP = struct.Struct(">HHHBB")


@dataclass
class Proxy:
    """One link.

    Attributes
    ----------
    target : tuple of (str, int) or Path
        Where it leads: a TCP address or a Unix socket.
    mode : str
        ``pass``, ``black_hole`` (nothing gets through until it is over), ``reset`` (connections are reset) or ``slow``.
    writes : list of float
        Monotonic times [s] at which a Modbus client wrote through it.
    """

    target: tuple[str, int] | Path
    delay_s: float = 2.0
    mode: str = "pass"
    writes: list[float] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def listen(self, path: Path | None = None) -> int:
        """Listen on a free port, or on a Unix socket; returns the port."""
        if path is not None:
            self._server = await asyncio.start_unix_server(self._meet, path)
            return 0
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def fail(self, mode: str) -> None:
        """Change how the link behaves; with ``reset`` what is open is reset at once."""
        self.mode = mode
        if mode == "reset":
            for writer in list(self._open):
                _reset(writer)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "reset":
            _reset(writer)
            return
        try:
            if isinstance(self.target, Path):
                there = await asyncio.open_unix_connection(self.target)
            else:
                there = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        self._open |= {writer, there[1]}
        ways = self._carry(reader, there[1], note=True), self._carry(there[0], writer, note=False)
        with contextlib.suppress(asyncio.CancelledError):  # the run is over
            await asyncio.gather(*ways, return_exceptions=True)
        self._open -= {writer, there[1]}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, note: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                while self.mode == "black_hole":
                    await asyncio.sleep(0.02)
                if self.mode == "slow":
                    await asyncio.sleep(self.delay_s)
                if note:
                    self._note(data)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    def _note(self, data: bytes) -> None:
        while len(data) >= _MBAP.size:
            _, protocol, length, _, function = _MBAP.unpack_from(data)
            if protocol != 0:
                return
            if function in WRITES:
                self.writes.append(time.monotonic())
            data = data[6 + length :]


def _reset(writer: asyncio.StreamWriter) -> None:
    link = writer.get_extra_info("socket")
    if link is not None and link.family != socket.AF_UNIX:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
