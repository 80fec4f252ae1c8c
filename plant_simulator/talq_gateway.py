"""A TALQ 2.x gateway: the lamps of a load controller, or the cabinet of a meter, over HTTP as a CMS expects it.

A controllable load is `LAMPS` street lamps, each a device with a lamp actuator and a monitor; a meter is a cabinet with
an electrical meter. Override commands dim by group until they expire; a calendar's program dims by local time of day.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flexergy_pipelines.grid import Device
from flexergy_pipelines.grid.ratings import rated_power_kw
from plant_simulator.plant import Plant
from plant_simulator.signals import DeviceSignals

LAMPS = 4
FULL = 100
LIMIT = "active_power_limit_kw"
NAMES = uuid.UUID("0d0bb8a1-8f0e-5b0c-8a52-2f9f5f6b8f3a")


@dataclass(frozen=True, slots=True)
class Override:
    """An order in force: a level [%] until its time."""

    level: int
    expiration: datetime | None


class TalqGateway:
    """One gateway of a plant.

    Parameters
    ----------
    device : Device
        A load controller or meter of the plant's site.
    plant : Plant
        The plant it measures and commands.
    seed : int
        Seed of the spikes.
    """

    def __init__(self, device: Device, plant: Plant, seed: int = 0) -> None:
        self.device = device
        self.plant = plant
        self.signals = DeviceSignals(device, plant, seed)
        self.groups: dict[str, dict[str, Any]] = {}
        self.programs: dict[str, dict[str, Any]] = {}
        self.calendars: dict[str, dict[str, Any]] = {}
        self.loggers: dict[str, dict[str, Any]] = {}
        self.calendar: str | None = None
        self.override: Override | None = None
        self.writes = 0
        self._lamps = device.kind == "load_controller"

    def address_of(self, name: str) -> str:
        """TALQ address of a lamp or cabinet."""
        return str(uuid.uuid5(NAMES, f"{self.device.key}/{name}"))

    @property
    def lamps(self) -> list[str]:
        """Addresses of the lamps; none behind a meter."""
        return [self.address_of(f"lamp-{number}") for number in range(LAMPS)] if self._lamps else []

    @property
    def rated_kw(self) -> float:
        """Power of all lamps at full light [kW]."""
        return sum(rated_power_kw(asset) for asset in self.device.assets)

    def refresh(self) -> None:
        """Show the plant's present values; let an order expire, and a program switch."""
        self._apply()
        self.signals.refresh()

    def _apply(self) -> None:
        """Hold the lamps at the level in force."""
        if not self._lamps:
            return
        level = self.level()
        asset_id = self.device.assets[0].id
        if self.signals.has_fault("stuck_output"):
            self.plant.orders.refresh(asset_id)
        elif level < FULL:
            self.plant.command(asset_id, LIMIT, self.rated_kw * level / FULL)
        elif level == FULL and self.plant.orders.held(asset_id):
            self.plant.command(asset_id, LIMIT, self.rated_kw)

    def now(self) -> datetime:
        """The gateway's own idea of the time."""
        return self.plant.clock.now() + timedelta(seconds=self.signals.clock_error_s)

    def level(self) -> int:
        """Dimming level in force [%]: the override, else the calendar's program, else full light."""
        now = self.now()
        if self.override is not None and self.override.expiration is not None and now >= self.override.expiration:
            self.override = None
        if self.override is not None:
            return self.override.level
        return self._program_level(now)

    def devices(self) -> list[dict[str, Any]]:
        """Every device with its functions and their present values."""
        values = {s.point.quantity: v for s, v in zip(self.signals.signals, self.signals.values, strict=True)}
        power_kw = values.get("active_power_kw")
        if self._lamps:
            power_w = None if power_kw is None else 1000.0 * power_kw / LAMPS
            return [self._lamp(number, power_w) for number in range(LAMPS)]
        meter: dict[str, Any] = {"id": "meter", "type": "ElectricalMeterFunction"}
        meter["totalPower"] = _float(None if power_kw is None else 1000.0 * power_kw)
        meter["totalActiveEnergy"] = _float(values.get("import_energy_kwh"))
        return [{"address": self.address_of("cabinet"), "name": "cabinet", "class": "Cabinet", "functions": [meter]}]

    def device_classes(self) -> list[dict[str, Any]]:
        """Classes of the devices with the attributes of their functions."""
        classes: dict[str, dict[str, Any]] = {}
        for device in self.devices():
            functions = [
                {
                    "functionId": function["id"],
                    "type": function["type"],
                    "attributes": [{"name": name} for name, value in function.items() if isinstance(value, dict)],
                }
                for function in device["functions"]
            ]
            classes[device["class"]] = {"name": device["class"], "functions": functions}
        return list(classes.values())

    def obey(self, command: Any) -> bool:
        """Take an override command; returns False when it does not name the lamps or makes no sense."""
        if not self._meant(command):
            return False
        target = command.get("targetCommand")
        if target is None:
            self.writes += 1
            self._hold(None)
            return True
        state = target.get("state") if isinstance(target, dict) else None
        level = state.get("value") if isinstance(state, dict) else None
        if not isinstance(state, dict) or state.get("name") != "LevelState" or type(level) is not int:
            return False
        until = target.get("expiration")
        try:
            expiration = None if until is None else datetime.fromisoformat(until).astimezone(UTC)
        except (TypeError, ValueError):
            return False
        if not 0 <= level <= FULL:
            return False
        self.writes += 1
        self._hold(Override(level, expiration))
        return True

    def _meant(self, command: Any) -> bool:
        """Whether a command names a known group or a lamp."""
        addresses = command.get("addresses") if isinstance(command, dict) else None
        targets = {item.get("address") for item in addresses or () if isinstance(item, dict)}
        return bool(targets & {*self.groups, *self.lamps})

    def _hold(self, override: Override | None) -> None:
        """Put an order in force at once, unless orders have no effect now."""
        if not self.signals.has_fault("ack_without_effect"):
            self.override = override
            self._apply()

    def assign(self, command: Any) -> bool:
        """Assign a calendar to the lamps; returns False when there is none of that name, or no lamp is named."""
        entity = command.get("entity") if isinstance(command, dict) else None
        name = entity.get("address") if isinstance(entity, dict) else None
        if name not in self.calendars or not self._meant(command):
            return False
        self.writes += 1
        if not self.signals.has_fault("ack_without_effect"):
            self.calendar = name
        return True

    def reports(self) -> list[dict[str, Any]]:
        """A log report of every measurement for each logger."""
        now = self.now().isoformat()
        entries = [
            {
                "data": {
                    "type": "AttributeLogData",
                    "srcAddress": f"{device['address']}/{function['id']}",
                    "timestamp": now,
                    "attributeName": name,
                    "attributeValue": attribute,
                }
            }
            for device in self.devices()
            for function in device["functions"]
            for name, attribute in function.items()
            if isinstance(attribute, dict) and "value" in attribute
        ]
        return [{"address": logger, "entries": entries} for logger in self.loggers]

    def _lamp(self, number: int, power_w: float | None) -> dict[str, Any]:
        level = {"name": "LevelState", "value": self.level()}
        actuator: dict[str, Any] = {"id": "actuator", "type": "LampActuatorFunction"}
        actuator["actualLightState"] = {"type": "AttributeLevelState", "value": level}
        if self.calendar is not None:
            actuator["calendarID"] = {"type": "AttributeString", "value": self.calendar}
        monitor = {"id": "monitor", "type": "LampMonitorFunction", "activePower": _float(power_w)}
        name = f"lamp-{number}"
        return {"address": self.address_of(name), "name": name, "class": "Lamp", "functions": [actuator, monitor]}

    def _program_level(self, now: datetime) -> int:
        calendar = self.calendars.get(self.calendar or "")
        if calendar is None:
            return FULL
        local = now.astimezone(self.plant.site.zone)
        for rule in calendar.get("rules", []):
            if not rule.get("startDate", "") <= local.date().isoformat() <= rule.get("endDate", "9999"):
                continue
            program = self.programs.get(str(rule.get("program")))
            controls = [] if program is None else program.get("fixedTimeControls", [])
            past = [c for c in controls if c["startTime"] <= local.strftime("%H:%M:%S")]
            # Before the first switch of the day the last value of the day before holds.
            chosen = past[-1] if past else controls[-1] if controls else None
            return FULL if chosen is None else int(chosen["command"]["state"]["value"])
        return FULL


def _float(value: float | None) -> dict[str, Any]:
    attribute: dict[str, Any] = {"type": "AttributeFloat"}
    return attribute if value is None else attribute | {"value": value}
