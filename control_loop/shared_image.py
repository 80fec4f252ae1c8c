"""The image a master computed on, as text that other instances compute on as well.

All of a cycle's inputs are in it, in the master's own monotonic time, so no clock of another machine enters a ballot.
What the controllers with a memory (exchange, frequency) asked for is an input, too: an instance that began later than
the master cannot have their memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from control_loop.context import Context, GridOperatorLimit, GridTarget, LoadState, ManualCommand, SentState
from control_loop.image import GOOD, ProcessImage
from control_loop.mode import Mode
from control_loop.model import SiteModel
from control_loop.plan_view import PlanView
from control_loop.requests import Request

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter

Row = tuple[str, str, float | None, float, datetime]
"""Asset, quantity, value (None: missing), monotonic and wall-clock time of arrival."""


@dataclass(frozen=True, slots=True)
class ReactiveMemory:
    """What the reactive rules remember.

    Attributes
    ----------
    last : dict
        What each actuator was told last [kvar].
    voltage_pu : dict
        Voltage each asset's rule holds, within its hysteresis.
    """

    last: dict[str, SentState] = field(default_factory=dict)
    voltage_pu: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """The step of the plan that is in force."""

    plan_id: int
    version: int
    start: datetime
    step: timedelta
    values: list[tuple[str, str, float | None]]


@dataclass(frozen=True, slots=True)
class SharedImage:
    """One cycle's inputs; names and units are those of `Context`."""

    __pydantic_config__: ClassVar[ConfigDict] = {"ser_json_inf_nan": "constants"}

    now: datetime
    monotonic: float
    dt: float
    samples: list[Row]
    distrusted: list[str]
    plan: SharedPlan | None
    commands: list[ManualCommand]
    grid_limits: list[GridOperatorLimit]
    mode: Mode | None
    exchange_noise_kw: float
    exchange_trend_kw: float
    at_meter: dict[str, float]
    last: dict[str, SentState]
    last_fresh: dict[str, float]
    loads: dict[str, LoadState]
    grid_targets: dict[str, GridTarget]
    requests: list[Request]
    reactive: ReactiveMemory

    def context(self, model: SiteModel) -> Context:
        """The inputs as the rules take them.

        Parameters
        ----------
        model : SiteModel
            The site, of this instance's own configuration.
        """
        image = ProcessImage()
        for asset_id, quantity, value, monotonic, time in self.samples:
            image.update({(asset_id, quantity): value}, time, monotonic)
        image.distrust(self.distrusted)
        return Context(
            model=model,
            image=image,
            now=self.now,
            monotonic=self.monotonic,
            dt=self.dt,
            plan=None if self.plan is None else _plan(self.plan),
            commands=self.commands,
            grid_limits=self.grid_limits,
            mode=self.mode,
            exchange_noise_kw=self.exchange_noise_kw,
            exchange_trend_kw=self.exchange_trend_kw,
            at_meter=self.at_meter,
            last=self.last,
            last_fresh=self.last_fresh,
            loads=self.loads,
            grid_targets=self.grid_targets,
            requests=self.requests,
        )


def shared(context: Context, reactive: ReactiveMemory | None = None) -> SharedImage:
    """A cycle's inputs for others: the points of actuators and meter, and the plan's step of now."""
    known = {context.model.pcc_id, *(a.asset_id for a in context.model.actuators)}
    samples = [(key, sample) for key, sample in context.image.items() if key[0] in known]
    return SharedImage(
        now=context.now,
        monotonic=context.monotonic,
        dt=context.dt,
        samples=[(*key, s.value if s.quality == GOOD else None, s.monotonic, s.time) for key, s in samples],
        distrusted=sorted(context.image.distrusted),
        plan=_step_of(context),
        commands=list(context.commands),
        grid_limits=list(context.grid_limits),
        mode=context.mode,
        exchange_noise_kw=context.exchange_noise_kw,
        exchange_trend_kw=context.exchange_trend_kw,
        at_meter=dict(context.at_meter),
        last=dict(context.last),
        last_fresh=dict(context.last_fresh),
        loads=dict(context.loads),
        grid_targets=dict(context.grid_targets),
        requests=list(context.requests),
        reactive=reactive or ReactiveMemory(),
    )


def to_text(image: SharedImage) -> str:
    """The image as JSON; numbers come back exactly as they were."""
    return _adapter().dump_json(image).decode()


def from_text(text: str) -> SharedImage:
    """The image of `to_text`.

    Raises
    ------
    ValueError
        The text is not such an image.
    """
    return _adapter().validate_json(text)


@cache
def _adapter() -> TypeAdapter[SharedImage]:
    from pydantic import TypeAdapter

    return TypeAdapter(SharedImage)


def _step_of(context: Context) -> SharedPlan | None:
    plan, now = context.plan, context.now
    if plan is None or not plan.covers(now):
        return None
    start = plan.start + int((now - plan.start) / plan.step) * plan.step
    values = [(*key, plan.value(*key, now)) for key in plan.values]
    return SharedPlan(plan.plan_id, plan.version, start, min(plan.step, plan.end - start), values)


def _plan(step: SharedPlan) -> PlanView:
    values: dict[tuple[str, str], list[float | None]] = {(a, q): [value] for a, q, value in step.values}
    return PlanView(step.plan_id, step.version, step.start, step.start + step.step, step.step, values)
