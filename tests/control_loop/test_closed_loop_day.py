"""The loop against the simulated plant in simulated time: the plan is followed, the connection's limits are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from control_loop.cycle import ControlCycle
from control_loop.image import PointKey
from control_loop.plan_view import plan_view
from control_loop.protocols.base import LinkHealth
from control_loop.site_model import model_of
from flexergy_pipelines.grid import Site
from flexergy_pipelines.grid.clock import SimulatedClock
from flexergy_pipelines.grid.samples import sample_site
from plant_simulator.plant import Plant
from tests.plant_simulator.fakes import PlainSeries

CYCLE_S = 5.0
SETPOINT = "active_power_setpoint_kw"
MIDNIGHT = datetime(2026, 6, 3, tzinfo=UTC)
WISHES_KW = (40.0, -60.0, 0.0, 75.0, -30.0, -25.0)
"""What the plan has the battery do, by the hour and over again: 0 in sum, so that it is never empty or full."""


@dataclass
class PlantDriver:
    """A device of the plant without a wire."""

    device: str
    plant: Plant
    points: tuple[PointKey, ...]
    health: LinkHealth = field(default_factory=LinkHealth)

    @property
    def assets(self) -> frozenset[str]:
        return frozenset(asset for asset, _ in self.points)

    async def read(self) -> Mapping[PointKey, float | None]:
        return {key: self.plant.measure(*key) for key in self.points if self.plant.measures(*key)}

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        self.plant.command(asset_id, quantity, value)

    def takes_schedule(self, asset_id: str) -> bool:
        return asset_id in self.plant.batteries

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        self.plant.keep_schedule(asset_id, start, tuple(values))

    async def close(self) -> None:
        self.health.connected = False


@dataclass
class Day:
    """What came of some hours.

    Attributes
    ----------
    longest_outside : int
        Most cycles in a row in which the exchange was outside its limits.
    """

    planned_kwh: float = 0.0
    given_kwh: float = 0.0
    off_kwh: float = 0.0
    longest_outside: int = 0
    least_kw: float = 0.0


async def run(site: Site, start: datetime, hours: float) -> Day:
    cycle_s = site.operation.control_cycle_s
    clock = SimulatedClock(start)
    plant = Plant(site, PlainSeries(site), clock, 7)
    drivers = [
        PlantDriver(d.id, plant, tuple((p.asset_id, p.quantity) for p in site.points() if p.asset_id in ids))
        for d in site.devices()
        if (ids := {asset.id for asset in d.assets})
    ]
    cycle = ControlCycle(model_of(site), drivers, clock)
    quarters = [start + timedelta(minutes=15 * i) for i in range(round(4 * hours))]
    wishes = [WISHES_KW[t.hour % len(WISHES_KW)] for t in quarters]
    rows = [("ess-1", SETPOINT, t, wish) for t, wish in zip(quarters, wishes, strict=True)]
    end = start + timedelta(hours=hours)
    cycle.plan = plan_view(1, 1, start=start, end=end, step_minutes=15, rows=rows)
    day, outside = Day(), 0
    low, high = -site.grid_connection.export_limit_kw, site.grid_connection.import_limit_kw
    while clock.now() < end:
        await cycle.run_once(clock.now())
        planned = cycle.plan.value("ess-1", SETPOINT, clock.now()) or 0.0
        for _ in range(round(cycle_s)):
            clock.advance(1.0)
            plant.step(1.0)
        given = plant.measure("ess-1", "active_power_kw")
        day.planned_kwh += abs(planned) * cycle_s / 3600
        day.given_kwh += abs(given) * cycle_s / 3600
        day.off_kwh += abs(given - planned) * cycle_s / 3600
        day.least_kw = min(day.least_kw, plant.measure("pcc", "active_power_kw"))
        outside = 0 if low <= plant.measure("pcc", "active_power_kw") <= high else outside + 1
        day.longest_outside = max(day.longest_outside, outside)
    return day


def site_of(export_limit_kw: float, cycle_s: float = CYCLE_S) -> Site:
    site = sample_site("microgrid")
    return site.model_copy(
        update={
            "operation": site.operation.model_copy(update={"control_cycle_s": cycle_s, "setpoint_ttl_s": 60.0}),
            "grid_connection": site.grid_connection.model_copy(update={"export_limit_kw": export_limit_kw}),
        }
    )


HOURS = [
    pytest.param(MIDNIGHT + timedelta(hours=10), 1.5, id="around noon"),
    pytest.param(MIDNIGHT, 24.0, id="a day", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("start", "hours"), HOURS)
def test_the_plan_is_followed_within_two_per_cent_of_its_energy(start: datetime, hours: float) -> None:
    day = asyncio.run(run(site_of(400.0), start, hours))
    assert day.off_kwh <= 0.02 * day.planned_kwh
    assert day.longest_outside <= 1


@pytest.mark.requirement("energy.14.6")
@pytest.mark.parametrize(
    ("start", "hours"),
    [
        pytest.param(MIDNIGHT + timedelta(hours=10), 0.375, id="around noon"),
        pytest.param(MIDNIGHT + timedelta(hours=5), 14.0, id="while the sun shines", marks=pytest.mark.soak),
    ],
)
def test_the_connections_limit_is_never_exceeded_for_more_than_one_cycle(start: datetime, hours: float) -> None:
    # A tenth of the sources' rating: what they move by themselves from one second to the next is more than the margin.
    day = asyncio.run(run(site_of(40.0, 1.0), start, hours))
    assert day.longest_outside <= 1
    assert day.least_kw < -37.0  # and the limit did bind
