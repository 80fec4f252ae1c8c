"""Who may charge, and which charge points may connect: what the store last said, kept at hand while it is away."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ocpp.v16.datatypes import IdTagInfo
from ocpp.v16.enums import AuthorizationStatus

if TYPE_CHECKING:
    from flexergy_pipelines.store.charging_access import IdTag


class ChargingAccess:
    """Access to the charge points of one manager.

    Parameters
    ----------
    needs_key : bool
        Charge points log in with their key (security profiles 1 and 2).
    needs_certificate : bool
        Charge points show a certificate with their identity as its common name (security profile 3).

    Attributes
    ----------
    tags : mapping
        Drivers' tags in upper case; while there is none, every tag may charge.
    keys : mapping
        SHA-256 of each charge point's key.
    """

    def __init__(self, *, needs_key: bool = False, needs_certificate: bool = False) -> None:
        self.tags: Mapping[str, IdTag] = {}
        self.keys: Mapping[str, bytes] = {}
        self._needs_key = needs_key
        self._needs_certificate = needs_certificate

    def verdict(self, id_tag: str) -> str:
        """``Accepted``, ``Blocked``, ``Expired`` or ``Invalid``, as the protocol says it."""
        name = id_tag.strip().upper()
        if not self.tags:
            return "Accepted" if name else "Invalid"
        tag = self.tags.get(name)
        return "Invalid" if tag is None else tag.verdict(datetime.now(UTC))

    def info(self, id_tag: str) -> IdTagInfo:
        """What a charge point is told of a tag: whether it may charge, and until when."""
        tag = self.tags.get(id_tag.strip().upper())
        until = None if tag is None or tag.valid_until is None else tag.valid_until.astimezone(UTC)
        expiry = None if until is None else until.strftime("%Y-%m-%dT%H:%M:%SZ")
        return IdTagInfo(AuthorizationStatus(self.verdict(id_tag)), expiry_date=expiry)

    def key_fits(self, charge_point: str, authorization: str | None) -> bool:
        """Whether the header of basic authentication names the charge point and its key."""
        if not self._needs_key:
            return True
        expected = self.keys.get(charge_point)
        scheme, _, encoded = (authorization or "").partition(" ")
        if expected is None or scheme.lower() != "basic":
            return False
        try:
            user, _, key = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        except (ValueError, binascii.Error):
            return False
        # OCPP 1.6 security lets the key travel as its 20 bytes as well as in hexadecimal digits.
        given = [hashlib.sha256(key).digest(), hashlib.sha256(key.hex().encode()).digest()]
        fits = [hmac.compare_digest(digest, expected) for digest in given]
        return user.decode("utf-8", "replace") == charge_point and any(fits)

    def certificate_fits(self, charge_point: str, certificate: Mapping[str, Any] | None) -> bool:
        """Whether the client certificate is that of the charge point."""
        if not self._needs_certificate:
            return True
        subject = (certificate or {}).get("subject", ())
        names = [value for part in subject for key, value in part if key == "commonName"]
        return names == [charge_point]
