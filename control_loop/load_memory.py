"""What the loop before this one knew of curtailed loads, from the history: no restart or takeover forgets it."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from control_loop.context import LoadState
from control_loop.load_rules import next_load_state
from control_loop.model import Actuator, SiteModel

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

LONGEST = timedelta(hours=24)
"""How far back is looked at most."""
BEFORE = timedelta(hours=1)
"""How much further than the rules reach, to see the demand that was curtailed."""
DEMAND_AGE = timedelta(minutes=5)
"""A measured demand older than this says nothing of a limit."""

Limit = tuple[datetime, float, datetime]
"""When a limit was sent, its value [kW], and until when the device kept it."""


def remembered_loads(
    db: TenantStore, site_id: str, model: SiteModel, now: datetime, monotonic: float
) -> dict[str, LoadState]:
    """State of each load with rules of curtailment, as the limits sent and the demands measured tell it.

    Parameters
    ----------
    db : TenantStore
        The history.
    now : datetime
        Aware.
    monotonic : float
        The same on the monotonic clock [s].
    """
    from flexergy_pipelines.store.readings import read_readings
    from flexergy_pipelines.store.setpoints import read_setpoints

    ruled = [actuator for actuator in model.actuators if actuator.curtailment is not None]
    if not ruled:
        return {}
    start = now - max(_reach(actuator) for actuator in ruled)
    sent = read_setpoints(db, site_id, start, now, [(actuator.asset_id, actuator.quantity) for actuator in ruled])
    demands = read_readings(db, site_id, start, now, [(actuator.asset_id, "active_power_kw") for actuator in ruled])
    states: dict[str, LoadState] = {}
    for actuator in ruled:
        limits = [
            (row["time"], row["sent"], row["valid_until"] or row["time"])
            for row in sent.iter_rows(named=True)
            if row["asset_id"] == actuator.asset_id and row["sent"] is not None
        ]
        measured = [
            (row["time"], row["value"])
            for row in demands.iter_rows(named=True)
            if row["asset_id"] == actuator.asset_id and row["quality"] == 0
        ]
        state = replayed(actuator, limits, measured, now, monotonic)
        if state is not None:
            states[actuator.asset_id] = state
    return states


def replayed(
    actuator: Actuator,
    limits: Sequence[Limit],
    measured: Sequence[tuple[datetime, float]],
    now: datetime,
    monotonic: float,
) -> LoadState | None:
    """State of a load after limits and demands, both oldest first; None where there were no limits."""
    if not limits:
        return None
    times = [time for time, _ in measured]

    def clock(moment: datetime) -> float:
        return monotonic - (now - moment).total_seconds()

    def demand(moment: datetime) -> float | None:
        place = bisect.bisect_right(times, moment) - 1
        known = place >= 0 and moment - times[place] <= DEMAND_AGE
        return min(measured[place][1], actuator.maximum_kw) if known else None

    state = LoadState()
    following = [time for time, _, _ in limits[1:]] + [now]
    for (time, limit, until), after in zip(limits, following, strict=True):
        state = next_load_state(state, demand(time), limit, clock(time))
        if until < after:  # nobody renewed it: the load was free
            state = next_load_state(state, None, actuator.maximum_kw, clock(until))
    return state


def _reach(actuator: Actuator) -> timedelta:
    rules = actuator.curtailment
    seconds = 0.0 if rules is None else min(rules.max_s, LONGEST.total_seconds()) + rules.min_between_s
    return min(LONGEST, timedelta(seconds=min(seconds, LONGEST.total_seconds())) + BEFORE)
