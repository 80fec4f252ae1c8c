"""TALQ 2.x: the messages a central management system sends to a gateway, and what it reads in the gateway's.

References
----------
TALQ Consortium, "TALQ Smart City Protocol" 2.2 to 2.7, data model: Group, OverrideCommand, ControlProgramOne, Calendar,
AssignCommand, LoggerConfig, LogReport.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

API_VERSION = "2.7.1"
LAMP_ACTUATOR = "LampActuatorFunction"
FULL = 100


def level_for(limit_kw: float, rated_kw: float) -> int:
    """Dimming level [%] that keeps lamps of a rated power below a limit, rounded down."""
    if rated_kw <= 0:
        return FULL
    return max(0, min(FULL, int(FULL * limit_kw / rated_kw + 1e-9)))


def level_state(level: int) -> dict[str, Any]:
    """A dimming level."""
    return {"name": "LevelState", "value": level}


def group_of(address: str, owner: str, devices: Sequence[str]) -> dict[str, Any]:
    """Lamps that are dimmed together."""
    members = references("devices", devices)
    return {"address": address, "ownerCMS": owner, "members": members, "purpose": "override"}


def references(resource: str, addresses: Iterable[str]) -> list[dict[str, str]]:
    """References to groups or devices."""
    return [{"resource": resource, "address": address} for address in addresses]


def override(targets: list[dict[str, str]], level: int | None, expiration: datetime | None) -> dict[str, Any]:
    """An order to a group or to devices; without a level they go back to their program."""
    command: dict[str, Any] = {"addresses": targets}
    if level is not None:
        target: dict[str, Any] = {"state": level_state(level), "reason": "override"}
        if expiration is not None:
            target["expiration"] = expiration.isoformat(timespec="seconds")
        command["targetCommand"] = target
    return command


def programs_of(  # noqa: PLR0917 - each is a part of the program
    name: str, owner: str, start: datetime, slot: timedelta, levels: Sequence[int], zone: ZoneInfo
) -> dict[str, dict[str, Any]]:
    """Programs by local day (ISO date) that dim to each level from its slot on, and to full light at all other times.

    Notes
    -----
    A program is of a whole day, and must not say two things of one moment: of the hour that is told twice in autumn the
    lower levels count.
    """
    days: dict[str, dict[str, int]] = {}
    start = start.astimezone(UTC)  # in local time, an hour later would be another clock time, not an hour later
    for number, level in enumerate(levels):
        when = (start + number * slot).astimezone(zone)
        controls = days.setdefault(when.date().isoformat(), {})
        clock = when.strftime("%H:%M:%S")
        controls[clock] = min(controls.get(clock, FULL), level)
    end = (start + len(levels) * slot).astimezone(zone)
    if end.strftime("%H:%M:%S") in days.get(end.date().isoformat(), {}):
        end += timedelta(hours=1)  # on the clock: when the repeated hour is over
    days.setdefault(end.date().isoformat(), {})[end.strftime("%H:%M:%S")] = FULL
    for controls in days.values():
        controls.setdefault("00:00:00", FULL)
    period = {"name": "AbsoluteActivePeriod", "startTime": "00:00:00", "endTime": "23:59:59"}
    programs: dict[str, dict[str, Any]] = {}
    for number, (day, levels_of_day) in enumerate(sorted(days.items()), start=1):
        controls = [
            {"startTime": clock, "command": {"state": level_state(level)}}
            for clock, level in sorted(levels_of_day.items())
        ]
        programs[day] = {
            "type": "ControlProgramOne", "id": f"{name}-{number}", "ownerCMS": owner, "activePeriods": [period],
            "fixedTimeControls": controls,
        }  # fmt: skip
    return programs


def calendar_of(name: str, owner: str, programs: Mapping[str, str]) -> dict[str, Any]:
    """A calendar that has a program (its id) on each of some days (ISO dates)."""
    rules = [{"startDate": day, "endDate": day, "program": program} for day, program in programs.items()]
    return {"id": name, "ownerCMS": owner, "rules": rules}


def assignment(calendar: str, targets: list[dict[str, str]]) -> dict[str, Any]:
    """Which group or devices a calendar is for."""
    return {"addresses": targets, "entity": {"resource": "calendars", "address": calendar}}


def logger_of(address: str, owner: str) -> dict[str, Any]:
    """Have the gateway report every measurement of every device as it changes."""
    return {
        "address": address, "ownerCMS": owner, "sourceAddresses": {"blackList": []},
        "recordingMode": {"type": "VendorRecordingMode"},
        "reportingMode": {"type": "ImmediateReportingMode", "delay": 0, "numberOfRetries": 3},
    }  # fmt: skip


def error_in(content: bytes) -> str:
    """What a gateway says of a refusal: key and description of TALQ error messages, else the beginning of its words."""
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(content)
        items = [item for item in (told if isinstance(told, list) else [told]) if isinstance(item, dict)]
        words = [": ".join(str(item[k]) for k in ("key", "description") if item.get(k)) for item in items]
        if any(words):
            return "; ".join(filter(None, words))[:200]
    text = " ".join(content.decode("utf-8", "replace").split())
    return "" if text.startswith("<") else text[:100]


def sound_devices(told: Any) -> list[dict[str, Any]]:
    """A gateway's list of devices, with what is no device or no function left out.

    Raises
    ------
    ValueError
        It is no list, or holds entries and no device among them.
    """
    if not isinstance(told, list):
        raise ValueError(f"a list of devices is wanted, not {type(told).__name__}")
    devices = [d for d in told if isinstance(d, dict) and isinstance(d.get("address"), str)]
    if told and not devices:
        raise ValueError("no entry of the list of devices has an address")
    return [device | {"functions": list(_functions(device))} for device in devices]


def _functions(device: dict[str, Any]) -> Iterator[dict[str, Any]]:
    functions = device.get("functions")
    for function in functions if isinstance(functions, list) else []:
        if isinstance(function, dict) and isinstance(function.get("id"), str) and isinstance(function.get("type"), str):
            yield function


def lamps_in(devices: Sequence[dict[str, Any]]) -> list[str]:
    """Addresses of the devices that can be dimmed."""
    return [d["address"] for d in devices if any(f.get("type") == LAMP_ACTUATOR for f in d.get("functions", []))]


def calendars_in(devices: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Calendar of each lamp that has one, by the lamp's address."""
    found: dict[str, str] = {}
    for device in devices:
        for function in device.get("functions", []):
            told = function.get("calendarID") if function["type"] == LAMP_ACTUATOR else None
            name = told.get("value") if isinstance(told, dict) else None
            if isinstance(name, str) and name:
                found[device["address"]] = name
    return found


def attributes_of_devices(devices: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, str, Any]]:
    """(device, function id, attribute, value) of everything that devices show; None for what has no value now."""
    for device in devices:
        for function in device.get("functions", []):
            for name, attribute in function.items():
                if isinstance(attribute, dict):
                    yield device["address"], function["id"], name, attribute.get("value")


def number_of(value: Any) -> float | None:
    """A measured number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def level_of(state: Any) -> float | None:
    """Dimming level [%] of a lamp's state, told as a level state or as a bare number; None where it tells none."""
    level = number_of(state.get("value") if isinstance(state, dict) else state)
    return level if level is not None and 0 <= level <= FULL else None


def _entries(reports: Any) -> Iterator[dict[str, Any]]:
    """What log reports hold, whatever else is in them."""
    for report in reports if isinstance(reports, list) else [reports]:
        entries = report.get("entries") if isinstance(report, dict) else None
        for entry in entries if isinstance(entries, list) else []:
            data = entry.get("data") if isinstance(entry, dict) else None
            if isinstance(data, dict):
                yield data


def newest_stamp(reports: Any) -> datetime | None:
    """The gateway's time of the newest entry of log reports, aware; None where it gives none."""
    stamps: list[datetime] = []
    for data in _entries(reports):
        with contextlib.suppress(ValueError):
            stamp = datetime.fromisoformat(str(data.get("timestamp", "")))
            stamps.append(stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC))
    return max(stamps, default=None)


def attributes_of_reports(reports: Any) -> Iterator[tuple[str, str, str, Any]]:
    """(device, function id, attribute, value) of log reports."""
    for data in _entries(reports):
        if data.get("type") != "AttributeLogData":
            continue
        device, _, function = str(data.get("srcAddress", "")).partition("/")
        told = data.get("attributeValue")
        yield (
            device,
            function,
            str(data.get("attributeName", "")),
            told.get("value") if isinstance(told, dict) else None,
        )
