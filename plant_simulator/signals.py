"""What one field device shows and takes, before any protocol: the plant's values through the device's faults."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from flexergy_pipelines.grid import Device, DeviceTemplate, TemplatePoint, load_template
from flexergy_pipelines.grid.ratings import rated_power_kw
from plant_simulator.plant import Plant

SPIKE_PROBABILITY = 0.1
"""Share of the refreshes in which a spiking device shows one wild value."""
SPIKE_FACTOR = 10.0
POWERS = ("active_power", "reactive_power", "available_power")
"""What the names of measured powers begin with: what a wrong ratio of current transformers falsifies at once."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A value of one asset at its final address.

    Attributes
    ----------
    asset_index : int
        Number of the asset behind its device, from 0.
    point : TemplatePoint
        The template's point, with the address of this asset.
    """

    asset_id: str
    asset_index: int
    point: TemplatePoint

    @property
    def addresses(self) -> range:
        """Its registers."""
        return range(self.point.address, self.point.address + self.point.width)


class DeviceSignals:
    """All values of one device of a plant.

    Parameters
    ----------
    device : Device
        A controller or meter of the plant's site.
    plant : Plant
        The plant it measures and commands; device faults stand on its fault board under the device's key.
    seed : int
        Seed of the spikes.

    Attributes
    ----------
    signals : list of Signal
        What there is.
    values : list of (float or None)
        Present value of each signal as the device shows it; None is "no value".
    """

    def __init__(self, device: Device, plant: Plant, seed: int = 0) -> None:
        self.device = device
        self.plant = plant
        self.template: DeviceTemplate = load_template(device.connection.template)
        self.signals = [
            Signal(asset.id, index, self.template.point(point.quantity, index).for_rating(rated_power_kw(asset)))
            for index, asset in enumerate(device.assets)
            for point in self.template.points
        ]
        self.values: list[float | None] = [None] * len(self.signals)
        self._rng = random.Random(f"{seed}/{device.key}")  # noqa: S311 - physics, not secrets
        self._heartbeat: int | None = None
        self.refresh()

    @property
    def down(self) -> bool:
        """The port is closed."""
        return self.has_fault("down")

    @property
    def silent(self) -> bool:
        """Requests are never answered."""
        return self.has_fault("silent")

    @property
    def delay_s(self) -> float:
        """Delay of each answer [s]."""
        fault = self.plant.faults.find(self.device.key, "slow")
        return 0.0 if fault is None else fault.delay_s

    @property
    def clock_error_s(self) -> float:
        """How far the device's own clock is ahead [s]."""
        fault = self.plant.faults.find(self.device.key, "clock_skew")
        return 0.0 if fault is None else fault.value

    @property
    def ttl_s(self) -> float:
        """Revert time of the device's orders [s]."""
        return self.plant.orders.ttl_s(self.device.assets[0].id) if self.device.assets else 0.0

    def has_fault(self, kind: str) -> bool:
        """Whether such a fault of the device is in force."""
        return self.plant.faults.has(self.device.key, kind)

    def refresh(self) -> None:
        """Show the plant's present values, as far as the device's faults let it."""
        if self.has_fault("frozen"):
            return
        blank = self.has_fault("nan")
        misscaled = self.plant.faults.find(self.device.key, "wrong_scale")
        keep_written = self.has_fault("stuck_output")
        spiking = self.has_fault("spikes") and self._rng.random() < SPIKE_PROBABILITY
        wild = self._rng.randrange(len(self.signals)) if spiking and self.signals else None
        for index, signal in enumerate(self.signals):
            if signal.point.writable:
                if not keep_written:
                    self.values[index] = self._measure(signal)
                continue
            value = None if blank else self._measure(signal)
            if value is not None and index == wild:
                value = SPIKE_FACTOR * (value + 1.0)
            if value is not None and misscaled is not None and signal.point.quantity.startswith(POWERS):
                value *= misscaled.value
            self.values[index] = value

    def take(self, index: int, value: float) -> None:
        """Take an order for the writable signal number `index`; faults may keep it from having an effect."""
        if self.has_fault("ack_without_effect"):
            return
        self.values[index] = value
        if not self.has_fault("stuck_output"):
            signal = self.signals[index]
            self.plant.command(signal.asset_id, signal.point.quantity, value)

    def take_ttl(self, seconds: float) -> None:
        """Set the revert time of the device's next orders [s]."""
        for asset in self.device.assets:
            self.plant.orders.set_ttl_s(asset.id, seconds)

    def take_heartbeat(self, beat: int) -> None:
        """Take the master's heartbeat; when it moved, the orders in force live on."""
        if beat != self._heartbeat:
            for asset in self.device.assets:
                self.plant.orders.refresh(asset.id)
        self._heartbeat = beat

    def take_schedule(self, asset_id: str, start: datetime, values_kw: tuple[float, ...]) -> None:
        """Keep the schedule of one asset."""
        self.plant.keep_schedule(asset_id, start, values_kw)

    def _measure(self, signal: Signal) -> float | None:
        if not self.plant.measures(signal.asset_id, signal.point.quantity):
            return None
        return self.plant.measure(signal.asset_id, signal.point.quantity)
