"""Frequency response: power by the measured frequency, on top of what the plan has the storage do."""

from __future__ import annotations

from control_loop.context import Context
from control_loop.droop import FrequencyResponse, share_by_capacity
from control_loop.requests import Layer, Request


class FrequencyService:
    """Gives a site's storage the power that the grid operator's P(f) curve asks for.

    Parameters
    ----------
    response : FrequencyResponse
        Curve and reserve.
    hysteresis_hz : float
        Once active, the response ends only when the frequency is so far inside the part of the curve that asks for
        nothing; with 0 it follows the curve alone.
    """

    def __init__(self, response: FrequencyResponse, hysteresis_hz: float = 0.0) -> None:
        self.response = response
        self.hysteresis_hz = hysteresis_hz
        self.accuracy_kw: float | None = None
        self._active = False

    def requests(self, context: Context) -> list[Request]:
        """Setpoints while the frequency calls for power; nothing when it does not or is not measured.

        Notes
        -----
        The answer is added to the plan's setpoint, so that the reserve is given from the operating point that was
        sold. How far the storage was from the last answer is kept in `accuracy_kw`.
        """
        frequency = context.fresh(context.model.pcc_id, "frequency_hz")
        storages = [a for a in context.model.actuators if a.kind == "ess"]
        if frequency is None or not storages:
            self.accuracy_kw = None
            return []
        answer = self.response.power_kw(frequency)
        edges = (frequency - self.hysteresis_hz, frequency + self.hysteresis_hz)
        self._active = answer != 0 or (self._active and any(self.response.power_kw(f) != 0 for f in edges))
        if not self._active:
            self.accuracy_kw = None
            return []
        shares = share_by_capacity(answer, [a.maximum_kw for a in storages])
        requests: list[Request] = []
        off = 0.0
        for actuator, share in zip(storages, shares, strict=True):
            planned = None
            if context.plan is not None:
                planned = context.plan.value(actuator.asset_id, actuator.quantity, context.now)
            value = (planned or 0.0) + share
            measured = context.fresh(actuator.asset_id, "active_power_kw")
            off += 0.0 if measured is None else measured - value
            reason = f"frequency {frequency:.3f} Hz asks for {share:+.1f} kW"
            requests.append(Request(Layer.GRID_OPERATOR, actuator.asset_id, value=value, reason=reason))
        self.accuracy_kw = off
        return requests
