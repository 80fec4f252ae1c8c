"""Which pages there are, and which of them a role may see; the others are not even registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dashboards.roles import ADMINISTRATOR, COMMANDERS, EVERYBODY
from dashboards.screens import (
    alarms,
    battery,
    devices,
    forecasts,
    history,
    kpis,
    log,
    operation,
    overview,
    plan,
    quality,
    users,
)


@dataclass(frozen=True, slots=True)
class PageSpec:
    """One page of the app."""

    path: str
    title: str
    icon: str
    draw: Callable[[], None]
    roles: frozenset[str] = EVERYBODY


PAGES: tuple[PageSpec, ...] = (
    PageSpec("overview", "Overview", ":material/bolt:", overview.page),
    PageSpec("plan", "Plan", ":material/event_note:", plan.page),
    PageSpec("forecasts", "Forecasts", ":material/query_stats:", forecasts.page),
    PageSpec("history", "History", ":material/show_chart:", history.page),
    PageSpec("kpis", "KPIs", ":material/monitoring:", kpis.page),
    PageSpec("batteries", "Batteries", ":material/battery_charging_full:", battery.page),
    PageSpec("quality", "Data quality", ":material/rule:", quality.page),
    PageSpec("devices", "Devices", ":material/lan:", devices.page),
    PageSpec("alarms", "Alarms", ":material/notifications:", alarms.page),
    PageSpec("operation", "Operation", ":material/tune:", operation.page, COMMANDERS),
    PageSpec("log", "Log", ":material/history:", log.page, COMMANDERS),
    PageSpec("users", "Users", ":material/group:", users.page, frozenset({ADMINISTRATOR})),
)


def pages_for(role: str) -> list[PageSpec]:
    """The pages that `role` may see, in order."""
    return [spec for spec in PAGES if role in spec.roles]
