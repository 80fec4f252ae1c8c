"""What the store has to say to a site's loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from control_loop.frequency import FrequencyOrder
from control_loop.mode import Mode
from control_loop.plan_view import PlanView


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """An operator's command as it stands in the store; a value of None hands the actuator back."""

    command_id: int
    asset_id: str | None
    quantity: str
    value: float | None
    reason: str
    user: str
    valid_until: datetime | None
    taken: bool = False
    """Whether a control loop, this one or the one before it, has told that it took it."""


@dataclass(frozen=True, slots=True)
class StoredGridOrder:
    """An order of the grid operator as it stands in the store: a limit, or a setpoint with its ramp [kW, kW/s]."""

    order_id: int
    asset_id: str
    minimum: float | None
    maximum: float | None
    setpoint: float | None
    ramp_kw_per_s: float | None
    reason: str
    starts_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class News:
    """All of it, as read at once.

    Attributes
    ----------
    plan : PlanView or None
        The newest plan that covers now.
    commands : sequence of StoredCommand
        In force or waiting to be taken.
    frequency_orders : sequence of FrequencyOrder
        P(f) curves of the grid operator that hold now.
    mode : Mode or None
        The operation mode in force; None: the site's own.
    next_plan : PlanView or None
        The plan that covers the end of `plan`, so that the change over waits for nobody.
    grid_orders : sequence of StoredGridOrder
        The grid operator's limits and setpoints that hold now, or will within the next half minute.
    store_time : datetime or None
        What the store's clock said when this was read, UTC.
    """

    plan: PlanView | None = None
    commands: Sequence[StoredCommand] = field(default_factory=tuple)
    frequency_orders: Sequence[FrequencyOrder] = field(default_factory=tuple)
    mode: Mode | None = None
    next_plan: PlanView | None = None
    grid_orders: Sequence[StoredGridOrder] = field(default_factory=tuple)
    store_time: datetime | None = None
