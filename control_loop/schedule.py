"""The plan's next hour as four 15-minute setpoints for each ESC and RES controller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite

from control_loop.model import SiteModel
from control_loop.plan_view import PlanView

SLOTS = 4
QUARTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class HourSchedule:
    """Setpoints of one asset for the hour from `start` on [kW], one a quarter."""

    asset_id: str
    start: datetime
    values: tuple[float, ...]


def quarter_start(now: datetime) -> datetime:
    """Start of the running quarter of an hour, UTC."""
    at = now.astimezone(UTC)
    return at.replace(minute=at.minute - at.minute % 15, second=0, microsecond=0)


def next_hour(model: SiteModel, plans: Sequence[PlanView], now: datetime) -> list[HourSchedule]:
    """Schedules for the running quarter and the three after it.

    Of several plans that say something of a quarter the first counts. Quarters that no plan covers carry the idle
    value: the device must not go on with an old one. Values are clipped to the nameplate range; the immediate
    setpoints stay under the loop's limits all the same.
    """
    start = quarter_start(now)
    schedules: list[HourSchedule] = []
    for actuator in model.actuators:
        if actuator.kind not in model.schedule_kinds:
            continue
        values: list[float] = []
        for slot in range(SLOTS):
            at = start + slot * QUARTER
            planned = (plan.value(actuator.asset_id, actuator.quantity, at) for plan in plans)
            value = next((v for v in planned if v is not None and isfinite(v)), actuator.idle_kw)
            values.append(min(max(value, actuator.minimum_kw), actuator.maximum_kw))
        schedules.append(HourSchedule(actuator.asset_id, start, tuple(values)))
    return schedules
