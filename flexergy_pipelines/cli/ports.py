"""Which port a service gets: the usual one, or the next that is free."""

from __future__ import annotations

import socket


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could be bound to `host`:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def next_free(wanted: int, taken: set[int], host: str = "127.0.0.1", tries: int = 200) -> int:
    """The first free port from `wanted` upwards that is not in `taken`.

    Raises
    ------
    OSError
        When none of `tries` ports is free.
    """
    for port in range(wanted, min(wanted + tries, 65536)):
        if port not in taken and is_free(port, host):
            return port
    raise OSError(f"no free port between {wanted} and {wanted + tries - 1} on {host}; stop what holds them")
