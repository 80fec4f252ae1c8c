"""A small authority of one's own, for the certificates of a field network: devices, the platform, charge points."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY = "ca"
CLOCK_TOLERANCE = timedelta(minutes=5)


def create_authority(folder: Path, name: str = "Flexergy field authority", days: int = 3650) -> None:
    """Make an authority: ``ca.pem`` for everybody, ``ca.key`` to be kept apart.

    Raises
    ------
    FileExistsError
        There is one in the folder.
    """
    if (folder / f"{AUTHORITY}.key").exists():
        raise FileExistsError(f"{folder / AUTHORITY}.key: there is an authority already")
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder, AUTHORITY, key, certificate)


def issue(
    folder: Path,
    file_name: str,
    *,
    common_name: str,
    hosts: Sequence[str] = (),
    days: int = 825,
    begins: datetime | None = None,
) -> None:
    """Make a key and a certificate of the folder's authority: ``<file_name>.pem`` and ``<file_name>.key``.

    Parameters
    ----------
    common_name : str
        Whom it names; for a charge point its identity.
    hosts : sequence of str
        DNS names and IP addresses that it is made out to as a server; none for a client.
    days : int
        How long it is valid [d].
    begins : datetime, optional
        Start of its validity; default now.

    Raises
    ------
    FileNotFoundError
        The folder holds no authority.
    """
    authority_key = serialization.load_pem_private_key((folder / f"{AUTHORITY}.key").read_bytes(), password=None)
    authority = x509.load_pem_x509_certificate((folder / f"{AUTHORITY}.pem").read_bytes())
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{folder / AUTHORITY}.key: is no key on an elliptic curve")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    builder = (
        _builder(subject, authority.subject, key.public_key(), days, begins)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    _write(folder, file_name, key, builder.sign(authority_key, hashes.SHA256()))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: int,
    begins: datetime | None = None,
) -> x509.CertificateBuilder:
    start = begins or datetime.now(UTC) - CLOCK_TOLERANCE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    secret = folder / f"{name}.key"
    secret.touch(mode=0o600)
    secret.chmod(0o600)
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
