"""What a plant remembers over a restart of the simulator: stored energy, counters and wear."""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
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
    """Write what the plants must not forget with the time of it, atomically; other sites in the file stay.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:  # another simulator of this installation may have other sites
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = _section(_read(path))
        # The time of all sites at once, as earlier versions wrote it.
        shared = content.pop(WRITTEN_AT, None)
        kept = {key: {WRITTEN_AT: shared, **site} for key, site in content.items() if isinstance(site, dict)}
        kept |= {site_id: _content_of(plant) for site_id, plant in plants.items()}
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(kept, indent=1))
        scratch.replace(path)


def _content_of(plant: Plant) -> dict[str, Any]:
    parts = {key: {name: getattr(part, name) for name in _KEPT[type(part)]} for key, part in _parts(plant)}
    # A plant that ran fast has seen times that are not here yet, and no reading is newer than those.
    return {**parts, WRITTEN_AT: min(plant.clock.now(), datetime.now(UTC)).isoformat()}


def recall(plants: Mapping[str, Plant], path: Path) -> tuple[int, dict[str, datetime]]:
    """Give the plants back what an earlier run remembered.

    A file that cannot be read is no reason not to start: it is logged and the plants begin afresh.

    Returns
    -------
    found : int
        How many parts of the plants were in it.
    written : dict
        Of when it is, by site; only sites of which something was found.
    """
    content = _read(path)
    found, written = 0, {}
    for site_id, plant in plants.items():
        own = sum(_give_back(part, _section(content, site_id, part_id)) for part_id, part in _parts(plant))
        time = _time_of(_section(content, site_id)) or _time_of(_section(content))
        found += own
        if own and time is not None:
            written[site_id] = time
    return found, written


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("the plants' memory cannot be read, they begin afresh", file=str(path), reason=str(error))
        return {}


def _time_of(content: dict[str, Any]) -> datetime | None:
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
