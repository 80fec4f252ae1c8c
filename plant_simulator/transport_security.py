"""What simulated devices show to say who they are: server certificates, and the keys of charge points."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

from flexergy_pipelines.grid import Device
from flexergy_pipelines.grid.connection import Connection, TlsFiles
from flexergy_pipelines.grid.tls import client_context, server_context

SERVER_CERTIFICATE, SERVER_KEY = "simulator.pem", "simulator.key"
"""What simulated devices show, in the folder of certificates."""


def tls_of(device: Device, certificates: Path | None) -> ssl.SSLContext | None:
    """Transport security of a simulated device; a client must show a certificate where the site's connection has one.

    Raises
    ------
    TlsError
        Its files are missing or not sound.
    """
    tls = device.connection.tls
    if tls is None or certificates is None:
        return None
    files = TlsFiles(ca=tls.ca, certificate=SERVER_CERTIFICATE, key=SERVER_KEY)
    return server_context(files, certificates, ask_client=tls.certificate is not None)


def charger_access(connection: Connection, certificates: Path | None, name: str) -> dict[str, Any]:
    """How a simulated charge point shows who it is: its certificate and its key, where the folder has them.

    They are ``<charge point>.pem`` with ``<charge point>.key``, and the line in ``<charge point>.authorization``.
    """
    options: dict[str, Any] = {}
    if certificates is None:
        return options
    if connection.tls is not None:
        own = (certificates / f"{name}.pem").exists()
        files = TlsFiles(
            ca=connection.tls.ca, certificate=f"{name}.pem" if own else None, key=f"{name}.key" if own else None
        )
        options["ssl"] = client_context(files, certificates)
    key = certificates / f"{name}.authorization"
    if connection.basic_auth and key.exists():
        credentials = base64.b64encode(f"{name}:{key.read_text().strip()}".encode()).decode()
        options["additional_headers"] = {"Authorization": f"Basic {credentials}"}
    return options
