"""Figures of services to the grid, from readings at the rate they were stored."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from flexergy_pipelines.kpis.figures import Figure
from flexergy_pipelines.kpis.frequency import frequency_response
from flexergy_pipelines.store.frames import TIME, frame_of
from flexergy_pipelines.store.frequency_curves import FrequencyCurve, read_frequency_curves
from flexergy_pipelines.store.readings import GOOD, read_readings

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.kpis.flows import Array, Flows
    from flexergy_pipelines.store.engine import TenantStore

_LONGEST_SAMPLE: Final = timedelta(seconds=90)

# What the control loop followed at an instant: the newest plan made before it.
_SCHEDULE: Final = """
SELECT DISTINCT ON (v.time) v.time, v.value FROM plans p JOIN plan_values v USING (tenant_id, plan_id)
WHERE p.site_id = %(site)s AND v.asset_id = %(asset)s AND v.quantity = 'active_power_setpoint_kw'
  AND v.time >= %(first)s AND v.time < %(last)s AND p.created_at < v.time + interval '1 minute' * p.step_minutes
ORDER BY v.time, p.version DESC
"""


def frequency_control(db: TenantStore, site: Site, flows: Flows) -> list[Figure]:
    """Frequency control: share of the activated time within tolerance of the P(f) curve, and energy up and down.

    Delivered is measured power less the schedule of the plan in force (none: 0). A sample stands until the next one, at
    most 90 s.
    """
    end = flows.start + timedelta(hours=flows.step_hours) * flows.intervals
    curves = read_frequency_curves(db, site.id, flows.start, end)
    if not curves:
        return [Figure("frequency_control", None, "fraction", 0.0, reference="no P(f) curve is configured")]
    figures = []
    for asset in dict.fromkeys(curve.asset_id for curve in curves):
        own = [curve for curve in curves if curve.asset_id == asset]
        figures += _of_asset(db, site, asset, own, (flows.start, end))
    return figures


def _of_asset(
    db: TenantStore, site: Site, asset: str, curves: list[FrequencyCurve], bounds: tuple[datetime, datetime]
) -> list[Figure]:
    within_hours = active_hours = up = down = known_hours = 0.0
    for curve in curves:
        start, end = max(bounds[0], curve.valid_from), min(bounds[1], curve.valid_until or bounds[1])
        frequency, delivered, hours = _samples(db, site, asset, start, end)
        found = frequency_response(
            frequency, delivered, curve.points, tolerance_kw=curve.tolerance_kw, step_hours=hours
        )
        within_hours += (found.share_within or 0.0) * found.activated_hours
        active_hours += found.activated_hours
        up, down = up + found.energy_up_kwh, down + found.energy_down_kwh
        known_hours += float(hours[~np.isnan(frequency + delivered)].sum())
    coverage = min(1.0, known_hours / ((bounds[1] - bounds[0]) / timedelta(hours=1)))
    share = within_hours / active_hours if active_hours > 0 else None
    told = f"activated for {active_hours:.3g} h"
    return [
        Figure("frequency_control", share, "fraction", coverage, scope=asset, reference=told),
        Figure("frequency_energy_up", up, "kWh", coverage, scope=asset, reference=told),
        Figure("frequency_energy_down", down, "kWh", coverage, scope=asset, reference=told),
    ]


def _samples(db: TenantStore, site: Site, asset: str, start: datetime, end: datetime) -> tuple[Array, Array, Array]:
    """Frequency [Hz], power beyond the schedule [kW] and length [h] of each frequency sample."""
    points = [("pcc", "frequency_hz"), (asset, "active_power_kw")]
    read = read_readings(db, site.id, start, end, points).filter(pl.col("quality") == GOOD)
    frequency = read.filter(pl.col("quantity") == "frequency_hz").select("time", frequency="value")
    power = read.filter(pl.col("quantity") == "active_power_kw").select("time", power="value")
    with db.begin() as connection:
        rows = connection.exec_driver_sql(
            _SCHEDULE, {"site": site.id, "asset": asset, "first": start - timedelta(hours=1), "last": end}
        ).all()
    schedule = frame_of([tuple(row) for row in rows], {"time": TIME, "scheduled": pl.Float64})
    until = pl.col("time").shift(-1).fill_null(pl.lit(end).cast(TIME))
    samples = (
        frequency.with_columns(length=pl.min_horizontal(until - pl.col("time"), pl.lit(_LONGEST_SAMPLE)))
        .join_asof(power, on="time", strategy="backward", tolerance=_LONGEST_SAMPLE)
        .join_asof(schedule, on="time", strategy="backward", tolerance=timedelta(hours=1))
        .with_columns(
            delivered=pl.col("power") - pl.col("scheduled").fill_null(0.0),
            hours=pl.col("length").dt.total_milliseconds() / 3_600_000,
        )
    )

    def column(name: str) -> Array:
        return samples[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()

    return column("frequency"), column("delivered"), column("hours")
