"""What went over this process's connections, as the system counts it: for libraries that do not tell.

References
----------
tcp(7), `struct tcp_info` of linux/tcp.h; where the system has none, nothing is told.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RTT_AT, ACKED_AT = 68, 120
"""Places of the round-trip time [us] and of the octets acknowledged and received."""
LONGEST = 232
MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Traffic:
    """One connection: octets that the other side has taken and sent, and the round-trip time [s]."""

    sent: int
    received: int
    rtt_s: float


def traffic_by_peer() -> dict[tuple[str, int], Traffic]:
    """Every open TCP connection of this process, by the address and port of the other side."""
    found: dict[tuple[str, int], Traffic] = {}
    if not hasattr(socket, "TCP_INFO"):
        return found
    with contextlib.suppress(OSError):
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if not str(entry.readlink()).startswith("socket:"):
                    continue
                # A copy: closing it leaves the library's own open.
                with socket.socket(fileno=os.dup(int(entry.name))) as copy:
                    if copy.type != socket.SOCK_STREAM or copy.family not in {socket.AF_INET, socket.AF_INET6}:
                        continue
                    info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LONGEST)
                    peer = copy.getpeername()
                if len(info) >= ACKED_AT + 16:
                    sent, received = struct.unpack_from("QQ", info, ACKED_AT)
                    (rtt_us,) = struct.unpack_from("I", info, RTT_AT)
                    found[peer[0], peer[1]] = Traffic(sent, received, rtt_us / MICROSECONDS)
    return found


class TrafficReport:
    """Tells the loop what goes over each link.

    Parameters
    ----------
    say : callable
        Gives the loop a message.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._told: dict[str, tuple[Traffic, int, int]] = {}

    def tell(self, peers: dict[str, tuple[str, int]]) -> None:
        """Tell of the links whose other sides are known, by their keys; octets since the worker began."""
        now = traffic_by_peer() if peers else {}
        for key, (host, port) in peers.items():
            seen = now.get((host, port))
            if seen is None:
                continue
            last, sent, received = self._told.get(key, (Traffic(0, 0, 0.0), 0, 0))
            # A new connection counts from nothing again.
            fresh = seen.sent < last.sent or seen.received < last.received
            sent += seen.sent - (0 if fresh else last.sent)
            received += seen.received - (0 if fresh else last.received)
            self._told[key] = seen, sent, received
            self._say({"key": key, "moved": [sent, received], "rtt_s": seen.rtt_s})
