"""View model of how a site is operated: scheduled modes, functions with priority and weight, interventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from dashboards.words import local_time, number
from flexergy_pipelines.grid import Site
from flexergy_pipelines.operation.modes import MODES, ModeEntry, ModeInForce
from flexergy_pipelines.operation.outages import Outage
from flexergy_pipelines.optimization.errors import ProblemError
from flexergy_pipelines.optimization.settings import (
    FUNCTION_MEANINGS,
    Function,
    FunctionName,
    PlanningSettings,
    function_names,
)

GRAVE_MODES = frozenset({"islanded", "manual", "idle"})
"""Modes that take the storage out of the plan's hands; they are confirmed before they are scheduled."""


def mode_title(mode: str) -> str:
    """A mode as it is named on the screen."""
    return mode.replace("_", " ").capitalize()


def mode_words(mode: str, parameters: Mapping[str, float]) -> str:
    """What a mode does, with its parameter."""
    kind = MODES[mode]
    value = parameters.get(kind.parameter) if kind.parameter else None
    return f"{kind.meaning}: {number(value)} kW" if value is not None else kind.meaning


def mode_name(found: ModeInForce | None, site: Site) -> str:
    """Which mode holds, in a word or two: where none is scheduled, what the plan is made for."""
    if found is not None:
        values = (f"{number(value)} kW" for value in found.parameters.values())
        return " ".join([mode_title(found.mode), *values])
    return "Plan, own energy first" if site.operation.mode == "self_consumption" else "Plan"


def now_sentence(found: ModeInForce | None, site: Site) -> str:
    """Which mode holds, in a sentence."""
    zone = site.zone
    if found is None:
        aim = "that uses the site's own energy first" if site.operation.mode == "self_consumption" else "of least cost"
        return f"**Plan** is in force: the site follows the plan {aim}. No other mode holds."
    until = "until further notice" if found.until is None else f"until {local_time(found.until, zone)}"
    return f"**{mode_title(found.mode)}** is in force {until}: {mode_words(found.mode, found.parameters)}."


def mode_table(entries: Sequence[ModeEntry], zone: ZoneInfo) -> pl.DataFrame:
    """Scheduled modes as a table of text."""
    rows = [
        {
            "from": local_time(entry.starts_at, zone),
            "to": "further notice" if entry.ends_at is None else local_time(entry.ends_at, zone),
            "mode": ", ".join(
                [mode_title(entry.mode), *(f"{number(value)} kW" for value in entry.parameters.values())]
            ),
            "by": entry.created_by,
            "reason": entry.reason,
        }
        for entry in entries
    ]
    return _table(rows, "from", "to", "mode", "by", "reason")


def outage_table(outages: Sequence[Outage], zone: ZoneInfo) -> pl.DataFrame:
    """Planned interventions as a table of text."""
    rows = [
        {
            "asset": outage.asset_id,
            "from": local_time(outage.starts_at, zone),
            "to": local_time(outage.ends_at, zone),
            "reason": outage.reason,
            "by": outage.created_by,
        }
        for outage in outages
    ]
    return _table(rows, "asset", "from", "to", "reason", "by")


def _table(rows: list[dict[str, str]], *names: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=[(name, pl.String) for name in names])


def function_table(settings: PlanningSettings) -> pl.DataFrame:
    """Functions by priority, those that nothing is set for last: ``priority, function, on, weight, meaning``."""
    known = {one.name: one for one in settings.functions}
    names = [*known, *(name for name in function_names() if name not in known)]
    rows = [
        {
            "priority": place + 1,
            "function": function_title(name),
            "on": known[name].enabled if name in known else name != "reserve",
            "weight": known[name].weight if name in known else 1.0,
            "meaning": FUNCTION_MEANINGS[name],
        }
        for place, name in enumerate(names)
    ]
    return pl.DataFrame(rows)


def function_title(name: str) -> str:
    """A function as it is named on the screen."""
    return "EV charging" if name == "ev_charging" else name.replace("_", " ").capitalize()


def functions_from(rows: Sequence[Mapping[str, Any]]) -> tuple[Function, ...]:
    """Functions from the edited table, in order of the priorities given.

    Raises
    ------
    ProblemError
        One line where a priority is missing or given twice, or a weight is out of range.
    """
    places = [row["priority"] for row in rows]
    if any(place is None for place in places) or len(set(places)) != len(places):
        raise ProblemError(["priority: give each function a number of its own"])
    by_title: dict[str, FunctionName] = {function_title(name): name for name in function_names()}
    ordered = sorted(rows, key=lambda row: row["priority"])
    return tuple(
        Function(name=by_title[row["function"]], enabled=bool(row["on"]), weight=float(row["weight"]))
        for row in ordered
    )


def when(day: Any, clock: Any, zone: ZoneInfo) -> datetime:
    """A local date and time as an instant; of a time that comes twice the first."""
    return datetime.combine(day, clock, zone)
