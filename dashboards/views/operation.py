"""View model of operating by hand: which actuators there are, what may be asked of them, what stands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl

from dashboards.words import duration, local_time, number
from flexergy_pipelines.grid import Site
from flexergy_pipelines.store.commands import EMERGENCY_STOP, IN_FORCE, Command

QUANTITY_WORDS = {
    "active_power_setpoint_kw": "power setpoint",
    "active_power_limit_kw": "power limit",
    "reactive_power_setpoint_kvar": "reactive power setpoint",
    EMERGENCY_STOP: "emergency stop",
}

REACTIVE_HINT = "+ gives to the site, − takes from it"

SIGN_WORDS = {
    "ess": "+ discharges, − charges",
    "genset": "0 stops it",
    "pv": "the most it may produce",
    "wind": "the most it may produce",
    "controllable_load": "the most it may take",
    "ev": "the most it may take",
}


@dataclass(frozen=True, slots=True)
class Actuator:
    """Something that can be commanded, with its range."""

    asset_id: str
    quantity: str
    unit: str
    minimum: float
    maximum: float
    hint: str

    @property
    def title(self) -> str:
        """As it is named on the screen."""
        return f"{self.asset_id} · {QUANTITY_WORDS.get(self.quantity, self.quantity)}"


def actuators(site: Site) -> list[Actuator]:
    """Every actuator of a site, storage first; last the exchange with the grid, which the loop holds by the others."""
    kinds = {asset.id: asset.kind for asset in site.assets()}
    order = list(SIGN_WORDS)
    found = [
        Actuator(
            p.asset_id, p.quantity, p.unit, p.minimum, p.maximum,
            REACTIVE_HINT if p.unit == "kvar" else SIGN_WORDS.get(kinds[p.asset_id], ""),
        )
        for p in site.points()
        if p.writable
    ]  # fmt: skip
    if not found:
        return []  # nothing by which the exchange could be held
    found.sort(key=lambda a: (order.index(k) if (k := kinds[a.asset_id]) in order else 99, a.asset_id))
    pcc = site.grid_connection
    hint = "exchange to hold: + import, − export, 0 is zero flow"
    return [
        *found,
        Actuator(pcc.id, "active_power_setpoint_kw", "kW", -pcc.export_limit_kw, pcc.import_limit_kw, hint),
    ]


def problems(actuator: Actuator, value: float, minutes: int, reason: str) -> list[str]:
    """What is wrong with a command, one line each; empty when it may be sent."""
    found = []
    if not actuator.minimum <= value <= actuator.maximum:
        found.append(
            f"{actuator.asset_id}: {number(value)} {actuator.unit} is outside {number(actuator.minimum)} to "
            f"{number(actuator.maximum)} {actuator.unit}"
        )
    if not 1 <= minutes <= 24 * 60:
        found.append(f"duration {minutes} min is outside 1 to 1440 min")
    if len(reason.strip()) < 3:
        found.append("give a reason of at least 3 letters")
    return found


def standing(commands: list[Command], now: datetime, zone: ZoneInfo) -> pl.DataFrame:
    """Commands in force as a table of text."""
    rows = [
        {
            "asset": command.asset_id or "whole site",
            "what": QUANTITY_WORDS.get(command.quantity, command.quantity),
            "value": "hand back" if command.value is None else _value(command.quantity, command.value),
            "by": command.user,
            "reason": command.reason,
            "state": "in force" if command.status == IN_FORCE else "waits for the control loop",
            "since": local_time(command.created_at, zone),
            "ends in": "when released"
            if command.valid_until is None
            else duration((command.valid_until - now).total_seconds()),
        }
        for command in commands
    ]
    names: list[str] = ["asset", "what", "value", "by", "reason", "state", "since", "ends in"]
    return pl.DataFrame(rows, schema=[(name, pl.String) for name in names])


STATUS_WORDS = {
    "in_force": "in force",
    "done": "done",
    "superseded": "replaced",
    "refused": "refused",
    "expired": "ran out",
}


def ended(commands: list[Command], zone: ZoneInfo) -> pl.DataFrame:
    """Commands that have ended, and why, as a table of text."""
    rows = [
        {
            "asset": command.asset_id or "whole site",
            "what": QUANTITY_WORDS.get(command.quantity, command.quantity),
            "value": "hand back" if command.value is None else _value(command.quantity, command.value),
            "by": command.user,
            "became": ": ".join(filter(None, (STATUS_WORDS.get(command.status, command.status), command.message))),
            "at": local_time(command.closed_at, zone),
        }
        for command in commands
        if command.closed_at is not None
    ]
    names: list[str] = ["asset", "what", "value", "by", "became", "at"]
    return pl.DataFrame(rows, schema=[(name, pl.String) for name in names])


def _value(quantity: str, value: float) -> str:
    if quantity == EMERGENCY_STOP:
        return "stop" if value else "release"
    return f"{number(value)} {'kvar' if quantity.endswith('_kvar') else 'kW'}"


ORDER = "/charge_point/"
"""What stands between the asset and the charge point where a command is an order for one."""

EVENT_WORDS = {
    "command_given": "command given",
    "command_answered": "command answered",
    "alarm_acknowledged": "alarm acknowledged",
    "site_saved": "site configuration saved",
}


def event_table(events: pl.DataFrame, zone: ZoneInfo) -> pl.DataFrame:
    """Who did what, newest first, as a table of text."""
    rows = [
        {
            "when": f"{row['at'].astimezone(zone):%Y-%m-%d %H:%M:%S}",
            "who": row["actor"],
            "did": EVENT_WORDS.get(row["kind"], row["kind"].replace("_", " ")),
            "to": _subject(row["subject"] or ""),
            "reason": row["reason"] or "",
            "detail": _detail(row["detail"], row["subject"] or "", zone),
        }
        for row in events.sort("at", descending=True).iter_rows(named=True)
    ]
    names: list[str] = ["when", "who", "did", "to", "reason", "detail"]
    return pl.DataFrame(rows, schema=[(name, pl.String) for name in names])


def _subject(subject: str) -> str:
    """What an event is about; an order for one charge point as it is given on the command line."""
    asset_id, order, rest = subject.partition(ORDER)
    if not order:
        return subject
    charge_point, _, asked = rest.partition("/")
    action, _, arguments = asked.partition("/")
    try:
        words = [str(word) for word in json.loads(arguments)]
    except (ValueError, TypeError):
        words = [arguments]
    return " ".join([f"{asset_id}/{charge_point}", action, *words])


def _detail(detail: str | None, subject: str, zone: ZoneInfo) -> str:
    """The event's JSON as words; of a command its value with the unit, and when it ends."""
    known = json.loads(detail) if detail else {}
    if not isinstance(known, dict):
        return str(known)
    quantity = subject.rpartition("/")[2]
    if "command_id" in known and "status" in known:
        return f"command {known['command_id']} {STATUS_WORDS.get(known['status'], known['status'])}"
    if "command_id" in known and (quantity in QUANTITY_WORDS or ORDER in subject):
        value, until, number_of = known.get("value"), known.get("until"), known["command_id"]
        words = [] if ORDER in subject else ["handed back" if value is None else _value(quantity, value)]
        if until is not None and value is not None:
            words.append(f"until {local_time(datetime.fromisoformat(until), zone)}")
        return ", ".join([*words, f"command {number_of}"])
    return ", ".join(f"{str(key).replace('_', ' ')} {value}" for key, value in known.items() if value is not None)
