"""View model of a plan: the frames behind the plan page's charts and tables."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from flexergy_pipelines.grid import Site

SETPOINT_QUANTITIES = ("active_power_setpoint_kw", "active_power_limit_kw", "reactive_power_setpoint_kvar")

COST_NAMES = {
    "energy_import": "Energy bought",
    "energy_export": "Energy sold",
    "battery_wear": "Battery wear",
    "battery_operation": "Battery operation",
    "battery_holding": "Holding energy in the battery",
    "terminal_soc": "Energy missing in storage at the end",
    "fuel": "Genset fuel",
    "genset_start": "Genset starts",
    "genset_running": "Genset running hours",
    "load_curtailment": "Loads curtailed",
    "curtailment": "Renewables curtailed",
    "demand_charge": "Demand charge",
    "deviation": "Deviation from the declared profile",
    "emission": "Emissions",
    "ev_unmet": "EV charging not served",
    "ev_wear": "Wear of car batteries",
    "violations": "Limits not kept (a penalty, no money)",
}


def kinds_of(site: Site) -> dict[str, str]:
    """Kind of each asset of a site."""
    return {asset.id: asset.kind for asset in site.assets()}


def planned_powers(values: pl.DataFrame) -> pl.DataFrame:
    """Expected power of each asset: ``asset_id, time, value``."""
    return values.filter(pl.col("quantity") == "active_power_kw").select("asset_id", "time", "value")


def planned_soc(values: pl.DataFrame) -> pl.DataFrame:
    """Planned state of charge: ``series`` (asset), ``time``, ``value``."""
    return (
        values.filter(pl.col("quantity") == "soc")
        .select(pl.col("asset_id").alias("series"), "time", "value")
        .sort("series", "time")
    )


def planned_prices(values: pl.DataFrame) -> pl.DataFrame:
    """Prices the plan reckoned with: ``series``, ``time``, ``price_eur_per_kwh``."""
    names = {
        "import_price_eur_per_kwh": "buying",
        "export_price_eur_per_kwh": "selling",
        "marginal_value_eur_per_kwh": "value of stored energy",
    }
    return (
        values.filter(pl.col("quantity").is_in(list(names)) & pl.col("value").is_not_null())
        .select(
            pl.col("quantity").replace_strict(names).alias("series"),
            "time",
            pl.col("value").alias("price_eur_per_kwh"),
        )
        .sort("series", "time")
    )


def cost_frame(costs: dict[str, object]) -> pl.DataFrame:
    """Cost by part, without totals and zeros: ``part, cost_eur``."""
    rows: dict[str, float] = {}
    for key, value in costs.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or key.startswith("total"):
            continue
        if abs(value) < 0.005:
            continue
        name = COST_NAMES.get(key, key.removesuffix("_eur").replace("_", " ").capitalize())
        rows[name] = rows.get(name, 0.0) + float(value)
    return pl.DataFrame(
        {"part": list(rows), "cost_eur": list(rows.values())}, schema={"part": pl.String, "cost_eur": pl.Float64}
    )


def saving(objective_eur: float | None, no_storage_eur: float | None) -> tuple[float, float] | None:
    """What the storage saves, in EUR and as a fraction of the cost without it; None when either is unknown."""
    if objective_eur is None or no_storage_eur is None:
        return None
    saved = no_storage_eur - objective_eur
    return saved, saved / abs(no_storage_eur) if abs(no_storage_eur) > 0.005 else 0.0


def next_hour(values: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Setpoints of the present interval and those that begin within the next hour, one column a time.

    Returns
    -------
    pl.DataFrame
        ``asset_id``, ``quantity``, then one column of kW a start time (as ISO text), in order of time.
    """
    chosen = values.filter(pl.col("quantity").is_in(SETPOINT_QUANTITIES)).select(
        "asset_id", "quantity", "time", "value"
    )
    begun = chosen.filter(pl.col("time") <= now)["time"].max()
    first = begun if isinstance(begun, datetime) else now
    window = chosen.filter((pl.col("time") >= first) & (pl.col("time") < first + timedelta(hours=1)))
    if window.is_empty():
        return window.select("asset_id", "quantity")
    wide = window.with_columns(pl.col("time").dt.to_string("iso:strict")).sort("time")
    return wide.pivot(on="time", index=["asset_id", "quantity"], values="value", maintain_order=True).sort("asset_id")


def plan_difference(old: pl.DataFrame, new: pl.DataFrame, site: Site) -> pl.DataFrame:
    """Expected power in two plans where both have one: ``asset_id, time, old_kw, new_kw, change_kw``."""
    ids = list(kinds_of(site))
    left = planned_powers(old).filter(pl.col("asset_id").is_in(ids)).rename({"value": "old_kw"})
    right = planned_powers(new).filter(pl.col("asset_id").is_in(ids)).rename({"value": "new_kw"})
    both = left.join(right, on=["asset_id", "time"], how="inner")
    return both.with_columns((pl.col("new_kw") - pl.col("old_kw")).alias("change_kw")).sort("asset_id", "time")
