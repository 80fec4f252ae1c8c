"""What a plant remembers over a restart of the simulator: stored energy, counters and wear."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from flexergy_pipelines.logs import get_logger
from plant_simulator.battery import Battery
from plant_simulator.charging import ChargingBlock
from plant_simulator.genset import Genset
from plant_simulator.loads import LimitedLoad, Load
from plant_simulator.pcc import GridConnection
from plant_simulator.plant import Plant
from plant_simulator.sources import Source

log = get_logger(__name__)

Part = Battery | ChargingBlock | Genset | LimitedLoad | Load | GridConnection | Source

_KEPT: dict[type, tuple[str, ...]] = {
    Battery: ("energy_kwh", "soh", "temperature_c", "charged_kwh", "discharged_kwh", "self_discharged_kwh"),
    Genset: ("energy_kwh", "running_hours", "starts"),
    ChargingBlock: ("energy_kwh",),
    LimitedLoad: ("energy_kwh", "curtailed_kwh"),
    Load: ("energy_kwh",),
    GridConnection: ("import_kwh", "export_kwh"),
    Source: ("curtailed_kwh",),
}


WRITTEN_AT = "written_at"


def remember(plants: Mapping[str, Plant], path: Path) -> None:
    """Write what the plants must not forget with the time of it, atomically.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    content: dict[str, Any] = {
        site_id: {part_id: {name: getattr(part, name) for name in _KEPT[type(part)]} for part_id, part in _parts(plant)}
        for site_id, plant in plants.items()
    }
    content[WRITTEN_AT] = max(plant.clock.now() for plant in plants.values()).isoformat()
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(content, indent=1))
    scratch.replace(path)


def recall(plants: Mapping[str, Plant], path: Path) -> tuple[int, datetime | None]:
    """Give the plants back what an earlier run remembered; returns how many parts it found, and how old it is.

    A file that cannot be read is no reason not to start: it is logged and the plants begin afresh.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return 0, None
    except (OSError, ValueError) as error:
        log.warning("the plants' memory cannot be read, they begin afresh", file=str(path), reason=str(error))
        return 0, None
    found = 0
    for site_id, plant in plants.items():
        for part_id, part in _parts(plant):
            found += _give_back(part, _section(content, site_id, part_id))
    return found, _time_of(content) if found else None


def _time_of(content: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(content[WRITTEN_AT])
    except (KeyError, TypeError, ValueError):
        return None
    return time if time.tzinfo is not None else None


def _parts(plant: Plant) -> list[tuple[str, Part]]:
    parts: list[tuple[str, Part]] = [(plant.pcc_id, plant.pcc)]
    for group in (plant.batteries, plant.gensets, plant.limited_loads, plant.charging, plant.loads, plant.sources):
        parts += group.items()
    return parts


def _section(content: Any, *path: str) -> dict[str, Any]:
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def _give_back(part: Part, kept: dict[str, Any]) -> bool:
    names = _KEPT[type(part)]
    values = [kept.get(name) for name in names]
    if not all(isinstance(value, int | float) and math.isfinite(value) and value >= -273.15 for value in values):
        return False
    for name, value in zip(names, values, strict=True):
        setattr(part, name, value)
    if isinstance(part, Battery):
        part.soh = min(1.0, max(0.1, part.soh))
        part.energy_kwh = min(part.usable_capacity_kwh, max(0.0, part.energy_kwh))
    return True
