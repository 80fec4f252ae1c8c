"""IEC 60870-5-104 devices: addresses by rule, values to and orders from the worker that speaks the protocol.

Addresses follow from the device's register template, so that a device type is written down once. With `a` the register
address of a point (of this asset):

| information object | type | IOA |
| --- | --- | --- |
| measured value | M_ME_NC_1 (`available`, `running`: M_SP_NA_1; alarm words: M_BO_NA_1) | 1 + a |
| the same with the device's time stamp, spontaneous | M_ME_TF_1 | 10001 + a |
| order, direct | C_SE_NC_1 | 20001 + a |
| order, select before execute | C_SE_NC_1 | 25001 + a |
| order in force | M_ME_NC_1 | 30001 + a |
| slot of the next hour's schedule | C_SE_NC_1 | 20001 + a |
| start of the schedule, seconds since 1970, low octet first | C_BO_NA_1 | 20001 + a |
| revert time of the orders [s] | C_SE_NC_1 | 40001 |
| heartbeat | C_SE_NC_1 | 40002 |

Values are in the platform's units and signs. The common address is the connection's unit id.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

from flexergy_pipelines.grid import Device
from plant_simulator.plant import Plant
from plant_simulator.signals import DeviceSignals

MEASURED_BASE = 1
STAMPED_BASE = 10_001
ORDER_BASE = 20_001
SELECT_BASE = 25_001
IN_FORCE_BASE = 30_001
TTL_IOA = 40_001
HEARTBEAT_IOA = 40_002
SINGLE_POINTS = {"available", "running"}


class Iec104Device:
    """One device as information objects.

    Parameters
    ----------
    device : Device
        A controller or meter of the plant's site.
    plant : Plant
        The plant it measures and commands.
    seed : int
        Seed of the spikes.
    """

    def __init__(self, device: Device, plant: Plant, seed: int = 0) -> None:
        self.signals = DeviceSignals(device, plant, seed)
        self.device = device
        self.writes = 0
        self._orders: dict[int, int] = {}
        self._selectable: dict[int, int] = {}
        self._slots: dict[int, tuple[str, int]] = {}
        self._starts: dict[int, str] = {}
        self._slot_values: dict[str, list[float]] = {}
        self._sent: dict[int, float | None] = {}
        for index, signal in enumerate(self.signals.signals):
            if signal.point.writable:
                self._orders[ORDER_BASE + signal.point.address] = index
                self._selectable[SELECT_BASE + signal.point.address] = index
        self._place_schedules()

    def spec(self) -> dict[str, Any]:
        """What the worker must know to serve this device."""
        singles, words, stamp = self._single_ioas(), self._word_ioas(), STAMPED_BASE - MEASURED_BASE
        monitored: list[dict[str, Any]] = []
        for ioa in self.values():
            kind = "single" if ioa in singles else "word" if ioa in words else "short"
            stamped = None if kind != "short" or ioa >= IN_FORCE_BASE else ioa + stamp
            monitored.append({"ioa": ioa, "kind": kind, "stamped": stamped})
        commands = [TTL_IOA, HEARTBEAT_IOA, *self._orders, *self._slots] if self._orders else []
        return {
            "key": self.device.key,
            "common_address": max(1, self.device.connection.unit_id),
            "monitored": monitored,
            "setpoints": commands,
            "selectable": list(self._selectable),
            "bitstrings": list(self._starts),
        }

    def values(self) -> dict[int, float | None]:
        """Present value of every monitored information object."""
        shown = zip(self.signals.signals, self.signals.values, strict=True)
        return {
            (IN_FORCE_BASE if signal.point.writable else MEASURED_BASE) + signal.point.address: value
            for signal, value in shown
        }

    def changes(self) -> dict[int, float | None]:
        """Values that changed since they were last asked for, in the protocol's 32-bit precision."""
        changed: dict[int, float | None] = {}
        words = self._word_ioas()
        for ioa, value in self.values().items():
            exact = value is None or ioa in words
            short = value if exact else struct.unpack("f", struct.pack("f", value))[0]
            if ioa not in self._sent or self._sent[ioa] != short:
                changed[ioa] = self._sent[ioa] = short
        return changed

    def forget_sent(self) -> None:
        """Let `changes` give everything again, for a worker that starts afresh."""
        self._sent.clear()

    def take(self, ioa: int, value: float) -> None:
        """Take an order that the worker received and acknowledged."""
        self.writes += 1
        index = self._orders.get(ioa, self._selectable.get(ioa))
        if index is not None:
            self.signals.take(index, value)
        elif ioa in self._slots:
            asset_id, slot = self._slots[ioa]
            self._slot_values[asset_id][slot] = value
        elif ioa in self._starts:
            asset_id = self._starts[ioa]
            self.signals.take_schedule(
                asset_id, datetime.fromtimestamp(int(value), UTC), tuple(self._slot_values[asset_id])
            )
        elif ioa == TTL_IOA:
            self.signals.take_ttl(value)
        elif ioa == HEARTBEAT_IOA:
            self.signals.take_heartbeat(int(value))

    def _single_ioas(self) -> set[int]:
        return {MEASURED_BASE + s.point.address for s in self.signals.signals if s.point.quantity in SINGLE_POINTS}

    def _word_ioas(self) -> set[int]:
        words = self.signals.template.alarm_words
        return {MEASURED_BASE + s.point.address for s in self.signals.signals if s.point.quantity in words}

    def _place_schedules(self) -> None:
        schedule = self.signals.template.schedule
        if schedule is None:
            return
        for index, asset in enumerate(self.device.assets):
            base = ORDER_BASE + index * self.signals.template.asset_stride
            self._slot_values[asset.id] = [0.0] * schedule.slots
            self._starts[base + schedule.start_address] = asset.id
            for slot in range(schedule.slots):
                self._slots[base + schedule.point(slot).address] = (asset.id, slot)
