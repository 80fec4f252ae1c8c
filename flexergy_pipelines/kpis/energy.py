"""Energy statistics and the indicators that follow from energy alone.

All take `Flows`; energies are those of the intervals that were measured, and `coverage` says how many that were.
"""

from __future__ import annotations

import math

import numpy as np

from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.flows import DEMANDS, SOURCES, Array, Flows, positive, ratio

BALANCE = ("pcc", *SOURCES, *DEMANDS, "genset", "ess")


def energy_statistics(flows: Flows, *, zero_band_kw: float = 1.0) -> list[Figure]:
    """Import, export, generation by source, demand by kind, shares, storage throughput and hours at zero.

    Parameters
    ----------
    flows : Flows
        The measured period.
    zero_band_kw : float
        |pcc| up to this counts as zero net consumption [kW].

    Returns
    -------
    list of Figure
        Self-consumption = RES used locally / RES produced, RES share = RES used locally / demand (`used_locally`),
        self-sufficiency = 1 - import / demand.
    """
    pcc, renewable, demand = flows.pcc(), flows.renewable(), flows.demand()
    at_pcc, of_balance = flows.coverage("pcc"), flows.coverage(*BALANCE)
    exported = positive(-pcc)
    local = used_locally(flows)
    known = ~np.isnan(pcc) & ~np.isnan(demand)
    imported_when_known = flows.energy(np.where(known, positive(pcc), np.nan))
    demand_when_known = flows.energy(np.where(known, demand, np.nan))
    sufficiency = ratio(imported_when_known, demand_when_known)
    at_zero = np.where(np.isnan(pcc), np.nan, np.abs(pcc) <= zero_band_kw)
    figures = [
        Figure("grid_import", flows.energy(positive(pcc)), "kWh", at_pcc),
        Figure("grid_export", flows.energy(exported), "kWh", at_pcc),
        Figure("res_generation", flows.energy(renewable), "kWh", flows.coverage(*SOURCES)),
        Figure("genset_generation", flows.energy(flows.total("genset")), "kWh", flows.coverage("genset")),
        Figure("ev_energy", flows.energy(flows.total("ev")), "kWh", flows.coverage("ev")),
        Figure("load_energy", flows.energy(flows.total("load")), "kWh", flows.coverage("load")),
        Figure(
            "flexible_load_energy",
            flows.energy(flows.total("controllable_load")),
            "kWh",
            flows.coverage("controllable_load"),
        ),
        Figure("demand", flows.energy(demand), "kWh", flows.coverage(*DEMANDS)),
        Figure("self_consumption", ratio(local, flows.energy(renewable)), "fraction", of_balance),
        Figure("self_sufficiency", None if sufficiency is None else 1 - sufficiency, "fraction", of_balance),
        Figure("res_share", ratio(local, flows.energy(demand)), "fraction", of_balance),
        Figure("hours_at_zero", flows.energy(at_zero), "h", at_pcc),
        Figure("energy_charged", flows.energy(positive(-flows.total("ess"))), "kWh", flows.coverage("ess")),
        Figure("energy_discharged", flows.energy(positive(flows.total("ess"))), "kWh", flows.coverage("ess")),
    ]
    for asset in flows.ids(*SOURCES, "genset"):
        good = float(np.mean(flows.good[asset])) if flows.intervals else 0.0
        figures.append(Figure("generation", flows.energy(flows.power_kw[asset]), "kWh", good, scope=asset))
    for asset in flows.ids(*DEMANDS):
        good = float(np.mean(flows.good[asset])) if flows.intervals else 0.0
        figures.append(Figure("consumption", flows.energy(flows.power_kw[asset]), "kWh", good, scope=asset))
    return figures


def balance(flows: Flows) -> list[Figure]:
    """Balance report: energy supplied, energy consumed, and the difference as technical losses [kWh].

    Supplied: import, PV, wind, gensets, discharge. Consumed: demand, export, charge. Losses are between the meters;
    those inside a storage system show in its round trip. Only intervals in which all flows are known enter. Losses that
    are negative or large tell of a meter that is wrong.
    """
    pcc, storage = flows.pcc(), flows.total("ess")
    supplied = positive(pcc) + positive(storage) + flows.renewable() + flows.total("genset")
    consumed = flows.demand() + positive(-pcc) + positive(-storage)
    known = ~np.isnan(supplied + consumed)
    gave, took = (flows.energy(np.where(known, part, np.nan)) for part in (supplied, consumed))
    coverage = flows.coverage(*BALANCE)
    share = ratio(gave - took, gave)
    told = None if share is None or math.isnan(share) else f"{share:.2%} of the energy supplied"
    return [
        Figure("energy_supplied", gave, "kWh", coverage),
        Figure("energy_consumed", took, "kWh", coverage),
        Figure("technical_losses", gave - took, "kWh", coverage, reference=told),
    ]


def used_locally(flows: Flows) -> float:
    """RES energy that served the demand, directly or through the store [kWh].

    Directly: ``min(RES, demand)`` in each interval. Through the store: what it gave to the rest of the demand, times
    the share of its charge that was RES surplus in the period, at most that surplus.
    """
    renewable, demand, storage = positive(flows.renewable()), flows.demand(), flows.total("ess")
    direct = np.minimum(renewable, demand)
    charged, surplus = positive(-storage), positive(renewable - demand)
    put_in = flows.energy(np.minimum(charged, surplus))
    green = ratio(put_in, flows.energy(charged)) or 0.0
    given = np.minimum(positive(storage), positive(demand - renewable))
    if math.isnan(green) or np.all(np.isnan(given)):
        return flows.energy(direct)
    return flows.energy(direct) + min(green * flows.energy(given), put_in)


def smoothing(flows: Flows) -> Figure:
    """Smoothing performance: ``1 - sigma(dP_park) / sigma(dP_RES)``, ``P_park = RES + ESS`` [fraction].

    dP is the change from one interval to the next.
    """
    renewable = flows.renewable()
    park = renewable + flows.total("ess")
    raw, smoothed = _spread(renewable), _spread(park)
    share = ratio(smoothed, raw)
    return Figure(
        "smoothing",
        None if share is None else 1 - share,
        "fraction",
        flows.coverage(*SOURCES, "ess"),
        reference=f"RES alone: ramps of {raw:.3g} kW (1 sigma), {_ramp_p99(renewable, flows):.3g} kW/min (p99); "
        f"with ESS {_ramp_p99(park, flows):.3g} kW/min (p99)",
    )


def _spread(power: Array) -> float:
    changes = np.diff(power)
    changes = changes[~np.isnan(changes)]
    return float(np.std(changes)) if changes.size > 1 else float("nan")


def _ramp_p99(power: Array, flows: Flows) -> float:
    changes = np.abs(np.diff(power))
    changes = changes[~np.isnan(changes)]
    return float(np.percentile(changes, 99) / (flows.step_hours * 60)) if changes.size else float("nan")


def surplus_use(flows: Flows) -> Figure:
    """Energy surplus management [fraction].

    Of the RES energy above local demand, the share that was stored: ``sum(min(surplus, charge)) / sum(surplus)`` with
    ``surplus = max(possible RES - demand, 0)``; the rest was exported or curtailed.
    """
    surplus = positive(flows.possible() - flows.demand())
    charged = positive(-flows.total("ess"))
    stored = np.where(np.isnan(surplus) | np.isnan(charged), np.nan, np.fmin(surplus, charged))
    known = np.where(np.isnan(stored), np.nan, surplus)
    return Figure(
        "surplus",
        ratio(flows.energy(stored), flows.energy(known)),
        "fraction",
        flows.coverage(*SOURCES, *DEMANDS, "ess"),
        reference=f"surplus of {flows.energy(known):.4g} kWh",
    )


def curtailment_reduction(flows: Flows) -> list[Figure]:
    """Reduced RES curtailment: curtailed energy without ESS minus with [kWh], and as a share of the former.

    With: ``possible - actual``. Without: what of the possible RES demand and export limit could not have taken.
    """
    possible = flows.possible()
    with_ess = flows.energy(positive(possible - flows.renewable()))
    idle = flows.demand() - possible - flows.total("genset")
    without_ess = flows.energy(np.fmin(positive(-idle - flows.export_limit_kw), possible))
    coverage = flows.coverage(*SOURCES, *DEMANDS)
    reference = f"curtailed without ESS: {without_ess:.4g} kWh, with: {with_ess:.4g} kWh"
    return [
        Figure("curtailment", without_ess - with_ess, "kWh", coverage, reference=reference),
        Figure(
            "curtailment_share", ratio(without_ess - with_ess, without_ess), "fraction", coverage, reference=reference
        ),
    ]


def peak_shaving(flows: Flows) -> list[Figure]:
    """Peak shaving: ``1 - max(import) / max(import without ESS)``, and the load factor (mean / max) of the import."""
    actual, idle = positive(flows.pcc()), positive(flows.pcc_without_ess())
    coverage = flows.coverage(*BALANCE)
    highest, highest_idle = _highest(actual), _highest(idle)
    share = ratio(highest, highest_idle)
    return [
        Figure(
            "peak_shaving",
            None if share is None else 1 - share,
            "fraction",
            coverage,
            reference=f"highest import without ESS: {highest_idle:.4g} kW, with: {highest:.4g} kW",
        ),
        Figure("peak_import", highest, "kW", coverage, reference=f"without ESS: {highest_idle:.4g} kW"),
        Figure("load_factor", _load_factor(actual), "fraction", coverage, reference=_shown(_load_factor(idle))),
    ]


def _highest(power: Array) -> float:
    return float(np.nanmax(power)) if np.any(~np.isnan(power)) else float("nan")


def _load_factor(power: Array) -> float | None:
    return ratio(float(np.nanmean(power)), _highest(power)) if np.any(~np.isnan(power)) else None


def _shown(value: float | None) -> str:
    return "without ESS: not defined" if value is None else f"without ESS: {value:.3g}"


def system_efficiency(flows: Flows) -> Figure:
    """System global efficiency: energy delivered to load, EV and grid / energy taken from all sources [fraction].

    Sources are PV, wind, gensets, the grid, and what the storage held less at the end than at the start; what it holds
    more counts as delivered. Only intervals in which all flows are known count.
    """
    flows_by_sign = [
        flows.demand(),
        positive(-flows.pcc()),
        positive(flows.pcc()),
        flows.renewable() + flows.total("genset"),
    ]
    known = ~np.isnan(np.sum(flows_by_sign, axis=0))
    delivered, exported, imported, generated = (flows.energy(np.where(known, part, np.nan)) for part in flows_by_sign)
    return Figure(
        "efficiency",
        ratio(delivered + exported, imported + generated),
        "fraction",
        flows.coverage(*BALANCE),
        reference="change of stored energy not counted",
    )
