"""Frozen telemetry: a device that goes on answering, but always the same, is as blind as one that is silent.

A value may stand still by nature: a battery that rests, a sun that has set, a source held by its limit. So each kind of
asset has its own rule of what can not stand still, and for how long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from control_loop.image import ProcessImage
from control_loop.model import Actuator, SiteModel

METER_STILL_S = 30.0
"""A connection's power, frequency and voltages do not all repeat to the last digit for so long."""

METER_MOVED_STILL_S = 5.0
"""Nor its power for so long while the site's own devices moved by a good deal."""

SOURCE_STILL_S = 300.0
"""Sun and wind do not give the same power to the last digit for so long, unless a limit holds it."""

SOC_STEP = 0.015
"""Change of the state of charge that every battery's reading shows, also one that only counts in percent."""

_METER = ("active_power_kw", "reactive_power_kvar", "frequency_hz", "voltage_l1_v", "voltage_l2_v", "voltage_l3_v")
_NEAR = 0.98


@dataclass(slots=True)
class _Watch:
    """What a point showed last, since when, and what else had happened by then."""

    values: tuple[float | None, ...]
    since: float
    flow_kw: float = 0.0
    energy_kwh: float = 0.0
    seen: float = 0.0


class FrozenWatch:
    """Finds assets whose measurements stand still although they cannot.

    Parameters
    ----------
    model : SiteModel
        The site.
    """

    def __init__(self, model: SiteModel) -> None:
        self.model = model
        self._watches: dict[str, _Watch] = {}

    def update(self, image: ProcessImage, told: Mapping[str, float], monotonic: float) -> dict[str, str]:
        """Look at one cycle's image.

        Parameters
        ----------
        image : ProcessImage
            Its samples, fresh or not.
        told : mapping
            Value in force of each actuator [kW].
        monotonic : float
            Now [s].

        Returns
        -------
        dict
            Frozen assets, with what gave them away.
        """
        found: dict[str, str] = {}
        flow = 0.0
        for actuator in self.model.actuators:
            power = _value(image, actuator.asset_id, "active_power_kw", self.model, monotonic)
            flow += 0.0 if power is None else (-power if not actuator.consumes else power)
        self._meter(image, flow, monotonic, found)
        for actuator in self.model.actuators:
            if actuator.storage is not None:
                self._storage(image, actuator, monotonic, found)
            elif actuator.kind in {"pv", "wind"}:
                self._source(image, actuator, told.get(actuator.asset_id), monotonic, found)
        return found

    def _still(
        self, name: str, values: tuple[float | None, ...], monotonic: float, flow_kw: float = 0.0
    ) -> tuple[_Watch, float]:
        """The watch of an asset and for how long its values have not moved [s]."""
        watch = self._watches.get(name)
        if watch is None or watch.values != values:
            watch = self._watches[name] = _Watch(values, monotonic, flow_kw, seen=monotonic)
        return watch, monotonic - watch.since

    def _meter(self, image: ProcessImage, flow_kw: float, monotonic: float, found: dict[str, str]) -> None:
        pcc = self.model.pcc_id
        values = tuple(_value(image, pcc, quantity, self.model, monotonic) for quantity in _METER)
        if values[0] is None:
            self._watches.pop(pcc, None)
            return
        watch, still_s = self._still(pcc, values, monotonic, flow_kw)
        moved = abs(flow_kw - watch.flow_kw)
        large = max(0.05 * min(self.model.import_limit_kw, self.model.export_limit_kw), 2.0)
        if moved > large and still_s >= METER_MOVED_STILL_S:
            found[pcc] = f"{values[0]:g} kW for {still_s:.0f} s while the site moved by {moved:.0f} kW"
        elif still_s >= METER_STILL_S and len([v for v in values if v is not None]) >= 3:
            found[pcc] = f"power, frequency and voltage have not moved for {still_s:.0f} s"

    def _storage(self, image: ProcessImage, actuator: Actuator, monotonic: float, found: dict[str, str]) -> None:
        asset, storage = actuator.asset_id, actuator.storage
        power = _value(image, asset, "active_power_kw", self.model, monotonic)
        soc = _value(image, asset, "soc", self.model, monotonic)
        if power is None or soc is None or storage is None:
            self._watches.pop(asset, None)
            return
        watch, still_s = self._still(asset, (soc,), monotonic)
        hours = (monotonic - watch.seen) / 3600.0
        watch.seen = monotonic
        watch.energy_kwh += hours * (power / storage.discharge_efficiency if power > 0 else power)
        due = watch.energy_kwh / storage.energy_capacity_kwh
        # At its ends a battery's state of charge is held by its own management.
        held = (soc >= 0.99 and due < 0) or (soc <= 0.01 and due > 0)
        if abs(due) > SOC_STEP and not held:
            found[asset] = f"state of charge {soc:.4f} for {still_s:.0f} s at {power:g} kW"

    def _source(
        self, image: ProcessImage, actuator: Actuator, told: float | None, monotonic: float, found: dict[str, str]
    ) -> None:
        asset = actuator.asset_id
        power = _value(image, asset, "active_power_kw", self.model, monotonic)
        available = _value(image, asset, "available_power_kw", self.model, monotonic)
        limit = actuator.maximum_kw if told is None else told
        held = power is not None and (power >= _NEAR * limit or power <= 0.01 * actuator.maximum_kw)
        if power is None or held:
            self._watches.pop(asset, None)
            return
        _, still_s = self._still(asset, (power, available), monotonic)
        if still_s >= SOURCE_STILL_S:
            found[asset] = f"{power:g} kW for {still_s:.0f} s"


def _value(image: ProcessImage, asset: str, quantity: str, model: SiteModel, monotonic: float) -> float | None:
    sample = image.sample(asset, quantity)
    if sample is None or sample.value is None or monotonic - sample.monotonic > model.stale_after_s:
        return None
    return sample.value
