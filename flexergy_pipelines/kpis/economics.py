"""Money and emissions: what the period cost, and what it would have cost with the storage idle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from flexergy_pipelines.kpis.energy import BALANCE
from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.flows import DEMANDS, Array, Flows, positive, ratio


@dataclass(frozen=True, slots=True)
class CostRates:
    """Prices that hold for a site beside the energy prices.

    Attributes
    ----------
    standing_eur_per_day : float
        Standing charge [EUR/d].
    fuel_eur_per_kwh, start_eur, emissions_kg_per_kwh : dict of float
        Of each genset: fuel [EUR/kWh], a start [EUR], CO2 [kg/kWh].
    wear_eur_per_kwh : dict of float
        Of each ESS: wear per kWh discharged [EUR/kWh].
    grid_kg_per_kwh : float
        CO2 of a kWh from the grid [kg/kWh].
    """

    standing_eur_per_day: float
    fuel_eur_per_kwh: dict[str, float]
    start_eur: dict[str, float]
    wear_eur_per_kwh: dict[str, float]
    grid_kg_per_kwh: float
    emissions_kg_per_kwh: dict[str, float]


def energy_cost(flows: Flows, pcc_kw: Array) -> float:
    """Energy bought minus energy sold at the prices of each interval [EUR]."""
    return flows.energy(positive(pcc_kw) * flows.import_price) - flows.energy(positive(-pcc_kw) * flows.export_price)


def fuel_cost(flows: Flows, rates: CostRates) -> float:
    """Fuel and starts of all gensets [EUR]."""
    total = 0.0
    for asset in flows.ids("genset"):
        power = flows.power_kw[asset]
        total += flows.energy(positive(power)) * rates.fuel_eur_per_kwh.get(asset, 0.0)
        running = [bool(value > 0) for value in power if not np.isnan(value)]
        total += sum(now and not before for before, now in pairwise(running)) * rates.start_eur.get(asset, 0.0)
    return total


def wear_cost(flows: Flows, rates: CostRates) -> float:
    """Wear of all storage: energy discharged times its price of wear [EUR]."""
    return sum(
        flows.energy(positive(flows.power_kw[asset])) * rates.wear_eur_per_kwh.get(asset, 0.0)
        for asset in flows.ids("ess")
    )


def money(flows: Flows, rates: CostRates) -> list[Figure]:
    """Costs, savings, profit and average cost reduction.

    Only intervals in which the PCC, the demand, the generation and the prices are known enter, in both cases.

    - cost: energy bought - sold + fuel + standing charge [EUR]
    - cost_without_ess: the same with `Flows.pcc_without_ess`
    - savings: cost_without_ess - cost; wear is no cost of the bill, it enters the profit
    - cost_reduction: savings / |cost_without_ess| (the demand is the same in both cases) [fraction]
    - profit: revenue - energy bought - fuel - standing charge - wear
    """
    idle = flows.pcc_without_ess()
    known = ~np.isnan(flows.pcc() + idle + flows.import_price + flows.export_price)
    pcc, idle = np.where(known, flows.pcc(), np.nan), np.where(known, idle, np.nan)
    coverage = flows.coverage(*BALANCE) * float(np.mean(~np.isnan(flows.import_price))) if flows.intervals else 0.0
    fixed = rates.standing_eur_per_day * flows.intervals * flows.step_hours / 24 + fuel_cost(flows, rates)
    wear = wear_cost(flows, rates)
    cost, without = energy_cost(flows, pcc) + fixed, energy_cost(flows, idle) + fixed
    sold = flows.energy(positive(-pcc) * flows.export_price)
    cheaper = ratio(without - cost, abs(without))
    reference = f"without ESS: {without:.2f} EUR"
    figures = [
        Figure("cost", cost, "EUR", coverage, reference=reference),
        Figure("cost_without_ess", without, "EUR", coverage),
        Figure("export_revenue", sold, "EUR", coverage),
        Figure("fuel_cost", fuel_cost(flows, rates), "EUR", flows.coverage("genset")),
        Figure("battery_wear", wear, "EUR", flows.coverage("ess")),
        Figure("savings", without - cost, "EUR", coverage, reference=reference),
        Figure("profit", -(cost + wear), "EUR", coverage, reference=f"without ESS: {-without:.2f} EUR"),
        Figure("cost_reduction", cheaper, "fraction", coverage, reference=reference),
    ]
    demand = ratio(cost, flows.energy(np.where(known, flows.demand(), np.nan)))
    figures.append(Figure("average_cost", demand, "EUR/kWh", flows.coverage(*BALANCE, *DEMANDS), reference=reference))
    return figures


def emissions(flows: Flows, rates: CostRates) -> list[Figure]:
    """CO2 of imported energy and gensets, and what the storage saved of it [kg].

    Exported energy earns no credit.
    """
    idle = flows.pcc_without_ess()
    known = ~np.isnan(flows.pcc() + idle)
    burnt = sum(
        flows.energy(positive(flows.power_kw[asset])) * rates.emissions_kg_per_kwh.get(asset, 0.0)
        for asset in flows.ids("genset")
    )
    emitted = flows.energy(np.where(known, positive(flows.pcc()), np.nan)) * rates.grid_kg_per_kwh + burnt
    without = flows.energy(np.where(known, positive(idle), np.nan)) * rates.grid_kg_per_kwh + burnt
    coverage = flows.coverage(*BALANCE)
    reference = f"without ESS: {without:.4g} kg"
    return [
        Figure("co2_emitted", emitted, "kg", coverage, reference=reference),
        Figure("emission_reduction", without - emitted, "kg", coverage, reference=reference),
    ]


def net_present_value(rate: float, cash_flows_eur: list[float]) -> float:
    """Net present value: ``sum(cf_t / (1 + rate)^t)``, t = 0 the first [EUR]."""
    return float(sum(flow / (1 + rate) ** year for year, flow in enumerate(cash_flows_eur)))


def capital_recovery_factor(rate: float, years: float) -> float:
    """Constant yearly payment that repays one unit in `years` at `rate`: ``r (1+r)^n / ((1+r)^n - 1)`` [1/a]."""
    if rate == 0:
        return 1 / years
    growth = (1 + rate) ** years
    return rate * growth / (growth - 1)


def levelized_cost(
    capex_eur: float,
    energy_kwh: float,
    *,
    years: float,
    rate: float = 0.07,
    period_years: float = 1.0,
    operation_eur: float = 0.0,
    fuel_eur: float = 0.0,
) -> float | None:
    """LCOE: ``(CAPEX * CRF(rate, years) * period + O&M + fuel) / energy`` [EUR/kWh]; None without energy.

    Parameters
    ----------
    capex_eur : float
        Investment [EUR].
    energy_kwh : float
        Energy delivered in the period [kWh].
    years : float
        Life [a].
    rate : float
        Discount rate [1/a].
    period_years : float
        Length of the period [a].
    operation_eur, fuel_eur : float
        Fixed and variable operation and maintenance, and fuel, of the period [EUR].
    """
    annuity = capex_eur * capital_recovery_factor(rate, years) * period_years
    return ratio(annuity + operation_eur + fuel_eur, energy_kwh) if energy_kwh > 0 else None


def levelized_cost_of(
    assets: Sequence[tuple[float, float, float]],
    energy_kwh: float,
    *,
    rate: float = 0.07,
    period_years: float = 1.0,
    fuel_eur: float = 0.0,
) -> float | None:
    """LCOE of several assets together: the sum of their annuities and fixed costs over all their energy [EUR/kWh].

    Parameters
    ----------
    assets : sequence of (float, float, float)
        Investment [EUR], life [a] and fixed operation and maintenance [EUR/a] of each.
    energy_kwh : float
        Energy that all of them delivered in the period [kWh].
    rate : float
        Discount rate [1/a].
    period_years : float
        Length of the period [a].
    fuel_eur : float
        Fuel of the period [EUR].
    """
    yearly = sum(capex * capital_recovery_factor(rate, years) + fixed for capex, years, fixed in assets)
    return ratio(yearly * period_years + fuel_eur, energy_kwh) if energy_kwh > 0 else None
