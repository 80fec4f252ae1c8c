"""Events: who did what and when. Rows can be added and read, never changed or removed by the application."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from flexergy_pipelines.store.frames import TIME, frame_of, period

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

_SCHEMA: Final = {
    "event_id": pl.Int64,
    "at": TIME,
    "actor": pl.String,
    "kind": pl.String,
    "site_id": pl.String,
    "subject": pl.String,
    "reason": pl.String,
    "detail": pl.String,
}


def record_event(
    db: TenantStore,
    *,
    actor: str,
    kind: str,
    site_id: str | None = None,
    subject: str | None = None,
    reason: str | None = None,
    detail: dict[str, Any] | None = None,
) -> int:
    """Add an event; inside `db.begin()` it stands or falls with what it tells of.

    Parameters
    ----------
    db : TenantStore
        Tenant that it happened to.
    actor : str
        User or service that did it.
    kind : str
        What was done, as a fixed word ("site_configured", "alarm_acknowledged").
    site_id, subject : str, optional
        The site, and what was acted on.
    reason : str, optional
        Why, in the actor's words or from the administrator's list.
    detail : dict, optional
        Anything else, such as the values before and after.

    Returns
    -------
    int
        Number of the event.
    """
    with db.begin() as connection:
        return connection.exec_driver_sql(
            "INSERT INTO events (actor, kind, site_id, subject, reason, detail) VALUES (%s, %s, %s, %s, %s, %s::jsonb) "
            "RETURNING event_id",
            (actor, kind, site_id, subject, reason, json.dumps(detail or {}, default=str)),
        ).scalar_one()


def list_events(
    db: TenantStore, start: datetime, end: datetime, *, actor: str | None = None, kind: str | None = None
) -> pl.DataFrame:
    """Events with start <= at < end, oldest first; `detail` is JSON text."""
    first, last = period(start, end)
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT event_id, at, actor, kind, site_id, subject, reason, detail::text FROM events "
            "WHERE at >= %(first)s AND at < %(last)s AND coalesce(actor = %(actor)s, true) "
            "AND coalesce(kind = %(kind)s, true) ORDER BY event_id",
            {"first": first, "last": last, "actor": actor, "kind": kind},
        ).all()
    return frame_of([tuple(row) for row in rows], _SCHEMA)
