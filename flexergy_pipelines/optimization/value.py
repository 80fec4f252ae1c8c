"""What the plan was worth, after the fact: what storage earned in a day against none, and against perfect foresight.

Everything but the storage is taken as it was measured. Three ways of running the storage are priced alike, with the
tariff, the month's peak and the price of wear: as it ran, not at all, and at its best with the day known in advance,
between the same states of charge. Energy left in store is credited at the day's mean price, so that a day that ends
fuller than it began is not judged a loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.operation.month_peak import peak_so_far
from flexergy_pipelines.optimization.problem import Horizon, Objective, Problem
from flexergy_pipelines.optimization.series import FloatArray
from flexergy_pipelines.optimization.solving import solve
from flexergy_pipelines.optimization.specs import Battery, DemandCharge, GridConnection, Load, Renewable

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

STEP_MINUTES = 15
LEAST_COVERAGE = 0.9
LEAST_POSSIBLE_EUR = 0.05
"""Where foresight itself could gain less, a share of it says nothing."""
KPIS = ("value_earned", "value_possible", "value_captured", "value_cost_without_storage")
_QUARTER = timedelta(minutes=STEP_MINUTES)


@dataclass(frozen=True, slots=True)
class StorageDay:
    """How one ESS ran: power in each quarter of an hour (kW, positive discharging), SoC at start and end (0..1)."""

    power_kw: FloatArray
    soc_start: float
    soc_end: float


@dataclass(frozen=True, slots=True)
class DayValue:
    """What storage was worth in a day (EUR).

    Attributes
    ----------
    cost_eur, without_storage_eur, best_eur : float
        Cost as it ran, without storage, and with the day known in advance; wear included, stored energy credited.
    """

    cost_eur: float
    without_storage_eur: float
    best_eur: float

    @property
    def earned_eur(self) -> float:
        """What storage earned."""
        return self.without_storage_eur - self.cost_eur

    @property
    def possible_eur(self) -> float:
        """What it could have earned."""
        return self.without_storage_eur - self.best_eur

    @property
    def captured(self) -> float | None:
        """Share of what was possible; None where nothing was."""
        return self.earned_eur / self.possible_eur if self.possible_eur >= LEAST_POSSIBLE_EUR else None


def value_of_day(  # noqa: PLR0917 - what a day consists of
    site: Site,
    start: datetime,
    net_kw: FloatArray,
    spot_eur_per_kwh: FloatArray,
    storage: Mapping[str, StorageDay],
    peak_so_far_kw: float = 0.0,
) -> DayValue:
    """Judge one day.

    Parameters
    ----------
    site : Site
        Tariff, connection and storage.
    start : datetime
        Its first quarter of an hour.
    net_kw : ndarray
        Measured consumption less local generation, without storage (kW), in each quarter.
    spot_eur_per_kwh : ndarray
        Market price in each quarter.
    storage : mapping
        How each ESS ran.
    peak_so_far_kw : float
        Import peak of the billing period before the day.
    """
    tariff, hours = site.tariff, STEP_MINUTES / 60
    buy = np.array([tariff.import_price(price) for price in spot_eur_per_kwh.tolist()])
    sell = np.array([tariff.export_price(price) for price in spot_eur_per_kwh.tolist()])
    peak_price = tariff.demand_charge_eur_per_kw_month
    weight = site.operation.wear_weight

    def bill(grid_kw: FloatArray) -> float:
        energy = float(np.where(grid_kw > 0, grid_kw * buy, grid_kw * sell).sum()) * hours
        return energy + peak_price * max(float(grid_kw.max(initial=0.0)) - peak_so_far_kw, 0.0)

    stores = {ess.id: ess for ess in site.ess() if ess.id in storage}
    wear = sum(
        float(np.maximum(run.power_kw, 0.0).sum()) * hours * stores[name].wear_cost_eur_per_kwh * weight
        for name, run in storage.items()
    )
    kept = sum(
        (run.soc_end - run.soc_start) * stores[name].energy_capacity_kwh * stores[name].soh
        * stores[name].discharge_efficiency * float(buy.mean())
        for name, run in storage.items()
    )  # fmt: skip
    total = sum((run.power_kw for run in storage.values()), np.zeros_like(net_kw))
    batteries = tuple(
        Battery(
            id=name,
            energy_capacity_kwh=ess.energy_capacity_kwh * ess.soh,
            max_charge_kw=ess.max_charge_kw,
            max_discharge_kw=ess.max_discharge_kw,
            soc_min=min(ess.soc_min, storage[name].soc_start, storage[name].soc_end),
            soc_max=max(ess.soc_max, storage[name].soc_start, storage[name].soc_end),
            charge_efficiency=ess.charge_efficiency,
            discharge_efficiency=ess.discharge_efficiency,
            soc_start=storage[name].soc_start,
            terminal="at_least",
            terminal_soc=storage[name].soc_end,
            wear_cost_eur_per_kwh=ess.wear_cost_eur_per_kwh,
        )
        for name, ess in stores.items()
    )
    charges = ()
    if peak_price > 0:
        charges = (DemandCharge(id="month-peak", price_eur_per_kw=peak_price, peak_so_far_kw=max(peak_so_far_kw, 0.0)),)
    problem = Problem(
        horizon=Horizon(start=start, step_minutes=STEP_MINUTES, steps=net_kw.size),
        grid=GridConnection(
            import_price_eur_per_kwh=buy,
            export_price_eur_per_kwh=sell,
            import_limit_kw=site.grid_connection.import_limit_kw,
            export_limit_kw=site.grid_connection.export_limit_kw,
            demand_charges=charges,
        ),
        batteries=batteries,
        loads=(Load(id="demand", power_kw=np.maximum(net_kw, 0.0)),),
        renewables=(Renewable(id="surplus", available_kw=np.maximum(-net_kw, 0.0), curtailable=False),),
        objective=Objective(wear_weight=weight),
    )
    best = solve(problem, mip_gap=1e-4)
    cost = sum(amount for part, amount in best.costs.items() if part != "violations")
    return DayValue(bill(net_kw - total) + wear - kept, bill(net_kw), cost - kept)


def account_value(db: TenantStore, site_id: str, day: date, now: datetime) -> pl.DataFrame:
    """Judge a local day that is over, and store the figures beside the day's indicators.

    Returns
    -------
    pl.DataFrame
        As `read_kpis`: value_earned, value_possible, value_cost_without_storage [EUR] and value_captured [fraction];
        null where less than nine tenths of the day were measured or a price is missing.

    Raises
    ------
    ProblemError
        When the day is not over or the site has no storage.
    """
    from flexergy_pipelines.kpis.loading import load_flows, market_price
    from flexergy_pipelines.optimization.errors import ProblemError
    from flexergy_pipelines.store.kpis_table import write_kpis
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    start = datetime.combine(day, time(0), site.zone).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), time(0), site.zone).astimezone(UTC)
    if end > now:
        raise ProblemError([f"value of {site_id}: {day} is not over at {now.isoformat()}"])
    if not site.ess():
        raise ProblemError([f"value of {site_id}: the site has no storage"])
    flows = load_flows(db, site, start, end)
    spot = market_price(db, site_id, flows)
    signs = {"pv": -1.0, "wind": -1.0, "genset": -1.0, "load": 1.0, "controllable_load": 1.0, "ev": 1.0}
    parts = [signs[kind] * flows.power_kw[name] for name, kind in flows.kinds.items() if kind in signs]
    net = np.sum(parts, axis=0) if parts else np.zeros(flows.intervals)
    stores = {ess.id: flows.power_kw[ess.id] for ess in site.ess()}
    known = ~np.isnan(net) & ~np.isnan(spot) & ~np.isnan(np.sum(list(stores.values()), axis=0))
    coverage = float(known.mean())
    socs = {name: _ends(db, site, name, start, end) for name in stores}
    found: DayValue | None = None
    if coverage >= LEAST_COVERAGE and all(ends is not None for ends in socs.values()):
        runs = {
            name: StorageDay(np.where(known, power, 0.0), *ends)
            for name, power in stores.items()
            if (ends := socs[name]) is not None
        }
        found = value_of_day(
            site, start, np.where(known, net, 0.0), _held(spot, known), runs, peak_so_far(db, site, start)
        )
    frame = _frame(start, found, coverage)
    write_kpis(db, site_id, frame)
    return frame


def _held(spot: FloatArray, known: np.ndarray) -> FloatArray:
    """Prices, those of quarters that are left out replaced by the mean."""
    return np.where(np.isnan(spot), float(spot[known].mean()), spot)


def _ends(db: TenantStore, site: Site, ess_id: str, start: datetime, end: datetime) -> tuple[float, float] | None:
    """SoC at the start and the end of a day; None where either was not read within a quarter of an hour."""
    from flexergy_pipelines.store.readings import read_readings

    found = []
    for moment in (start, end):
        near = read_readings(db, site.id, moment - _QUARTER, moment + _QUARTER, [(ess_id, "soc")])
        near = near.filter((pl.col("quality") == 0) & pl.col("value").is_not_null())
        if near.is_empty():
            return None
        best = near.with_columns((pl.col("time") - pl.lit(moment)).abs().alias("off")).sort("off")
        found.append(min(max(float(best["value"][0]), 0.0), 1.0))
    return found[0], found[1]


def _frame(start: datetime, found: DayValue | None, coverage: float) -> pl.DataFrame:
    values = {
        "value_earned": (None if found is None else found.earned_eur, "EUR"),
        "value_possible": (None if found is None else found.possible_eur, "EUR"),
        "value_captured": (None if found is None else found.captured, "fraction"),
        "value_cost_without_storage": (None if found is None else found.without_storage_eur, "EUR"),
    }
    told = "not enough was measured"
    if found is not None:
        told = f"cost {found.cost_eur:.2f} EUR, best with the day known {found.best_eur:.2f} EUR"
    rows = [("day", start, "site", name, value, unit, coverage, told) for name, (value, unit) in values.items()]
    names = ["period_kind", "period_start", "scope", "kpi", "value", "unit", "coverage", "reference"]
    kinds: list[type[pl.DataType] | pl.DataType] = [
        pl.String, pl.Datetime("us", "UTC"), pl.String, pl.String, pl.Float64, pl.String, pl.Float64, pl.String,
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")
