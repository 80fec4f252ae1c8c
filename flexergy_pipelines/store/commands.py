"""Commands of people and wishes of services: re-plan requests, setpoints by hand, emergency stop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from flexergy_pipelines.store.errors import InvalidDataError, NotFoundError
from flexergy_pipelines.store.events import record_event
from flexergy_pipelines.store.frames import utc
from flexergy_pipelines.store.notify import COMMAND, REPLAN, notify
from flexergy_pipelines.store.sites import require_site

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore

EMERGENCY_STOP: Final = "emergency_stop"


@dataclass(frozen=True, slots=True)
class ReplanRequest:
    """A wish for a new plan."""

    id: int
    site_id: str
    reason: str
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class Command:
    """An operator's command; `asset_id` None means the whole site, `value` None ends the manual setpoint."""

    command_id: int
    site_id: str
    asset_id: str | None
    quantity: str
    value: float | None
    reason: str
    user: str
    created_at: datetime
    valid_until: datetime | None


def request_replan(db: TenantStore, site_id: str, reason: str) -> int:
    """Ask for a new plan of a site. Returns the request's number."""
    with db.begin() as connection:
        require_site(connection, site_id)
        request_id: int = connection.exec_driver_sql(
            "INSERT INTO replan_requests (site_id, reason) VALUES (%s, %s) RETURNING request_id", (site_id, reason)
        ).scalar_one()
        notify(connection, REPLAN, db, site_id)
    return request_id


def pending_replans(db: TenantStore) -> list[ReplanRequest]:
    """Requests nobody has closed, oldest first."""
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            "SELECT request_id, site_id, reason, requested_at FROM replan_requests WHERE closed_at IS NULL "
            "ORDER BY request_id"
        ).all()
    return [ReplanRequest(*row) for row in rows]


def close_replan(db: TenantStore, request_id: int) -> None:
    """Say that a request was served; closing it again changes nothing."""
    with db.begin() as connection:
        closed = connection.exec_driver_sql(
            "UPDATE replan_requests SET closed_at = coalesce(closed_at, clock_timestamp()) WHERE request_id = %s",
            (request_id,),
        ).rowcount
        if not closed:
            raise NotFoundError(f"re-plan request {request_id} does not exist")


def write_command(  # noqa: PLR0917 - asset, quantity and value read well by place
    db: TenantStore,
    site_id: str,
    asset_id: str | None,
    quantity: str,
    value: float | None,
    reason: str,
    user: str,
    valid_until: datetime | None = None,
) -> int:
    """Give a command to the control loop.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    asset_id : str or None
        The asset; None only for the emergency stop of the whole site.
    quantity : str
        A writable quantity of the asset, or "emergency_stop" (value 1 stops, 0 releases).
    value : float or None
        In the quantity's unit; None hands the actuator back to the plan.
    reason : str
        Why; kept in the event log.
    user : str
        Who.
    valid_until : datetime, optional
        When it ends by itself.

    Returns
    -------
    int
        Number of the command.
    """
    if value is not None and (isinstance(value, bool) or not math.isfinite(value)):
        raise InvalidDataError(f"command {quantity}: value {value!r} is not a finite number")
    if asset_id is None and quantity != EMERGENCY_STOP:
        raise InvalidDataError(f"command {quantity}: names no asset; only {EMERGENCY_STOP} may be for the whole site")
    if quantity == EMERGENCY_STOP and value not in {0, 1}:
        raise InvalidDataError(f"command {EMERGENCY_STOP}: value {value} is not 1 (stop) or 0 (release)")
    until = utc(valid_until, "valid_until") if valid_until else None
    with db.begin() as connection:
        require_site(connection, site_id)
        command_id: int = connection.exec_driver_sql(
            "INSERT INTO commands (site_id, asset_id, quantity, value, reason, user_name, valid_until) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING command_id",
            (
                site_id,
                asset_id,
                quantity,
                value,
                reason,
                user,
                until,
            ),
        ).scalar_one()
        record_event(
            db,
            actor=user,
            kind="command_given",
            site_id=site_id,
            subject=f"{asset_id or site_id}/{quantity}",
            reason=reason,
            detail={"value": value, "until": until and until.isoformat(), "command_id": command_id},
        )
        notify(connection, COMMAND, db, site_id)
    return command_id


def open_commands(db: TenantStore, site_id: str) -> list[Command]:
    """Commands that nobody has answered and that have not run out, oldest first."""
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            "SELECT command_id, site_id, asset_id, quantity, value, reason, user_name, created_at, valid_until "
            "FROM commands WHERE site_id = %s AND status = 'open' "
            "AND coalesce(valid_until, 'infinity') > clock_timestamp() ORDER BY command_id",
            (site_id,),
        ).all()
    return [Command(*row) for row in rows]


def command_answer(db: TenantStore, command_id: int) -> tuple[str, str]:
    """Status and message of a command; the status is "open" as long as nobody has answered.

    Raises
    ------
    NotFoundError
        The tenant has no such command.
    """
    with db.begin() as connection:
        row = connection.exec_driver_sql(
            "SELECT status, coalesce(message, '') FROM commands WHERE command_id = %s", (command_id,)
        ).one_or_none()
    if row is None:
        raise NotFoundError(f"command {command_id} does not exist")
    return row[0], row[1]


def acknowledge_command(db: TenantStore, command_id: int, status: str, message: str = "") -> None:
    """Record what became of a command ("done", "refused", "expired", ...).

    Raises
    ------
    NotFoundError
        The tenant has no such command.
    """
    if not status or status == "open":
        raise InvalidDataError(f"command {command_id}: status {status!r} does not end it")
    with db.begin() as connection:
        row = connection.exec_driver_sql(
            "UPDATE commands SET status = %s, message = %s, closed_at = clock_timestamp() WHERE command_id = %s "
            "RETURNING site_id",
            (status, message, command_id),
        ).one_or_none()
        if row is None:
            raise NotFoundError(f"command {command_id} does not exist")
        notify(connection, COMMAND, db, row[0])
