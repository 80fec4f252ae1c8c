"""Security of supply: outage risk, N-1, loss of load expectation and generation reliability of a measured period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from flexergy_pipelines.kpis.energy import BALANCE
from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.flows import SOURCES, Array, Flows, positive
from flexergy_pipelines.kpis.reliability import capacity_outage_table

HOURS_A_YEAR: Final = 8760.0


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """What an ESS can give: power [kW], and the energy [kWh, AC] that one unit of SoC above `soc_min` is worth."""

    max_discharge_kw: float
    soc_min: float
    deliverable_kwh_per_soc: float


@dataclass(frozen=True, slots=True)
class SupplyAssumptions:
    """What a site's configuration does not tell.

    Attributes
    ----------
    critical_share : float
        Share of the non-controllable load that must be served in an outage; EVs and flexible loads are shed.
    bridge_hours : float
        How long a loss of the public grid is to be bridged [h].
    grid_outage_rate, genset_outage_rate, ess_outage_rate : float
        Forced outage rates. Defaults: 1.3 h a year without the public grid (the order of European SAIDI, CEER
        benchmarking report), 5 % of a standby genset (IEEE Std 493 gives 1 to 10 %), 2 % of a storage system.
    """

    critical_share: float = 1.0
    bridge_hours: float = 1.0
    grid_outage_rate: float = 1.5e-4
    genset_outage_rate: float = 0.05
    ess_outage_rate: float = 0.02


def deliverable_energy(flows: Flows, limits: dict[str, StorageLimits]) -> Array:
    """Energy that all storage could give at the start of each interval [kWh, AC]; NaN where a SoC is not known."""
    total = np.zeros(flows.intervals)
    for asset, limit in limits.items():
        total += positive(flows.soc[asset] - limit.soc_min) * limit.deliverable_kwh_per_soc
    return total


def outage_risk(
    flows: Flows, limits: dict[str, StorageLimits], genset_kw: float, assumptions: SupplyAssumptions
) -> Figure:
    """Share of intervals in which a loss of the public grid could not have been bridged [fraction].

    In an outage of `bridge_hours` that begins with the interval, storage must cover what gensets and RES leave of the
    critical load, by energy and by power in each interval. Surplus is not stored (conservative); at the end of the
    period the outage is cut short.
    """
    gap = positive(flows.total("load") * assumptions.critical_share - positive(flows.renewable()) - genset_kw)
    window = max(1, round(assumptions.bridge_hours / flows.step_hours))
    padded = np.concatenate([gap, np.zeros(window - 1)])
    ahead = np.lib.stride_tricks.sliding_window_view(padded, window) if gap.size else np.empty((0, window))
    needed_kwh, needed_kw = ahead.sum(axis=1) * flows.step_hours, ahead.max(axis=1, initial=0.0)
    stored_kwh = deliverable_energy(flows, limits)
    power_kw = sum(limit.max_discharge_kw for limit in limits.values())
    known = ~np.isnan(needed_kwh + stored_kwh)
    at_risk = (needed_kwh > stored_kwh + 1e-9) | (needed_kw > power_kw + 1e-9)
    return Figure(
        "outage_risk",
        float(np.mean(at_risk[known])) if known.any() else None,
        "fraction",
        float(np.mean(known)) if known.size else 0.0,
        reference=f"{assumptions.bridge_hours:g} h without grid, {assumptions.critical_share:.0%} of fixed load",
    )


def security_of_supply(flows: Flows, limits: dict[str, StorageLimits], genset_kw: dict[str, float]) -> Figure:
    """Share of intervals in which the demand is covered after losing the largest source (N-1) [fraction].

    Sources are the grid connection at its limit, each genset at its maximum, PV and wind at what they could give, and
    each ESS at the power that its energy lasts for the interval.
    """
    sources = [np.full(flows.intervals, flows.import_limit_kw)]
    sources += [np.full(flows.intervals, power) for power in genset_kw.values()]
    for asset in flows.ids(*SOURCES):
        could = flows.available_kw.get(asset)
        sources.append(flows.power_kw[asset] if could is None else np.fmax(could, flows.power_kw[asset]))
    for asset, limit in limits.items():
        stored = positive(flows.soc[asset] - limit.soc_min) * limit.deliverable_kwh_per_soc
        sources.append(np.minimum(limit.max_discharge_kw, stored / flows.step_hours))
    stacked = np.stack(sources)
    left = stacked.sum(axis=0) - stacked.max(axis=0)
    known = ~np.isnan(left + flows.demand())
    covered = left >= flows.demand() - 1e-9
    return Figure(
        "security_of_supply",
        float(np.mean(covered[known])) if known.any() else None,
        "fraction",
        float(np.mean(known)) if known.size else 0.0,
        reference="N-1 of grid, gensets, PV, wind and storage",
    )


def loss_of_load_figures(
    flows: Flows, limits: dict[str, StorageLimits], genset_kw: dict[str, float], assumptions: SupplyAssumptions
) -> list[Figure]:
    """LOLE [h/a] and generation reliability [fraction] of the measured period.

    The grid connection, gensets and storage are units of a capacity outage table; PV and wind lower the load. Storage
    is energy-limited: it counts with the power that its energy lasts for an hour. Generation reliability is
    ``1 - expected energy not supplied / energy demanded``.
    """
    load = positive(flows.demand() - positive(flows.renewable()))
    units = [(flows.import_limit_kw, assumptions.grid_outage_rate)]
    units += [(power, assumptions.genset_outage_rate) for power in genset_kw.values()]
    stored = {
        asset: np.minimum(
            limit.max_discharge_kw,
            positive(flows.soc[asset] - limit.soc_min) * limit.deliverable_kwh_per_soc / max(1.0, flows.step_hours),
        )
        for asset, limit in limits.items()
    }
    known = ~np.isnan(load + sum(stored.values(), np.zeros(flows.intervals)))
    coverage = float(np.mean(known)) if known.size else 0.0
    told = (
        f"outage rates: grid {assumptions.grid_outage_rate:g}, genset {assumptions.genset_outage_rate:g}, "
        f"ESS {assumptions.ess_outage_rate:g}"
    )
    if not known.any():
        return [
            Figure("lole", None, "h/a", coverage, reference=told),
            Figure("generation_reliability", None, "fraction", coverage, reference=told),
        ]
    probability, shortfall_kw = _expected(
        [unit for unit in units if unit[0] > 0],
        {asset: power[known] for asset, power in stored.items()},
        load[known],
        assumptions.ess_outage_rate,
    )
    hours = float(np.mean(probability)) * HOURS_A_YEAR
    demanded = float(np.sum(flows.demand()[known]))
    reliability = 1 - float(np.sum(shortfall_kw)) / demanded if demanded > 0 else None
    return [
        Figure("lole", hours, "h/a", coverage, reference=told),
        Figure("generation_reliability", reliability, "fraction", coverage, reference=f"expected; {told}"),
    ]


def _expected(
    units: list[tuple[float, float]], stored: dict[str, Array], load: Array, ess_outage_rate: float
) -> tuple[Array, Array]:
    """Probability of a shortage and expected shortfall in each interval, over all outages of units and storage."""
    table = capacity_outage_table(units, 1.0)
    capacity = sum(round(power) for power, _ in units) - np.arange(table.size, dtype=float)
    # In rising order of capacity, with running sums: then each interval is one look-up.
    capacity, weight = capacity[::-1], table[::-1]
    below = np.concatenate([[0.0], np.cumsum(weight)])
    weighted = np.concatenate([[0.0], np.cumsum(weight * capacity)])
    probability, shortfall = np.zeros(load.size), np.zeros(load.size)
    assets = list(stored)
    for combination in range(2 ** len(assets)):
        chance, rest = 1.0, load
        for place, asset in enumerate(assets):
            works = bool(combination >> place & 1)
            chance *= 1 - ess_outage_rate if works else ess_outage_rate
            rest = rest - stored[asset] if works else rest
        place_of = np.searchsorted(capacity, rest - 1e-9, side="left")
        probability += chance * below[place_of]
        shortfall += chance * (rest * below[place_of] - weighted[place_of])
    return probability, shortfall


def congestion(flows: Flows) -> list[Figure]:
    """Hours and energy above the limits of the grid connection, and without ESS [h, kWh].

    Without ESS nothing is curtailed, so that the congestion it would have caused is seen.
    """
    idle = flows.demand() - flows.possible() - flows.total("genset")
    found = {}
    for name, power in (("with", flows.pcc()), ("without", idle)):
        over = positive(np.maximum(power - flows.import_limit_kw, -power - flows.export_limit_kw))
        hours = flows.energy(np.where(np.isnan(over), np.nan, over > 1e-6))
        found[name] = (hours, flows.energy(over))
    limits = f"limits +{flows.import_limit_kw:g}/-{flows.export_limit_kw:g} kW"
    coverage = flows.coverage(*BALANCE)
    figures = []
    for place, (kpi, unit) in enumerate((("congestion_hours", "h"), ("congestion", "kWh"))):
        told = f"without ESS: {found['without'][place]:.4g} {unit}; {limits}"
        figures.append(Figure(kpi, found["with"][place], unit, coverage, reference=told))
    return figures


def flexibility(flows: Flows, baseline_kw: dict[str, Array]) -> list[Figure]:
    """Energy that flexible loads gave up while a limit was in force [kWh].

    Parameters
    ----------
    flows : Flows
        The period.
    baseline_kw : dict of array
        What each flexible load would have consumed [kW]; NaN where no limit was in force.
    """
    figures = []
    for asset, baseline in baseline_kw.items():
        given = positive(baseline - flows.power_kw[asset])
        energy = flows.energy(given) if np.any(~np.isnan(given)) else 0.0
        good = float(np.mean(flows.good[asset])) if flows.intervals else 0.0
        told = "against the mean of the last 10 similar days"
        figures.append(Figure("flexibility", energy, "kWh", good, scope=asset, reference=told))
    return figures
