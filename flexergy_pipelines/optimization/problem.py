"""The planning problem: what is to be planned, over which time, with which numbers. No store, no solver.

A problem is complete in itself, so that the same model serves day-ahead planning, intraday re-planning and studies.
Signs as everywhere: sources, storage and grid connection positive into the busbar, loads positive consuming.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import AwareDatetime, Field, model_validator

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.series import FloatArray, Series, length_problem
from flexergy_pipelines.optimization.specs import (
    Battery,
    ControllableLoad,
    Genset,
    GridConnection,
    Load,
    Renewable,
    ShiftableLoad,
)
from flexergy_pipelines.optimization.specs_ev import EvBlock, EvGroup, EvSession
from flexergy_pipelines.optimization.specs_market import Reserve, Service
from flexergy_pipelines.optimization.specs_network import Network
from flexergy_pipelines.optimization.specs_reactive import ReactiveSupport

Goal = Literal["cost", "self_consumption", "zero_flow", "peak_shaving", "profile"]
StepMinutes = Literal[5, 15, 30, 60]
MAX_STEPS = 366 * 24 * 12


class Horizon(Spec):
    """Planned time: `steps` intervals of `step_minutes` from `start`, in UTC (so a local day may have 92 or 100)."""

    start: AwareDatetime
    step_minutes: StepMinutes = 15
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)]

    @property
    def hours(self) -> float:
        """Length of a step (h)."""
        return self.step_minutes / 60

    @property
    def end(self) -> datetime:
        return self.start.astimezone(UTC) + timedelta(minutes=self.step_minutes * self.steps)

    def times(self) -> list[datetime]:
        """Start of each step, UTC."""
        first = self.start.astimezone(UTC)
        return [first + timedelta(minutes=self.step_minutes * step) for step in range(self.steps)]


class Objective(Spec):
    """What the plan is for.

    Attributes
    ----------
    goal : {"cost", "self_consumption", "zero_flow", "peak_shaving", "profile"}
        ``cost``: least money. ``self_consumption``: first the least renewable energy lost to export and curtailment,
        then, among those plans, the least money. ``zero_flow``: first the least energy exchanged with the grid, then
        the least money. ``peak_shaving``: first the lowest highest import
        beyond what a demand charge bills already. ``profile``: first the least energy beside
        the declared profile of the grid connection. Keeping the limits always comes first.
    wear_weight : float
        How much of the battery's replacement cost a cycle is charged: 0 ignores wear, 1 charges it in full.
    wear_weight_of : mapping
        The same for single batteries, in place of the general weight.
    carbon_price_eur_per_kg : float
        Price of a kilogram of CO2, added to every emitting block.
    """

    goal: Goal = "cost"
    wear_weight: Annotated[float, Field(ge=0)] = 1.0
    wear_weight_of: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    carbon_price_eur_per_kg: Annotated[float, Field(ge=0)] = 0.0


class Problem(Spec):
    """Everything one plan is made from.

    Raises
    ------
    ProblemError
        When any part is out of range, a series doesn't fit the horizon or an id appears twice.
    """

    names_its_parts: ClassVar[bool] = False

    id: str = "site"
    horizon: Horizon
    objective: Objective = Objective()
    grid: GridConnection | None = None
    batteries: Annotated[tuple[Battery, ...], Field(strict=False)] = ()
    renewables: Annotated[tuple[Renewable, ...], Field(strict=False)] = ()
    gensets: Annotated[tuple[Genset, ...], Field(strict=False)] = ()
    loads: Annotated[tuple[Load, ...], Field(strict=False)] = ()
    controllable_loads: Annotated[tuple[ControllableLoad, ...], Field(strict=False)] = ()
    shiftable_loads: Annotated[tuple[ShiftableLoad, ...], Field(strict=False)] = ()
    ev_blocks: Annotated[tuple[EvBlock, ...], Field(strict=False)] = ()
    ev_sessions: Annotated[tuple[EvSession, ...], Field(strict=False)] = ()
    ev_groups: Annotated[tuple[EvGroup, ...], Field(strict=False)] = ()
    services: Annotated[tuple[Service, ...], Field(strict=False)] = ()
    reserve: Reserve | None = None
    network: Network | None = None
    reactive: ReactiveSupport | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        problems = [*self._double_ids(), *self._wrong_lengths(), *self._unknown_names(), *self._missing_parts()]
        if problems:
            raise ProblemError(problems)
        return self

    def assets(self) -> tuple[Spec, ...]:
        """Every asset of the problem, the grid connection first."""
        single = tuple(part for part in (self.grid, self.reserve, self.network, self.reactive) if part is not None)
        return (
            *single,
            *self.batteries,
            *self.renewables,
            *self.gensets,
            *self.loads,
            *self.controllable_loads,
            *self.shiftable_loads,
            *self.ev_blocks,
            *self.ev_sessions,
            *self.ev_groups,
            *self.services,
        )

    def without_storage(self) -> Problem:
        """The same problem without batteries: what a plan is compared with.

        Not with idle ones, whose self-discharge and ageing would be counted as a gain of using them.
        """
        services = tuple(service.model_copy(update={"providers": ()}) for service in self.services)
        return self.model_copy(update={"batteries": (), "services": services})

    def _double_ids(self) -> list[str]:
        seen: set[str] = set()
        problems = []
        for asset in self.assets():
            name = str(getattr(asset, "id", ""))
            if name in seen:
                problems.append(f"{name}: id appears more than once; every asset needs its own")
            seen.add(name)
        return problems

    def _unknown_names(self) -> list[str]:
        batteries = {battery.id for battery in self.batteries}
        services = {service.id for service in self.services}
        sessions = {session.id for session in self.ev_sessions}
        known = ", ".join(sorted(batteries)) or "nothing"
        problems = [
            f"objective: wear_weight_of names {name}, known are {known}"
            for name in sorted(set(self.objective.wear_weight_of) - batteries)
        ]
        for group in self.ev_groups:
            wrong = sorted(set(group.sessions) - sessions)
            allowed = ", ".join(sorted(sessions)) or "nothing"
            problems.extend(f"{group.id}: sessions names {name}, known are {allowed}" for name in wrong)
        if self.network is not None:
            assets = {str(getattr(asset, "id", "")) for asset in self.assets()}
            wrong = sorted(set(self.network.bus_of) - assets)
            problems.extend(f"{self.network.id}: bus_of names {name}, no such asset in this problem" for name in wrong)
        for service in self.services:
            for field, names, known in (
                ("providers", service.providers, batteries),
                ("excludes", service.excludes, services),
            ):
                wrong = sorted(set(names) - known)
                allowed = ", ".join(sorted(known)) or "nothing"
                problems.extend(f"{service.id}: {field} names {name}, known are {allowed}" for name in wrong)
        return problems

    def _missing_parts(self) -> list[str]:
        """What one part of the problem needs of another."""
        problems = []
        grid = self.grid
        if grid is not None and grid.feed_in_limit_share is not None:
            problems += [
                f"{source.id}: rated_kw is missing; {grid.id}: feed_in_limit_share is a share of it"
                for source in self.renewables
                if source.kind == "pv" and source.rated_kw is None
            ]
        if grid is not None:
            problems += [
                f"{grid.id}: {charge.id}: interval_minutes {charge.interval_minutes} is not a multiple of the step "
                f"of {self.horizon.step_minutes} minutes"
                for charge in grid.demand_charges
                if charge.interval_minutes is not None and charge.interval_minutes % self.horizon.step_minutes
            ]
        if self.objective.goal == "profile" and (grid is None or grid.profile is None):
            problems.append("objective: goal 'profile' needs grid.profile, the profile that was declared")
        if self.objective.goal in {"peak_shaving", "zero_flow"} and grid is None:
            problems.append(f"objective: goal {self.objective.goal!r} needs a grid connection; grid is missing")
        shared = bool(self.services) or self.reserve is not None
        problems += [
            f"{battery.id}: {field} can't be combined with services, reserve or headroom"
            for battery in self.batteries
            if shared or battery.headroom is not None
            for field, used in (
                ("terminal 'cyclic'", battery.terminal == "cyclic"),
                ("investment", battery.investment is not None),
                ("charge_efficiency_curve", bool(battery.charge_efficiency_curve)),
                ("discharge_efficiency_curve", bool(battery.discharge_efficiency_curve)),
            )
            if used
        ]
        if self.reactive is not None and grid is None:
            problems.append(f"{self.reactive.id}: reactive support needs a grid connection; grid is missing")
        return problems

    def _wrong_lengths(self) -> list[str]:
        problems = []
        for asset in self.assets():
            for name, series in series_fields(asset):
                problem = length_problem(series, self.horizon.steps, f"{getattr(asset, 'id', '')}: {name}")
                if problem:
                    problems.append(problem)
        return problems


def series_fields(spec: Spec) -> list[tuple[str, FloatArray]]:
    """Name and value of every field of `spec`, and of the specs inside it, that is a series."""
    found: list[tuple[str, FloatArray]] = []
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if isinstance(value, np.ndarray):
            found.append((name, value))
        elif isinstance(value, Spec):
            found.extend((f"{name}.{inner}", series) for inner, series in series_fields(value))
        elif isinstance(value, tuple):
            for position, part in enumerate(value):
                if isinstance(part, Spec):
                    found.extend((f"{name}[{position}].{inner}", series) for inner, series in series_fields(part))
    return found


__all__ = ["MAX_STEPS", "Horizon", "Objective", "Problem", "Series", "series_fields"]
