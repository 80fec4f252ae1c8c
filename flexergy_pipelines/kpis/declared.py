"""What was declared, asked for and usual: day-ahead profiles, limits in force, baselines of similar days."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.flows import Array, Flows
from flexergy_pipelines.kpis.reliability import interruption_indices
from flexergy_pipelines.store.frames import TIME, frame_of
from flexergy_pipelines.store.readings import GOOD, read_readings
from flexergy_pipelines.store.setpoints import read_setpoints

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

SIMILAR_DAYS: Final = 10
_WEEKEND: Final = 6

# Of several day-ahead plans for an instant the first is what was declared.
_DECLARED: Final = """
SELECT DISTINCT ON (v.asset_id, v.time) v.asset_id, v.time, v.value, p.step_minutes
FROM plans p JOIN plan_values v USING (tenant_id, plan_id)
WHERE p.site_id = %(site)s AND p.kind = 'day_ahead' AND v.quantity = 'active_power_kw' AND v.value IS NOT NULL
  AND v.asset_id = ANY(%(assets)s) AND v.time >= %(first)s AND v.time < %(last)s
ORDER BY v.asset_id, v.time, p.version
"""


def declared_profile(db: TenantStore, site: Site, flows: Flows) -> Array:
    """Power of the park (PV + wind + storage) that the first day-ahead plan expected [kW]; NaN where there is none."""
    assets = flows.ids("pv", "wind", "ess")
    end = flows.start + timedelta(hours=flows.step_hours) * flows.intervals
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            _DECLARED,
            {"site": site.id, "assets": assets, "first": flows.start - timedelta(hours=1), "last": end},
        ).all()
    schema = {"asset_id": pl.String, "time": TIME, "value": pl.Float64, "step_minutes": pl.Int64}
    planned = frame_of([tuple(row) for row in rows], schema)
    grid = _grid(flows)
    profile = np.zeros(flows.intervals)
    for asset in assets:
        own = planned.filter(pl.col("asset_id") == asset).select("time", "value", "step_minutes", since=pl.col("time"))
        held = grid.join_asof(own.sort("time"), on="time", strategy="backward").select(
            pl.when(pl.col("time") < pl.col("since") + pl.duration(minutes=pl.col("step_minutes"))).then("value")
        )
        profile += held.to_series().cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return profile if assets else np.full(flows.intervals, np.nan)


def similar_day_baseline(history: pl.DataFrame, wanted: pl.DataFrame, zone: str) -> Array:
    """Baseline of demand-response programmes: mean of the last 10 similar days at the same local time.

    Parameters
    ----------
    history : pl.DataFrame
        time, value of the days before; days of events should be left out.
    wanted : pl.DataFrame
        time of the intervals that the baseline is for.
    zone : str
        Time zone in which hours and working days are told; working days and weekends are not mixed.

    Returns
    -------
    array
        NaN where no similar day is known.
    """

    def local(frame: pl.DataFrame) -> pl.DataFrame:
        moment = pl.col("time").dt.convert_time_zone(zone)
        return frame.with_columns(day=moment.dt.date(), clock=moment.dt.time(), weekend=moment.dt.weekday() >= _WEEKEND)

    past = local(history.drop_nulls("value"))
    result = []
    for (day, weekend), own in local(wanted).partition_by("day", "weekend", as_dict=True, maintain_order=True).items():
        before = past.filter((pl.col("weekend") == weekend) & (pl.col("day") < day))
        days = before["day"].unique().sort(descending=True).head(SIMILAR_DAYS)
        means = before.filter(pl.col("day").is_in(days.to_list())).group_by("clock").agg(pl.col("value").mean())
        joined = own.join(means, on="clock", how="left", maintain_order="left")
        result.append(joined["value"].cast(pl.Float64).fill_null(float("nan")).to_numpy())
    return np.concatenate(result) if result else np.empty(0)


def limited_baseline(db: TenantStore, site: Site, flows: Flows) -> dict[str, Array]:
    """What flexible loads and EV chargers would have consumed while a limit was in force [kW]; NaN elsewhere.

    The control loop writes each setpoint at least once a minute, so one older than an interval is not in force.
    """
    end = flows.start + timedelta(hours=flows.step_hours) * flows.intervals
    rated = {load.id: load.rated_kw for load in site.controllable_loads()}
    rated |= {asset.id: asset.rated_kw for asset in site.assets() if asset.kind == "ev"}
    sent = read_setpoints(db, site.id, flows.start - timedelta(hours=1), end).filter(
        (pl.col("quantity") == "active_power_limit_kw") & pl.col("sent").is_not_null()
    )
    grid = _grid(flows)
    found = {}
    for asset, full_kw in rated.items():
        own = sent.filter(pl.col("asset_id") == asset).select("time", "sent").sort("time")
        limit = grid.join_asof(own, on="time", strategy="backward", tolerance="14m")["sent"].to_numpy().astype(float)
        limited = limit < full_kw - 1e-6
        found[asset] = np.full(flows.intervals, np.nan)
        if limited.any():
            past = _history(db, site, asset, flows.start, end)
            found[asset] = np.where(limited, similar_day_baseline(past, grid, site.time_zone), np.nan)
    return found


def supply_quality(db: TenantStore, site: Site, flows: Flows) -> list[Figure]:
    """SAIFI [1/period], SAIDI and CAIDI [h], ASAI [fraction] of the site as one customer (IEEE Std 1366).

    An interruption is a run of voltages at the grid connection below a tenth of nominal (EN 50160: 5 %; a tenth leaves
    room for induced voltage); one that is over within 5 minutes does not count.
    """
    end = flows.start + timedelta(hours=flows.step_hours) * flows.intervals
    hours = flows.intervals * flows.step_hours
    point = ("pcc", "voltage_l1_v")
    if point not in {(p.asset_id, p.quantity) for p in site.points()}:
        return []
    read = read_readings(db, site.id, flows.start, end, [point]).filter(pl.col("quality") == GOOD)
    seen = read["time"].dt.truncate("15m").n_unique() if read.height else 0
    coverage = min(1.0, seen / flows.intervals) if flows.intervals else 0.0
    units = {"saifi": "1/period", "saidi": "h", "caidi": "h", "asai": "fraction"}
    if not seen:
        return [Figure(kpi, None, unit, 0.0, reference="no voltage was read") for kpi, unit in units.items()]
    dead = pl.col("value") < site.grid_connection.nominal_voltage_v / 3**0.5 / 10
    runs = (
        read.with_columns(dead=dead, until=pl.col("time").shift(-1))
        .with_columns(run=pl.col("dead").rle_id())
        .filter("dead")
        .group_by("run")
        .agg(
            ((pl.col("until").last().fill_null(end) - pl.col("time").first()).dt.total_seconds() / 3600).alias("hours")
        )
    )
    found = interruption_indices([(length, 1.0) for length in runs["hours"]], 1.0, hours)
    values = (found.saifi, found.saidi_hours, found.caidi_hours, found.asai)
    told = "the site as one customer, by the voltage at the PCC"
    return [
        Figure(kpi, value, unit, coverage, reference=told)
        for (kpi, unit), value in zip(units.items(), values, strict=True)
    ]


def _history(db: TenantStore, site: Site, asset: str, start: datetime, end: datetime) -> pl.DataFrame:
    frame = read_readings(db, site.id, start - timedelta(days=20), end, [(asset, "active_power_kw")], step="15m")
    return frame.filter(pl.col("quality") == GOOD).select("time", "value")


def _grid(flows: Flows) -> pl.DataFrame:
    step = timedelta(hours=flows.step_hours)
    times = pl.datetime_range(
        flows.start, flows.start + step * flows.intervals, step, closed="left", eager=True, time_unit="us"
    )
    return pl.DataFrame({"time": times}).with_columns(pl.col("time").cast(TIME))
