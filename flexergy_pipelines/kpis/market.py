"""Indicators of the market: predictability of the declared profile, revenue of the park, value against hindsight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flexergy_pipelines.kpis.energy import BALANCE
from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.flows import SOURCES, Array, Flows, positive, ratio


def predictability(flows: Flows, profile_kw: Array) -> Figure:
    """Predictability increase: ``1 - MAE(P_park - profile) / MAE(P_RES - profile)`` [fraction].

    Parameters
    ----------
    flows : Flows
        The period; ``P_park = RES + ESS``.
    profile_kw : array
        What was declared the day before for the park [kW], NaN where nothing was.
    """
    renewable = flows.renewable()
    known = ~np.isnan(renewable + flows.total("ess") + profile_kw)
    if not known.any():
        return Figure("predictability", None, "fraction", 0.0, reference="no day-ahead profile was declared")
    park_error = float(np.mean(np.abs(renewable + flows.total("ess") - profile_kw)[known]))
    res_error = float(np.mean(np.abs(renewable - profile_kw)[known]))
    share = ratio(park_error, res_error)
    return Figure(
        "predictability",
        None if share is None else 1 - share,
        "fraction",
        float(np.mean(known)) * flows.coverage(*SOURCES, "ess"),
        reference=f"mean error to the day-ahead profile: RES alone {res_error:.4g} kW, park {park_error:.4g} kW",
    )


def park_revenue(flows: Flows, spot: Array, profile_kw: Array, imbalance_price: Array) -> Figure:
    """Overall revenue of the hybrid park: energy sold at the market price - deviation penalties [EUR].

    Parameters
    ----------
    flows : Flows
        The period.
    spot : array
        Market price of each interval [EUR/kWh].
    profile_kw : array
        Declared export of the park [kW], NaN where nothing was declared.
    imbalance_price : array
        Price of a kWh of deviation from it [EUR/kWh], NaN where none is known.
    """
    sold = positive(-flows.pcc())
    deviation = np.abs(flows.renewable() + flows.total("ess") - profile_kw)
    charged = deviation * imbalance_price
    penalties = flows.energy(charged) if np.any(~np.isnan(charged)) else 0.0
    income = flows.energy(sold * spot)
    known = float(np.mean(~np.isnan(spot))) if spot.size else 0.0
    told = f"energy {income:.2f} EUR, deviations -{penalties:.2f} EUR"
    if not np.any(~np.isnan(imbalance_price)):
        told += " (no imbalance price known)"
    return Figure("park_revenue", income - penalties, "EUR", flows.coverage("pcc") * known, reference=told)


@dataclass(frozen=True, slots=True)
class Storage:
    """One ESS for the hindsight optimum: AC powers [kW], energies in the store [kWh], wear per kWh discharged [EUR]."""

    max_charge_kw: float
    max_discharge_kw: float
    lowest_kwh: float
    highest_kwh: float
    charge_efficiency: float
    discharge_efficiency: float
    wear_eur_per_kwh: float
    start_kwh: float
    end_kwh: float


def best_value_in_hindsight(flows: Flows, store: Storage) -> float | None:
    """What the best schedule would have saved, had everything been known [EUR].

    A linear program over the measured demand, generation and prices that starts and ends with the energy that the store
    really held. Charging and discharging at once is allowed, so at negative prices the value is an upper bound.
    None when something of the period is not known, or no schedule exists.
    """
    from scipy.optimize import linprog
    from scipy.sparse import bmat, eye, identity

    residual = flows.demand() - flows.renewable() - flows.total("genset")
    if not flows.intervals or np.any(np.isnan(residual + flows.import_price + flows.export_price)):
        return None
    count, dt = flows.intervals, flows.step_hours
    one = identity(count)
    # Columns: import, export, curtailed, charge, discharge, energy at the end of each interval.
    balance = [one, -one, -one, -one, one, None]
    difference = one - eye(count, k=-1)
    stored = [
        None, None, None, -dt * store.charge_efficiency * one, dt / store.discharge_efficiency * one, difference,
    ]  # fmt: skip
    first = np.zeros(count)
    first[0] = store.start_kwh
    cost = dt * np.concatenate(
        [flows.import_price, -flows.export_price, np.zeros(2 * count), np.full(count, store.wear_eur_per_kwh)]
    )
    energy_bounds = [(store.lowest_kwh, store.highest_kwh)] * (count - 1) + [(store.end_kwh, store.end_kwh)]
    power_bounds = [
        (0.0, limit)
        for limit in (flows.import_limit_kw, flows.export_limit_kw, None, store.max_charge_kw, store.max_discharge_kw)
        for _ in range(count)
    ]
    found = linprog(
        np.concatenate([cost, np.zeros(count)]),
        A_eq=bmat([balance, stored], format="csr"),
        b_eq=np.concatenate([residual, first]),
        bounds=power_bounds + energy_bounds,
        method="highs",
    )
    if not found.success:
        return None
    idle = flows.pcc_without_ess()
    without = flows.energy(positive(idle) * flows.import_price) - flows.energy(positive(-idle) * flows.export_price)
    return without - float(found.fun)


def allocation(flows: Flows, stores: list[tuple[Flows, Storage]], earned_eur: float | None) -> Figure:
    """Effectiveness of the BESS allocation: value earned / value of the best allocation in hindsight [fraction].

    Parameters
    ----------
    flows : Flows
        The period.
    stores : list of (Flows, Storage)
        Its parts (days, weeks), each with the store as it began and ended; hindsight sees no further than its part.
    earned_eur : float or None
        What storage earned in the period [EUR].

    Notes
    -----
    All usable capacity is committed to one service, energy at the site's prices.
    """
    coverage = flows.coverage(*BALANCE)
    found = [best_value_in_hindsight(part, store) for part, store in stores]
    best = sum(value for value in found if value is not None)
    if not found or None in found or earned_eur is None or best < 0.01:
        return Figure("allocation", None, "fraction", coverage, reference="no best value could be told")
    told = f"earned {earned_eur:.2f} EUR, best in hindsight {best:.2f} EUR; whole capacity for energy"
    return Figure("allocation", earned_eur / best, "fraction", coverage, reference=told)


def shifted_energy(flows: Flows) -> list[Figure]:
    """Energy that storage moved from dear to cheap hours [kWh], and its share of the demand [fraction].

    Dear hours are those whose import price is above the period's median; moved is what was discharged in them, at most
    what was charged in the others.
    """
    price = flows.import_price
    known = ~np.isnan(price)
    coverage = flows.coverage("ess") * (float(np.mean(known)) if known.size else 0.0)
    if not known.any() or not flows.ids("ess"):
        return [Figure("peak_shifted", None, "kWh", coverage), Figure("peak_shifted_share", None, "fraction", coverage)]
    dear = price > np.median(price[known])
    power = flows.total("ess")
    discharged = flows.energy(np.where(dear, positive(power), np.where(np.isnan(power), np.nan, 0.0)))
    charged = flows.energy(np.where(known & ~dear, positive(-power), np.where(np.isnan(power), np.nan, 0.0)))
    moved = min(discharged, charged)
    return [
        Figure("peak_shifted", moved, "kWh", coverage, reference="from hours above the median price to the others"),
        Figure("peak_shifted_share", ratio(moved, flows.energy(flows.demand())), "fraction", coverage),
    ]
