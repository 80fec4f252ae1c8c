"""IEC 61850 devices: a logical device by rule, values to and orders from the worker that speaks the protocol.

The model follows from the device's register template, so that a device type is written down once. The IED is called
FLX, the logical device like the device without hyphens (`esc-1` is `FLXesc1`). Asset number n (from 1) is a logical
node `GGIOn`; its points in the template's order are numbered by kind:

| data object | class | what |
| --- | --- | --- |
| `AnInk.mag.f` | MV | k-th measured value |
| `Indk.stVal` | SPS | k-th yes or no (`available`, `running`) |
| `IntInk.stVal` | INS | k-th alarm word |
| `AnOut1` | APC, direct | the asset's setpoint or limit; `mxVal.f` is the one in force |
| `AnOut2`, `AnOut3`, `AnOut4` | APC | the same, select before operate; direct enhanced; select enhanced |
| `AnOut5` .. `AnOut8` | APC | the asset's second order in the template, if it has one, in the same four ways |
| `AnOut11` .. `AnOut14` | APC, direct | slots of the next hour's schedule |
| `ISCSO1` | INC, direct | start of the schedule, seconds since 1970 |

`GGIO90.AnOut1` is the revert time of the orders [s], `GGIO90.AnOut2` the heartbeat. `LLN0` has the data set `Values` of
all measured values, with the report control blocks `urcbValues01` and `brcbValues01` (data change, integrity, GI).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flexergy_pipelines.grid import Device
from plant_simulator.plant import Plant
from plant_simulator.signals import DeviceSignals

IED = "FLX"
YES_OR_NO = {"available", "running"}
CLASSES = {"AnIn": "mv", "Ind": "sps", "IntIn": "ins"}
DIRECT, SELECT, DIRECT_ENHANCED, SELECT_ENHANCED = "direct", "select", "direct_enhanced", "select_enhanced"
CONTROL_MODELS = (DIRECT, SELECT, DIRECT_ENHANCED, SELECT_ENHANCED)
FIRST_SLOT = 11
FIRST_ORDERS = (1, 5)
"""Number of the first control object of an asset's first and second order; the schedule's slots come between them and
what follows."""
LATER_ORDERS = 21
DEVICE_NODE = "GGIO90"


class Iec61850Device:
    """One device as a logical device.

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
        self.device = device
        self.signals = DeviceSignals(device, plant, seed)
        self.writes = 0
        self._shown: list[tuple[int, list[str]]] = []
        self._orders: dict[str, int] = {}
        self._slots: dict[str, tuple[str, int]] = {}
        self._starts: dict[str, str] = {}
        self._slot_values: dict[str, list[float]] = {}
        self._sent: dict[str, float | None] = {}
        self._objects: list[dict[str, Any]] = []
        self._build()

    @property
    def logical_device(self) -> str:
        """Name of the logical device without the IED's."""
        return self.device.id.replace("-", "")

    def spec(self) -> dict[str, Any]:
        """What the worker must know to serve this device."""
        return {
            "key": self.device.key,
            "ied": IED,
            "logical_device": self.logical_device,
            "objects": self._objects,
        }

    def values(self) -> dict[str, float | None]:
        """Present value of every object that shows one, by ``node.object``."""
        return {name: self.signals.values[index] for index, names in self._shown for name in names}

    def changes(self) -> dict[str, float | None]:
        """Values that changed since they were last asked for."""
        changed = {n: v for n, v in self.values().items() if n not in self._sent or self._sent[n] != v}
        self._sent |= changed
        return changed

    def forget_sent(self) -> None:
        """Let `changes` give everything again, for a worker that starts afresh."""
        self._sent.clear()

    def take(self, name: str, value: float) -> None:
        """Take an order that the worker received and accepted for the object ``node.object``."""
        self.writes += 1
        if name in self._orders:
            self.signals.take(self._orders[name], value)
        elif name in self._slots:
            asset_id, slot = self._slots[name]
            self._slot_values[asset_id][slot] = value
        elif name in self._starts:
            asset_id = self._starts[name]
            start = datetime.fromtimestamp(int(value), UTC)
            self.signals.take_schedule(asset_id, start, tuple(self._slot_values[asset_id]))
        elif name == f"{DEVICE_NODE}.AnOut1":
            self.signals.take_ttl(value)
        elif name == f"{DEVICE_NODE}.AnOut2":
            self.signals.take_heartbeat(int(value))

    def _build(self) -> None:
        counts: dict[tuple[str, str], int] = {}
        for index, signal in enumerate(self.signals.signals):
            node = f"GGIO{signal.asset_index + 1}"
            if signal.point.writable:
                self._add_order(node, index)
                continue
            kind = "IntIn" if signal.point.quantity in self.signals.template.alarm_words else "AnIn"
            kind = "Ind" if signal.point.quantity in YES_OR_NO else kind
            number = counts[node, kind] = counts.get((node, kind), 0) + 1
            self._add(node, f"{kind}{number}", CLASSES[kind])
            self._shown.append((index, [f"{node}.{kind}{number}"]))
        schedule = self.signals.template.schedule
        if schedule is not None:
            for index, asset in enumerate(self.device.assets):
                self._add_schedule(f"GGIO{index + 1}", asset.id, schedule.slots)
        if self._orders:
            self._add(DEVICE_NODE, "AnOut1", DIRECT)
            self._add(DEVICE_NODE, "AnOut2", DIRECT)

    def _add(self, node: str, name: str, kind: str) -> None:
        self._objects.append({"node": node, "name": name, "kind": kind})

    def _add_order(self, node: str, index: int) -> None:
        names = []
        earlier = sum(name.startswith(f"{node}.AnOut") for name in self._orders) // len(CONTROL_MODELS)
        first = FIRST_ORDERS[earlier] if earlier < len(FIRST_ORDERS) else LATER_ORDERS + 4 * earlier
        for number, model in enumerate(CONTROL_MODELS, start=first):
            self._add(node, f"AnOut{number}", model)
            self._orders[f"{node}.AnOut{number}"] = index
            names.append(f"{node}.AnOut{number}")
        self._shown.append((index, names))

    def _add_schedule(self, node: str, asset_id: str, slots: int) -> None:
        self._slot_values[asset_id] = [0.0] * slots
        for slot in range(slots):
            self._add(node, f"AnOut{FIRST_SLOT + slot}", DIRECT)
            self._slots[f"{node}.AnOut{FIRST_SLOT + slot}"] = (asset_id, slot)
        self._add(node, "ISCSO1", "start")
        self._starts[f"{node}.ISCSO1"] = asset_id
