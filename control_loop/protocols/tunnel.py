"""TLS for libraries whose own client cannot: a port on this machine's loopback that leads, encrypted, to the device.

It lives in the process of the library it serves and takes connections from no other: whoever else dials the port is
hung up on, so that the way around the device's certificate is open to nobody.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from pathlib import Path

from flexergy_pipelines.grid.tls import explain

CHUNK = 65_536
CONNECT_S = 10.0
"""Longest wait for the connection, and for each step of the handshake: mobile networks take seconds."""


class TlsTunnel:
    """The way to one device.

    Parameters
    ----------
    host, port
        The device.
    context : ssl.SSLContext
        Client's side of the handshake.
    server_name : str
        Name that the device's certificate must carry.

    Attributes
    ----------
    port : int
        Port on 127.0.0.1 that leads to the device.
    trouble : str
        Why the last connection failed, empty when it did not.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext, server_name: str) -> None:
        self.trouble = ""
        self._target = (host, port)
        self._context = context
        self._server_name = server_name
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, name=f"tunnel to {host}:{port}", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                near, peer = self._listener.accept()
            except OSError:
                return
            if not own_socket(peer[1], self.port):
                near.close()
                continue
            threading.Thread(target=self._lead, args=(near,), daemon=True).start()

    def _lead(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            try:
                plain = socket.create_connection(self._target, timeout=CONNECT_S)
            except OSError as error:
                self.trouble = f"no connection: {error.strerror or error}"
                return
            try:
                far = self._context.wrap_socket(plain, server_hostname=self._server_name)
            except OSError as error:
                plain.close()
                self.trouble = explain(error, self._server_name)
                return
            with far:
                self.trouble = ""
                far.settimeout(None)
                try:
                    _relay(near, far)
                except ssl.SSLError as error:
                    # With TLS 1.3 the device refuses a missing client certificate only after the handshake.
                    self.trouble = explain(error, self._server_name)


def _relay(near: socket.socket, far: ssl.SSLSocket) -> None:
    """Pass on what comes from either side until one hangs up."""
    near.setblocking(False)
    far.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ)
        selector.register(far, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if near in ready:
                chunk = near.recv(CHUNK)
                if not chunk:
                    return
                _send(far, chunk)
            if far in ready:
                while True:
                    try:
                        chunk = far.recv(CHUNK)
                    except (ssl.SSLWantReadError, BlockingIOError):
                        break
                    if not chunk:
                        return
                    _send(near, chunk)


def _send(sink: socket.socket, chunk: bytes) -> None:
    """Send all of it, waiting for room; bounded by the peer's reading."""
    sink.settimeout(10.0)
    sink.sendall(chunk)
    sink.setblocking(False)


def own_socket(peer_port: int, local_port: int) -> bool:
    """Whether the connection from `peer_port` to `local_port` on the loopback was opened by this process.

    Linux tells; where it does not, nobody is let in.
    """
    try:
        rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
        ours = {row[9] for row in rows if _ends(row) == (peer_port, local_port)}
        open_files = {_target(entry) for entry in Path("/proc/self/fd").iterdir()}
    except OSError:
        return False
    return any(f"socket:[{inode}]" in open_files for inode in ours)


def _ends(row: list[str]) -> tuple[int, int]:
    return int(row[1].rpartition(":")[2], 16), int(row[2].rpartition(":")[2], 16)


def _target(entry: Path) -> str:
    with contextlib.suppress(OSError):
        return str(entry.readlink())
    return ""
