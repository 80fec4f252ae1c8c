"""A plan as the loop reads it: one value for each asset, quantity and step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class PlanView:
    """The plan in force.

    Attributes
    ----------
    plan_id : int
        Identity in the store.
    version : int
        Rises with every new plan of the site.
    start, end : datetime
        Span the plan covers, UTC; `end` is exclusive.
    step : timedelta
        Length of a step.
    values : mapping
        ``(asset id, quantity)`` to one value per step; None where the plan says nothing.
    """

    plan_id: int
    version: int
    start: datetime
    end: datetime
    step: timedelta
    values: Mapping[tuple[str, str], list[float | None]] = field(repr=False)

    def covers(self, at: datetime) -> bool:
        """Whether the plan is in force at `at`."""
        return self.start <= at < self.end

    def value(self, asset_id: str, quantity: str, at: datetime) -> float | None:
        """Planned value at `at`, or None when the plan says nothing about it."""
        series = self.values.get((asset_id, quantity))
        if series is None or not self.covers(at):
            return None
        index = int((at - self.start) / self.step)
        return series[index] if index < len(series) else None


def plan_view(
    plan_id: int,
    version: int,
    *,
    start: datetime,
    end: datetime,
    step_minutes: float,
    rows: Iterable[tuple[str, str, datetime, float | None]],
) -> PlanView:
    """Arrange the rows of a stored plan by point and step.

    Parameters
    ----------
    rows : iterable of tuple
        ``(asset id, quantity, start of the step, value)`` in any order; steps outside the plan are ignored.
    """
    step = timedelta(minutes=step_minutes)
    count = max(0, round((end - start) / step))
    values: dict[tuple[str, str], list[float | None]] = {}
    for asset_id, quantity, time, value in rows:
        index = round((time - start) / step)
        if 0 <= index < count:
            values.setdefault((asset_id, quantity), [None] * count)[index] = value
    return PlanView(plan_id, version, start.astimezone(UTC), end.astimezone(UTC), step, values)
