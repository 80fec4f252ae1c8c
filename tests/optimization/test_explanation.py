"""Explanations: sentences that say what the numbers say, and shadow prices that are what a unit more would cost."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from flexergy_pipelines.optimization import (
    ControllableLoad,
    DemandCharge,
    EvBlock,
    FuelPoint,
    Genset,
    Load,
    Problem,
    Renewable,
    solve,
)
from flexergy_pipelines.optimization.explanation import binding_limits, energy_price_eur_per_kwh, explain, stretches
from tests.optimization.support import battery, grid, hours


def day(**changes: object) -> Problem:
    """Cheap at night, dear in the evening."""
    price = np.array([0.041] * 6 + [0.09] * 12 + [0.138] * 3 + [0.08] * 3)
    fields: dict[str, object] = {
        "horizon": hours(24),
        "grid": grid(price, price - 0.01),
        "loads": (Load(id="load", power_kw=300.0),),
        "batteries": (
            battery(
                energy_capacity_kwh=400.0,
                max_charge_kw=120.0,
                max_discharge_kw=150.0,
                charge_efficiency=0.95,
                discharge_efficiency=0.95,
            ),
        ),
    }
    return Problem.model_validate(fields | changes)


def test_a_sentence_says_what_energy_is_kept_for_and_what_limits():
    problem = day()
    reasons = explain(problem, solve(problem), ZoneInfo("Europe/Amsterdam"))
    charging = next(reason for reason in reasons if reason.power_kw < 0)
    assert "ess-1 charges" in charging.sentence
    assert "energy at 41 EUR/MWh is kept for 19:00 at 138" in charging.sentence
    assert "a full store" in charging.binding
    giving = next(reason for reason in reasons if reason.power_kw > 0)
    assert "energy is worth 138 EUR/MWh now" in giving.sentence
    assert giving.start.hour == 18


def test_worth_of_energy_and_of_stored_energy_are_what_a_unit_more_changes():
    problem = day()
    plan = solve(problem)
    price = energy_price_eur_per_kwh(plan)
    value = plan.marginal_value_eur_per_kwh("ess-1")
    assert price is not None
    assert value is not None
    for step in (3, 10, 19):
        power = np.full(24, 300.0)
        power[step] += 0.01
        more = solve(day(loads=(Load(id="load", power_kw=power),)))
        assert (more.objective_eur - plan.objective_eur) / 0.01 == pytest.approx(price[step], abs=1e-5)
    assert value[19] == pytest.approx(0.95 * 0.138, abs=1e-6)
    # At noon the store is full: one more kilowatt-hour would have to be used before the evening.
    assert value[10] == pytest.approx(0.95 * 0.09, abs=1e-6)


def test_genset_ev_and_curtailment_have_reasons_and_the_import_limit_is_named():
    source = Renewable(id="pv", available_kw=np.where(np.arange(24) == 12, 900.0, 0.0))
    problem = day(
        grid=grid(0.1, 0.02, import_limit_kw=250.0, export_limit_kw=100.0),
        gensets=(Genset(id="genset", min_kw=30.0, max_kw=60.0, fuel_cost_eur_per_kwh=0.3, start_cost_eur=1.0),),
        ev_blocks=(EvBlock(id="ev", power_kw=50.0, unmet_price_eur_per_kwh=0.5),),
        renewables=(source,),
    )
    reasons = explain(problem, solve(problem, mip_gap=1e-6), UTC)
    by_asset = {reason.asset_id: reason for reason in reasons}
    assert "runs at" in by_asset["genset"].sentence
    assert "the import limit" in by_asset["genset"].binding
    assert "is curtailed by" in by_asset["pv"].sentence
    assert "the export limit" in by_asset["pv"].binding


def test_binding_limits_name_only_what_binds():
    problem = day(
        grid=grid(0.1, 0.02, import_limit_kw=310.0), loads=(Load(id="load", power_kw=[300.0] * 20 + [400.0] * 4),)
    )
    plan = solve(problem)
    late = {(b.asset_id, b.name) for b in binding_limits(plan, 21)}
    assert ("pcc", "import_kw") in late
    assert not {name for _, name in late if "breach" in name}


def test_stretches_split_at_every_change_of_direction():
    assert stretches(np.array([0, 1, 2, 0, -1, 1, 0.001, 3.0])) == [(1, 2), (4, 4), (5, 5), (7, 7)]


def test_a_peak_over_longer_intervals_is_named_where_it_binds():
    charge = DemandCharge(id="month", price_eur_per_kw=5.0, interval_minutes=120)
    dear = np.where(np.arange(24) >= 12, 1.0, 0.0)
    for peak in (charge, charge.model_copy(update={"applies": dear})):
        problem = day(grid=grid([0.1] * 20 + [0.2] * 4, 0.0, demand_charges=(peak,)))
        problem = problem.model_copy(update={"loads": (Load(id="load", power_kw=[100.0] * 20 + [300.0] * 4),)})
        reasons = explain(problem, solve(problem), UTC)
        last = next(reason for reason in reasons if reason.power_kw > 0)
        assert "the peak charged by month" in last.binding


def test_a_genset_with_a_fuel_curve_names_what_its_fuel_costs():
    curve = (FuelPoint(power_kw=0.0, litres_per_h=5.0), FuelPoint(power_kw=50.0, litres_per_h=15.0))
    unit = Genset(id="diesel", min_kw=50.0, max_kw=50.0, fuel_curve=curve, fuel_price_eur_per_l=1.2)
    problem = Problem(horizon=hours(2), loads=(Load(id="load", power_kw=50.0),), gensets=(unit,))
    (reason,) = explain(problem, solve(problem), UTC)
    assert "diesel runs at 50 kW: fuel at 360 EUR/MWh" in reason.sentence


def test_the_rebound_of_a_load_is_not_told_as_curtailment():
    cold = ControllableLoad(id="cold", power_kw=10.0, recovery_share=1.0, recovery_minutes=120)
    problem = Problem(horizon=hours(4), grid=grid([1.0, 0.1, 0.1, 0.1], 0.0), controllable_loads=(cold,))
    plan = solve(problem)
    assert plan.column("cold", "active_power_kw").max() > 10.0
    (reason,) = explain(problem, plan, UTC)
    assert (reason.power_kw, (reason.end - reason.start).total_seconds()) == (10.0, 3600.0)
