"""TALQ 2.x: the messages a central management system sends to a gateway, and what it reads in the gateway's.

References
----------
TALQ Consortium, "TALQ Smart City Protocol" 2.2 to 2.7, data model: Group, OverrideCommand, ControlProgramOne, Calendar,
AssignCommand, LoggerConfig, LogReport.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
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
    members = [{"resource": "devices", "address": device} for device in devices]
    return {"address": address, "ownerCMS": owner, "members": members, "purpose": "override"}


def override(group: str, level: int | None, expiration: datetime | None) -> dict[str, Any]:
    """An order to a group; without a level it goes back to its program."""
    command: dict[str, Any] = {"addresses": [{"resource": "groups", "address": group}]}
    if level is not None:
        target: dict[str, Any] = {"state": level_state(level), "reason": "override"}
        if expiration is not None:
            target["expiration"] = expiration.isoformat(timespec="seconds")
        command["targetCommand"] = target
    return command


def program_of(  # noqa: PLR0917 - each is a part of the program
    name: str, owner: str, start: datetime, slot: timedelta, levels: Sequence[int], zone: ZoneInfo
) -> dict[str, Any]:
    """A day's program that dims to each level from its slot on and is at full light afterwards, in local time."""
    switches = {(start + i * slot).astimezone(zone): level for i, level in enumerate(levels)}
    switches[(start + len(levels) * slot).astimezone(zone)] = FULL
    controls = [
        {"startTime": when.strftime("%H:%M:%S"), "command": {"state": level_state(level)}}
        for when, level in sorted(switches.items(), key=lambda item: item[0].time())
    ]
    period = {"name": "AbsoluteActivePeriod", "startTime": "00:00:00", "endTime": "23:59:59"}
    return {
        "type": "ControlProgramOne", "id": name, "ownerCMS": owner, "activePeriods": [period],
        "fixedTimeControls": controls,
    }  # fmt: skip


def calendar_of(name: str, owner: str, program: str, days: Sequence[str]) -> dict[str, Any]:
    """A calendar that has the program on some days (ISO dates)."""
    rules = [{"startDate": day, "endDate": day, "program": program} for day in days]
    return {"id": name, "ownerCMS": owner, "rules": rules}


def assignment(calendar: str, group: str) -> dict[str, Any]:
    """Which group a calendar is for."""
    return {
        "addresses": [{"resource": "groups", "address": group}],
        "entity": {"resource": "calendars", "address": calendar},
    }


def logger_of(address: str, owner: str) -> dict[str, Any]:
    """Have the gateway report every measurement of every device as it changes."""
    return {
        "address": address, "ownerCMS": owner, "sourceAddresses": {"blackList": []},
        "recordingMode": {"type": "VendorRecordingMode"},
        "reportingMode": {"type": "ImmediateReportingMode", "delay": 0, "numberOfRetries": 3},
    }  # fmt: skip


def lamps_in(devices: Sequence[dict[str, Any]]) -> list[str]:
    """Addresses of the devices that can be dimmed."""
    return [d["address"] for d in devices if any(f.get("type") == LAMP_ACTUATOR for f in d.get("functions", []))]


def attributes_of_devices(devices: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, str, Any]]:
    """(device, function type, attribute, value) of everything that devices show."""
    for device in devices:
        for function in device.get("functions", []):
            for name, attribute in function.items():
                if isinstance(attribute, dict) and "value" in attribute:
                    yield device["address"], function.get("type", ""), name, attribute["value"]


def newest_stamp(reports: Any) -> datetime | None:
    """The gateway's time of the newest entry of log reports, aware; None where it gives none."""
    stamps: list[datetime] = []
    for report in reports if isinstance(reports, list) else [reports]:
        for entry in report.get("entries", []):
            with contextlib.suppress(ValueError):
                stamp = datetime.fromisoformat(str(entry.get("data", {}).get("timestamp", "")))
                stamps.append(stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC))
    return max(stamps, default=None)


def attributes_of_reports(reports: Any, functions: dict[tuple[str, str], str]) -> Iterator[tuple[str, str, str, Any]]:
    """(device, function type, attribute, value) of log reports.

    Parameters
    ----------
    functions : dict
        Type of each function by (device, function id).
    """
    for report in reports if isinstance(reports, list) else [reports]:
        for entry in report.get("entries", []):
            data = entry.get("data", {})
            if data.get("type") != "AttributeLogData":
                continue
            device, _, function = str(data.get("srcAddress", "")).partition("/")
            value = (data.get("attributeValue") or {}).get("value")
            yield device, functions.get((device, function), function), data.get("attributeName", ""), value
