"""What the loop wants from the store and gives to it, and the store-backed version of it.

Everything here may block for as long as the store does, so it is only ever called from a site's store thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from control_loop.alarms import Alarm, AlarmKey, is_own
from control_loop.droop import Curve
from control_loop.frequency import FrequencyOrder
from control_loop.mode import Mode
from control_loop.news import News, StoredCommand, StoredGridOrder
from control_loop.plan_view import PlanView, plan_view

if TYPE_CHECKING:
    import polars as pl

    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store import TenantStore


AHEAD = timedelta(seconds=30)
"""Orders that begin so soon are taken along, so that they begin in time, also when the store is away by then."""

PEAK_AGE = timedelta(minutes=5)
"""A month is read no more often than that, but anew as soon as another billing period has begun."""


class Gateway(Protocol):
    """The store as one site's loop needs it; every call may raise when the store is away."""

    def load_site(self) -> Site:
        """The site as configured now."""
        ...

    def news(self, at: datetime) -> News:
        """Plan, commands, the grid operator's orders and the mode as they stand at `at`."""
        ...

    def acknowledge(self, command_id: int, status: str, message: str) -> None:
        """Tell the operator what became of a command."""
        ...

    def write_live(self, rows: Sequence[Sequence[Any]]) -> None:
        """Rows of ``(asset, quantity, time, value, quality)`` for the screens."""
        ...

    def write_readings(self, rows: Sequence[Sequence[Any]]) -> None:
        """Rows of ``(asset, quantity, time, value, quality)`` for the history; idempotent."""
        ...

    def write_setpoints(self, rows: Sequence[Sequence[Any]]) -> None:
        """Rows as `SETPOINT_COLUMNS`; idempotent."""
        ...

    def raise_alarm(self, alarm: Alarm) -> None:
        """Raise or renew an alarm."""
        ...

    def clear_alarm(self, key: AlarmKey) -> None:
        """Clear an alarm."""
        ...

    def standing_alarms(self) -> set[AlarmKey]:
        """Alarms of the control loop that stand in the store."""
        ...

    def request_replan(self, reason: str) -> None:
        """Ask for a new plan."""
        ...


SETPOINT_COLUMNS = (
    "asset_id",
    "quantity",
    "time",
    "requested",
    "sent",
    "readback",
    "layer",
    "reason",
    "plan_id",
    "valid_until",
    "status",
)


class StoreGateway:
    """The gateway over a tenant's store.

    Parameters
    ----------
    db : TenantStore
        The tenant.
    site_id : str
        The site.
    """

    def __init__(self, db: TenantStore, site_id: str) -> None:
        self.db = db
        self.site_id = site_id
        self._peak: tuple[datetime, Site, float] | None = None
        self._plans: dict[int, PlanView] = {}

    def load_site(self) -> Site:
        from flexergy_pipelines.store.sites import load_site

        return load_site(self.db, self.site_id)

    def news(self, at: datetime) -> News:
        from flexergy_pipelines.store.clock import read_clock

        plan = self._plan(at)
        after = None if plan is None else self._plan(plan.end)
        self._plans = {view.plan_id: view for view in (plan, after) if view is not None}
        told = News(plan, self._commands(), self._frequency_orders(at), self._mode(at), next_plan=after)
        return replace(told, grid_orders=self._grid_orders(at), store_time=read_clock(self.db))

    def _plan(self, at: datetime) -> PlanView | None:
        """The plan of an instant; a stored plan never changes, so its values are read once."""
        from flexergy_pipelines.store.plans import find_active_plan, read_plan_values

        active = find_active_plan(self.db, self.site_id, at)
        if active is None:
            return None
        known, record = self._plans.get(active.plan_id), active.record
        if known is not None:
            return known
        values = read_plan_values(self.db, active.plan_id)
        return plan_view(
            active.plan_id,
            active.version,
            start=record.start,
            end=record.end,
            step_minutes=record.step_minutes,
            rows=values.select("asset_id", "quantity", "time", "value").iter_rows(),
        )

    def _frequency_orders(self, at: datetime) -> list[FrequencyOrder]:
        from flexergy_pipelines.store.frequency_curves import read_frequency_curves

        return [
            FrequencyOrder(c.asset_id, Curve(c.points), tolerance_kw=c.tolerance_kw, source=c.source)
            for c in read_frequency_curves(self.db, self.site_id, at, at + timedelta(microseconds=1))
        ]

    def _grid_orders(self, at: datetime) -> list[StoredGridOrder]:
        from flexergy_pipelines.operation.grid_orders import orders_between

        return [
            StoredGridOrder(
                order.order_id,
                order.asset_id,
                order.minimum_kw,
                order.maximum_kw,
                order.setpoint_kw,
                order.ramp_kw_per_s,
                f"order {order.order_id} of {order.source}, {order.text}: {order.reason}",
                order.starts_at,
                order.ends_at,
            )
            for order in orders_between(self.db, self.site_id, at, at + AHEAD)
        ]

    def _mode(self, at: datetime) -> Mode | None:
        from flexergy_pipelines.operation.modes import mode_in_force

        found = mode_in_force(self.db, self.site_id, at)
        if found is None:
            return None
        peak = self._month_peak(at) if found.mode == "peak_shaving" else 0.0
        return Mode(found.mode, found.parameters, f"{found.user}: {found.reason}", peak)

    def _month_peak(self, at: datetime) -> float:
        from flexergy_pipelines.operation.month_peak import billing_start, peak_so_far

        if self._peak is not None:
            read, site, peak_kw = self._peak
            if timedelta(0) <= at - read < PEAK_AGE and read >= billing_start(site, at):
                return peak_kw
        site = self.load_site()
        # To 0.1 kW, so that the mode does not change with each digit that is measured.
        self._peak = at, site, round(peak_so_far(self.db, site, at), 1)
        return self._peak[2]

    def _commands(self) -> list[StoredCommand]:
        from flexergy_pipelines.store.commands import IN_FORCE, expire_commands, open_commands

        expire_commands(self.db, self.site_id)
        return [
            StoredCommand(
                c.command_id, c.asset_id, c.quantity, c.value, c.reason, c.user, c.valid_until, c.status == IN_FORCE
            )
            for c in open_commands(self.db, self.site_id)
        ]

    def acknowledge(self, command_id: int, status: str, message: str) -> None:
        from flexergy_pipelines.store.commands import acknowledge_command

        acknowledge_command(self.db, command_id, status, message)

    def write_live(self, rows: Sequence[Sequence[Any]]) -> None:
        from flexergy_pipelines.store.live import write_live

        write_live(self.db, self.site_id, _reading_frame(rows))

    def write_readings(self, rows: Sequence[Sequence[Any]]) -> None:
        from flexergy_pipelines.store.readings import write_readings

        write_readings(self.db, self.site_id, _reading_frame(rows), "control")

    def write_setpoints(self, rows: Sequence[Sequence[Any]]) -> None:
        import polars as pl

        from flexergy_pipelines.store.setpoints import write_setpoints

        time = pl.Datetime("us", "UTC")
        types = [pl.String, pl.String, time, pl.Float64, pl.Float64, pl.Float64, pl.String, pl.String, pl.Int64, time]
        schema: pl.Schema = pl.Schema(zip(SETPOINT_COLUMNS, [*types, pl.String], strict=True))
        timed = [[*row[:2], _time(row[2]), *row[3:9], _time(row[9]), row[10]] for row in rows]
        write_setpoints(self.db, self.site_id, pl.DataFrame(timed, schema=schema, orient="row"))

    def raise_alarm(self, alarm: Alarm) -> None:
        from flexergy_pipelines.store.alarms import raise_alarm

        raise_alarm(self.db, self.site_id, alarm.code, alarm.severity, alarm.message, asset_id=alarm.asset_id)

    def clear_alarm(self, key: AlarmKey) -> None:
        from flexergy_pipelines.store.alarms import clear_alarm

        clear_alarm(self.db, self.site_id, key[0], asset_id=key[1])

    def standing_alarms(self) -> set[AlarmKey]:
        from flexergy_pipelines.store.alarms import list_alarms

        rows = list_alarms(self.db, self.site_id).select("code", "asset_id").iter_rows()
        return {(code, asset_id) for code, asset_id in rows if is_own(code)}

    def request_replan(self, reason: str) -> None:
        from flexergy_pipelines.store.commands import request_replan

        request_replan(self.db, self.site_id, reason)


def _reading_frame(rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    import polars as pl

    schema = {
        "asset_id": pl.String,
        "quantity": pl.String,
        "time": pl.Datetime("us", "UTC"),
        "value": pl.Float64,
        "quality": pl.Int16,
    }
    timed = [[row[0], row[1], _time(row[2]), row[3], row[4]] for row in rows]
    return pl.DataFrame(timed, schema=schema, orient="row")


def _time(value: datetime | str | None) -> datetime | None:
    """A time as it is, or as it comes back from the spool."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value).astimezone(UTC)
