"""Reads the flows of a period from the store."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from flexergy_pipelines.kpis.economics import CostRates
from flexergy_pipelines.kpis.flows import Array, Flows
from flexergy_pipelines.quality.flags import EMPTY, IMPUTED
from flexergy_pipelines.store.clean import read_clean
from flexergy_pipelines.store.prices import read_prices
from flexergy_pipelines.store.readings import ESTIMATED, GOOD, read_readings

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

STEP: Final = timedelta(minutes=15)
_POWER: Final = "active_power_kw"


def load_flows(db: TenantStore, site: Site, start: datetime, end: datetime) -> Flows:
    """Flows of a site with start <= time < end on a 15-minute grid.

    Clean values are used; where an instant was not cleaned, the mean of its good readings.
    """
    grid = pl.DataFrame(
        {"time": pl.datetime_range(start, end, STEP, closed="left", eager=True, time_unit="us", time_zone="UTC")}
    )
    kinds = {asset.id: str(asset.kind) for asset in site.assets()}
    wanted = [(asset, _POWER) for asset in kinds]
    wanted += [(source.id, "available_power_kw") for source in site.sources()]
    wanted += [(ess.id, quantity) for ess in site.ess() for quantity in ("available", "soh")]
    known = {(point.asset_id, point.quantity) for point in site.points()}
    values, good = _series(db, site.id, grid, [point for point in wanted if point in known])
    spot = _spot(db, site.id, grid, start, end)
    missing = np.full(grid.height, np.nan)
    return Flows(
        start=start,
        step_hours=STEP / timedelta(hours=1),
        kinds=kinds,
        power_kw={asset: values.get((asset, _POWER), missing) for asset in kinds},
        good={asset: good.get((asset, _POWER), np.zeros(grid.height, dtype=bool)) for asset in kinds},
        import_price=np.array([site.tariff.import_price(price) for price in spot]),
        export_price=np.array([site.tariff.export_price(price) for price in spot]),
        export_limit_kw=site.grid_connection.export_limit_kw,
        import_limit_kw=site.grid_connection.import_limit_kw,
        available_kw={
            s.id: values[s.id, "available_power_kw"] for s in site.sources() if (s.id, "available_power_kw") in values
        },
        soc={ess.id: _at_starts(db, site.id, grid, (ess.id, "soc")) for ess in site.ess()},
        soh={ess.id: values.get((ess.id, "soh"), missing) for ess in site.ess()},
        available={ess.id: values.get((ess.id, "available"), missing) for ess in site.ess()},
    )


def _series(
    db: TenantStore, site_id: str, grid: pl.DataFrame, points: list[tuple[str, str]]
) -> tuple[dict[tuple[str, str], Array], dict[tuple[str, str], Array]]:
    if grid.is_empty():
        return {}, {}
    start, end = grid["time"][0], grid["time"][-1] + STEP
    clean = read_clean(db, site_id, start, end, points).select(
        "asset_id",
        "quantity",
        "time",
        pl.col("value").alias("clean"),
        pl.lit(True).alias("cleaned"),
        (~pl.col("flag").is_in(list(IMPUTED | EMPTY)).fill_null(False)).alias("clean_good"),
    )
    raw = read_readings(db, site_id, start, end, points, step="15m")
    both = raw.join(clean, on=["asset_id", "quantity", "time"], how="left", maintain_order="left").with_columns(
        best=pl.when(pl.col("cleaned").is_not_null()).then("clean").otherwise("value"),
        good=pl.when(pl.col("cleaned").is_not_null())
        .then(pl.col("clean_good") & pl.col("clean").is_not_null())
        .otherwise((pl.col("quality") == GOOD) & pl.col("value").is_not_null() & (pl.col("quality") != ESTIMATED)),
    )
    values, good = {}, {}
    for (asset, quantity), own in both.partition_by("asset_id", "quantity", as_dict=True).items():
        aligned = grid.join(own.select("time", "best", "good"), on="time", how="left", maintain_order="left")
        values[str(asset), str(quantity)] = aligned["best"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        good[str(asset), str(quantity)] = aligned["good"].fill_null(False).to_numpy()
    return values, good


def _at_starts(db: TenantStore, site_id: str, grid: pl.DataFrame, point: tuple[str, str]) -> Array:
    """A state, such as SoC, as last read at the start of each interval (at most 5 minutes before)."""
    if grid.is_empty():
        return np.empty(0)
    read = read_readings(db, site_id, grid["time"][0] - STEP, grid["time"][-1] + STEP, [point])
    good = read.filter(pl.col("quality") == GOOD).select("time", "value").drop_nulls()
    held = grid.join_asof(good, on="time", strategy="backward", tolerance="5m")
    return held["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy()


def market_price(db: TenantStore, site_id: str, flows: Flows, kind: str = "day_ahead") -> Array:
    """Price of a market in each interval [EUR/kWh]; NaN where none is known."""
    step = timedelta(hours=flows.step_hours)
    end = flows.start + step * flows.intervals
    times = pl.datetime_range(flows.start, end, step, closed="left", eager=True, time_unit="us", time_zone="UTC")
    return _spot(db, site_id, pl.DataFrame({"time": times}), flows.start, end, kind)


def _spot(  # noqa: PLR0917 - grid and bounds of the same period
    db: TenantStore, site_id: str, grid: pl.DataFrame, start: datetime, end: datetime, kind: str = "day_ahead"
) -> Array:
    prices = read_prices(db, site_id, start - timedelta(days=1), end, kind).sort("time")
    if prices.is_empty():
        return np.full(grid.height, np.nan)
    held = grid.join_asof(
        prices.select("time", "price_eur_per_kwh", "resolution_minutes", since=pl.col("time")),
        on="time",
        strategy="backward",
    )
    return (
        held.select(
            pl.when(pl.col("time") < pl.col("since") + pl.duration(minutes=pl.col("resolution_minutes"))).then(
                "price_eur_per_kwh"
            )
        )
        .to_series()
        .fill_null(float("nan"))
        .to_numpy()
    )


def cost_rates(site: Site) -> CostRates:
    """Prices and emission factors of a site's own assets."""
    return CostRates(
        standing_eur_per_day=site.tariff.standing_charge_eur_per_day,
        fuel_eur_per_kwh={genset.id: genset.fuel_cost_eur_per_kwh for genset in site.gensets()},
        start_eur={genset.id: genset.start_cost_eur for genset in site.gensets()},
        wear_eur_per_kwh={ess.id: ess.wear_cost_eur_per_kwh for ess in site.ess()},
        grid_kg_per_kwh=site.emissions.grid_kg_per_kwh,
        emissions_kg_per_kwh={genset.id: genset.emissions_kg_per_kwh for genset in site.gensets()},
    )
