"""A tenant with the sample microgrid and a little of everything a page or a route shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from flexergy_pipelines.grid import Site, load_site_file
from flexergy_pipelines.grid.samples import examples_dir
from flexergy_pipelines.store import (
    TenantStore,
    alarms,
    clean,
    forecasts,
    kpis_table,
    live,
    plans,
    prices,
    readings,
    setpoints,
)
from flexergy_pipelines.store.sites import save_site

QUARTER = timedelta(minutes=15)


@dataclass(frozen=True)
class Seeded:
    """What was seeded."""

    site: Site
    plan_id: int
    now: datetime


def microgrid() -> Site:
    """The sample microgrid."""
    return load_site_file(examples_dir() / "sites" / "microgrid.yaml")


def expected_power_kw(kind: str, moment: datetime) -> float:
    """A smooth day for each kind of asset, in the sign of the kind."""
    hour = moment.hour + moment.minute / 60
    shape = {
        "pv": max(0.0, 60 * math.sin((hour - 6) / 12 * math.pi)),
        "wind": 20 + 10 * math.sin(hour / 3),
        "genset": 0.0,
        "ess": 20 * math.cos(hour / 24 * 4 * math.pi),
        "load": 45 + 15 * math.sin(hour / 4),
        "controllable_load": 12.0,
        "ev": 8 + 8 * math.sin(hour / 5),
    }
    if kind == "pcc":
        given = sum(shape[k] for k in ("pv", "wind", "genset", "ess"))
        return sum(shape[k] for k in ("load", "controllable_load", "ev")) - given
    return shape[kind]


def planned_soc(moment: datetime) -> float:
    """A day of charging and discharging."""
    return 0.5 - 0.3 * math.sin((moment.hour + moment.minute / 60) / 24 * 4 * math.pi)


def plan_values(site: Site, start: datetime, steps: int = 96) -> pl.DataFrame:
    """Values of a plan as the optimizer writes them."""
    rows: list[tuple[str, str, datetime, float]] = []
    for step in range(steps):
        moment = start + step * QUARTER
        for asset in site.assets():
            power_kw = expected_power_kw(asset.kind, moment)
            rows.append((asset.id, "active_power_kw", moment, power_kw))
            if asset.kind == "ess":
                rows.append((asset.id, "soc", moment, planned_soc(moment)))
            if asset.kind in {"ess", "genset"}:
                rows.append((asset.id, "active_power_setpoint_kw", moment, power_kw))
            if asset.kind in {"pv", "wind", "ev", "controllable_load"}:
                rows.append((asset.id, "active_power_limit_kw", moment, power_kw + 5))
        rows.append(("market", "import_price_eur_per_kwh", moment, 0.2 + 0.1 * math.sin(step / 10)))
        rows.append(("market", "export_price_eur_per_kwh", moment, 0.05 + 0.1 * math.sin(step / 10)))
    return pl.DataFrame(rows, schema=["asset_id", "quantity", "time", "value"], orient="row")


def live_frame(site: Site, now: datetime, soc: float = 0.523) -> pl.DataFrame:
    """One good value of each measured point."""
    rows: list[tuple[str, str, datetime, float, int]] = []
    for asset in site.assets():
        rows.append((asset.id, "active_power_kw", now, expected_power_kw(asset.kind, now), 0))
        if asset.kind == "ess":
            rows.append((asset.id, "soc", now, soc, 0))
    return pl.DataFrame(rows, schema=["asset_id", "quantity", "time", "value", "quality"], orient="row")


def seed_site(db: TenantStore) -> Site:
    """Only the site, with nothing measured yet."""
    site = microgrid()
    save_site(db, site)
    return site


def seed(db: TenantStore, now: datetime | None = None) -> Seeded:
    """The site with a day of readings, forecasts, a plan, live values, a setpoint, alarms and indicators."""
    now = now or datetime.now(UTC)
    site = seed_site(db)
    quarter = now.replace(minute=now.minute // 15 * 15, second=0, microsecond=0)
    start = quarter - timedelta(hours=12)
    _readings(db, site, quarter)
    _clean(db, site, now.astimezone(site.zone).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC))
    _forecasts(db, site, quarter)
    record = plans.PlanRecord(
        site_id=site.id,
        kind="day_ahead",
        created_at=now - timedelta(minutes=12),
        start=start,
        end=start + timedelta(hours=24),
        step_minutes=15,
        status="optimal",
        gap=0.0004,
        objective_eur=84.2,
        bound_eur=84.1,
        no_storage_cost_eur=103.9,
        costs={"energy_import": 71.2, "battery_wear": 6.1, "fuel": 6.9},
    )
    plan_id = plans.write_plan(db, record, plan_values(site, start))
    live.write_live(db, site.id, live_frame(site, now))
    setpoints.write_setpoints(
        db,
        site.id,
        pl.DataFrame(
            {
                "asset_id": ["ess-1"],
                "quantity": ["active_power_setpoint_kw"],
                "time": [now],
                "requested": [20.0],
                "sent": [18.5],
                "readback": [18.5],
                "layer": ["plan"],
                "reason": ["plan version 1"],
                "plan_id": [plan_id],
                "valid_until": [now + timedelta(minutes=5)],
                "status": ["ok"],
            }
        ),
    )
    alarms.raise_alarm(db, site.id, "device_lost", 2, "genset-ctl-1 does not answer", "genset-1")
    _kpis(db, site, now)
    return Seeded(site, plan_id, now)


def _readings(db: TenantStore, site: Site, until: datetime) -> None:
    rows: list[tuple[str, str, datetime, float, int]] = []
    for step in range(1, 97):
        moment = until - step * QUARTER
        rows += [(a.id, "active_power_kw", moment, expected_power_kw(a.kind, moment) * 1.05, 0) for a in site.assets()]
        rows.append(("ess-1", "soc", moment, planned_soc(moment), 0))
    frame = pl.DataFrame(rows, schema=["asset_id", "quantity", "time", "value", "quality"], orient="row")
    readings.write_readings(db, site.id, frame.with_columns(pl.col("quality").cast(pl.Int16)), "test")


def _clean(db: TenantStore, site: Site, until: datetime) -> None:
    """Two days of cleansed power at the grid connection, with a stretch that was frozen and one that was filled."""
    times = [until - step * QUARTER for step in range(1, 193)]
    flags = ["frozen" if 10 <= step < 14 else "similar_day" if 20 <= step < 24 else None for step in range(192)]
    frame = pl.DataFrame(
        {
            "asset_id": ["pcc"] * 192,
            "quantity": ["active_power_kw"] * 192,
            "time": times,
            "value": [expected_power_kw("pcc", moment) for moment in times],
            "flag": flags,
            "uncertainty": [None] * 192,
        },
        schema_overrides={"uncertainty": pl.Float64, "flag": pl.String},
    )
    clean.write_clean(db, site.id, frame)


def _forecasts(db: TenantStore, site: Site, quarter: datetime) -> None:
    times = [quarter + (step - 48) * QUARTER for step in range(144)]
    for asset_id, kind in (("load-1", "load"), ("pv-1", "pv")):
        values = [expected_power_kw(kind, moment) for moment in times]
        bands = {f"p{q}": [value * (1 + (q - 50) / 200) for value in values] for q in range(10, 100, 10)}
        run = forecasts.ForecastRun(
            site.id, asset_id, "active_power_kw", quarter - timedelta(hours=13), "lightgbm", "3", 0, "champion"
        )
        forecasts.write_forecast(db, run, pl.DataFrame({"time": times, "value": values, **bands}))
    hours = [quarter.replace(minute=0) + timedelta(hours=h - 12) for h in range(36)]
    frame = pl.DataFrame(
        {
            "time": hours,
            "price_eur_per_kwh": [0.1 + 0.05 * math.sin(h.hour / 3) for h in hours],
            "resolution_minutes": [60] * len(hours),
        }
    )
    prices.write_prices(db, site.id, "day_ahead", frame, quarter - timedelta(hours=20))


def _kpis(db: TenantStore, site: Site, now: datetime) -> None:
    midnight = now.astimezone(site.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = [
        (
            "day",
            (midnight - timedelta(days=day)).astimezone(UTC),
            scope,
            kpi,
            value,
            unit,
            coverage,
            "without ESS: 90.00 EUR" if kpi == "cost" else None,
        )
        for day in range(1, 4)
        for scope, kpi, value, unit, coverage in (
            ("site", "self_consumption", 0.83, "fraction", 0.99),
            ("site", "cost", 84.1, "EUR", 0.6),
            ("ess-1", "equivalent_full_cycles", 1.2, "cycles", 0.99),
        )
    ]
    names = ["period_kind", "period_start", "scope", "kpi", "value", "unit", "coverage", "reference"]
    frame = pl.DataFrame(rows, schema=names, orient="row", schema_overrides={"reference": pl.String})
    kpis_table.write_kpis(db, site.id, frame)
