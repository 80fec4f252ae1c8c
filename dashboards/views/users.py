"""View model of users: who may come in, in which role, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from dashboards.roles import ROLE_NAMES
from flexergy_pipelines.access import User


def access_word(user: User, now: datetime, zone: ZoneInfo) -> str:
    """Whether an account is open, in words."""
    if user.locked:
        return "locked"
    if user.valid_from is not None and now < user.valid_from:
        return f"from {user.valid_from.astimezone(zone):%Y-%m-%d}"
    if user.valid_until is not None:
        last = user.valid_until.astimezone(zone)
        return f"ended {last:%Y-%m-%d}" if now >= user.valid_until else f"until {last:%Y-%m-%d %H:%M}"
    return "open"


def user_table(users: Sequence[User], now: datetime, zone: ZoneInfo) -> pl.DataFrame:
    """Users as a table of text."""
    rows = [
        {"name": user.name, "role": ROLE_NAMES.get(user.role, user.role), "access": access_word(user, now, zone)}
        for user in users
    ]
    names: list[str] = ["name", "role", "access"]
    return pl.DataFrame(rows, schema=[(name, pl.String) for name in names])


def end_of(last_day: date | None, zone: ZoneInfo) -> datetime | None:
    """The moment at which access ends when `last_day` is its last day."""
    if last_day is None:
        return None
    return datetime.combine(last_day + timedelta(days=1), time(), tzinfo=zone).astimezone(UTC)
