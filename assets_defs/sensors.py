"""Sensors: runs that something in the world starts, not the clock."""

import hashlib
import time
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from assets_defs.partitions import FIRST_DAY
from assets_defs.resources import StoreResource
from assets_defs.schedules import sites_config
from assets_defs.sites import SitesConfig

if TYPE_CHECKING:
    from flexergy_pipelines.store.open_days import OpenDay

LATE_DATA_ASSETS = ["clean_readings", "meter_quality", "energy_15min", "kpis"]
QUIET = timedelta(minutes=1)
"""A day is done again once nothing came into it for this long: a spool that catches up is left to finish."""
IMPORTED_ASSETS = ["clean_readings", "meter_quality", "energy_15min"]
_MOST_EVENTS = 150
"""So many days are told a tick, which has a minute's time."""
_REPAIR_DAYS = 35
"""New data of more days than this are cleansed as one range in one run, not day by day."""


@dg.sensor(
    job_name="meter_files",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts when a meter file lies in the drop folder.",
)
def meter_file_sensor(store: StoreResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    from ingestion.meters.files import waiting_files

    files = waiting_files(store.settings().inbox_dir, time.time())
    if not files:
        yield dg.SkipReason("the drop folder holds no file")
        return
    state = "\n".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
    # A file that was left for later is looked at again with the hour.
    state += f"\n{store.now():%Y-%m-%dT%H}"
    yield dg.RunRequest(run_key=hashlib.sha256(state.encode()).hexdigest(), tags={"flexergy/origin": "new_file"})


@dg.sensor(
    job_name="intraday",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts when the control loop or an operator asks for a new plan.",
)
def replan_sensor(store: StoreResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    from flexergy_pipelines.store.commands import pending_replans

    asked = pending_replans(store.db())
    if not asked:
        yield dg.SkipReason("nobody asked for a new plan")
        return
    newest: dict[str, int] = {}
    for request in asked:
        newest[request.site_id] = max(newest.get(request.site_id, 0), request.id)
    yield dg.RunRequest(
        run_key=",".join(f"{site}:{number}" for site, number in sorted(newest.items())),
        run_config=sites_config(["intraday_plan"], sorted(newest)),
        tags={"flexergy/origin": "replan_request"},
    )


@dg.sensor(
    job_name="training",
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts when monitoring found that a target's forecasts have decayed: trains that target only.",
)
def retrain_sensor(store: StoreResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    from assets_defs.assets.forecasts import TrainingConfig
    from flexergy_pipelines.forecasting.health import targets_to_retrain
    from flexergy_pipelines.store.sites import list_sites

    db, now = store.db(), store.now()
    asked = {site_id: targets_to_retrain(db, site_id, now) for site_id in list_sites(db)}
    if not any(asked.values()):
        yield dg.SkipReason("no target's forecasts have decayed")
    for site_id, targets in asked.items():
        if targets:
            names = sorted(targets)
            config = TrainingConfig(sites=[site_id], targets=names)
            yield dg.RunRequest(
                run_key=f"{site_id} {now:%Y-%m-%d} {','.join(names)}",
                run_config=dg.RunConfig(ops={"forecast_models": config}),
                tags={"flexergy/origin": "forecast_quality", "flexergy/reason": "; ".join(targets.values())[:200]},
            )


@dg.sensor(
    job_name="late_data",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Readings that come in late, from a spool, a file or a bulk reading, re-open the days they fall into, and only "
        "those."
    ),
)
def late_data_sensor(store: StoreResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    from flexergy_pipelines.store.open_days import open_days
    from flexergy_pipelines.store.sites import list_sites, load_site

    db, now = store.db(), store.now()
    today = {site_id: now.astimezone(load_site(db, site_id).zone).date() for site_id in list_sites(db)}
    waiting: dict[str, list[OpenDay]] = {}
    for one in open_days(db, today, quiet=QUIET):
        waiting.setdefault(one.site_id, []).append(one)
    if not waiting:
        yield dg.SkipReason("no reading came late")
    for site_id, days in waiting.items():
        config = late_data_config(site_id, days[-1])
        origin = {"flexergy/origin": "late_data"}
        # A run that failed is asked for again with the hour.
        mark = f"{site_id} {max(one.marked_at for one in days).isoformat()} {now:%Y-%m-%dT%H}"
        if len(days) > _REPAIR_DAYS:
            span = range_tags(days[0].day.isoformat(), days[-1].day.isoformat())
            yield dg.RunRequest(run_key=mark, run_config=config, tags=origin | span)
            continue
        for one in days:
            day = one.day.isoformat()
            key = f"{site_id} {day} {one.marked_at.isoformat()} {now:%Y-%m-%dT%H}"
            yield dg.RunRequest(run_key=key, partition_key=day, run_config=late_data_config(site_id, one), tags=origin)


def late_data_config(site_id: str, day: "OpenDay") -> dg.RunConfig:
    """What doing a day of a site again is told: the site, and the day whose month and year change with it."""
    from assets_defs.assets.accounting import PeriodConfig

    daily = {asset: SitesConfig(sites=[site_id]) for asset in LATE_DATA_ASSETS}
    return dg.RunConfig(ops={**daily, "period_kpis": PeriodConfig(sites=[site_id], day=day.day.isoformat())})


@dg.sensor(
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Days that are in the store although no run made them (imports bring a clean history) count as done.",
)
def stored_days_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult | dg.SkipReason:
    from flexergy_pipelines.store.quality import complete_days

    db, now = store.db(), store.now()
    days = complete_days(db, now)
    events = [
        dg.AssetMaterialization(asset, partition=day.isoformat(), metadata={"origin": "found in the store"})
        for asset in IMPORTED_ASSETS
        for day in sorted(days - _done(context.instance, asset))
        if day >= FIRST_DAY
    ]
    if not events:
        return dg.SkipReason("every day in the store is known")
    return dg.SensorResult(asset_events=events[:_MOST_EVENTS])


def _done(instance: dg.DagsterInstance, asset: str) -> set[date]:
    return {date.fromisoformat(key) for key in instance.get_materialized_partitions(dg.AssetKey(asset))}


def range_tags(first: str, last: str) -> dict[str, str]:
    """Tags that make one run work on all partitions from `first` to `last`."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


SENSORS = [meter_file_sensor, replan_sensor, retrain_sensor, late_data_sensor, stored_days_sensor]
