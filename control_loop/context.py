"""What one control cycle knows when it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from control_loop.image import ProcessImage
from control_loop.mode import Mode
from control_loop.model import Actuator, SiteModel
from control_loop.plan_view import PlanView
from control_loop.requests import Request


@dataclass(frozen=True, slots=True)
class ManualCommand:
    """An operator's command, as the loop holds it.

    Attributes
    ----------
    command_id : int
        Identity in the store.
    asset_id : str or None
        None: the whole site (emergency stop).
    quantity : str
        The writable quantity, or ``emergency_stop``.
    value : float
        Wanted value [kW], or 1/0 for an emergency stop.
    expires : float or None
        Monotonic time [s] it ends.
    reason, user : str
        Why, and who.
    """

    command_id: int
    asset_id: str | None
    quantity: str
    value: float
    expires: float | None
    reason: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class GridOperatorLimit:
    """A limit set by the grid operator on one actuator or on the PCC.

    Attributes
    ----------
    asset_id : str
        Actuator, or the PCC's id; there positive is import.
    minimum, maximum : float or None
        Allowed range [kW].
    begins, expires : float or None
        Monotonic times [s] from which and until which it holds; None: no bound.
    order_id : int or None
        Identity in the store; None: a standing limit of the site's configuration.
    unless_ordered : bool
        Holds only while no order for the asset stands: what to fall back on.
    """

    asset_id: str
    minimum: float | None = None
    maximum: float | None = None
    reason: str = "grid operator limit"
    expires: float | None = None
    begins: float | None = None
    order_id: int | None = None
    unless_ordered: bool = False

    def stands(self, monotonic: float) -> bool:
        """Whether it holds at `monotonic` [s]."""
        return stands(self.begins, self.expires, monotonic)


@dataclass(frozen=True, slots=True)
class GridOperatorSetpoint:
    """A power that the grid operator wants, of one actuator or of the exchange.

    Attributes
    ----------
    order_id : int
        Identity in the store; of several for one asset the newest counts.
    asset_id : str
        Actuator, or the PCC's id; there positive is import.
    value : float
        Wanted power [kW].
    ramp_kw_per_s : float or None
        How fast it is approached; None: by the site's ramp.
    begins, expires : float or None
        Monotonic times [s] from which and until which it holds; None: no bound.
    """

    order_id: int
    asset_id: str
    value: float
    ramp_kw_per_s: float | None = None
    reason: str = "grid operator setpoint"
    expires: float | None = None
    begins: float | None = None

    def stands(self, monotonic: float) -> bool:
        """Whether it holds at `monotonic` [s]."""
        return stands(self.begins, self.expires, monotonic)


@dataclass(frozen=True, slots=True)
class GridTarget:
    """Where a setpoint of the grid operator is on its way in this cycle [kW], and why."""

    value: float
    reason: str


def stands(begins: float | None, expires: float | None, monotonic: float) -> bool:
    """Whether what begins and expires at these monotonic times [s] (None: no bound) holds at `monotonic`."""
    return (begins is None or monotonic >= begins) and (expires is None or monotonic < expires)


@dataclass(frozen=True, slots=True)
class SentState:
    """What an actuator was told last.

    Attributes
    ----------
    value : float
        Value in force [kW].
    since : float
        Monotonic time [s] the value last became zero or left zero (for gensets' minimum times).
    """

    value: float
    since: float


@dataclass(frozen=True, slots=True)
class LoadState:
    """What the load controller's rules remember of a load.

    Attributes
    ----------
    baseline_kw : float or None
        Demand when it was last not curtailed [kW]; None before it was measured.
    curtailed_since : float or None
        Monotonic time [s] the running curtailment began; None when none runs.
    ended : float or None
        Monotonic time [s] the last one ended.
    """

    baseline_kw: float | None = None
    curtailed_since: float | None = None
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """Inputs of one cycle; rules read it and change nothing.

    Attributes
    ----------
    dt : float
        Seconds since the previous cycle, bounded, so that a late cycle does not turn into a big ramp step.
    mode : Mode or None
        Operation mode in force; None runs the plan.
    exchange_noise_kw : float
        Standard deviation of what the exchange moves by between two cycles on its own.
    last : mapping
        What each actuator was told last.
    last_fresh : mapping
        Monotonic time [s] each actuator's asset last had fresh telemetry.
    loads : mapping
        What is remembered of loads with rules of their own.
    exchange_trend_kw : float
        What it goes on moving by in each cycle, import positive, where it goes one way.
    at_meter : mapping
        Power [kW] that each actuator's asset gave when the meter measured what it shows; who is not in it, as now.
    meter_age_cycles : int
        Cycles since then; negative where the meter is ahead of the devices' own measurements.
    meter_reversed : bool
        Whether the exchange was seen to move with the site's own power rather than against it.
    grid_targets : mapping
        Setpoints of the grid operator by asset, each as far as its ramp has brought it.
    requests : sequence of Request
        What controllers with a memory of their own ask for in this cycle.
    """

    model: SiteModel
    image: ProcessImage
    now: datetime
    monotonic: float
    dt: float
    plan: PlanView | None = None
    commands: Sequence[ManualCommand] = ()
    grid_limits: Sequence[GridOperatorLimit] = ()
    mode: Mode | None = None
    exchange_noise_kw: float = 0.0
    exchange_trend_kw: float = 0.0
    last: Mapping[str, SentState] = field(default_factory=dict)
    last_fresh: Mapping[str, float] = field(default_factory=dict)
    loads: Mapping[str, LoadState] = field(default_factory=dict)
    at_meter: Mapping[str, float] = field(default_factory=dict)
    meter_age_cycles: int = 0
    meter_reversed: bool = False
    grid_targets: Mapping[str, GridTarget] = field(default_factory=dict)
    requests: Sequence[Request] = ()

    def fresh(self, asset_id: str, quantity: str) -> float | None:
        """A good value at most three periods old, else None."""
        return self.image.value(asset_id, quantity, self.monotonic, self.model.stale_after_s)

    def power_at_meter(self, asset_id: str) -> float | None:
        """An asset's power when the meter measured what it shows, else its power now; None while it is not seen."""
        now = self.fresh(asset_id, "active_power_kw")
        return None if now is None else self.at_meter.get(asset_id, now)

    def last_value(self, actuator: Actuator) -> float:
        """What the actuator was told last; before the first setpoint, where it stands now."""
        state = self.last.get(actuator.asset_id)
        if state is not None:
            return state.value
        if not actuator.steered:
            return actuator.maximum_kw
        measured = self.fresh(actuator.asset_id, actuator.shown_as)
        if measured is None:
            return 0.0
        return min(max(measured, actuator.minimum_kw), actuator.maximum_kw)

    def was_fresh(self, asset_id: str) -> bool:
        """Whether the asset's power was ever read since the loop started."""
        return asset_id in self.last_fresh

    def blind(self, asset_id: str) -> bool:
        """Whether the asset's telemetry is stale."""
        return self.fresh(asset_id, "active_power_kw") is None
