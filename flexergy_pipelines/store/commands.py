"""Commands of people and wishes of services: re-plan requests, setpoints by hand, emergency stop.

A command is *open* until the control loop has taken it, then *in force* until it is handed back or released (*done*),
another one takes its place (*superseded*), or it runs out (*expired*); one that cannot be obeyed is *refused*. Each of
these ends is an event.
"""

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
OPEN: Final = "open"
IN_FORCE: Final = "in_force"
CONTROL_LOOP: Final = "control loop"
"""Who answers commands, in the event log."""
_HANDED_BACK_S: Final = 300.0
"""How long a command that ends another waits for the control loop."""
_FIELDS: Final = (
    "command_id, site_id, asset_id, quantity, value, reason, user_name, created_at, valid_until, status, "
    "coalesce(message, ''), closed_at"
)
_RUN_OUT: Final = """
UPDATE commands SET status = 'expired', closed_at = valid_until,
  message = CASE status WHEN 'in_force' THEN 'held until it ran out' ELSE 'ran out before the control loop took it' END
WHERE site_id = %s AND status IN ('open', 'in_force') AND valid_until <= clock_timestamp()
RETURNING command_id, asset_id, quantity, message
"""


@dataclass(frozen=True, slots=True)
class ReplanRequest:
    """A wish for a new plan."""

    id: int
    site_id: str
    reason: str
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class Command:
    """An operator's command; `asset_id` None means the whole site, `value` None ends the manual setpoint.

    Attributes
    ----------
    status, message : str
        What became of it, and why.
    closed_at : datetime or None
        When it ended.
    """

    command_id: int
    site_id: str
    asset_id: str | None
    quantity: str
    value: float | None
    reason: str
    user: str
    created_at: datetime
    valid_until: datetime | None
    status: str = OPEN
    message: str = ""
    closed_at: datetime | None = None


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
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
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
    """Commands that wait or are in force, and have not run out, oldest first."""
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            f"SELECT {_FIELDS} FROM commands WHERE site_id = %s AND status IN ('open', 'in_force') "  # noqa: S608
            "AND coalesce(valid_until, 'infinity') > clock_timestamp() ORDER BY command_id",
            (site_id,),
        ).all()
    return [Command(*row) for row in rows]


def list_commands(db: TenantStore, site_id: str, limit: int = 50) -> list[Command]:
    """Commands with what became of them, newest first; one that ran out while nobody looked counts as expired."""
    expire_commands(db, site_id)
    with db.begin() as connection:
        require_site(connection, site_id)
        rows = connection.exec_driver_sql(
            f"SELECT {_FIELDS} FROM commands WHERE site_id = %s ORDER BY command_id DESC LIMIT %s",  # noqa: S608
            (site_id, limit),
        ).all()
    return [Command(*row) for row in rows]


def expire_commands(db: TenantStore, site_id: str) -> int:
    """Close commands that have run out. Returns how many there were."""
    with db.begin() as connection:
        rows = connection.exec_driver_sql(_RUN_OUT, (site_id,)).all()
        for command_id, asset_id, quantity, message in rows:
            _record_end(db, site_id, (command_id, asset_id, quantity), "expired", message)
        if rows:
            notify(connection, COMMAND, db, site_id)
    return len(rows)


def end_command(db: TenantStore, site_id: str, command_id: int, user: str, reason: str = "withdrawn") -> int:
    """End a command that waits or is in force: the actuator is handed back, or the stop released.

    Returns
    -------
    int
        Number of the command that ends it.

    Raises
    ------
    NotFoundError
        The site has no such command.
    InvalidDataError
        It has ended already.
    """
    with db.begin() as connection:
        row = connection.exec_driver_sql(
            f"SELECT {_FIELDS} FROM commands WHERE site_id = %s AND command_id = %s",  # noqa: S608
            (site_id, command_id),
        ).one_or_none()
        if row is None:
            raise NotFoundError(f"command {command_id} does not exist")
        command = Command(*row)
        if command.closed_at is not None:
            raise InvalidDataError(f"command {command_id} has ended: {command.status} {command.message}".rstrip())
        value = 0.0 if command.quantity == EMERGENCY_STOP else None
        until = connection.exec_driver_sql(
            "SELECT clock_timestamp() + %s * interval '1 s'", (_HANDED_BACK_S,)
        ).scalar_one()
        return write_command(db, site_id, command.asset_id, command.quantity, value, reason, user, until)


def _record_end(db: TenantStore, site_id: str, command: tuple[int, str | None, str], status: str, message: str) -> None:
    command_id, asset_id, quantity = command
    record_event(
        db,
        actor=CONTROL_LOOP,
        kind="command_answered",
        site_id=site_id,
        subject=f"{asset_id or site_id}/{quantity}",
        reason=message,
        detail={"status": status, "command_id": command_id},
    )


def command_answer(db: TenantStore, command_id: int) -> tuple[str, str]:
    """Status and message of a command; the status is "open" as long as nobody has taken it.

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
    """Record what became of a command: that it is in force, or how it ended ("done", "refused", "superseded", ...).

    A command that has ended keeps its first answer.

    Raises
    ------
    NotFoundError
        The tenant has no such command.
    InvalidDataError
        The status says nothing.
    """
    if not status or status == OPEN:
        raise InvalidDataError(f"command {command_id}: status {status!r} is no answer")
    with db.begin() as connection:
        row = connection.exec_driver_sql(
            "SELECT site_id, asset_id, quantity, status, closed_at FROM commands WHERE command_id = %s FOR UPDATE",
            (command_id,),
        ).one_or_none()
        if row is None:
            raise NotFoundError(f"command {command_id} does not exist")
        site_id, asset_id, quantity, before, closed_at = row
        if closed_at is not None or before == status:
            return
        connection.exec_driver_sql(
            "UPDATE commands SET status = %s, message = %s, "
            "closed_at = CASE WHEN %s THEN NULL ELSE clock_timestamp() END WHERE command_id = %s",
            (status, message, status == IN_FORCE, command_id),
        )
        _record_end(db, site_id, (command_id, asset_id, quantity), status, message)
        notify(connection, COMMAND, db, site_id)
