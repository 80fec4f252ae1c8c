"""Holding the exchange with the grid at a set value (zero flow, for one), closed over the PCC meter.

Feed-forward and PI in one: each cycle moves the storage's last setpoint by a share of the error that will be left when
all that was already told has arrived. What was told but is not yet seen is known from the measured dead time, so a
correction is not made twice however slow the plant is (Smith, 1957), and a step of the load is followed at once. As
it goes on from what was really decided, a setpoint that a limit clipped winds nothing up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose, isfinite

from control_loop.context import Context
from control_loop.dead_time import DeadTime
from control_loop.frequency import operating_point_kw
from control_loop.limits import ramp_band
from control_loop.model import Actuator
from control_loop.requests import Layer, Request

SETPOINT = "active_power_setpoint_kw"
PLANNED = "active_power_kw"
"""Quantity under which a plan holds the exchange."""


@dataclass(frozen=True, slots=True)
class ExchangeGains:
    """Gains of the exchange controller.

    Attributes
    ----------
    share : float
        Share of the predicted error that is corrected in each cycle, above 0 and at most 1.
    careful_share : float
        The same as long as no dead time is known, for cycles of a second or more; of shorter ones, so much a second.
    slack : float
        How far a setpoint may lie beyond the measured power and its correction, as a share of the nameplate; more
        would only wind up against a device that does not follow.

    Notes
    -----
    With a dead time of n cycles and a plant that gives the share a of what it was told, ``u[k+1] = u[k] + g (e[k] -
    (u[k] - u[k-n]))`` and ``e[k] = d - a u[k-n]``: with a = 1 the loop is ``u[k+1] = (1 - g) u[k] + g d``, of any n.
    """

    share: float = 0.6
    careful_share: float = 0.2
    slack: float = 0.1


class ExchangeController:
    """Keeps the PCC of one site at a set value, or in the band of the mode in force or around the plan's exchange."""

    def __init__(self, gains: ExchangeGains | None = None) -> None:
        self.gains = gains or ExchangeGains()
        self._dead_times: dict[str, DeadTime] = {}
        self._before: _Wanted | None = None

    @property
    def dead_time_cycles(self) -> int:
        """Longest dead time of the storage systems [cycles]."""
        return max((d.cycles for d in self._dead_times.values()), default=1)

    def arrived(self, context: Context, actuator: Actuator, cycles: int) -> float:
        """Change of a storage's power in the last `cycles` that it does not show yet, by what it was told [kW]."""
        known = self._dead_times.get(actuator.asset_id)
        if known is None or not known.measured:
            return 0.0

        def told(before: int) -> float:
            # What is told now is noted only when this cycle's requests are made.
            return context.last_value(actuator) if before <= 0 else known.told_before(before - 1)

        return told(known.cycles - 1 - cycles) - told(known.cycles - 1)

    def requests(self, context: Context) -> list[Request]:
        """Setpoints of all storage systems that keep the exchange where it is wanted.

        Returns
        -------
        list of Request
            Nothing without somebody who wants the exchange held, or while the meter is lost.

        Notes
        -----
        A band with an open end only holds what leaves it: inside, the plan's setpoints stand.
        """
        self._watch(context)
        before, wanted = self._before, _wanted(context)
        self._before = wanted
        measured = context.fresh(context.model.pcc_id, "active_power_kw")
        storages = [
            a
            for a in context.model.actuators
            if a.kind == "ess" and not context.blind(a.asset_id) and a.asset_id not in context.grid_targets
        ]
        if wanted is None or measured is None or not storages:
            return []
        delay = self.dead_time_cycles
        unseen = max(delay - 1 + context.meter_age_cycles, 0)
        under_way = sum(context.last_value(a) - self._dead_times[a.asset_id].told_before(unseen) for a in storages)
        known = all(self._dead_times[a.asset_id].measured for a in storages)
        share = self.gains.share if known else self.gains.careful_share * min(1.0, context.model.cycle_s)
        # What is wanted otherwise than before is known, and needs no feedback: it is moved at once.
        shift = 0.0 if before is None or before.layer is not wanted.layer else before.least_kw - wanted.least_kw
        if before is None or not isclose(before.most_kw - wanted.most_kw, shift, abs_tol=1e-6):
            shift = 0.0
        # The move that brings the exchange to the upper end is the least there may be, to the lower end the most.
        least, most = (
            share * (measured - end - shift - under_way) + shift for end in (wanted.most_kw, wanted.least_kw)
        )
        planned = sum(operating_point_kw(context, a) - context.last_value(a) for a in storages)
        if least <= planned <= most and wanted.least_kw < wanted.most_kw:
            return []
        move = min(max(planned, least), most)
        error = measured - (wanted.most_kw if move == least else wanted.least_kw)
        shares = _shares(context, storages, move)
        return [
            Request(
                wanted.layer,
                a.asset_id,
                value=self._bounded(context, a, move * part, error * part),
                reason=wanted.reason,
            )
            for a, part in zip(storages, shares, strict=True)
        ]

    def _watch(self, context: Context) -> None:
        for actuator in context.model.actuators:
            if actuator.kind == "ess":
                span = actuator.maximum_kw - actuator.minimum_kw
                known = self._dead_times.setdefault(
                    actuator.asset_id, DeadTime(span, len(self._dead_times), context.model.cycle_s)
                )
                known.note(context.last_value(actuator), context.fresh(actuator.asset_id, "active_power_kw"))

    def _bounded(self, context: Context, actuator: Actuator, move_kw: float, error_kw: float) -> float:
        """The last setpoint and its move, but not further from what the device gives than the error explains."""
        last = context.last_value(actuator)
        # The grid operator ranks above the ramp, which bounds everybody else's wishes.
        low, high = ramp_band(actuator, last, context.model.ramp_kw_per_s * context.dt)
        wanted = min(max(last + move_kw, low), high)
        gives = context.power_at_meter(actuator.asset_id)
        if gives is None:
            return wanted
        slack = self.gains.slack * (actuator.maximum_kw - actuator.minimum_kw)
        return min(max(wanted, gives + min(error_kw, 0.0) - slack), gives + max(error_kw, 0.0) + slack)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Exchange that is wanted, from `least_kw` to `most_kw` (import positive), by whom and why."""

    least_kw: float
    most_kw: float
    layer: Layer
    reason: str


def _wanted(context: Context) -> _Wanted | None:
    """The grid operator's setpoint, the newest operator's set value, the band of the mode in force, or the plan's."""
    ordered = context.grid_targets.get(context.model.pcc_id)
    if ordered is not None:
        return _Wanted(ordered.value, ordered.value, Layer.GRID_OPERATOR, ordered.reason)
    standing = [c for c in context.commands if c.asset_id == context.model.pcc_id and c.quantity == SETPOINT]
    if standing:
        command = max(standing, key=lambda c: c.command_id)
        reason = f"exchange held at {command.value:g} kW by {command.user or 'operator'}"
        return _Wanted(command.value, command.value, Layer.OPERATOR, reason)
    if context.mode is not None and (context.mode.band_kw is not None or context.mode.rests):
        return None if context.mode.band_kw is None else _Wanted(*context.mode.band_kw, Layer.MODE, context.mode.text)
    band = context.model.exchange_band_kw
    planned = None if context.plan is None else context.plan.value(context.model.pcc_id, PLANNED, context.now)
    if band is None or planned is None or not isfinite(planned):
        return None
    reason = f"keeps the exchange within {band:g} kW of the planned {planned:g} kW"
    return _Wanted(planned - band, planned + band, Layer.INTRADAY, reason)


def _shares(context: Context, storages: list[Actuator], move_kw: float) -> list[float]:
    """How a move is shared: by the room each storage has in its direction, equally where none has any."""
    rooms: list[float] = []
    for actuator in storages:
        last = context.last_value(actuator)
        rooms.append(max(0.0, actuator.maximum_kw - last if move_kw > 0 else last - actuator.minimum_kw))
    total = sum(rooms)
    return [room / total for room in rooms] if total > 0 else [1.0 / len(storages)] * len(storages)
