"""Orders of the grid operator: which limits are in force, and setpoints on their way along the order's ramp."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from control_loop.context import Context, GridOperatorLimit, GridOperatorSetpoint, GridTarget
from control_loop.limits import ramp_band
from control_loop.requests import Layer, Request


def limits_in_force(
    limits: Iterable[GridOperatorLimit], setpoints: Iterable[GridOperatorSetpoint], monotonic: float
) -> list[GridOperatorLimit]:
    """Limits that hold at `monotonic` [s]; what is only to fall back on not where an order for the asset stands."""
    standing = [limit for limit in limits if limit.stands(monotonic)]
    ordered = {limit.asset_id for limit in standing if limit.order_id is not None}
    ordered |= {setpoint.asset_id for setpoint in setpoints if setpoint.stands(monotonic)}
    return [limit for limit in standing if not (limit.unless_ordered and limit.asset_id in ordered)]


class GridSetpoints:
    """Leads what the grid operator wants, of actuators and of the exchange, along its ramps.

    An actuator goes on from what it was told last, so that what a limit held back is not caught up by a step; the
    exchange goes on from its own last target, and begins where it was measured.
    """

    def __init__(self) -> None:
        self._exchange: float | None = None

    def update(
        self, context: Context, setpoints: Iterable[GridOperatorSetpoint], answers_kw: Mapping[str, float]
    ) -> dict[str, GridTarget]:
        """Targets of this cycle, by asset.

        Parameters
        ----------
        setpoints : iterable of GridOperatorSetpoint
            All that are known; of one asset's that stand the newest counts.
        answers_kw : mapping
            What each asset was told beyond its operating point, to answer the frequency [kW].
        """
        standing = sorted((s for s in setpoints if s.stands(context.monotonic)), key=lambda s: s.order_id)
        newest = {setpoint.asset_id: setpoint for setpoint in standing}
        targets: dict[str, GridTarget] = {}
        for actuator in context.model.actuators:
            setpoint = newest.get(actuator.asset_id)
            if setpoint is not None:
                last = context.last_value(actuator) - answers_kw.get(actuator.asset_id, 0.0)
                low, high = ramp_band(actuator, last, _step(context, setpoint))
                targets[actuator.asset_id] = GridTarget(min(max(setpoint.value, low), high), setpoint.reason)
        exchange = newest.get(context.model.pcc_id)
        if exchange is None:
            self._exchange = None
            return targets
        measured = context.fresh(context.model.pcc_id, "active_power_kw")
        last = measured if self._exchange is None else self._exchange
        if last is not None:
            step = _step(context, exchange)
            self._exchange = min(max(exchange.value, last - step), last + step)
            targets[exchange.asset_id] = GridTarget(self._exchange, exchange.reason)
        return targets


def _step(context: Context, setpoint: GridOperatorSetpoint) -> float:
    rate = context.model.ramp_kw_per_s if setpoint.ramp_kw_per_s is None else setpoint.ramp_kw_per_s
    return rate * context.dt


def grid_setpoints(context: Context) -> list[Request]:
    """The grid operator's setpoints of single actuators; one that is not seen, or a site without a meter, gets none."""
    if context.blind(context.model.pcc_id):
        return []
    return [
        Request(Layer.GRID_OPERATOR, a.asset_id, value=target.value, reason=target.reason)
        for a in context.model.actuators
        if (target := context.grid_targets.get(a.asset_id)) is not None and not context.blind(a.asset_id)
    ]
