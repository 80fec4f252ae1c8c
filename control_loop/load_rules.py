"""The load controller's rules: curtailment in steps, not too often, and not for too long.

Protection of the connection outranks them: when the PCC limit or an emergency stop needs a load, it is curtailed
whatever its rules of comfort say. What the load cannot do at all (go below its lowest step) holds for everybody but
the stop.
"""

from __future__ import annotations

from collections.abc import Mapping

from control_loop.arbitration import Decision
from control_loop.context import Context, LoadState
from control_loop.model import Actuator
from control_loop.requests import Layer, Request

_NEAR = 0.98
"""A limit at or above this share of the demand does not curtail it; measurements move by so much on their own."""


def next_load_states(context: Context, told: Mapping[str, float]) -> dict[str, LoadState]:
    """State of every load after `told` [kW] went out: since when it is curtailed, and from which demand.

    Parameters
    ----------
    told : mapping
        Limit in force of each actuator.
    """
    states: dict[str, LoadState] = {}
    for actuator in context.model.actuators:
        if actuator.curtailment is None or actuator.asset_id not in told:
            continue
        state = context.loads.get(actuator.asset_id, LoadState())
        shown = context.fresh(actuator.asset_id, "active_power_kw")
        # A meter that shows more than the load's rating is wrong: of steps of that, none would fit under a limit.
        demand = None if shown is None else min(shown, actuator.maximum_kw)
        states[actuator.asset_id] = next_load_state(state, demand, told[actuator.asset_id], context.monotonic)
    return states


def next_load_state(state: LoadState, demand: float | None, limit: float, monotonic: float) -> LoadState:
    """State of a load after a limit [kW] went out.

    Parameters
    ----------
    demand : float or None
        Its power [kW] just before; None where that is not known.
    monotonic : float
        When [s].
    """
    if state.curtailed_since is None:
        baseline = state.baseline_kw if demand is None else demand
        curtails = baseline is not None and limit < _NEAR * baseline
        return LoadState(baseline, monotonic if curtails else None, state.ended)
    if limit >= _NEAR * (state.baseline_kw or 0.0):
        return LoadState(demand, None, monotonic)
    return state


def recalled(before: LoadState, own: LoadState | None) -> LoadState:
    """State of a load from what was known before a loop began, and what it has seen itself since.

    A loop that finds a load curtailed takes what is left of its demand for all of it.
    """
    if own is None or (before.curtailed_since is not None and own.ended is None):
        return before
    if own.ended is not None:
        return own
    return LoadState(own.baseline_kw, own.curtailed_since, before.ended)


def load_capability(context: Context) -> list[Request]:
    """A load cannot be curtailed below its lowest step."""
    requests: list[Request] = []
    for actuator in context.model.actuators:
        state = context.loads.get(actuator.asset_id)
        if actuator.curtailment is None or state is None or state.baseline_kw is None:
            continue
        lowest = min((1.0, *actuator.curtailment.steps)) * state.baseline_kw
        requests.append(
            Request(Layer.PROTECTION, actuator.asset_id, minimum=lowest, reason=f"lowest step {lowest:.1f} kW")
        )
    return requests


def load_comfort(context: Context) -> list[Request]:
    """A load that has been curtailed for long enough, or was so not long ago, is left alone."""
    requests: list[Request] = []
    for actuator in context.model.actuators:
        rules, state = actuator.curtailment, context.loads.get(actuator.asset_id)
        if rules is None or state is None:
            continue
        reason = None
        if state.curtailed_since is not None:
            lasted = context.monotonic - state.curtailed_since
            if lasted >= rules.max_s:
                reason = f"curtailed for {lasted / 60:.0f} min, at most {rules.max_s / 60:.0f} min"
        elif state.ended is not None:
            rested = context.monotonic - state.ended
            if rested < rules.min_between_s:
                reason = f"curtailed {rested / 60:.0f} min ago, at least {rules.min_between_s / 60:.0f} min between"
        if reason is not None:
            requests.append(Request(Layer.RAMP, actuator.asset_id, minimum=actuator.maximum_kw, reason=reason))
    return requests


def to_step(actuator: Actuator, state: LoadState | None, decision: Decision) -> float:
    """The limit of the nearest curtailment step; never above what the higher layers allow.

    A limit above the demand is none, so the load then gets its whole rating: else a demand that flickers would be
    shaved a little all the time.

    Parameters
    ----------
    state : LoadState or None
        Its baseline is the demand; None before it was measured.
    """
    rules = actuator.curtailment
    value = decision.value
    if rules is None or decision.source is Layer.EMERGENCY_STOP:
        return value
    baseline = None if state is None else state.baseline_kw
    if baseline is None or value >= baseline:
        return min(actuator.maximum_kw, decision.hard_upper)
    limits = [share * baseline for share in rules.steps if share * baseline <= decision.hard_upper + 1e-9]
    if decision.hard_upper >= baseline:
        limits.append(actuator.maximum_kw)
    if not limits:
        return value

    def distance(limit: float) -> float:
        return abs(min(limit, baseline) - value)

    return min(limits, key=distance)
