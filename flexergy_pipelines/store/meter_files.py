"""Registry of ingested meter files, so that the same file is taken once and a refused one is explained."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore


@dataclass(frozen=True, slots=True)
class MeterFile:
    """What became of one file."""

    file_id: int
    site_id: str
    name: str
    sha256: str
    status: str
    rows: int
    rejected: int
    reason: str | None
    received_at: datetime


def record_meter_file(  # noqa: PLR0917 - one row, in the order of its columns
    db: TenantStore,
    site_id: str,
    name: str,
    sha256: str,
    status: str,
    rows: int = 0,
    rejected: int = 0,
    reason: str | None = None,
) -> int:
    """Record what became of a file; the same content again updates its record.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        Site it was read for.
    name, sha256 : str
        File name, and SHA-256 of its content in hexadecimal.
    status : str
        "ingested", "quarantined", "partial", ...
    rows, rejected : int
        Rows stored and refused.
    reason : str, optional
        Why it was refused, in full.

    Returns
    -------
    int
        Number of the file.
    """
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise InvalidDataError(f"file {name}: sha256 {sha256!r} is not 64 hexadecimal digits")
    with db.begin() as connection:
        require_site(connection, site_id)
        return connection.exec_driver_sql(
            "INSERT INTO meter_files (site_id, name, sha256, status, rows, rejected, reason) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, site_id, sha256) DO UPDATE SET "
            "name = excluded.name, status = excluded.status, rows = excluded.rows, rejected = excluded.rejected, "
            "reason = excluded.reason, received_at = clock_timestamp() RETURNING file_id",
            (site_id, name, sha256, status, rows, rejected, reason),
        ).scalar_one()


def find_meter_file(db: TenantStore, site_id: str, sha256: str) -> MeterFile | None:
    """The record of a content that came before; None when it is new."""
    with db.begin() as connection:
        row = connection.exec_driver_sql(
            "SELECT file_id, site_id, name, sha256, status, rows, rejected, reason, received_at FROM meter_files "
            "WHERE site_id = %s AND sha256 = %s",
            (site_id, sha256),
        ).one_or_none()
    return MeterFile(*row) if row else None


def list_meter_files(db: TenantStore, site_id: str | None = None, limit: int = 50) -> list[MeterFile]:
    """The newest files of a site (or of all sites), newest first."""
    with db.begin() as connection:
        if site_id is not None:
            require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT file_id, site_id, name, sha256, status, rows, rejected, reason, received_at FROM meter_files "
            "WHERE coalesce(site_id = %s, true) ORDER BY received_at DESC, file_id DESC LIMIT %s",
            (site_id, limit),
        ).all()
    return [MeterFile(*row) for row in rows]
