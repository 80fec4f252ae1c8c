"""Who may charge and which charge points may connect: drivers' tags, and the charge points' keys."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.frames import utc
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

LONGEST_TAG = 20
"""OCPP 1.6: CiString20."""


@dataclass(frozen=True, slots=True)
class IdTag:
    """A tag that a driver shows.

    Attributes
    ----------
    status : str
        ``accepted`` or ``blocked``.
    valid_until : datetime or None
        After it the tag has expired; None never.
    """

    id_tag: str
    holder: str | None
    status: str
    valid_until: datetime | None

    def verdict(self, now: datetime) -> str:
        """``Accepted``, ``Blocked`` or ``Expired`` as OCPP says it."""
        if self.status == "blocked":
            return "Blocked"
        return "Expired" if self.valid_until is not None and now >= self.valid_until else "Accepted"


def save_id_tag(
    db: TenantStore,
    id_tag: str,
    *,
    actor: str,
    holder: str | None = None,
    status: str = "accepted",
    valid_until: datetime | None = None,
) -> None:
    """Add or change a tag; upper and lower case are the same, as the protocol has it.

    Raises
    ------
    InvalidDataError
        The tag is empty or longer than 20 characters, or the status is unknown.
    """
    name = id_tag.strip().upper()
    if not 0 < len(name) <= LONGEST_TAG:
        raise InvalidDataError(f"id tag '{id_tag}' has {len(name)} characters; allowed are 1 to {LONGEST_TAG}")
    if status not in {"accepted", "blocked"}:
        raise InvalidDataError(f"id tag {name}: status {status} is unknown; allowed: accepted, blocked")
    until = None if valid_until is None else utc(valid_until, "valid_until")
    with db.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO id_tags (id_tag, holder, status, valid_until, changed_by) VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, id_tag) DO UPDATE SET holder = coalesce(excluded.holder, id_tags.holder), "
            "status = excluded.status, valid_until = excluded.valid_until, changed_by = excluded.changed_by, "
            "changed_at = clock_timestamp()",
            (name, holder, status, until, actor),
        )
        connection.exec_driver_sql(
            "INSERT INTO events (actor, kind, subject, detail) VALUES (%s, 'id_tag_saved', %s, "
            "jsonb_build_object('status', %s::text))",
            (actor, name, status),
        )


def delete_id_tag(db: TenantStore, id_tag: str, *, actor: str) -> None:
    """Forget a tag.

    Raises
    ------
    NotFoundError
        There is no such tag.
    """
    name = id_tag.strip().upper()
    with db.begin() as connection:
        gone = connection.exec_driver_sql("DELETE FROM id_tags WHERE id_tag = %s RETURNING id_tag", (name,)).all()
        if not gone:
            raise NotFoundError(f"id tag {name} does not exist")
        connection.exec_driver_sql(
            "INSERT INTO events (actor, kind, subject, detail) VALUES (%s, 'id_tag_deleted', %s, '{}'::jsonb)",
            (actor, name),
        )


def list_id_tags(db: TenantStore) -> list[IdTag]:
    """All tags, by name."""
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT id_tag, holder, status, valid_until FROM id_tags ORDER BY id_tag"
        ).all()
    return [IdTag(*row) for row in rows]


def new_charge_point_key(db: TenantStore, site_id: str, charge_point: str, *, actor: str) -> str:
    """Make a key for a charge point's basic authentication; the old one ends. Only its hash is kept.

    Returns
    -------
    str
        The key: 40 hexadecimal digits, to be set as ``AuthorizationKey`` (20 bytes, as OCPP 1.6 security has it).
    """
    key = secrets.token_hex(20)
    with db.begin() as connection:
        require_site(connection, site_id)
        connection.exec_driver_sql(
            "INSERT INTO charge_point_keys (site_id, charge_point, key_sha256, changed_by) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, site_id, charge_point) DO UPDATE SET key_sha256 = excluded.key_sha256, "
            "changed_by = excluded.changed_by, changed_at = clock_timestamp()",
            (site_id, charge_point, key_hash(key), actor),
        )
        connection.exec_driver_sql(
            "INSERT INTO events (actor, kind, site_id, subject, detail) "
            "VALUES (%s, 'charge_point_key_made', %s, %s, '{}'::jsonb)",
            (actor, site_id, charge_point),
        )
    return key


def charge_point_keys(db: TenantStore, site_id: str) -> dict[str, bytes]:
    """SHA-256 of each charge point's key; a random key of 160 bits needs no slower hash."""
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT charge_point, key_sha256 FROM charge_point_keys WHERE site_id = %s", (site_id,)
        ).all()
    return {row[0]: bytes(row[1]) for row in rows}


def key_hash(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode()).digest()
