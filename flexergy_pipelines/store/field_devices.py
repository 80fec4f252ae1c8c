"""Devices that were found in the field and wait until somebody approves them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flexergy_pipelines.store.engine import TenantStore


@dataclass(frozen=True, slots=True)
class DeviceProposal:
    """A device that was found.

    Attributes
    ----------
    protocol, address : str
        How it was reached; the address as ``host:port unit n``, or the identity of a charge point.
    identity : dict
        What it says of itself (manufacturer, model, serial number, models, objects).
    template : str or None
        Template that fits what it offers.
    status : str
        ``waiting``, ``approved`` or ``rejected``.
    device_id : str or None
        Id that it got in the site when it was approved.
    """

    proposal_id: int
    site_id: str
    protocol: str
    address: str
    identity: dict[str, Any]
    template: str | None
    status: str
    found_at: datetime
    seen_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    device_id: str | None


_FIELDS = (
    "proposal_id, site_id, protocol, address, identity, template, status, found_at, seen_at, decided_at, decided_by, "
    "device_id"
)
_PROPOSE = (
    "INSERT INTO device_proposals (site_id, protocol, address, identity, template) "
    "VALUES (%s, %s, %s, %s::jsonb, %s) ON CONFLICT (tenant_id, site_id, protocol, address) DO UPDATE SET "
    "identity = excluded.identity, template = excluded.template, seen_at = clock_timestamp() RETURNING " + _FIELDS
)
_LIST = (
    "SELECT " + _FIELDS + " FROM device_proposals WHERE (%(site)s::text IS NULL OR site_id = %(site)s) "  # noqa: S608
    "AND (%(status)s::text IS NULL OR status = %(status)s) ORDER BY found_at DESC, proposal_id DESC"
)
_DECIDE = (
    "UPDATE device_proposals SET status = %s, decided_by = %s, decided_at = clock_timestamp(), device_id = %s "  # noqa: S608
    "WHERE proposal_id = %s RETURNING " + _FIELDS
)


def propose_device(
    db: TenantStore,
    site_id: str,
    *,
    protocol: str,
    address: str,
    identity: Mapping[str, Any],
    template: str | None,
) -> DeviceProposal:
    """Note a found device; one that is known already is only seen again, and a decision on it stands."""
    with db.begin() as connection:
        require_site(connection, site_id)
        row = connection.exec_driver_sql(
            _PROPOSE,
            (site_id, protocol, address, json.dumps(dict(identity)), template),
        ).one()
    return DeviceProposal(*row)


def list_proposals(db: TenantStore, site_id: str | None = None, status: str | None = "waiting") -> list[DeviceProposal]:
    """Found devices, newest first; all sites or one, one status or (None) all."""
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            _LIST,
            {"site": site_id, "status": status},
        ).all()
    return [DeviceProposal(*row) for row in rows]


def decide_proposal(
    db: TenantStore, proposal_id: int, status: str, actor: str, device_id: str | None = None
) -> DeviceProposal:
    """Approve or reject a found device.

    Raises
    ------
    NotFoundError
        There is no such proposal.
    InvalidDataError
        It was approved before, or the status is no decision.
    """
    if status not in {"approved", "rejected"}:
        raise InvalidDataError(f"proposal {proposal_id}: status {status} is no decision; allowed: approved, rejected")
    with db.begin() as connection:
        before = connection.exec_driver_sql(
            "SELECT status FROM device_proposals WHERE proposal_id = %s FOR UPDATE", (proposal_id,)
        ).scalar_one_or_none()
        if before is None:
            raise NotFoundError(f"device proposal {proposal_id} does not exist")
        if before == "approved":
            raise InvalidDataError(f"device proposal {proposal_id} was approved before")
        row = connection.exec_driver_sql(
            _DECIDE,
            (status, actor, device_id, proposal_id),
        ).one()
        connection.exec_driver_sql(
            "INSERT INTO events (actor, kind, site_id, subject, detail) VALUES (%s, %s, %s, %s, %s::jsonb)",
            (actor, f"device_{status}", row[1], device_id or row[3], json.dumps({"proposal": proposal_id})),
        )
    return DeviceProposal(*row)
