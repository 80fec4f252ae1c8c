"""The control cycle: read, decide, write, check. It never waits for a late device beyond its deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from control_loop.alarms import Alarm, AlarmKey, cycle_alarms
from control_loop.arbitration import Decision
from control_loop.ballots import MasterVote, keyed
from control_loop.context import Context, GridOperatorLimit, GridOperatorSetpoint, LoadState, ManualCommand
from control_loop.contingency import ContingencyWatch
from control_loop.dispatch import Dispatcher, Setpoint
from control_loop.engine import Controller, Outcome, ask, decide
from control_loop.exchange import ExchangeController
from control_loop.exchange_noise import ExchangeNoise
from control_loop.field_reader import FieldReader
from control_loop.field_writer import FieldWriter
from control_loop.following import FollowWatch
from control_loop.frequency import FrequencyService
from control_loop.frozen import FrozenWatch
from control_loop.grid_orders import GridSetpoints, limits_in_force
from control_loop.load_rules import next_load_states, recalled
from control_loop.meter_lag import MeterLag
from control_loop.mode import Mode
from control_loop.model import REACTIVE_SETPOINT, Actuator, SiteModel
from control_loop.pauses import breathe
from control_loop.plan_view import PlanView
from control_loop.plausibility import MeterWatch
from control_loop.protocols.base import Driver
from control_loop.reactive import ReactiveControl
from control_loop.schedule import HourSchedule
from control_loop.supervision import PlanSupervisor
from control_loop.voting import Round
from flexergy_pipelines.grid.clock import Clock


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What one cycle did.

    Attributes
    ----------
    decisions : mapping
        What every actuator should do, and who holds control.
    reactive : mapping
        The same for the reactive power of inverters [kvar].
    sent : list of Setpoint
        Setpoints given to devices in this cycle.
    alarms : mapping
        Conditions that stand.
    replan_reason : str or None
        Why a new plan is asked for.
    late : tuple of str
        Devices whose answer did not come in time; it is used in a later cycle.
    errors : mapping
        Devices whose reading failed, with the message.
    schedules : list of HourSchedule
        Schedules that were taken by devices in this cycle.
    """

    cycle: int
    now: datetime
    decisions: Mapping[str, Decision]
    reactive: Mapping[str, Decision] = field(default_factory=dict)
    sent: list[Setpoint] = field(default_factory=list)
    alarms: Mapping[AlarmKey, Alarm] = field(default_factory=dict)
    replan_reason: str | None = None
    late: tuple[str, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    schedules: list[HourSchedule] = field(default_factory=list)


READ_SHARE, WRITE_SHARE = 0.35, 0.25
"""Shares of a cycle in which it waits for readings, and for acknowledgements."""


class ControlCycle:
    """One site's control, cycle by cycle.

    Parameters
    ----------
    model : SiteModel
        The site.
    drivers : sequence of Driver
        Links to its devices.
    clock : Clock
        Source of monotonic time.
    epoch : int
        Lease of this loop.
    may_command : callable
        Asked right before each command goes out: whether this loop still holds the lease.
    controllers : sequence of Controller, optional
        Rules with a memory; by default those that answer the frequency, hold the exchange, and run the
        contingency procedures.
    reactive : ReactiveControl, optional
        Decides reactive power; without it none is commanded.
    vote : MasterVote, optional
        Puts each cycle's decisions to a vote of several instances; without it this one decides alone.
    decide : callable
        The engine.
    reader : FieldReader, optional
        One that has watched some of the devices before; by default a new one.
    read_deadline_s, write_deadline_s : float, optional
        How long a cycle waits for readings and for acknowledgements [s, real time]; by default 35 % and 25 % of the
        cycle.
    """

    def __init__(
        self,
        model: SiteModel,
        drivers: Sequence[Driver],
        clock: Clock,
        *,
        epoch: int = 1,
        may_command: Callable[[], bool] = lambda: True,
        supervisor: PlanSupervisor | None = None,
        reactive: ReactiveControl | None = None,
        controllers: Sequence[Controller] | None = None,
        vote: MasterVote | None = None,
        decide: Callable[[Context], Outcome] = decide,
        reader: FieldReader | None = None,
        read_deadline_s: float | None = None,
        write_deadline_s: float | None = None,
    ) -> None:
        self.model = model
        if reader is None:
            reader = FieldReader(clock, READ_SHARE * model.cycle_s if read_deadline_s is None else read_deadline_s)
        reader.serve(drivers)
        self.reader = reader
        self.image = reader.image
        self.dispatcher = Dispatcher(model, epoch)
        self.supervisor = supervisor or PlanSupervisor()
        self.frequency = FrequencyService()
        self.contingency = ContingencyWatch(model.procedures)
        # The answer to the frequency comes first: of one layer's values the first is taken.
        self._exchange = ExchangeController()
        own = [self.frequency, self._exchange, self.contingency]
        self.controllers = own if controllers is None else list(controllers)
        self.reactive = reactive
        self._dispatchers = [self.dispatcher, *([reactive.dispatcher] if reactive is not None else [])]
        self.vote = vote
        self._decide = decide
        self.cycle = 0
        self.plan: PlanView | None = None
        self.next_plan: PlanView | None = None
        self.commands: Sequence[ManualCommand] = ()
        self.grid_limits: Sequence[GridOperatorLimit] = ()
        self.grid_setpoints: Sequence[GridOperatorSetpoint] = ()
        self._grid_setpoints = GridSetpoints()
        self.mode: Mode | None = None
        self._clock = clock
        self._drivers = {driver.device: driver for driver in drivers}
        self.writer = FieldWriter(
            model,
            self._drivers,
            clock,
            deadline_s=WRITE_SHARE * model.cycle_s if write_deadline_s is None else write_deadline_s,
            may_command=may_command,
            dispatcher_of=self.dispatcher_of,
        )
        self._last_fresh: dict[str, float] = {}
        self._loads: dict[str, LoadState] = {}
        self._frozen = FrozenWatch(model)
        self._meter = MeterWatch()
        self._follow = FollowWatch()
        self._noise = ExchangeNoise()
        self._meter_lag = MeterLag(model.cycle_s)
        self._last_monotonic: float | None = None
        self._began = clock.monotonic()

    @property
    def drivers(self) -> Mapping[str, Driver]:
        """Links by device."""
        return self._drivers

    def remember(self, loads: Mapping[str, LoadState]) -> None:
        """Take over what is known of loads from before this loop, be it after some cycles of its own."""
        self._loads |= {name: recalled(state, self._loads.get(name)) for name, state in loads.items()}

    async def run_once(self, now: datetime) -> CycleReport:
        """Run one cycle.

        Parameters
        ----------
        now : datetime
            Wall-clock time, aware; it selects the plan's step. All ages and deadlines are monotonic.
        """
        self.cycle += 1
        self._change_over(now)
        late, errors = await self.reader.look(now)
        await breathe()
        frozen = self._look_for_frozen()
        context = self._context(now)
        without_effect: dict[str, str] = {}
        for dispatcher in self._dispatchers:
            actuators = dispatcher.model.actuators
            readbacks = {a.asset_id: context.fresh(a.asset_id, a.quantity) for a in actuators}
            without_effect = dispatcher.check(readbacks, self.cycle) | without_effect
        await breathe()
        context = self._context(now)
        answers = {asset_id: answer.given_kw for asset_id, answer in self.frequency.answers.items()}
        meter = self._meter_lag.update(context, self._exchange.arrived)
        context = replace(
            context,
            at_meter=meter.powers_kw,
            meter_age_cycles=meter.age_cycles,
            meter_reversed=self._meter_lag.reversed,
        )
        context = replace(
            context,
            exchange_noise_kw=self._noise.update(context),
            exchange_trend_kw=self._noise.trend_kw,
            grid_targets=self._grid_setpoints.update(context, self.grid_setpoints, answers),
        )
        asked, faults = ask(self.controllers, context)
        context = replace(context, requests=asked)
        if self.vote is not None:
            self.vote.ask(context, Round(self.dispatcher.epoch, self.cycle))
        await breathe()
        outcome = self._decide(context)
        await breathe()
        decisions: Mapping[str, Decision] = outcome.decisions
        reactive = self._decide_reactive(context, decisions, faults)
        if self.vote is not None:
            decisions, reactive = await self._put_to_vote(self.vote, context, decisions, reactive)
        self._loads = next_load_states(context, {name: d.value for name, d in decisions.items()})
        due = self.dispatcher.due(decisions, self._clock.monotonic())
        if self.reactive is not None:
            due += self.reactive.dispatcher.due(reactive, self._clock.monotonic())
        sent = await self.writer.write(due, self.cycle)
        plans = [plan for plan in (self.plan, self.next_plan) if plan is not None]
        schedules = await self.writer.push_schedules(now, plans)
        undelivered = {
            a.asset_id: max(dispatcher.failures(a.asset_id) for dispatcher in self._dispatchers)
            for a in self.model.actuators
        }
        self._last_monotonic = context.monotonic
        return CycleReport(
            cycle=self.cycle,
            now=now,
            decisions=decisions,
            reactive=reactive,
            sent=sent,
            alarms=({} if self.vote is None else dict(self.vote.alarms))
            | self.reader.clock_alarms()
            | self.reader.fault_alarms()
            | cycle_alarms(
                context,
                faults | outcome.faults,
                without_effect,
                undelivered,
                running_s=context.monotonic - self._began,
                frozen=frozen,
                not_followed=self._follow.update(context),
                procedures=self.contingency.running,
            )
            | self._meter.update(context),
            replan_reason=self.supervisor.update(context),
            late=late,
            errors=errors,
            schedules=schedules,
        )

    def _decide_reactive(
        self, context: Context, active: Mapping[str, Decision], faults: dict[str, str]
    ) -> Mapping[str, Decision]:
        if self.reactive is None:
            return {}
        try:
            return self.reactive.decide(context, active)
        except Exception as error:  # inverters keep what they were told until its time to live ends
            faults["reactive"] = f"{type(error).__name__}: {error}"
            return {}

    def _change_over(self, now: datetime) -> None:
        """Go over to the plan that follows once the one before has ended, whether the store can be asked or not."""
        ended = self.plan is not None and now >= self.plan.end
        if ended and self.next_plan is not None and self.next_plan.covers(now):
            self.plan, self.next_plan = self.next_plan, None

    async def close(self) -> None:
        """Stop what is under way and end all links."""
        await self.reader.stop()
        await self.writer.stop()
        if self.vote is not None:
            await self.vote.close()
        for driver in self._drivers.values():
            await driver.close()

    async def _put_to_vote(
        self, vote: MasterVote, context: Context, active: Mapping[str, Decision], reactive: Mapping[str, Decision]
    ) -> tuple[dict[str, Decision], dict[str, Decision]]:
        """The decisions that go out once the other instances were heard, of active and of reactive power."""
        told = self.model.actuators, () if self.reactive is None else self.reactive.model.actuators
        settled = await vote.settle(context, keyed(told[0], active) | keyed(told[1], reactive))
        by_asset = [{a.asset_id: settled[a.asset_id, a.quantity] for a in actuators} for actuators in told]
        return by_asset[0], by_asset[1]

    def _context(self, now: datetime) -> Context:
        monotonic = self._clock.monotonic()
        since = self.model.cycle_s if self._last_monotonic is None else monotonic - self._last_monotonic
        context = Context(
            model=self.model,
            image=self.image,
            now=now,
            monotonic=monotonic,
            dt=min(max(since, 0.0), 2 * self.model.cycle_s),
            plan=self.plan,
            commands=[c for c in self.commands if c.expires is None or monotonic < c.expires],
            grid_limits=limits_in_force(self.grid_limits, self.grid_setpoints, monotonic),
            mode=self.mode,
            last=self.dispatcher.state(),
            last_fresh=self._last_fresh,
            loads=self._loads,
        )
        for asset_id in (self.model.pcc_id, *(a.asset_id for a in self.model.actuators), *self.model.metered):
            if not context.blind(asset_id):
                sample = self.image.sample(asset_id, "active_power_kw")
                self._last_fresh[asset_id] = monotonic if sample is None else sample.monotonic
        return context

    def _look_for_frozen(self) -> dict[str, str]:
        told = {asset_id: state.value for asset_id, state in self.dispatcher.state().items()}
        frozen = self._frozen.update(self.image, told, self._clock.monotonic())
        # A meter that counts the wrong way round is worse than none.
        self.image.distrust({*frozen, *((self.model.pcc_id,) if self._meter_lag.reversed else ())})
        return frozen

    def dispatcher_of(self, actuator: Actuator) -> Dispatcher:
        """Who keeps what an actuator was told."""
        reactive = self.reactive
        return reactive.dispatcher if reactive and actuator.quantity == REACTIVE_SETPOINT else self.dispatcher

    @property
    def actuators(self) -> tuple[Actuator, ...]:
        """Everything the loop commands, of active and of reactive power."""
        return tuple(actuator for dispatcher in self._dispatchers for actuator in dispatcher.model.actuators)
