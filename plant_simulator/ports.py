"""Ports to listen on: the configured one, or the next that is free."""

from __future__ import annotations

import socket
from collections.abc import Iterator

PORTS_TRIED = 500


class NoFreePortError(OSError):
    """No port in the range could be bound."""


def free_ports(host: str, port: int) -> Iterator[int]:
    """Ports from `port` on that are free when asked for; 0 stands for any.

    Whoever binds one may still come too late, and takes the next.

    Raises
    ------
    NoFreePortError
        When all of the next 500 ports have been tried, or `host` is no IPv4 address of this machine.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        why = error.strerror or str(error)
        raise NoFreePortError(f"cannot listen on {host}: {why}; give an IPv4 address of this machine") from None
    last = port if port == 0 else min(port + PORTS_TRIED, 65_535)
    for candidate in range(port, last + 1):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
                # A port that somebody listens on can be bound beside him on some systems, but not listened on.
                probe.listen()
            except OSError:
                continue
        yield candidate
    raise NoFreePortError(f"no free port from {port} to {last} on {host}")
