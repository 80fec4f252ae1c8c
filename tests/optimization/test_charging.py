"""Charging planned car by car, through the store: who is there, who is expected, and what goes to the field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from flexergy_pipelines.forecasting.ev_sessions import manager_of
from flexergy_pipelines.grid import Site
from flexergy_pipelines.optimization.charging import Car, seated
from flexergy_pipelines.optimization.planning import plan_site, prepare
from flexergy_pipelines.optimization.problem import Horizon
from flexergy_pipelines.optimization.settings import PlanningSettings, save_settings
from flexergy_pipelines.store import TenantStore
from flexergy_pipelines.store.ev_sessions import write_sessions
from flexergy_pipelines.store.plans import read_active_plan
from tests.optimization.test_planning import NOW, give_inputs, sample

POINTS = [f"cp-0{number}" for number in range(1, 7)]
LEAVES = datetime(2026, 6, 10, 15, 0, tzinfo=UTC)


@pytest.fixture
def site(db: TenantStore) -> Site:
    """The sample microgrid, planned by the hour so that its plans are quick."""
    made = sample("microgrid")
    made = made.model_copy(update={"operation": made.operation.model_copy(update={"plan_step_minutes": 60})})
    give_inputs(db, made)
    return made


def session(point: str, number: str, arrival: datetime, departure: datetime, energy_kwh: float) -> dict[str, object]:
    return {
        "asset_id": "ev-1", "charge_point": point, "session_id": number, "arrival": arrival, "departure": departure,
        "energy_kwh": energy_kwh,
    }  # fmt: skip


def give_sessions(db: TenantStore, site: Site) -> None:
    """Eight weeks in which a car came to every charge point each evening, and one that came to cp-05 an hour ago."""
    rows = [
        session(
            point, f"{day}", evening := NOW.replace(hour=16, minute=30) - timedelta(days=day),
            evening + timedelta(hours=12), 8.0,
        )
        for day in range(1, 57)
        for point in POINTS
    ]  # fmt: skip
    rows += [
        session("cp-05", f"m{day}", NOW - timedelta(days=day, hours=1), NOW - timedelta(days=day) + 6 * H, 30.0)
        for day in range(1, 57)
    ]
    rows.append(session("cp-05", "now", NOW - H, LEAVES, 6.0))
    write_sessions(db, site.id, pl.DataFrame(rows))


H = timedelta(hours=1)


@pytest.mark.requirement("energy.13.3", "energy.13.4", "uc.2")
def test_known_sessions_are_planned_car_by_car_and_the_manager_gets_their_limit(db: TenantStore, site: Site) -> None:
    assert "charging" not in plan_site(db, site.id, "intraday", NOW).inputs["ev-1"]
    give_sessions(db, site)
    record = plan_site(db, site.id, "intraday", NOW)
    cars = record.inputs["charging"]
    [there] = [car for car in cars if car["source"] == "now"]
    # What it took in the past less what it has taken by now, until its driver leaves.
    assert there["charge_point"] == "cp-05"
    assert datetime.fromisoformat(there["departure"]) == LEAVES
    assert 15 < there["planned_kwh"] < 25
    assert there["planned_kwh"] == pytest.approx(there["asked_kwh"], abs=0.01)
    assert datetime.fromisoformat(there["to"]) <= LEAVES
    expected = [car for car in cars if car["source"] in {"blend", "history"}]
    assert 3 <= len(expected) <= 8
    for car in expected:
        assert 0 < car["planned_kwh"] <= car["asked_kwh"] + 1e-3
    assert not record.violations
    active = read_active_plan(db, site.id, NOW)
    assert active is not None
    assert not [name for name in active.values["asset_id"].unique().to_list() if "@" in name]

    def series(quantity: str) -> np.ndarray:
        own = active.values.filter((pl.col("asset_id") == "ev-1") & (pl.col("quantity") == quantity)).sort("time")
        return own["value"].to_numpy()

    power, limit = series("active_power_kw"), series("active_power_limit_kw")
    assert power.sum() == pytest.approx(sum(car["planned_kwh"] for car in cars), abs=0.1)
    assert (power <= limit + 1e-6).all()
    assert (limit >= 10.0).all()
    held = limit < 100.0
    assert held.any()
    np.testing.assert_allclose(limit[held], np.maximum(power[held], 10.0), atol=1e-4)
    coming = {car["id"]: datetime.fromisoformat(car["arrival"]) for car in expected}
    for interval in record.inputs["intervals"]:
        ends = datetime.fromisoformat(interval["time"]) + H
        assert all(ends > coming[one["asset_id"]] for one in interval["limits"] if one["asset_id"] in coming)
    # A car charges in the hours of its stay in which energy is worth least.
    night = max(expected, key=lambda car: car["planned_kwh"])
    price = {
        row["time"]: row["value"]
        for row in active.values.filter(pl.col("quantity") == "energy_price_eur_per_kwh").iter_rows(named=True)
    }
    stay = [
        value
        for time, value in price.items()
        if datetime.fromisoformat(night["arrival"]) <= time < datetime.fromisoformat(night["departure"])
    ]
    paid = np.average(
        [price[datetime.fromisoformat(time)] for time, _ in night["pattern_kw"]],
        weights=[kw for _, kw in night["pattern_kw"]],
    )
    assert paid < np.mean(stay) - 1e-3, (paid, stay, night)


def test_the_setting_decides_between_one_load_and_cars(db: TenantStore, site: Site) -> None:
    horizon = Horizon(start=NOW.replace(minute=0), step_minutes=60, steps=24)

    def kinds() -> tuple[int, bool]:
        problem = prepare(db, site, horizon, NOW).problem
        return len(problem.ev_blocks), bool(problem.ev_sessions)

    assert kinds() == (1, False)  # no session is known
    save_settings(db, site.id, PlanningSettings(ev="sessions"), user="olga")
    assert kinds() == (0, True)  # published statistics stand in
    give_sessions(db, site)
    save_settings(db, site.id, PlanningSettings(ev="block"), user="olga")
    assert kinds() == (1, False)
    save_settings(db, site.id, PlanningSettings(), user="olga")
    assert kinds() == (0, True)


def test_a_car_that_stays_beyond_the_plan_is_not_hurried(db: TenantStore, site: Site) -> None:
    write_sessions(db, site.id, pl.DataFrame([session("cp-01", "1", NOW - H, NOW + timedelta(days=3), 0.5)]))
    horizon = Horizon(start=NOW.replace(minute=0), step_minutes=60, steps=2)
    assert [one.id for one in prepare(db, site, horizon, NOW).problem.ev_sessions if "cp-01" in one.id] == []


def test_expected_cars_take_free_charge_points_and_what_these_can_give() -> None:
    manager = manager_of(sample("microgrid"), "ev-1")

    def car(name: str, point: str, begins: float, hours: float, max_kw: float = 50.0) -> Car:
        arrival = NOW + begins * H
        return Car(name, point, arrival, arrival + hours * H, max_kw * hours, max_kw, 5, "history")

    there = [car(name, point, 0.0, 4.0) for name, point in zip("abcde", POINTS[1:], strict=True)]
    found = seated(manager, there, [car("x", "cp-06", 1.0, 2.0), car("y", "cp-01", 1.5, 1.0), car("z", "cp-06", 5, 1)])
    assert [(one.id, one.charge_point) for one in found] == [("x", "cp-01"), ("z", "cp-06")]
    assert found[0].max_kw == 11.0
    assert found[0].energy_kwh == pytest.approx(22.0)
