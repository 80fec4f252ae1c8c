"""Transport security of links to field devices: contexts from files that a site names, refused when not sound."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from flexergy_pipelines.grid.connection import TlsFiles

CIPHERS = "ECDHE+AESGCM:!aNULL"
"""TLS 1.2: only suites with forward secrecy and AES-GCM of 128 bits or more; TLS 1.3 has no others of note."""


CERTIFICATES = "certificates"
"""Folder of certificates and keys in the home folder; a site's `tls` names files in it."""


class TlsError(ValueError):
    """Files of a TLS link that are missing, out of date or don't belong together; one clear line."""


def load_certificates(path: Path, now: datetime | None = None) -> list[x509.Certificate]:
    """Certificates of a PEM file.

    Raises
    ------
    TlsError
        The file is missing, no PEM, or its first certificate is not valid at `now`.
    """
    moment = now or datetime.now(UTC)
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except FileNotFoundError:
        raise TlsError(f"certificate {path}: there is no such file") from None
    except OSError as error:
        raise TlsError(f"certificate {path}: {error.strerror}") from None
    except ValueError:
        raise TlsError(f"certificate {path}: holds no certificate in PEM form") from None
    first = found[0]
    if moment > first.not_valid_after_utc:
        raise TlsError(f"certificate {path}: expired on {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if moment < first.not_valid_before_utc:
        raise TlsError(f"certificate {path}: valid only from {first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on")
    return found


def _check_key(path: Path, certificate: x509.Certificate) -> None:
    try:
        mode = path.stat().st_mode
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        raise TlsError(f"key {path}: there is no such file") from None
    except OSError as error:
        raise TlsError(f"key {path}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise TlsError(f"key {path}: holds no private key in PEM form without a password") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TlsError(f"key {path}: others may read it (mode {stat.S_IMODE(mode):o}); allowed is 600 or stricter")
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(serialization.Encoding.DER, public) != certificate.public_key().public_bytes(
        serialization.Encoding.DER, public
    ):
        raise TlsError(f"key {path}: does not belong to the certificate beside it")


def _context(files: TlsFiles, folder: Path, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    authority = folder / files.ca
    load_certificates(authority)
    context.load_verify_locations(authority)
    if files.certificate is not None and files.key is not None:
        certificate, key = folder / files.certificate, folder / files.key
        _check_key(key, load_certificates(certificate)[0])
        context.load_cert_chain(certificate, key)
    return context


def client_context(files: TlsFiles, folder: Path) -> ssl.SSLContext:
    """Context of a link that the platform opens; the device's certificate and name are always checked.

    Parameters
    ----------
    files : TlsFiles
        File names as the site gives them.
    folder : Path
        What they are relative to.

    Raises
    ------
    TlsError
        A file is missing, out of date, readable by others, or does not belong to the other.
    """
    context = _context(files, folder, ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def server_context(files: TlsFiles, folder: Path, *, ask_client: bool) -> ssl.SSLContext:
    """Context of a server that devices dial.

    Parameters
    ----------
    files : TlsFiles
        With the server's own certificate and key.
    folder : Path
        What they are relative to.
    ask_client : bool
        Whether the other side must show a certificate of `ca` (mutual TLS).

    Raises
    ------
    TlsError
        See `client_context`; or the server's certificate is not named.
    """
    if files.certificate is None:
        raise TlsError("tls: a server needs certificate and key")
    context = _context(files, folder, ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED if ask_client else ssl.CERT_NONE
    return context


_FOREIGN = "the device's certificate does not come from the authority in tls.ca"
_VERIFY = {
    9: "the device's certificate is not valid yet",
    10: "the device's certificate has expired",
    18: _FOREIGN,
    19: _FOREIGN,
    20: _FOREIGN,
    21: _FOREIGN,
}
"""OpenSSL's verification results (x509_vfy.h) in words."""
_WRONG_NAME = {62, 64}


def explain(error: OSError, server_name: str) -> str:
    """What went wrong with a handshake, for the operator's screen."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            return f"the device's certificate is not made out to {server_name}"
        return _VERIFY.get(error.verify_code, f"the device's certificate is refused: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        if "certificate required" in reason or "handshake failure" in reason:
            return f"the device refuses the handshake ({reason}); it may want a client certificate"
        return f"TLS handshake failed: {reason}"
    return error.strerror or str(error) or type(error).__name__
