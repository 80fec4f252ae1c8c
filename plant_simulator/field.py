"""All simulated sites with their devices, stepped together: what runs behind the ports."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from flexergy_pipelines.grid import Clock, Site
from flexergy_pipelines.grid.replay import ReplayedSite
from flexergy_pipelines.logs import get_logger
from plant_simulator.faults import (
    ASSET_FAULTS,
    SERVICE_FAULTS,
    SERVICES,
    TAKES_VALUE,
    Fault,
    FaultBoard,
    FaultKind,
    FaultRequest,
    device_faults,
)
from plant_simulator.fronts import Front, make_front
from plant_simulator.modbus_serial import SerialLineServer
from plant_simulator.plant import LONGEST_STEP_S, Plant

log = get_logger(__name__)

LARGEST_CATCH_UP = 60


class UnknownTargetError(ValueError):
    """A fault for something that is not simulated, or that cannot have it."""


class Field:
    """The simulated sites.

    Parameters
    ----------
    sites : sequence of (Site, ReplayedSite)
        What to simulate.
    clock : Clock
        Time of all plants.
    seed : int
        Seed of all plants.
    certificates : Path, optional
        Folder of the files of devices' transport security.
    timers : Clock, optional
        Clock of the devices' revert timers, where it is not that of the plants.
    """

    def __init__(
        self,
        sites: Sequence[tuple[Site, ReplayedSite]],
        clock: Clock,
        seed: int = 0,
        certificates: Path | None = None,
        *,
        timers: Clock | None = None,
    ) -> None:
        self.clock = clock
        self.faults = FaultBoard(clock)
        self.replayed = sites_by_id(sites)
        self.plants = {
            site.id: Plant(site, replayed, clock, seed, faults=self.faults, timers=timers) for site, replayed in sites
        }
        self.devices: dict[str, Front] = {}
        for plant in self.plants.values():
            lines: dict[str, SerialLineServer] = {}
            for device in plant.site.devices():
                self.devices[device.key] = make_front(device, plant, seed, certificates, lines)

    @property
    def places(self) -> list[tuple[Site, ReplayedSite]]:
        """The sites with their replayed series."""
        return [(plant.site, self.replayed[site_id]) for site_id, plant in self.plants.items()]

    async def open(self, host: str) -> dict[str, str]:
        """Bind every device to its configured port or the next free one; returns addresses by device key."""
        for key, device in self.devices.items():
            await device.start(host)
            if device.wanted_port and not device.address.endswith(f":{device.wanted_port}"):
                log.info("port taken, next free one bound", device=key, wanted=device.wanted_port, got=device.address)
        return {key: device.address for key, device in self.devices.items() if device.address}

    async def close(self) -> None:
        """Close every port, of all devices at once: workers take their time to end."""
        ends = await asyncio.gather(*(device.stop() for device in self.devices.values()), return_exceptions=True)
        for key, end in zip(self.devices, ends, strict=True):
            if isinstance(end, Exception):
                log.warning("device did not stop cleanly", device=key, reason=repr(end))

    async def step(self, dt_s: float) -> None:
        """Let `dt_s` seconds pass for all sites, show the new values, and open or close ports as faults want it."""
        # A fast clock, or a machine that slept, takes several steps; what is longer than an hour is not made up for.
        parts = min(LARGEST_CATCH_UP, max(1, math.ceil(dt_s / LONGEST_STEP_S)))
        part_s, now = min(dt_s / parts, LONGEST_STEP_S), self.clock.now()
        for plant in self.plants.values():
            for left in reversed(range(parts)):
                plant.step(part_s, now - timedelta(seconds=left * part_s))
        for device in self.devices.values():
            await device.refresh()

    async def run(self, stopped: asyncio.Event, period_s: float = 0.25) -> None:
        """Step in real time of the field's clock, each `period_s` seconds, until `stopped` is set."""
        last_s = self.clock.monotonic()
        while not stopped.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), period_s)
            now_s = self.clock.monotonic()
            await self.step(now_s - last_s)
            last_s = now_s

    def fail(self, request: FaultRequest) -> Fault:
        """Put a fault in force.

        Raises
        ------
        UnknownTargetError
            If nothing of that name is simulated, or it cannot have such a fault.
        """
        kinds = self.possible_faults().get(request.target)
        if kinds is None:
            known = sorted(self.possible_faults())
            raise UnknownTargetError(f"target '{request.target}' is not simulated; known: {', '.join(known)}")
        if request.kind not in kinds:
            raise UnknownTargetError(f"{request.target} cannot have '{request.kind}'; possible: {', '.join(kinds)}")
        log.info("fault set", target=request.target, kind=request.kind, for_s=request.duration_s, value=request.value)
        return self.faults.set(request)

    def heal(self, fault_id: int | None = None, target: str | None = None) -> int:
        """Heal one fault, all of a target, or all; returns how many were healed."""
        healed = self.faults.clear(fault_id, target)
        log.info("faults healed", count=healed, fault=fault_id, target=target)
        return healed

    def state(self) -> dict[str, Any]:
        """Everything there is to see, for the `/state` page."""
        return {
            "time": self.clock.now().isoformat(),
            "sites": {site_id: self._site_state(plant) for site_id, plant in self.plants.items()},
            "faults": self.fault_rows(),
        }

    def fault_rows(self) -> list[dict[str, Any]]:
        """The faults in force, as the API shows them."""
        return [fault_row(fault, self.clock.monotonic()) for fault in self.faults.active()]

    def possible_faults(self) -> dict[str, tuple[FaultKind, ...]]:
        """Faults that each target can have; a device and an asset of one name share them."""
        possible: dict[str, tuple[FaultKind, ...]] = dict.fromkeys(SERVICES, SERVICE_FAULTS)
        for site_id, plant in self.plants.items():
            for device in plant.site.devices():
                takes_orders = not device.kind.endswith("_meter")
                possible[device.key] = device_faults(device.connection.protocol, takes_orders=takes_orders)
            for asset in plant.site.assets():
                target = f"{site_id}/{asset.id}"
                if asset.kind in ASSET_FAULTS:
                    possible[target] = possible.get(target, ()) + ASSET_FAULTS[asset.kind]
        return possible

    def _site_state(self, plant: Plant) -> dict[str, Any]:
        schedules = {asset.id: plant.schedule(asset.id) for asset in plant.site.assets()}
        return {
            "assets": plant.state(),
            "reverted_orders": plant.orders.reverts,
            "schedules": {
                asset_id: {"start": kept[0].isoformat(), "values_kw": list(kept[1])}
                for asset_id, kept in schedules.items()
                if kept is not None
            },
            "charge_points": {
                point.point_id: {
                    "power_kw": point.power_kw,
                    "soc": None if point.session is None else point.session.soc,
                    "session_kwh": None if point.session is None else point.session.delivered_kwh,
                    "sessions": point.sessions,
                }
                for block in plant.charging.values()
                for point in block.points
            },
            "gensets": {
                asset_id: {
                    "state": genset.state,
                    "starts": genset.starts,
                    "running_hours": genset.running_hours,
                    "energy_kwh": genset.energy_kwh,
                }
                for asset_id, genset in plant.gensets.items()
            },
            "devices": {
                key: device.statistics() for key, device in self.devices.items() if key.startswith(f"{plant.site.id}/")
            },
        }


def sites_by_id(sites: Sequence[tuple[Site, ReplayedSite]]) -> dict[str, ReplayedSite]:
    """Replayed series by site id.

    Raises
    ------
    ValueError
        If a site is given twice.
    """
    replayed: dict[str, ReplayedSite] = {}
    for site, series in sites:
        if site.id in replayed:
            raise ValueError(f"site {site.id} is given twice")
        replayed[site.id] = series
    return replayed


def fault_row(fault: Fault, now_s: float) -> dict[str, Any]:
    """A fault as the API shows it at a monotonic time; what does not concern its kind is left out."""
    row: dict[str, Any] = {"id": fault.fault_id, "target": fault.target, "kind": fault.kind}
    if fault.kind in TAKES_VALUE:
        row["value"] = fault.value
    if fault.kind == "slow":
        row["delay_s"] = fault.delay_s
    if fault.phase is not None:
        row["phase"] = fault.phase
    return row if fault.until_s is None else row | {"left_s": max(0.0, fault.until_s - now_s)}
