"""One site's loop: runs the cycle in step, feeds the outbox, and takes what the store brings."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from control_loop.alarms import FIRST_ANSWER_S, Alarm, AlarmKey, own_clock_alarm
from control_loop.arbitration import Decision
from control_loop.command_desk import CommandDesk, monotonic_of
from control_loop.context import GridOperatorLimit, GridOperatorSetpoint
from control_loop.cycle import ControlCycle, CycleReport
from control_loop.dispatch import Setpoint
from control_loop.frequency import ANSWER, FrequencyOrder
from control_loop.image import PointKey
from control_loop.model import Actuator
from control_loop.news import News, StoredGridOrder
from control_loop.outbox import READINGS, SETPOINTS, Outbox, live_rows
from control_loop.requests import Layer
from control_loop.telemetry import ReadingRow, TelemetryFilter
from flexergy_pipelines.grid.clock import Clock
from flexergy_pipelines.logs import get_logger

SETPOINT_LOG_S = 45.0
"""Standing setpoints are logged anew at least so often, and well before the last row of theirs ends."""
FIRST_NEWS_S = 1.0
"""How long the first cycle waits for plan and commands; a store that is away must not keep the loop from being safe."""
STATISTICS_S = 60.0
_NUMBERS = re.compile(r"[-+]?\d[\d.,:]*")


@dataclass(frozen=True, slots=True)
class LoopStatistics:
    """How the loop kept time since the last report.

    Attributes
    ----------
    cycles, missed : int
        Cycles run, and cycles whose turn passed before the one before had ended.
    longest_s : float
        Longest cycle.
    """

    cycles: int = 0
    missed: int = 0
    longest_s: float = 0.0


class SiteLoop:
    """Drives one site's `ControlCycle`.

    Parameters
    ----------
    cycle : ControlCycle
        The cycle.
    outbox : Outbox
        The way to the store.
    telemetry : TelemetryFilter
        What readings are kept.
    clock : Clock
        Time.
    frequency_orders : sequence of FrequencyOrder
        P(f) orders of the site's configuration; one in the store for the same asset wins.
    grid_limits : sequence of GridOperatorLimit
        Standing limits of the site's configuration; those of the store hold beside them.
    own_off_s : callable
        How far this machine's wall clock is ahead of `clock` [s].
    """

    def __init__(
        self,
        cycle: ControlCycle,
        outbox: Outbox,
        telemetry: TelemetryFilter,
        clock: Clock,
        *,
        frequency_orders: Sequence[FrequencyOrder] = (),
        grid_limits: Sequence[GridOperatorLimit] = (),
        own_off_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.cycle = cycle
        self.outbox = outbox
        self.statistics = LoopStatistics()
        self._telemetry = telemetry
        self._configured_orders = tuple(frequency_orders)
        cycle.frequency.orders = self._configured_orders
        self._standing_limits = tuple(grid_limits)
        cycle.grid_limits = self._standing_limits
        self._clock = clock
        self._own_off_s = own_off_s
        self._began = clock.monotonic()
        self._informed = asyncio.Event()
        self._desk = CommandDesk(cycle, outbox, clock)
        self._unlogged: dict[PointKey, tuple[datetime, Setpoint]] = {}
        self._logged_at: float | None = None
        self._told: dict[PointKey, tuple[str, str, str]] = {}
        self._values: dict[PointKey, float] = {}
        self._grid_orders: tuple[StoredGridOrder, ...] = ()
        self._log_period_s = min(SETPOINT_LOG_S, 0.75 * cycle.model.setpoint_ttl_s)
        self._log = get_logger(__name__).bind(site=cycle.model.site_id)

    def take_news(self, news: News) -> None:
        """Take what the store says; to be called in the loop's own thread."""
        plan = news.plan
        self._informed.set()
        if plan is not None and (self.cycle.plan is None or plan.plan_id != self.cycle.plan.plan_id):
            self._log.info("new plan", plan=plan.plan_id, version=plan.version, until=plan.end.isoformat())
        self.cycle.plan, self.cycle.next_plan = plan, news.next_plan
        stored = {order.asset_id for order in news.frequency_orders}
        configured = [order for order in self._configured_orders if order.asset_id not in stored]
        self.cycle.frequency.orders = (*news.frequency_orders, *configured)
        self._take_grid_orders(news.grid_orders)
        if news.mode != self.cycle.mode:
            self._log.info("operation mode", mode=None if news.mode is None else news.mode.text)
            self.cycle.mode = news.mode
        self.cycle.commands = self._desk.take(news.commands)

    def _take_grid_orders(self, orders: Sequence[StoredGridOrder]) -> None:
        limits, setpoints = list(self._standing_limits), []
        for order in orders:
            begins = monotonic_of(self._clock, order.starts_at)
            ends = None if order.ends_at is None else monotonic_of(self._clock, order.ends_at)
            name, why = order.asset_id, order.reason
            if order.setpoint is not None:
                setpoint = GridOperatorSetpoint(
                    order.order_id, name, order.setpoint, order.ramp_kw_per_s, why, expires=ends, begins=begins
                )
                setpoints.append(setpoint)
            else:
                limits.append(
                    GridOperatorLimit(name, order.minimum, order.maximum, why, ends, begins, order_id=order.order_id)
                )
        known, found = ({order.order_id for order in told} for told in (self._grid_orders, orders))
        for order in orders:
            if order.order_id not in known:
                self._log.info("order of the grid operator", asset=order.asset_id, order=order.reason)
        for order in self._grid_orders:
            if order.order_id not in found:
                self._log.info("order of the grid operator ended", asset=order.asset_id, order=order.reason)
        self._grid_orders = tuple(orders)
        self.cycle.grid_limits, self.cycle.grid_setpoints = limits, setpoints

    async def run(self, stop: asyncio.Event) -> None:
        """Run cycles until `stop` is set, one each period; a cycle that overruns makes the next one wait its turn."""
        period = self.cycle.model.cycle_s
        await self._first_look(stop)
        due = self._clock.monotonic()
        reported = due
        try:
            while not stop.is_set():
                began = self._clock.monotonic()
                await self.step(self._clock.now())
                ended = self._clock.monotonic()
                due += period
                missed = 0
                if ended > due:
                    missed = int((ended - due) / period) + 1
                    due += missed * period
                self.statistics = LoopStatistics(
                    self.statistics.cycles + 1,
                    self.statistics.missed + missed,
                    max(self.statistics.longest_s, ended - began),
                )
                if ended - reported >= STATISTICS_S:
                    reported = ended
                    self._report()
                try:
                    await asyncio.wait_for(stop.wait(), timeout=max(0.0, due - self._clock.monotonic()))
                except TimeoutError:
                    continue
        finally:
            await self._desk.close()
            await self.cycle.close()

    async def _first_look(self, stop: asyncio.Event) -> None:
        """Connect, and wait a moment for plan and commands: a start must not idle what is wanted to run on."""
        looking = asyncio.create_task(self.cycle.reader.look(self._clock.now()))
        waiting = [asyncio.create_task(event.wait()) for event in (self._informed, stop)]
        await asyncio.wait(waiting, timeout=FIRST_NEWS_S, return_when=asyncio.FIRST_COMPLETED)
        for task in (looking, *waiting):  # a device that has not answered yet is heard in the first cycle
            task.cancel()
        await asyncio.gather(looking, *waiting, return_exceptions=True)

    async def step(self, now: datetime) -> CycleReport:
        """One cycle, and everything that leaves it."""
        report = await self.cycle.run_once(now)
        self.outbox.live(live_rows(dict(self.cycle.image.items())))
        self.outbox.keep(READINGS, [*self._telemetry.select(self.cycle.image), *self._frequency_rows()])
        self.outbox.keep(SETPOINTS, [*self._setpoint_rows(report), *self._answer_rows(now)])
        self.outbox.alarms(self._alarms(report), settled=self._clock.monotonic() - self._began > FIRST_ANSWER_S)
        if report.replan_reason is not None:
            self._log.info("operation deviates from plan", reason=report.replan_reason)
            self.outbox.replan(report.replan_reason)
        return report

    def _alarms(self, report: CycleReport) -> dict[AlarmKey, Alarm]:
        """What the cycle found, and what is wrong with this machine itself."""
        alarms, off_s = dict(report.alarms), self._own_off_s()
        if off_s:
            own = own_clock_alarm(off_s)
            alarms[own.key] = own
        return alarms

    def _frequency_rows(self) -> list[ReadingRow]:
        """Frequency and power in each cycle of each asset that answers by a P(f) curve."""
        rows: dict[PointKey, ReadingRow] = {}
        for asset_id in self.cycle.frequency.answers:
            for key in ((self.cycle.model.pcc_id, "frequency_hz"), (asset_id, "active_power_kw")):
                sample = self.cycle.image.sample(*key)
                if sample is not None:
                    rows[key] = (*key, sample.time, sample.value, sample.quality)
        return list(rows.values())

    def _answer_rows(self, now: datetime) -> list[tuple[Any, ...]]:
        """The accuracy of each such answer: owed, told and delivered beyond the operating point."""
        valid_until = now + timedelta(seconds=self.cycle.model.setpoint_ttl_s)
        layer = Layer.GRID_OPERATOR.label
        return [
            (
                asset_id,
                ANSWER,
                now,
                answer.owed_kw,
                answer.given_kw,
                answer.delivered_kw,
                layer,
                f"P(f) at {answer.frequency_hz:.3f} Hz",
                None,
                valid_until,
                "ok" if answer.within else "off",
            )
            for asset_id, answer in self.cycle.frequency.answers.items()
        ]

    def _setpoint_rows(self, report: CycleReport) -> list[tuple[Any, ...]]:
        """Rows of setpoints that changed in the cycle before, now with their read-back, and of all once a minute.

        A setpoint whose value stands is told anew as well when another layer holds it, for another reason, or when the
        device takes it differently: screens show the newest row.
        """
        monotonic = self._clock.monotonic()
        rows = []
        for key, (when, setpoint) in self._unlogged.items():
            rows.append(self._row(when, setpoint, setpoint.decision))
            self._told[key] = self._as_told(setpoint.actuator, setpoint.decision)
        self._unlogged = {}
        for setpoint in report.sent:
            key = setpoint.actuator.asset_id, setpoint.actuator.quantity
            if self._values.get(key) != setpoint.value:
                self._values[key] = setpoint.value
                self._unlogged[key] = (report.now, setpoint)
        due = self._logged_at is None or monotonic - self._logged_at >= self._log_period_s
        if due:
            self._logged_at = monotonic
        for actuator in self.cycle.actuators:
            key = actuator.asset_id, actuator.quantity
            dispatcher = self.cycle.dispatcher_of(actuator)
            last = dispatcher.last(actuator.asset_id)
            if last is None or key in self._unlogged:
                continue
            decisions = report.decisions if dispatcher is self.cycle.dispatcher else report.reactive
            decision = decisions.get(actuator.asset_id, last.decision)
            told = self._as_told(actuator, decision)
            if due or self._told.get(key) != told:
                self._told[key] = told
                rows.append(self._row(report.now, last, decision))
        return rows

    def _as_told(self, actuator: Actuator, decision: Decision) -> tuple[str, str, str]:
        """What of a standing setpoint is news when it changes: its layer, its reason but for numbers, its status."""
        status = self.cycle.dispatcher_of(actuator).status(actuator.asset_id)
        return decision.layer.label, _NUMBERS.sub("", decision.reason), status

    def _row(self, when: datetime, setpoint: Setpoint, decision: Decision) -> tuple[Any, ...]:
        asset_id = setpoint.actuator.asset_id
        plan, dispatcher = self.cycle.plan, self.cycle.dispatcher_of(setpoint.actuator)
        planned = decision.source is Layer.PLAN and plan is not None
        return (
            asset_id,
            setpoint.actuator.quantity,
            when,
            decision.requested,
            setpoint.value,
            dispatcher.readback(asset_id),
            decision.layer.label,
            decision.reason,
            plan.plan_id if planned and plan is not None else None,
            when + timedelta(seconds=self.cycle.model.setpoint_ttl_s),
            dispatcher.status(asset_id),
        )

    def _report(self) -> None:
        links = {
            device: {
                "success": driver.health.success_share,
                "latency_ms": round(1000 * driver.health.latency_s, 1),
                "reconnects": driver.health.reconnects,
            }
            for device, driver in self.cycle.drivers.items()
        }
        self._log.info(
            "control loop alive",
            cycle=self.cycle.cycle,
            cycles=self.statistics.cycles,
            missed=self.statistics.missed,
            longest_ms=round(1000 * self.statistics.longest_s, 1),
            store_away=self.outbox.store_away,
            links=links,
        )
        self.statistics = LoopStatistics()
