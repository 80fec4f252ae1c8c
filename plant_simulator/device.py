"""One Modbus device as its registers show it: its signals through the device's template."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from flexergy_pipelines.grid import Device, TemplatePoint, decode, encode
from flexergy_pipelines.grid.templates import decode_unsigned32
from plant_simulator.plant import Plant
from plant_simulator.signals import DeviceSignals
from plant_simulator.sunspec import sunspec_registers

LATEST_EPOCH_S = 4_102_444_800
"""2100-01-01; a schedule that starts later is refused."""


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
        self.signals = DeviceSignals(device, plant, seed)
        self.template = self.signals.template
        self._schedules = self._schedule_blocks()
        self._fixed = sunspec_registers(self.template, device.assets)
        self.sizes = self._table_sizes()
        self._tables = {table: [0] * size for table, size in self.sizes.items()}
        for address, register in self._fixed.items():
            self._tables["holding"][address] = register
        self._clear()
        self._show_all()

    def refresh(self) -> None:
        """Show the plant's present values, as far as the device's faults let it."""
        self.signals.refresh()
        self._show_all()

    def read(self, table: str, address: int, count: int) -> list[int]:
        """Registers as a client sees them."""
        return self._tables[table][address : address + count]

    def write(self, address: int, values: list[int], table: str = "holding") -> list[int] | None:
        """Take a write to the holding registers, or the coils.

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
        held = self._tables[table]
        if self.signals.has_fault("ack_without_effect"):
            return held[address:end]
        after = list(held)
        after[address:end] = values
        orders = [
            (index, decode(signal.point, [after[i] for i in signal.addresses]))
            for index, signal in enumerate(self.signals.signals)
            if signal.point.writable and signal.point.table == table and _overlap(signal.addresses, address, end)
        ]
        registers = table == "holding"
        if any(value is None for _, value in orders):
            return None
        if registers and not self._schedules_valid(after, address, end):
            return None
        self._tables[table] = after
        if registers:
            self._take_times(after, address, end)
        for index, value in orders:
            if value is not None:
                self.signals.take(index, value)
        if registers:
            self._take_schedules(after, address, end)
        return values

    def _show_all(self) -> None:
        for signal, value in zip(self.signals.signals, self.signals.values, strict=True):
            self._show(signal.point, value)

    def _show(self, point: TemplatePoint, value: float | None) -> None:
        try:
            registers = encode(point, value)
        except ValueError:  # what does not fit the register is shown as "no value", as real devices do
            registers = encode(point, None)
        if point.bit is not None:  # the other bits stay
            lone = encode(point, 1.0)
            held = self.read(point.table, point.address, point.width)
            registers = [old & ~mask | new for old, mask, new in zip(held, lone, registers, strict=True)]
        self._tables[point.table][point.address : point.address + point.width] = registers

    def _clear(self) -> None:
        if not self.device.assets:
            for point in self.template.points:
                self._show(point, None)
        elif self.template.setpoint_ttl_address is not None:
            self._tables["holding"][self.template.setpoint_ttl_address] = round(self.signals.ttl_s)

    def _table_sizes(self) -> dict[str, int]:
        highest = {"holding": 0, "input": 0, "coil": 0, "discrete": 0}
        for point in (*self.template.points, *(signal.point for signal in self.signals.signals)):
            highest[point.table] = max(highest[point.table], point.address + point.width)
        lone = (self.template.heartbeat_address, self.template.setpoint_ttl_address)
        ends = [address + 1 for address in lone if address is not None]
        ends += [block.start_address + 2 for block in self._schedules]
        ends += [address + 1 for address in self._fixed]
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
            self.signals.take_ttl(float(after[ttl_address]))
        if heartbeat_address is not None and address <= heartbeat_address < end:
            self.signals.take_heartbeat(after[heartbeat_address])

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
                self.signals.take_schedule(block.asset_id, start, kept)

    def _start_s(self, registers: list[int], block: _ScheduleBlock) -> int:
        words = registers[block.start_address : block.start_address + 2]
        return decode_unsigned32(words, self.template.word_order)


def _overlap(addresses: range, start: int, end: int) -> bool:
    return addresses.start < end and start < addresses.stop
