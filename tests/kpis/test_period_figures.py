"""Figures of a period: told by hand, conserved across units, silent about what was not measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexergy_pipelines.kpis import economics, energy
from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.flows import Flows
from tests.kpis.cases import flows

NAN = math.nan
RATES = economics.CostRates(0.0, {"genset-1": 0.4}, {"genset-1": 3.0}, {"ess-1": 0.03}, 0.3, {"genset-1": 0.7})


def values(figures: list[Figure]) -> dict[str, float | None]:
    return {figure.kpi: figure.value for figure in figures if figure.scope == "site"}


def test_energies_and_shares_of_a_day_told_by_hand() -> None:
    """Surplus of 30 kWh: 20 stored, 10 exported; 18 of it come back in the evening, 12 are imported."""
    found = values(energy.energy_statistics(flows([10, 10, 30], [40, 10, 0], [-20, 0, 18])))
    assert found["grid_import"] == pytest.approx(12)
    assert found["grid_export"] == pytest.approx(10)
    assert found["res_generation"] == pytest.approx(50)
    assert found["demand"] == pytest.approx(50)
    assert (found["energy_charged"], found["energy_discharged"]) == (20, 18)
    assert found["self_consumption"] == pytest.approx(38 / 50)
    assert found["self_sufficiency"] == pytest.approx(1 - 12 / 50)
    assert found["res_share"] == pytest.approx(38 / 50)
    assert found["hours_at_zero"] == 1


def test_costs_with_and_without_storage_told_by_hand() -> None:
    day = flows([10, 10, 30], [40, 10, 0], [-20, 0, 18], price=[0.1, 0.2, 0.3], export_price=[0.05, 0.05, 0.05])
    found = values(economics.money(day, RATES))
    assert found["cost"] == pytest.approx(12 * 0.3 - 10 * 0.05)
    assert found["cost_without_ess"] == pytest.approx(30 * 0.3 - 30 * 0.05)
    assert found["battery_wear"] == pytest.approx(18 * 0.03)
    assert found["savings"] == pytest.approx(7.5 - 3.1)
    assert found["profit"] == pytest.approx(-3.1 - 0.54)
    assert found["cost_reduction"] == pytest.approx((7.5 - 3.1) / 7.5)
    assert found["average_cost"] == pytest.approx(3.1 / 50)
    carbon = values(economics.emissions(day, RATES))
    assert carbon["co2_emitted"] == pytest.approx(12 * 0.3)
    assert carbon["emission_reduction"] == pytest.approx((30 - 12) * 0.3)


def test_earning_more_is_a_reduction_of_a_negative_cost() -> None:
    found = values(economics.money(flows([0, 0], [50, 50], [-40, 40], price=0.3, export_price=[0.1, 0.3]), RATES))
    assert (found["cost_without_ess"], found["cost"]) == (pytest.approx(-20), pytest.approx(-28))
    assert found["cost_reduction"] == pytest.approx(0.4)


def test_a_genset_costs_fuel_and_each_start() -> None:
    day = flows([50, 50, 50, 50], [0, 0, 0, 0], [0, 0, 0, 0], genset=[0, 40, 0, 50])
    assert economics.fuel_cost(day, RATES) == pytest.approx(90 * 0.4 + 2 * 3)
    assert values(economics.emissions(day, RATES))["co2_emitted"] == pytest.approx(110 * 0.3 + 90 * 0.7)


def test_curtailment_surplus_and_peaks_told_by_hand() -> None:
    """Possible 90 kW against a load of 10 and an export limit of 50: without storage 30 are lost, with it 10."""
    day = flows([10, 40], [80, 0], [-20, 25], possible=[90, 0], export_limit_kw=50)
    curtailed = values(energy.curtailment_reduction(day))
    assert curtailed["curtailment"] == pytest.approx(30 - 10)
    assert curtailed["curtailment_share"] == pytest.approx(20 / 30)
    assert energy.surplus_use(day).value == pytest.approx(20 / 80)
    peaks = values(energy.peak_shaving(day))
    assert peaks["peak_shaving"] == pytest.approx(1 - 15 / 40)
    assert peaks["peak_import"] == pytest.approx(15)


def test_storage_that_follows_the_clouds_smooths_the_park() -> None:
    pv = [0, 50, 0, 50, 0, 50]
    flat = [25 - value for value in pv]
    assert energy.smoothing(flows([0] * 6, pv, flat)).value == pytest.approx(1.0)
    assert energy.smoothing(flows([0] * 6, pv, [0] * 6)).value == pytest.approx(0.0)
    assert energy.smoothing(flows([0] * 6, [5] * 6, [0] * 6)).value is None


def test_losses_are_what_the_meters_do_not_account_for() -> None:
    day = flows([10, 10, 30], [40, 10, 0], [-20, 0, 18])
    found = values(energy.balance(day))
    assert (found["energy_supplied"], found["energy_consumed"]) == (pytest.approx(80), pytest.approx(80))
    assert found["technical_losses"] == pytest.approx(0)
    day.power_kw["pcc"][2] = 15.0
    day.power_kw["load-1"][1] = NAN
    lossy = energy.balance(day)
    assert values(lossy)["technical_losses"] == pytest.approx(3)
    assert lossy[-1].reference == "4.11% of the energy supplied"


def test_a_store_that_was_charged_from_the_grid_gives_no_renewable_energy() -> None:
    found = values(energy.energy_statistics(flows([10, 30], [0, 0], [-20, 18])))
    assert found["res_share"] == 0
    half = values(energy.energy_statistics(flows([10, 30], [20, 0], [-20, 18])))
    assert half["res_share"] == pytest.approx((10 + 0.5 * 18) / 40)


def test_what_was_not_measured_is_neither_zero_nor_hidden() -> None:
    day = flows([10, NAN, 30, 10], [0, 0, 0, 0], [0, 0, 0, 0])
    figures = energy.energy_statistics(day)
    demand = next(figure for figure in figures if figure.kpi == "demand")
    assert (demand.value, demand.coverage) == (50, 0.75)
    unknown = flows([NAN] * 4, [NAN] * 4, [NAN] * 4)
    everything = [
        *energy.energy_statistics(unknown),
        *economics.money(unknown, RATES),
        *economics.emissions(unknown, RATES),
        *energy.peak_shaving(unknown),
        *energy.curtailment_reduction(unknown),
        energy.surplus_use(unknown),
        energy.smoothing(unknown),
        energy.system_efficiency(unknown),
    ]
    told = [figure for figure in everything if figure.value is not None and not math.isnan(figure.value)]
    assert {figure.kpi for figure in told} <= {"genset_generation", "ev_energy", "flexible_load_energy", "fuel_cost"}
    assert all(figure.coverage == 0 for figure in everything if figure not in told)


series = st.lists(st.floats(0, 100), min_size=4, max_size=4)
storage = st.lists(st.floats(-50, 50), min_size=4, max_size=4)


@given(series, series, storage)
def test_an_idle_battery_changes_nothing_and_energy_is_conserved(load: list, pv: list, ess: list) -> None:
    idle = flows(load, pv, [0.0] * 4)
    assert values(economics.money(idle, RATES))["savings"] == pytest.approx(0.0, abs=1e-9)
    assert values(economics.emissions(idle, RATES))["emission_reduction"] == pytest.approx(0.0, abs=1e-9)
    found = values(energy.energy_statistics(flows(load, pv, ess)))
    sources = sum(found[name] or 0 for name in ("grid_import", "res_generation", "energy_discharged"))
    sinks = sum(found[name] or 0 for name in ("grid_export", "demand", "energy_charged"))
    assert sources == pytest.approx(sinks, abs=1e-6)
    for share in ("self_consumption", "self_sufficiency", "res_share"):
        value = found[share]
        assert value is None or value <= 1 + 1e-9


@given(series, series, storage)
def test_figures_do_not_depend_on_how_finely_the_same_power_is_cut(load: list, pv: list, ess: list) -> None:
    def fine(values: list[float]) -> list[float]:
        return [value for value in values for _ in range(4)]

    hourly: Flows = flows(load, pv, ess)
    quarterly = flows(fine(load), fine(pv), fine(ess), step_hours=0.25)
    for compute in (energy.energy_statistics, lambda f: economics.money(f, RATES), energy.peak_shaving):
        coarse, cut = values(compute(hourly)), values(compute(quarterly))
        for kpi, value in coarse.items():
            if value is None or math.isnan(value):
                continue
            assert cut[kpi] == pytest.approx(value, abs=1e-9, rel=1e-9), kpi


def test_only_times_known_on_both_sides_are_compared() -> None:
    """A lost PCC meter in the dear hour must not look like a saving."""
    day = flows([10, 10], [0, 0], [0, 0], price=[0.1, 1.0])
    day.power_kw["pcc"] = np.array([10.0, NAN])
    found = values(economics.money(day, RATES))
    assert found["savings"] == pytest.approx(0.0)
    assert found["cost_without_ess"] == pytest.approx(1.0)
