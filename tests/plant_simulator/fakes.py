"""Series, sites and rigs that the simulator's tests share."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from flexergy_pipelines.grid import SimulatedClock, Site
from flexergy_pipelines.grid.samples import sample_site
from plant_simulator.plant import Plant

START = datetime(2026, 6, 3, 10, 0, tzinfo=UTC)


class PlainSeries:
    """A sunny, breezy day: PV as a half sine by the hour of the day (UTC), everything else steady."""

    def __init__(self, site: Site) -> None:
        self._kinds = {asset.id: asset.kind for asset in site.assets()}
        self._loads = {asset.id: asset.rated_kw for asset in site.assets() if asset.kind == "load"}

    def value(self, asset_id: str, t: datetime) -> float:
        hour = t.hour + t.minute / 60 + t.second / 3600
        match self._kinds[asset_id]:
            case "pv":
                return 200.0 * max(0.0, math.sin((hour - 6) / 12 * math.pi))
            case "wind":
                return 60.0
            case "load":
                return 0.35 * self._loads[asset_id]
            case "controllable_load" | "ev":
                return 25.0
            case _:
                return 0.0


def make_plant(site_id: str = "microgrid", seed: int = 1) -> tuple[Plant, SimulatedClock]:
    """A sample site's plant at ten o'clock in June, and the clock that moves it."""
    site = sample_site(site_id)
    clock = SimulatedClock(START)
    return Plant(site, PlainSeries(site), clock, seed), clock


def run(plant: Plant, clock: SimulatedClock, seconds: float, dt_s: float = 1.0) -> None:
    """Let time pass."""
    for _ in range(round(seconds / dt_s)):
        clock.advance(dt_s)
        plant.step(dt_s)
