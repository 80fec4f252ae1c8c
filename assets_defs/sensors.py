"""Sensors: runs that something in the world starts, not the clock."""

import hashlib
import time
from collections.abc import Iterator

import dagster as dg

from assets_defs.resources import StoreResource
from assets_defs.schedules import sites_config

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


@dg.asset_sensor(
    asset_key=dg.AssetKey("raw_meter_readings"),
    job_name="cleaning",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Late data re-open the days they fall into, and only those.",
)
def late_data_sensor(
    context: dg.SensorEvaluationContext, asset_event: dg.EventLogEntry
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    event = asset_event.asset_materialization
    entry = event.metadata.get("new_data") if event else None
    days_of_sites = entry.value if isinstance(entry, dg.JsonMetadataValue) else None
    if not isinstance(days_of_sites, dict) or not days_of_sites:
        yield dg.SkipReason("no new data came in files")
        return
    for site_id, days in days_of_sites.items():
        config = sites_config(["clean_readings", "meter_quality"], [str(site_id)])
        origin = {"flexergy/origin": "late_data"}
        if len(days) > _REPAIR_DAYS:
            span = range_tags(days[0], days[-1])
            yield dg.RunRequest(run_key=f"{context.cursor} {site_id}", run_config=config, tags=origin | span)
            continue
        for day in days:
            yield dg.RunRequest(
                run_key=f"{context.cursor} {site_id} {day}", partition_key=day, run_config=config, tags=origin
            )


def range_tags(first: str, last: str) -> dict[str, str]:
    """Tags that make one run work on all partitions from `first` to `last`."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


SENSORS = [meter_file_sensor, replan_sensor, late_data_sensor]
