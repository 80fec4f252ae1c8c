"""One field device as its registers show it: the plant's values through the device's template, and its faults."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime

from flexergy_pipelines.grid import Device, DeviceTemplate, TemplatePoint, decode, encode, load_template
from flexergy_pipelines.grid.templates import decode_unsigned32
from plant_simulator.plant import Plant

SPIKE_PROBABILITY = 0.1
"""Share of the refreshes in which a spiking device shows one wild value."""
SPIKE_FACTOR = 10.0
LATEST_EPOCH_S = 4_102_444_800
"""2100-01-01; a schedule that starts later is refused."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A point of one asset at its final address."""

    asset_id: str
    point: TemplatePoint

    @property
    def addresses(self) -> range:
        return range(self.point.address, self.point.address + self.point.width)


@dataclass(frozen=True, slots=True)
class _ScheduleBlock:
    """The schedule registers of one asset at their final addresses."""

    asset_id: str
    start_address: int
    slots: tuple[TemplatePoint, ...]


class DeviceRegisters:
    """Register image of one device of a plant.

    Reads give what the last `refresh` put there; writes go to the plant's orders and are in force from its next step.
    Written registers read back as written, and as the safe value once the device's revert timer ran out.

    Parameters
    ----------
    device : Device
        A controller or meter of the plant's site.
    plant : Plant
        The plant it measures and commands; device faults stand on its fault board under the device's key.
    seed : int
        Seed of the spikes.
    """

    def __init__(self, device: Device, plant: Plant, seed: int = 0) -> None:
        self.device = device
        self.plant = plant
        self.template: DeviceTemplate = load_template(device.connection.template)
        self._rng = random.Random(f"{seed}/{device.key}")  # noqa: S311 - physics, not secrets
        self._places = [
            _Place(asset.id, self.template.point(point.quantity, index))
            for index, asset in enumerate(device.assets)
            for point in self.template.points
        ]
        self._schedules = self._schedule_blocks()
        self.sizes = self._table_sizes()
        self._tables = {table: [0] * size for table, size in self.sizes.items()}
        self._heartbeat: int | None = None
        self._clear()
        self.refresh()

    @property
    def down(self) -> bool:
        """The port is closed."""
        return self._fault("down")

    @property
    def silent(self) -> bool:
        """Requests are never answered."""
        return self._fault("silent")

    @property
    def delay_s(self) -> float:
        """Delay of each answer [s]."""
        fault = self.plant.faults.find(self.device.key, "slow")
        return 0.0 if fault is None else fault.delay_s

    def refresh(self) -> None:
        """Show the plant's present values, as far as the device's faults let it."""
        if self._fault("frozen"):
            return
        blank = self._fault("nan")
        misscaled = self.plant.faults.find(self.device.key, "wrong_scale")
        keep_written = self._fault("stuck_output")
        spiking = self._fault("spikes") and self._rng.random() < SPIKE_PROBABILITY
        wild = self._rng.randrange(len(self._places)) if spiking and self._places else None
        for index, place in enumerate(self._places):
            if place.point.writable and keep_written:
                continue
            value = None if blank and not place.point.writable else self._measure(place)
            if index == wild and value is not None and not place.point.writable:
                value = SPIKE_FACTOR * (value + 1.0)
            if misscaled is not None and value is not None and place.point.quantity == "active_power_kw":
                value *= misscaled.value
            self._show(place.point, value)

    def read(self, table: str, address: int, count: int) -> list[int]:
        """Registers as a client sees them."""
        return self._tables[table][address : address + count]

    def write(self, address: int, values: list[int]) -> list[int] | None:
        """Take a write to the holding registers.

        Parameters
        ----------
        address : int
            First register.
        values : list of int
            Raw registers.

        Returns
        -------
        list of int or None
            What the registers then hold; None when a value is refused, and then nothing was taken.
        """
        end = address + len(values)
        holding = self._tables["holding"]
        if self._fault("ack_without_effect"):
            return holding[address:end]
        after = list(holding)
        after[address:end] = values
        touched = [p for p in self._places if p.point.writable and _overlap(p.addresses, address, end)]
        orders = [(place, decode(place.point, [after[i] for i in place.addresses])) for place in touched]
        if any(value is None for _, value in orders) or not self._schedules_valid(after, address, end):
            return None
        self._tables["holding"] = after
        if not self._fault("stuck_output"):
            self._take_times(after, address, end)
            for place, value in orders:
                if value is not None:
                    self.plant.command(place.asset_id, place.point.quantity, value)
        self._take_schedules(after, address, end)
        return values

    def _fault(self, kind: str) -> bool:
        return self.plant.faults.has(self.device.key, kind)

    def _measure(self, place: _Place) -> float | None:
        quantity = place.point.quantity
        if not self.plant.measures(place.asset_id, quantity):
            return None
        return self.plant.measure(place.asset_id, quantity)

    def _show(self, point: TemplatePoint, value: float | None) -> None:
        try:
            registers = encode(point, value)
        except ValueError:  # what does not fit the register is shown as "no value", as real devices do
            registers = encode(point, None)
        self._tables[point.table][point.address : point.address + point.width] = registers

    def _clear(self) -> None:
        for point in self.template.points:
            if not self.device.assets:
                self._show(point, None)
        if self.template.setpoint_ttl_address is not None and self.device.assets:
            ttl_s = self.plant.orders.ttl_s(self.device.assets[0].id)
            self._tables["holding"][self.template.setpoint_ttl_address] = round(ttl_s)

    def _table_sizes(self) -> dict[str, int]:
        highest = {"holding": 0, "input": 0}
        for point in (*self.template.points, *(place.point for place in self._places)):
            highest[point.table] = max(highest[point.table], point.address + point.width)
        ends = [
            address + 1 for address in (self.template.heartbeat_address, self.template.setpoint_ttl_address) if address
        ]
        ends += [block.start_address + 2 for block in self._schedules]
        ends += [slot.address + slot.width for block in self._schedules for slot in block.slots]
        highest["holding"] = max([highest["holding"], *ends])
        return highest

    def _schedule_blocks(self) -> list[_ScheduleBlock]:
        schedule = self.template.schedule
        if schedule is None:
            return []
        blocks = []
        for index, asset in enumerate(self.device.assets):
            base = index * self.template.asset_stride
            slots = [schedule.point(slot) for slot in range(schedule.slots)]
            moved = tuple(slot.model_copy(update={"address": slot.address + base}) for slot in slots)
            blocks.append(_ScheduleBlock(asset.id, schedule.start_address + base, moved))
        return blocks

    def _take_times(self, after: list[int], address: int, end: int) -> None:
        ttl_address, heartbeat_address = self.template.setpoint_ttl_address, self.template.heartbeat_address
        if ttl_address is not None and address <= ttl_address < end:
            for asset in self.device.assets:
                self.plant.orders.set_ttl_s(asset.id, float(after[ttl_address]))
        if heartbeat_address is not None and address <= heartbeat_address < end:
            beat = after[heartbeat_address]
            if beat != self._heartbeat:
                for asset in self.device.assets:
                    self.plant.orders.refresh(asset.id)
            self._heartbeat = beat

    def _schedules_valid(self, after: list[int], address: int, end: int) -> bool:
        return all(
            self._start_s(after, block) < LATEST_EPOCH_S
            and all(decode(slot, after[slot.address : slot.address + slot.width]) is not None for slot in block.slots)
            for block in self._schedules
            if _overlap(range(block.start_address, block.start_address + 2), address, end)
        )

    def _take_schedules(self, after: list[int], address: int, end: int) -> None:
        for block in self._schedules:
            if _overlap(range(block.start_address, block.start_address + 2), address, end):
                start = datetime.fromtimestamp(self._start_s(after, block), UTC)
                values = [decode(slot, after[slot.address : slot.address + slot.width]) for slot in block.slots]
                kept = tuple(value for value in values if value is not None)
                self.plant.keep_schedule(block.asset_id, start, kept)

    def _start_s(self, registers: list[int], block: _ScheduleBlock) -> int:
        words = registers[block.start_address : block.start_address + 2]
        return decode_unsigned32(words, self.template.word_order)


def _overlap(addresses: range, start: int, end: int) -> bool:
    return addresses.start < end and start < addresses.stop
