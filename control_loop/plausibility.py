"""Whether what the main meter shows can be: the grid's voltage and frequency, and the sum of what hangs behind it.

References
----------
EN 50160, voltage characteristics of electricity supplied by public networks: 4.2.1 (frequency within 1 %), 4.2.2 and
5.2.2 (voltage within 10 %).
"""

from __future__ import annotations

from control_loop.alarms import MEDIUM, Alarm, AlarmKey
from control_loop.context import Context

VOLTAGE_BAND = 0.10
FREQUENCY_BAND = 0.01
PHASES = ("l1", "l2", "l3")
DISAGREEMENT_SHARE = 0.10
"""Share of the larger limit of the connection by which meter and assets may differ."""
DISAGREEMENT_S = 30.0
"""How long they must differ: devices show steps at different times."""


class MeterWatch:
    """Alarms of the main meter's values; remembers since when meter and assets disagree."""

    def __init__(self) -> None:
        self._since: float | None = None

    def update(self, context: Context) -> dict[AlarmKey, Alarm]:
        """Look at one cycle."""
        found = [*_grid_values(context), *self._disagreement(context)]
        return {alarm.key: alarm for alarm in found}

    def _disagreement(self, context: Context) -> list[Alarm]:
        model = context.model
        shown_kw, summed_kw = context.fresh(model.pcc_id, "active_power_kw"), _sum_kw(context)
        allowed_kw = DISAGREEMENT_SHARE * max(model.import_limit_kw, model.export_limit_kw)
        if shown_kw is None or summed_kw is None or abs(shown_kw - summed_kw) <= allowed_kw:
            self._since = None
            return []
        self._since = context.monotonic if self._since is None else self._since
        if context.monotonic - self._since < DISAGREEMENT_S:
            return []
        message = (
            f"{model.pcc_id}: its meter shows {shown_kw:.0f} kW, what hangs behind it adds up to {summed_kw:.0f} kW; "
            "a scale or sign is wrong, or something is not metered"
        )
        return [Alarm("meter_disagrees", model.pcc_id, MEDIUM, message)]


def _sum_kw(context: Context) -> float | None:
    """Import that follows from all assets [kW]; None where one is unknown, or where loads are not metered."""
    powers = [(sign, context.fresh(asset_id, "active_power_kw")) for asset_id, sign in context.model.balance]
    known = [sign * power for sign, power in powers if power is not None]
    return sum(known) if powers and len(known) == len(powers) else None


def _grid_values(context: Context) -> list[Alarm]:
    model, found = context.model, []
    hz = context.fresh(model.pcc_id, "frequency_hz")
    low_hz, high_hz = (model.nominal_hz * (1 + side * FREQUENCY_BAND) for side in (-1, 1))
    if model.nominal_hz and hz is not None and not low_hz <= hz <= high_hz:
        message = f"{model.pcc_id}: the grid's frequency of {hz:.2f} Hz is outside {low_hz:g}..{high_hz:g} Hz"
        found.append(Alarm("grid_frequency_off", model.pcc_id, MEDIUM, message))
    low_v, high_v = (model.nominal_v * (1 + side * VOLTAGE_BAND) for side in (-1, 1))
    shown = [(phase.upper(), context.fresh(model.pcc_id, f"voltage_{phase}_v")) for phase in PHASES]
    off = [f"{name} {volts:.0f} V" for name, volts in shown if volts is not None and not low_v <= volts <= high_v]
    if model.nominal_v and off:
        message = f"{model.pcc_id}: the grid's voltage is outside {low_v:.0f}..{high_v:.0f} V: {', '.join(off)}"
        found.append(Alarm("grid_voltage_off", model.pcc_id, MEDIUM, message))
    return found
