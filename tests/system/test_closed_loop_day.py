"""A whole day in simulated time: plan, control loop and plant together, on the sample microgrid's data."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from control_loop.cycle import ControlCycle
from control_loop.image import PointKey
from control_loop.plan_view import PlanView, plan_view
from control_loop.protocols.base import LinkHealth
from control_loop.site_model import model_of
from flexergy_pipelines.grid import Device, Site, points_of
from flexergy_pipelines.grid.clock import SimulatedClock
from flexergy_pipelines.grid.replay.rule import ReplayRule
from flexergy_pipelines.grid.replay.site import ReplayedSite
from flexergy_pipelines.grid.samples import sample_site
from flexergy_pipelines.optimization import Horizon, solve
from flexergy_pipelines.optimization.planning import plan_values
from flexergy_pipelines.optimization.site_problem import SiteState, build_problem
from plant_simulator.plant import Plant

DAY_CYCLE_S = 15.0
STEP_S = 15 * 60.0
START_SOC = 0.5
AMSTERDAM = ZoneInfo("Europe/Amsterdam")


class PlantDriver:
    """A device of the simulated plant, without a wire between."""

    def __init__(self, plant: Plant, device: Device) -> None:
        self.device = device.id
        self.health = LinkHealth(connected=True)
        self._plant = plant
        self._points = [
            (point.asset_id, point.quantity)
            for asset in device.assets
            for point in points_of(asset)
            if plant.measures(point.asset_id, point.quantity)
        ]
        self.schedules: list[tuple[str, datetime, tuple[float, ...]]] = []

    @property
    def assets(self) -> frozenset[str]:
        return frozenset(asset for asset, _ in self._points)

    async def read(self) -> Mapping[PointKey, float | None]:
        return {key: self._plant.measure(*key) for key in self._points}

    async def write(self, asset_id: str, quantity: str, value: float) -> None:
        self._plant.command(asset_id, quantity, value)

    def takes_schedule(self, asset_id: str) -> bool:
        return asset_id in self.assets

    async def write_schedule(self, asset_id: str, start: datetime, values: Sequence[float]) -> None:
        self.schedules.append((asset_id, start, tuple(values)))

    async def close(self) -> None:
        self.health.connected = False


@dataclass
class Day:
    """One simulated day, and what was measured of it each cycle."""

    site: Site
    cycle_s: float
    plan: PlanView | None = None
    planned_cost_eur: float = 0.0
    prices: np.ndarray = field(default_factory=lambda: np.zeros(0))
    powers: dict[str, list[float]] = field(default_factory=dict)
    soc: list[float] = field(default_factory=list)
    alarms: list[tuple[str, str | None]] = field(default_factory=list)
    layers: dict[str, int] = field(default_factory=dict)
    schedules: list[tuple[str, datetime, tuple[float, ...]]] = field(default_factory=list)

    def energy_kwh(self, asset_id: str) -> np.ndarray:
        """Energy of each quarter of an hour, in the asset's own sign [kWh]."""
        per_step = round(STEP_S / self.cycle_s)
        return np.array(self.powers[asset_id]).reshape(-1, per_step).sum(axis=1) * self.cycle_s / 3600

    def cost_eur(self, exchange_kwh: np.ndarray) -> float:
        """What the public grid charges for an exchange of each quarter [kWh], the month's peak included."""
        tariff = self.site.tariff
        bought, sold = np.maximum(exchange_kwh, 0), np.maximum(-exchange_kwh, 0)
        energy = sum(
            float(b) * tariff.import_price(float(p)) - float(s) * tariff.export_price(float(p))
            for b, s, p in zip(bought, sold, self.prices, strict=True)
        )
        return energy + tariff.demand_charge_eur_per_kw_month * float(bought.max()) * 4


def limited_site(import_limit_kw: float, export_limit_kw: float, cycle_s: float) -> Site:
    """The sample microgrid behind a connection of its own size."""
    sample = sample_site("microgrid")
    return sample.model_copy(
        update={
            "operation": sample.operation.model_copy(update={"control_cycle_s": cycle_s}),
            "grid_connection": sample.grid_connection.model_copy(
                update={"import_limit_kw": import_limit_kw, "export_limit_kw": export_limit_kw}
            ),
        }
    )


def planned(site: Site, replayed: ReplayedSite, start: datetime) -> tuple[PlanView, float]:
    """The plan of the 24 hours from `start` on, made on what will be offered, and its cost [EUR]."""
    horizon = Horizon(start=start, step_minutes=15, steps=96)
    offered = {name: replayed.series(name, start, horizon.end)["value"].to_numpy() for name in replayed.asset_ids}
    problem = build_problem(site, horizon, offered, spot_prices(replayed, start), SiteState(soc={"ess-1": START_SOC}))
    solved = solve(problem, 60.0)
    rows = plan_values(problem, solved).select("asset_id", "quantity", "time", "value").iter_rows()
    return plan_view(1, 1, start=start, end=horizon.end, step_minutes=15, rows=rows), solved.objective_eur


def spot_prices(replayed: ReplayedSite, start: datetime) -> np.ndarray:
    """Market price of each quarter of the 24 hours from `start` on [EUR/kWh]."""
    hourly = replayed.price(start, start + timedelta(hours=24))["price_eur_per_mwh"].to_numpy()
    return np.repeat(hourly / 1000.0, 4)


def live_through(day: Day, replayed: ReplayedSite, start: datetime, seconds: float) -> None:
    """Let plant and control loop run from `start` on, and note what is measured after each cycle."""
    site = day.site
    clock = SimulatedClock(start)
    plant = Plant(site, replayed, clock, seed=3, soc=START_SOC)
    drivers = [PlantDriver(plant, device) for device in site.devices() if device.assets]
    cycle = ControlCycle(model_of(site), drivers, clock)
    cycle.plan = day.plan

    async def run() -> None:
        for _ in range(round(seconds / day.cycle_s)):
            report = await cycle.run_once(clock.now())
            day.alarms += [key for key in report.alarms if key not in day.alarms]
            for decision in report.decisions.values():
                day.layers[decision.layer.label] = day.layers.get(decision.layer.label, 0) + 1
            clock.advance(day.cycle_s)
            plant.step(day.cycle_s)
            for asset in site.assets():
                day.powers.setdefault(asset.id, []).append(plant.measure(asset.id, "active_power_kw"))
            day.soc.append(plant.measure("ess-1", "soc"))
        await cycle.close()

    asyncio.run(run())
    for driver in drivers:
        day.schedules += driver.schedules


@pytest.fixture(scope="module")
def day() -> Day:
    """A working day in March; without the battery the import would go up to 250 kW."""
    start = datetime(2026, 3, 11, tzinfo=AMSTERDAM).astimezone(UTC)
    site = limited_site(220.0, 60.0, DAY_CYCLE_S)
    replayed = ReplayedSite(site, ReplayRule.for_now(start, site.zone))
    plan, cost_eur = planned(site, replayed, start)
    lived = Day(site, DAY_CYCLE_S, plan, cost_eur, spot_prices(replayed, start))
    live_through(lived, replayed, start, 86_400)
    return lived


def test_the_energy_balance_closes(day: Day) -> None:
    given = sum(day.energy_kwh(name).sum() for name in ("pcc", "pv-1", "wind-1", "genset-1", "ess-1"))
    taken = sum(day.energy_kwh(name).sum() for name in ("load-1", "cold-store", "ev-1"))
    assert given == pytest.approx(taken, rel=0.01)
    ess = day.site.ess()[0]
    power = np.array(day.powers["ess-1"]) * day.cycle_s / 3600
    stored = -power[power < 0].sum() * ess.charge_efficiency - power[power > 0].sum() / ess.discharge_efficiency
    moved = (day.soc[-1] - START_SOC) * ess.energy_capacity_kwh * ess.soh
    assert moved == pytest.approx(stored, abs=0.01 * ess.energy_capacity_kwh)


@pytest.mark.requirement("energy.11.3", "energy.14.6")
def test_no_limit_is_exceeded(day: Day) -> None:
    pcc = np.array(day.powers["pcc"])
    connection = day.site.grid_connection
    assert -connection.export_limit_kw <= pcc.min()
    assert pcc.max() <= connection.import_limit_kw
    ess = day.site.ess()[0]
    assert ess.soc_min - 0.002 <= min(day.soc)
    assert max(day.soc) <= ess.soc_max + 0.002
    assert max(day.powers["ess-1"]) <= ess.max_discharge_kw * 1.001
    assert min(day.powers["ess-1"]) >= -ess.max_charge_kw * 1.001
    genset = np.array(day.powers["genset-1"])
    assert genset.max() <= day.site.gensets()[0].max_kw * 1.01


@pytest.mark.requirement("energy.14.1", "energy.14.2")
def test_the_day_costs_less_than_without_storage(day: Day) -> None:
    ess = day.site.ess()[0]
    exchange, storage = day.energy_kwh("pcc"), day.energy_kwh("ess-1")
    wear = float(np.maximum(storage, 0).sum()) * ess.wear_cost_eur_per_kwh
    # What is in the battery at the end is worth what it would cost to put it there.
    left = (day.soc[-1] - START_SOC) * ess.energy_capacity_kwh * ess.soh / ess.charge_efficiency
    left_eur = left * day.site.tariff.import_price(float(day.prices.mean()))
    with_storage = day.cost_eur(exchange) + wear - left_eur
    without = day.cost_eur(exchange + storage)
    print(f"with storage {with_storage:.2f} EUR, without {without:.2f} EUR, planned {day.planned_cost_eur:.2f} EUR")
    assert with_storage < without
    assert exchange.max() < 0.9 * (exchange + storage).max()


def test_the_plan_is_followed(day: Day) -> None:
    plan = day.plan
    assert plan is not None
    power_kw = np.array([plan.value("ess-1", "active_power_kw", plan.start + i * plan.step) for i in range(96)])
    moved = day.energy_kwh("ess-1")
    throughput = np.abs(power_kw * STEP_S / 3600).sum()
    off = np.abs(moved - power_kw * STEP_S / 3600).sum()
    print(f"throughput {throughput:.1f} kWh, off plan {off:.1f} kWh = {100 * off / throughput:.2f} %, {day.layers}")
    assert throughput > 50.0
    assert off <= 0.02 * throughput


@pytest.mark.requirement("energy.12.1")
def test_each_quarter_every_storage_and_renewables_controller_has_the_next_hour(day: Day) -> None:
    quarter, plan = timedelta(minutes=15), day.plan
    assert plan is not None
    for asset in ("ess-1", "pv-1", "wind-1"):
        pushed = [start for name, start, _ in day.schedules if name == asset]
        assert pushed == [plan.start + i * quarter for i in range(96)]
    first = next(values for name, _, values in day.schedules if name == "ess-1")
    expected = [plan.value("ess-1", "active_power_setpoint_kw", plan.start + i * quarter) for i in range(4)]
    assert list(first) == pytest.approx(expected)


def test_nothing_went_wrong_that_an_operator_would_have_to_know(day: Day) -> None:
    assert {code for code, _ in day.alarms} <= {"pcc_limit_exceeded"}


@pytest.mark.requirement("energy.14.6")
def test_a_limit_that_binds_is_kept_second_by_second() -> None:
    """The evening peak without a plan: only the exchange's limit makes the battery move."""
    start = datetime(2026, 3, 11, 18, 0, tzinfo=AMSTERDAM).astimezone(UTC)
    limit_kw = 200.0
    site = limited_site(limit_kw, 60.0, 1.0)
    evening = Day(site, 1.0)
    live_through(evening, ReplayedSite(site, ReplayRule.for_now(start, site.zone)), start, 1800)
    # The battery's inverter needs the first seconds to get from nothing to what is missing.
    pcc, ess = np.array(evening.powers["pcc"])[5:], np.array(evening.powers["ess-1"])[5:]
    outside = pcc > limit_kw
    print(f"import up to {pcc.max():.1f} kW, without storage {(pcc + ess).max():.1f} kW, {evening.layers}")
    assert (pcc + ess).max() > 1.05 * limit_kw
    assert evening.layers["pcc"] > 0
    # What changes within a cycle can be answered in the next one only.
    assert not (outside[1:] & outside[:-1]).any()
    assert pcc.max() <= 1.01 * limit_kw
