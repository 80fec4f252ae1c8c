"""What meters ask of a client: passwords and keys, kept in a file of the home folder and never in a site's YAML."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import ssl

    from flexergy_pipelines.grid import Device
    from flexergy_pipelines.settings import Settings

FILE_NAME = "meter_keys.yaml"
_FIELDS = ("password", "encryption_key", "authentication_key", "client_address", "logical_device", "counter_object")
COUNTER_OBJECT = "0.0.43.1.0.255"
"""Where meters show the last invocation counter that they took of the management client."""
_LOGICAL_NAME = re.compile(r"^\d{1,3}(\.\d{1,3}){5}$")


class KeysError(ValueError):
    """The file of keys cannot be used; the message names entry, field and what is allowed, never a secret."""


@dataclass(frozen=True, slots=True)
class TlsAccess:
    """The outer of two layers: TLS around a meter's own, enciphered messages.

    Attributes
    ----------
    context : callable
        Makes the context anew at each connect, so that renewed certificates are taken up.
    server_name : str
        Name or address that the meter's certificate must carry.
    """

    context: Callable[[], ssl.SSLContext]
    server_name: str


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """How a client shows who it is: by nothing, by a password (LLS), or by keys (HLS with GMAC, security suite 0).

    Attributes
    ----------
    password : bytes or None
        Secret of low-level security.
    encryption_key, authentication_key : bytes or None
        Global keys of 16 bytes each; both or neither.
    client_address, logical_device : int
        Addresses in the TCP wrapper (1: management client, 1: management logical device).
    counter_object : str
        Logical name of the object that shows the last invocation counter which the meter took of this client.
    tls : TlsAccess or None
        Transport security of the connection; None where it has none of its own.
    """

    password: bytes | None = None
    encryption_key: bytes | None = None
    authentication_key: bytes | None = None
    client_address: int = 1
    logical_device: int = 1
    counter_object: str = COUNTER_OBJECT
    tls: TlsAccess | None = None

    @property
    def ciphered(self) -> bool:
        """Whether every message is enciphered."""
        return self.encryption_key is not None


def access_of(settings: Settings, device: Device) -> Credentials:
    """Credentials of a device, and the transport security that its site gives its connection.

    Raises
    ------
    KeysError
        See `credentials_of`.
    """
    from flexergy_pipelines.grid.tls import CERTIFICATES, client_context

    credentials, connection = credentials_of(settings, device.key), device.connection
    files = connection.tls
    if files is None:
        return credentials
    folder = settings.home / CERTIFICATES
    name = files.server_name or connection.host
    return replace(credentials, tls=TlsAccess(lambda: client_context(files, folder), name))


def credentials_of(settings: Settings, device_key: str) -> Credentials:
    """Credentials of a device (``<site>/<meter>``) from ``<home>/meter_keys.yaml``; those of ``*`` when it has none.

    Raises
    ------
    KeysError
        The file can be read by others, is no YAML, or an entry is wrong.
    """
    path = settings.home / FILE_NAME
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Credentials()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"{path}: cannot be read: {error}") from error
    if mode & 0o077:
        raise KeysError(f"{path}: others may read it (mode {mode & 0o777:o}); run chmod 600 on it")
    try:
        entries = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise KeysError(f"{path}: is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(entries, dict):
        raise KeysError(f"{path}: is no mapping of devices (<site>/<meter> or '*') to their keys")
    entry = entries.get(device_key, entries.get("*"))
    return Credentials() if entry is None else _credentials(entry, f"{path}: {device_key}")


def _credentials(entry: Any, where: str) -> Credentials:
    if not isinstance(entry, dict):
        raise KeysError(f"{where}: is no mapping; allowed fields: {', '.join(_FIELDS)}")
    unknown = [str(name) for name in entry if name not in _FIELDS]
    if unknown:
        raise KeysError(f"{where}: has unknown field {unknown[0]}; allowed: {', '.join(_FIELDS)}")
    keys = {name: _key(entry[name], f"{where}: {name}") for name in _FIELDS[1:3] if name in entry}
    if len(keys) == 1:
        raise KeysError(f"{where}: encryption_key and authentication_key go together")
    if keys and "password" in entry:
        raise KeysError(f"{where}: give either a password or keys")
    addresses = {name: _address(entry[name], f"{where}: {name}") for name in _FIELDS[3:5] if name in entry}
    password = entry.get("password")
    if password is not None and not isinstance(password, str):
        raise KeysError(f"{where}: password is no text; put it in quotes")
    return Credentials(
        password.encode() if password is not None else None,
        keys.get("encryption_key"),
        keys.get("authentication_key"),
        addresses.get("client_address", 1),
        addresses.get("logical_device", 1),
        _logical_name(entry.get("counter_object", COUNTER_OBJECT), f"{where}: counter_object"),
    )


def _logical_name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _LOGICAL_NAME.match(value) or any(int(g) > 0xFF for g in value.split(".")):
        raise KeysError(f"{where} {value!r} is no logical name, such as {COUNTER_OBJECT}")
    return value


def _key(text: Any, where: str) -> bytes:
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != 16:
        raise KeysError(f"{where} is not 32 hexadecimal digits; put it in quotes")
    return key


def _address(value: Any, where: str) -> int:
    if type(value) is not int or not 1 <= value <= 0xFFFF:
        raise KeysError(f"{where} {value!r} is outside 1 to 65535")
    return value
