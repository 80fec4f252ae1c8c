"""Every block's cost against a second formulation written apart, on random problems that mix the blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flexergy_pipelines.optimization import (
    Battery,
    Branch,
    ControllableLoad,
    DemandCharge,
    EfficiencyPoint,
    EnergyTier,
    EvSession,
    FuelPoint,
    Genset,
    Load,
    Network,
    Problem,
    Renewable,
    SharePoint,
    ShiftableLoad,
    TieredTariff,
    solve,
)
from tests.optimization.reference_site import Site
from tests.optimization.support import grid, hours


def share_points(rng: np.random.Generator) -> tuple[SharePoint, ...]:
    """Power limits over SoC: falling towards an end as batteries do, or with a dip that is not concave."""
    shapes = [
        [(0.7, 1.0), (1.0, 0.2)],
        [(0.0, 0.1), (0.3, 1.0)],
        [(0.0, 1.0), (0.5, 0.4), (1.0, 0.9)],
    ]
    return tuple(SharePoint(at=place, share=share) for place, share in shapes[int(rng.integers(0, 3))])


def random_battery(rng: np.random.Generator, name: str) -> Battery:
    fields: dict[str, Any] = {
        "id": name,
        "energy_capacity_kwh": float(rng.uniform(20, 80)),
        "max_charge_kw": 30.0,
        "max_discharge_kw": 30.0,
        "charge_efficiency": 0.95,
        "discharge_efficiency": 0.95,
        "soc_min": 0.1,
        "soc_max": 0.9,
        "soc_start": float(rng.uniform(0.2, 0.8)),
        "terminal": str(rng.choice(["free", "at_least", "equal", "priced", "cyclic"])),
        "terminal_price_eur_per_kwh": 10.0,
        "terminal_value_eur_per_kwh": 0.12,
        "wear_cost_eur_per_kwh": float(rng.choice([0.0, 0.02])),
    }
    options: list[dict[str, Any]] = [
        {"max_charge_by_soc": share_points(rng)},
        {"max_discharge_by_soc": share_points(rng)},
        {"soh": 0.85, "max_charge_by_soh": (SharePoint(at=0.7, share=0.5), SharePoint(at=1.0, share=1.0))},
        {"max_c_rate": 0.5},
        {"ramp_kw_per_minute": 0.5, "power_start_kw": float(rng.choice([0.0, 20.0]))},
        {"max_cycles_per_day": 0.6, "cycles_today": float(rng.choice([0.0, 0.4]))},
        {"auxiliary_kw": 0.8},
        {"inflow_kw": 1.0},
        {"charge_from": "renewables"},
        {"discharge_to": "site"},
        {"charge_efficiency_curve": tuple(EfficiencyPoint(power_kw=p, efficiency=e) for p, e in
                                          ((5.0, 0.80), (15.0, 0.95), (30.0, 0.92)))},
        {"discharge_efficiency_curve": tuple(EfficiencyPoint(power_kw=p, efficiency=e) for p, e in
                                             ((6.0, 0.85), (30.0, 0.94)))},
    ]  # fmt: skip
    for index in rng.choice(len(options), size=3, replace=False):
        fields |= options[int(index)]
    # Inflow into a full store has nowhere to go; a store that may empty itself keeps the window hard.
    if "inflow_kw" in fields:
        fields |= {"charge_from": "any", "discharge_to": "any", "soc_start": 0.3, "max_cycles_per_day": None}
        fields |= {"max_discharge_by_soc": (), "ramp_kw_per_minute": None}
    return Battery.model_validate(fields)


def random_genset(rng: np.random.Generator, minutes: int) -> Genset:
    fields: dict[str, Any] = {
        "id": "genset", "min_kw": 10.0, "max_kw": 40.0, "fuel_cost_eur_per_kwh": 0.05, "start_cost_eur": 1.0,
        "running_at_start": bool(rng.integers(0, 2)), "min_up_minutes": 2 * minutes,
    }  # fmt: skip
    shapes = [[(10, 4.0), (25, 7.0), (40, 12.0)], [(10, 4.0), (25, 8.5), (40, 11.0)]]
    curve = tuple(FuelPoint(power_kw=p, litres_per_h=f) for p, f in shapes[int(rng.integers(0, 2))])
    options: list[dict[str, Any]] = [
        {"fuel_curve": curve, "fuel_price_eur_per_l": 0.6},
        {"fuel_curve": curve, "fuel_price_eur_per_l": 0.4, "tank_l": 10.0},
        {"ramp_kw_per_minute": 12.0 / minutes},
        {"ramp_kw_per_minute": 12.0 / minutes, "start_kw": 15.0, "stop_kw": 20.0},
        {"max_starts": 1, "stop_cost_eur": 0.5},
        {"max_energy_kwh": 30.0},
        {"min_down_minutes": 3 * minutes, "running_cost_eur_per_h": 1.0},
    ]
    for index in rng.choice(len(options), size=2, replace=False):
        fields |= options[int(index)]
    return Genset.model_validate(fields)


def random_problem(seed: int) -> Problem:
    rng = np.random.default_rng(1000 + seed)
    n, minutes = int(rng.integers(6, 11)), int(rng.choice([15, 30, 60]))
    buy = rng.normal(0.15, 0.12, n).round(3)
    connection: dict[str, Any] = {
        "import_limit_kw": float(rng.choice([25.0, 60.0])),
        "export_limit_kw": float(rng.choice([10.0, 60.0])),
        "breach_price_eur_per_kwh": 100.0,
    }
    grids: list[dict[str, Any]] = [
        {"tiers": (TieredTariff(id="tiers", used_so_far_kwh=5.0, tiers=(
            EnergyTier(up_to_kwh=25.0, price_eur_per_kwh=0.03), EnergyTier(up_to_kwh=60.0, price_eur_per_kwh=0.08),
            EnergyTier(price_eur_per_kwh=0.2))),)},
        {"tiers": (TieredTariff(id="tiers", tiers=(
            EnergyTier(up_to_kwh=40.0, price_eur_per_kwh=0.1), EnergyTier(price_eur_per_kwh=0.02))),)},
        {"import_tax_eur_per_kwh": 0.05, "export_tax_eur_per_kwh": 0.01, "vat": 0.21},
        {"feed_in_limit_share": 0.3},
        {"feed_in_limit_kw": rng.uniform(0, 20, n).round(1)},
        {"ramp_kw_per_minute": 1.0, "power_start_kw": 10.0},
        {"demand_charges": (DemandCharge(id="peak", price_eur_per_kw=0.5, interval_minutes=2 * minutes,
                                         peak_so_far_kw=12.0),)},
        {"demand_charges": (DemandCharge(id="peak", price_eur_per_kw=0.4, direction="export"),), "vat": 0.1},
    ]  # fmt: skip
    for index in rng.choice(len(grids), size=2, replace=False):
        connection |= grids[int(index)]
    names = ["pv", "load", "ess-1"]
    parts: dict[str, Any] = {}
    if rng.random() < 0.4:
        parts["gensets"] = (random_genset(rng, minutes),)
        names.append("genset")
    if rng.random() < 0.4:
        steps = (0.4, 1.0) if rng.random() < 0.5 else (0.5,)
        parts["controllable_loads"] = (
            ControllableLoad(
                id="cold", power_kw=rng.uniform(5, 15, n).round(1), steps=steps, priority=int(rng.integers(1, 10)),
                curtailment_cost_eur_per_kwh=0.1, recovery_share=float(rng.choice([0.0, 0.9])),
                recovery_minutes=2 * minutes, max_curtailed_minutes=3 * minutes, min_minutes_between=2 * minutes,
            ),
        )  # fmt: skip
    if rng.random() < 0.4:
        window = (np.arange(n) >= 1).astype(float)
        kinds: list[dict[str, Any]] = [
            {"power_kw": 8.0, "energy_kwh": 8.0 * 3 * minutes / 60},
            {"power_kw": 8.0, "energy_kwh": 8.0 * 3 * minutes / 60, "max_starts": 1},
            {"power_kw": 12.0, "min_power_kw": 4.0, "energy_kwh": 20.0 * minutes / 60, "min_run_minutes": 2 * minutes},
            {"profile_kw": (6.0, 2.0, 9.0), "runs": 1},
        ]
        parts["shiftable_loads"] = (
            ShiftableLoad.model_validate(
                {"id": "pump", "allowed": window, "unmet_price_eur_per_kwh": 5.0, **kinds[int(rng.integers(0, 4))]}
            ),
        )
    if rng.random() < 0.4:
        parts["ev_sessions"] = tuple(
            EvSession(
                id=f"ev-{k}", connected=(np.arange(n) >= k).astype(float), capacity_kwh=40.0,
                soc_start=float(rng.uniform(0.2, 0.5)), soc_target=0.7, phases=3, max_current_a=16.0,
                min_current_a=float(rng.choice([0.0, 6.0])), max_discharge_kw=float(rng.choice([0.0, 8.0])),
                soc_reserve=0.3, efficiency=0.92, priority=int(rng.integers(1, 10)), unmet_price_eur_per_kwh=1.0,
                wear_cost_eur_per_kwh=0.03,
            )
            for k in range(2)
        )  # fmt: skip
        names += ["ev-0", "ev-1"]
    if rng.random() < 0.4:
        meshed = rng.random() < 0.5
        branches = [
            Branch(id="feeder-1", from_bus="main", to_bus="a", limit_kw=float(rng.uniform(10, 40)), reactance_pu=0.1),
            Branch(id="feeder-2", from_bus="main", to_bus="b", limit_kw=float(rng.uniform(10, 40)), reactance_pu=0.2),
        ]
        if meshed:
            branches.append(Branch(id="tie", from_bus="b", to_bus="a", limit_kw=8.0, reactance_pu=0.3))
        parts["network"] = Network(
            branches=tuple(branches), pcc_bus="main",
            bus_of={name: str(rng.choice(["a", "b", "main"])) for name in names},
        )  # fmt: skip
    return Problem(
        horizon=hours(n, minutes),
        grid=grid(buy, (buy - rng.choice([0.03, 0.0, -0.02])).round(3), **connection),
        loads=(Load(id="load", power_kw=rng.uniform(0, 40, n).round(1)),),
        renewables=(
            Renewable(id="pv", available_kw=rng.uniform(0, 60, n).round(1), rated_kw=60.0,
                      curtailable=bool(rng.integers(0, 4)), curtailment_price_eur_per_kwh=0.01),
        ),
        batteries=(random_battery(rng, "ess-1"),),
        **parts,
    )  # fmt: skip


@pytest.mark.requirement("uc.1", "uc.2", "uc.3", "module.genset", "module.load_controller", "energy.12.3")
@pytest.mark.parametrize("block", [*range(10), *(pytest.param(k, marks=pytest.mark.soak) for k in range(10, 60))])
def test_cost_of_mixed_blocks_equals_that_of_a_second_formulation(block):
    for seed in range(block * 4, block * 4 + 4):
        problem = random_problem(seed)
        plan = solve(problem, 60.0, mip_gap=0.0)
        assert plan.status == "optimal"
        expected = Site(problem).optimum()
        assert plan.objective_eur == pytest.approx(expected, rel=1e-6, abs=2e-5), f"seed {seed}"
