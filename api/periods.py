"""Periods, steps and points as a client names them, checked before the store is asked."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Query

from api.problems import field_problem
from flexergy_pipelines.grid import Site

STEPS: dict[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
MAX_INTERVALS = 100_000
MAX_RAW_DAYS = 7
MAX_DAYS = 1100

StartQuery = Annotated[
    datetime | None,
    Query(
        description="begin, ISO 8601 with a UTC offset; default 24 h before `end`",
        openapi_examples={"a day in summer time": {"value": "2026-06-01T00:00:00+02:00"}},
    ),
]
EndQuery = Annotated[
    datetime | None,
    Query(description="end (exclusive), ISO 8601 with a UTC offset; default now"),
]
StepQuery = Annotated[
    str | None, Query(description=f"average over intervals of: {', '.join(STEPS)}; without it, values as recorded")
]
PointsQuery = Annotated[
    list[str] | None,
    Query(
        description="points as `asset.quantity`, repeated or separated by commas; default all",
        openapi_examples={"two points": {"value": ["ess-1.soc", "pcc.active_power_kw"]}},
    ),
]


def period(
    start: datetime | None,
    end: datetime | None,
    *,
    now: datetime,
    default: timedelta = timedelta(hours=24),
    longest_days: float = MAX_DAYS,
    ahead: timedelta = timedelta(),
) -> tuple[datetime, datetime]:
    """The asked period in UTC.

    Parameters
    ----------
    start, end : datetime or None
        As given; must carry an offset.
    now : datetime
        The present moment.
    default : timedelta
        Length when one bound is missing.
    longest_days : float
        Longest period allowed.
    ahead : timedelta
        Where the period ends by default, after `now`.

    Raises
    ------
    ProblemError
        When a bound has no offset, the order is wrong or the period too long.
    """
    for name, bound in (("start", start), ("end", end)):
        if bound is not None and bound.tzinfo is None:
            raise field_problem(name, bound.isoformat(), "give a time with a UTC offset, as 2026-06-01T00:00:00Z")
    try:
        last = end.astimezone(UTC) if end is not None else (start + default if start is not None else now + ahead)
        first = start.astimezone(UTC) if start is not None else last - default
        last = last.astimezone(UTC)
    except OverflowError:
        raise field_problem("start", start or end, "give a time between 1970 and 2200") from None
    for name, bound in (("start", first), ("end", last)):
        if not 1970 <= bound.year < 2200:
            raise field_problem(name, bound.isoformat(), "give a time between 1970 and 2200")
    if last <= first:
        raise field_problem("end", last.isoformat(), f"must be after start {first.isoformat()}")
    if last - first > timedelta(days=longest_days):
        days = (last - first) / timedelta(days=1)
        raise field_problem("end", last.isoformat(), f"the period is {days:.1f} days; at most {longest_days:g} here")
    return first, last


def step_of(step: str | None, first: datetime, last: datetime) -> str | None:
    """The averaging step, checked against the length of the period."""
    if step is None:
        if last - first > timedelta(days=MAX_RAW_DAYS):
            allowed = f"values as recorded are limited to {MAX_RAW_DAYS} days; give step={' | '.join(STEPS)}"
            raise field_problem("step", None, allowed)
        return None
    if step not in STEPS:
        raise field_problem("step", step, f"one of {', '.join(STEPS)}")
    if (last - first) / STEPS[step] > MAX_INTERVALS:
        raise field_problem("step", step, f"the period has more than {MAX_INTERVALS} intervals; take a longer step")
    return step


_POINT = re.compile(r"^(?P<asset>[^.]+)\.(?P<quantity>[a-z0-9_]+)$")


def points_of(site: Site, names: list[str] | None) -> list[tuple[str, str]] | None:
    """The asked points, each of which the site must have; None for all."""
    if not names:
        return None
    known = {(point.asset_id, point.quantity) for point in site.points()}
    wanted: list[tuple[str, str]] = []
    for name in (part.strip() for item in names for part in item.split(",")):
        match = _POINT.match(name)
        pair = (match["asset"], match["quantity"]) if match else None
        if pair is None or pair not in known:
            near = sorted(f"{a}.{q}" for a, q in known if pair is None or a == pair[0] or q == pair[1])[:12]
            raise field_problem("points", name, f"a point of site {site.id}, such as {', '.join(near)}")
        wanted.append(pair)
    return wanted


def units_of(site: Site) -> dict[tuple[str, str], str]:
    """Unit of each point of a site."""
    return {(point.asset_id, point.quantity): point.unit for point in site.points()}
