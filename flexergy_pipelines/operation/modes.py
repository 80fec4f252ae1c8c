"""Operation modes: a predefined set, each scheduled by time, and which of them is in force.

Planner and control loop read the same schedule. Where entries overlap, the one that starts later holds, so that an
entry without an end lasts until the next one starts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from flexergy_pipelines.store.commands import request_replan
from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.events import record_event
from flexergy_pipelines.store.frames import period, utc
from flexergy_pipelines.store.notify import COMMAND, notify
from flexergy_pipelines.store.sites import load_site, require_site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexergy_pipelines.store.engine import TenantStore


@dataclass(frozen=True, slots=True)
class ModeKind:
    """A mode of the predefined set: what it does in words, and the name and meaning of its parameter, if it has one."""

    meaning: str
    parameter: str | None = None
    parameter_meaning: str = ""


MODES: Final[Mapping[str, ModeKind]] = {
    "plan": ModeKind("follows the plan of least cost"),
    "self_consumption": ModeKind("uses the site's own renewable energy first, then saves money"),
    "zero_flow": ModeKind("exchanges as little as possible with the grid"),
    "peak_shaving": ModeKind("holds the import at or below a limit", "import_kw", "highest import (kW)"),
    "export_cap": ModeKind("holds the export at or below a limit", "export_kw", "highest export (kW)"),
    "islanded": ModeKind("runs without the grid"),
    "idle": ModeKind("lets the storage rest"),
    "manual": ModeKind("obeys only commands by hand"),
}


@dataclass(frozen=True, slots=True)
class ModeInForce:
    """A mode over a stretch of time.

    Attributes
    ----------
    mode : str
        One of `MODES`.
    parameters : dict
        Its parameter, by name (kW).
    since, until : datetime
        The stretch; `until` None where nothing ends it.
    user, reason : str
        Who scheduled it, and why.
    """

    mode: str
    parameters: dict[str, float]
    since: datetime
    until: datetime | None
    user: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModeEntry:
    """A scheduled mode as it was entered."""

    entry_id: int
    mode: str
    starts_at: datetime
    ends_at: datetime | None
    reason: str
    created_by: str
    created_at: datetime
    parameters: dict[str, float] = field(default_factory=dict)


_SELECT: Final = (
    "SELECT entry_id, mode, starts_at, ends_at, reason, created_by, created_at, parameters FROM mode_schedule "
)


def schedule_mode(
    db: TenantStore,
    site_id: str,
    mode: str,
    *,
    starts_at: datetime,
    ends_at: datetime | None = None,
    parameters: Mapping[str, float] | None = None,
    reason: str,
    user: str,
) -> int:
    """Schedule a mode, tell the services and ask for a new plan.

    Returns
    -------
    int
        Number of the entry.

    Raises
    ------
    InvalidDataError
        Unknown mode, a parameter that is missing, unknown or out of range, no reason, or an end before the start.
    """
    given = dict(parameters or {})
    first = utc(starts_at, "starts_at")
    last = None if ends_at is None else utc(ends_at, "ends_at")
    site = load_site(db, site_id)
    limits = {"import_kw": site.grid_connection.import_limit_kw, "export_kw": site.grid_connection.export_limit_kw}
    _check(mode, given, limits)
    if last is not None and last <= first:
        raise InvalidDataError(f"mode {mode}: ends_at {last.isoformat()} must be after starts_at {first.isoformat()}")
    if not 3 <= len(reason.strip()) <= 500:
        raise InvalidDataError(f"mode {mode}: reason has {len(reason.strip())} letters, 3 to 500 are needed")
    with db.begin() as connection:
        entry_id: int = connection.exec_driver_sql(
            "INSERT INTO mode_schedule (site_id, mode, parameters, starts_at, ends_at, reason, created_by) "
            "VALUES (%s, %s, %s::jsonb, %s, %s, %s, %s) RETURNING entry_id",
            (site_id, mode, json.dumps(given), first, last, reason.strip(), user),
        ).scalar_one()
        detail = {
            "mode": mode,
            **given,
            "from": first.isoformat(),
            "to": last.isoformat() if last else "further notice",
        }
        record_event(
            db, actor=user, kind="mode_scheduled", site_id=site_id, subject=mode, reason=reason.strip(), detail=detail
        )
        notify(connection, COMMAND, db, site_id)
        request_replan(db, site_id, f"mode {mode} scheduled by {user}")
    return entry_id


def _check(mode: str, given: Mapping[str, float], limits: Mapping[str, float]) -> None:
    kind = MODES.get(mode)
    if kind is None:
        raise InvalidDataError(f"mode '{mode}' is not one of {', '.join(MODES)}")
    wanted = set() if kind.parameter is None else {kind.parameter}
    if unknown := sorted(set(given) - wanted):
        raise InvalidDataError(f"mode {mode}: parameter {unknown[0]} is not known; it takes {kind.parameter or 'none'}")
    for name in wanted:
        if name not in given:
            raise InvalidDataError(f"mode {mode}: parameter {name} is missing")
        value = given[name]
        if isinstance(value, bool) or not math.isfinite(value) or not 0 <= value <= limits[name]:
            raise InvalidDataError(f"mode {mode}: {name} {value} is outside 0 to {limits[name]:g} kW")


def cancel_mode(db: TenantStore, site_id: str, entry_id: int, *, user: str) -> None:
    """Take an entry out of the schedule; what it did stays in the log."""
    with db.begin() as connection:
        changed = connection.exec_driver_sql(
            "UPDATE mode_schedule SET cancelled_at = clock_timestamp(), cancelled_by = %s "
            "WHERE site_id = %s AND entry_id = %s AND cancelled_at IS NULL",
            (user, site_id, entry_id),
        ).rowcount
        if not changed:
            raise NotFoundError(f"mode entry {entry_id} of {site_id} does not exist or is cancelled already")
        record_event(db, actor=user, kind="mode_cancelled", site_id=site_id, subject=str(entry_id))
        notify(connection, COMMAND, db, site_id)
        request_replan(db, site_id, f"mode entry {entry_id} cancelled by {user}")


def list_modes(db: TenantStore, site_id: str, start: datetime, end: datetime) -> list[ModeEntry]:
    """Entries that are not cancelled and touch start..end, by their start."""
    first, last = period(start, end)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            _SELECT + "WHERE site_id = %s AND cancelled_at IS NULL AND starts_at < %s AND coalesce(ends_at > %s, true) "
            "ORDER BY starts_at, entry_id",
            (site_id, last, first),
        ).all()
    return [ModeEntry(*row) for row in rows]


def mode_in_force(db: TenantStore, site_id: str, at: datetime) -> ModeInForce | None:
    """The mode that holds at an instant; None where none is scheduled, which means the plan."""
    moment = utc(at, "at")
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            _SELECT + "WHERE site_id = %s AND cancelled_at IS NULL AND coalesce(ends_at > %s, true) "
            "ORDER BY starts_at, entry_id",
            (site_id, moment),
        ).all()
    found = [one for one in _pieces([ModeEntry(*row) for row in rows]) if one.since <= moment]
    found = [one for one in found if one.until is None or moment < one.until]
    return found[-1] if found else None


def modes_between(db: TenantStore, site_id: str, start: datetime, end: datetime) -> list[ModeInForce]:
    """Modes over a period in order of time, without gaps being filled: a gap means the plan."""
    first, last = period(start, end)
    pieces = _pieces(list_modes(db, site_id, first, last))
    return [one for one in pieces if one.since < last and (one.until is None or one.until > first)]


def _pieces(entries: Sequence[ModeEntry]) -> list[ModeInForce]:
    """The entry that holds in each stretch between starts and ends: of those that cover it, the latest start."""
    edges = sorted({entry.starts_at for entry in entries} | {e.ends_at for e in entries if e.ends_at is not None})
    pieces: list[tuple[ModeEntry, datetime, datetime | None]] = []
    for place, edge in enumerate(edges):
        after = edges[place + 1] if place + 1 < len(edges) else None
        holding = [e for e in entries if e.starts_at <= edge and (e.ends_at is None or e.ends_at > edge)]
        if not holding:
            continue
        best = max(holding, key=lambda e: (e.starts_at, e.entry_id))
        if pieces and pieces[-1][0] is best and pieces[-1][2] == edge:
            pieces[-1] = (best, pieces[-1][1], after)
        else:
            pieces.append((best, edge, after))
    return [ModeInForce(e.mode, e.parameters, since, until, e.created_by, e.reason) for e, since, until in pieces]
