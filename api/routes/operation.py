"""Indicators, alarms and commands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from api.auth import CallerDep, CommanderDep, site_of
from api.models import AlarmModel, Alarms, Command, CommandModel, CommandReceipt, Commands, Kpi, Kpis
from api.periods import EndQuery, StartQuery, period
from api.problems import ProblemError, field_problem
from flexergy_pipelines.grid import Site
from flexergy_pipelines.store.alarms import list_alarms
from flexergy_pipelines.store.commands import end_command, list_commands, write_command
from flexergy_pipelines.store.kpis_table import read_kpis

router = APIRouter(prefix="/sites/{site_id}", tags=["operation"])

EMERGENCY_STOP = "emergency_stop"
LONGEST_COMMAND = timedelta(hours=24)


@router.get("/kpis", summary="Energy statistics and indicators")
def kpis(
    site_id: str,
    who: CallerDep,
    start: StartQuery = None,
    end: EndQuery = None,
    kind: Annotated[Literal["day", "month", "year"], Query(description="length of the periods")] = "day",
) -> Kpis:
    """Indicators of the periods that begin within the asked one, each with its unit and its share of good data."""
    site = site_of(who, site_id)
    first, last = period(start, end, now=datetime.now(UTC), default=timedelta(days=31))
    frame = read_kpis(who.db, site.id, period_kind=kind, start=first, end=last)
    fields = list(Kpi.model_fields)
    rows = [Kpi(**{name: row[name] for name in fields}) for row in frame.iter_rows(named=True)]
    return Kpis(site=site.id, start=first, end=last, kpis=rows)


@router.get("/alarms", summary="Alarms")
def alarms(
    site_id: str,
    who: CallerDep,
    active: Annotated[bool, Query(description="only those that still hold")] = True,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Alarms:
    """Alarms, newest first."""
    site = site_of(who, site_id)
    frame = list_alarms(who.db, site.id, active_only=active).sort("first_at", descending=True).head(limit)
    return Alarms(
        site=site.id,
        alarms=[
            AlarmModel(
                id=row["alarm_id"],
                code=row["code"],
                severity=row["severity"],
                message=row["message"],
                asset_id=row["asset_id"],
                active=row["cleared_at"] is None,
                count=row["count"],
                raised_at=row["first_at"],
                cleared_at=row["cleared_at"],
                acknowledged_at=row["acknowledged_at"],
                acknowledged_by=row["acknowledged_by"],
            )
            for row in frame.iter_rows(named=True)
        ],
    )


@router.post("/commands", summary="Command an actuator, or stop the site", status_code=202)
def command(site_id: str, body: Command, who: CommanderDep) -> CommandReceipt:
    """Store a command for the control loop; operators and administrators only.

    The loop clips it to the limits of the asset and the site, and drops it at `valid_until` (at most 24 h ahead).
    `pcc` with `active_power_setpoint_kw` holds the exchange with the grid (0 is zero flow).
    `emergency_stop` with value 1 stops the site until one with value 0 releases it.
    """
    site = site_of(who, site_id)
    now = datetime.now(UTC)
    check_command(site, body, now)
    valid_until = body.valid_until.astimezone(UTC) if body.valid_until else None
    if body.quantity == EMERGENCY_STOP and body.value == 0 and valid_until is None:
        valid_until = now + timedelta(minutes=5)
    command_id = write_command(
        who.db, site.id, body.asset_id, body.quantity, body.value, body.reason.strip(), who.name, valid_until
    )
    return CommandReceipt(id=command_id, status="open")


@router.get("/commands", summary="Commands, and what became of them")
def commands(site_id: str, who: CallerDep, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Commands:
    """Commands, newest first: who gave them, why and until when, and how the control loop answered."""
    site = site_of(who, site_id)
    names = set(CommandModel.model_fields) - {"id"}
    found = [
        CommandModel(id=command.command_id, **{name: getattr(command, name) for name in names})
        for command in list_commands(who.db, site.id, limit)
    ]
    return Commands(site=site.id, commands=found)


@router.delete("/commands/{command_id}", summary="End a command", status_code=202)
def end(site_id: str, command_id: Annotated[int, Path(ge=1, le=2**63 - 1)], who: CommanderDep) -> CommandReceipt:
    """Hand the actuator back to the plan, or release the stop; operators and administrators only."""
    site = site_of(who, site_id)
    return CommandReceipt(id=end_command(who.db, site.id, command_id, who.name), status="open")


def check_command(site: Site, body: Command, now: datetime) -> None:
    """Refuse a command that names no actuator of the site, is out of range, or out of time.

    Raises
    ------
    ProblemError
        422, naming field, value and what is allowed.
    """
    if body.quantity == EMERGENCY_STOP:
        if body.asset_id is not None and body.asset_id not in {asset.id for asset in site.assets()}:
            raise field_problem("asset_id", body.asset_id, "null for the whole site")
        if body.value not in (0.0, 1.0):
            raise field_problem("value", body.value, "1 stops, 0 releases")
    else:
        writable = {(p.asset_id, p.quantity): (p.minimum, p.maximum, p.unit) for p in site.points() if p.writable}
        pcc = site.grid_connection  # holding the exchange: the loop reaches it by commanding the others
        writable[pcc.id, "active_power_setpoint_kw"] = (-pcc.export_limit_kw, pcc.import_limit_kw, "kW")
        names = ", ".join(f"{asset}.{quantity}" for asset, quantity in sorted(writable))
        if body.asset_id is None:
            raise field_problem("asset_id", None, f"an asset with something to command: {names}")
        allowed = writable.get((body.asset_id, body.quantity))
        if allowed is None:
            raise field_problem("quantity", f"{body.asset_id}.{body.quantity}", f"one of {names}")
        minimum, maximum, unit = allowed
        if not minimum <= body.value <= maximum:
            raise field_problem("value", body.value, f"{minimum:g} to {maximum:g} {unit}")
        if body.valid_until is None:
            raise field_problem("valid_until", None, "a time at most 24 h ahead, with a UTC offset")
    if body.valid_until is not None and not now < body.valid_until <= now + LONGEST_COMMAND:
        raise field_problem("valid_until", body.valid_until.isoformat(), "a time within the next 24 h")
    if not body.reason.strip():
        raise ProblemError(422, "reason is empty", [{"field": "reason", "value": body.reason, "allowed": "some words"}])
