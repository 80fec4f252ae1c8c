"""Sensors: runs that something in the world starts, not the clock."""

import hashlib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg

from assets_defs.resources import StoreResource
from assets_defs.schedules import sites_config

_REPAIR_DAYS = 35
"""A file that reaches further back than this is re-cleansed as one range, not day by day."""


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
    context: dg.SensorEvaluationContext, asset_event: dg.EventLogEntry, store: StoreResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    from flexergy_pipelines.store.sites import load_site

    event = asset_event.asset_materialization
    entry = event.metadata.get("new_data") if event else None
    spans = entry.value if isinstance(entry, dg.JsonMetadataValue) else None
    if not isinstance(spans, dict) or not spans:
        yield dg.SkipReason("no new data came in files")
        return
    assets = ["clean_readings", "meter_quality"]
    for site_id, (first, last) in spans.items():
        zone = load_site(store.db(), site_id).zone
        first_day, last_day = (datetime.fromisoformat(text).astimezone(zone).date() for text in (first, last))
        days = [first_day + timedelta(days=i) for i in range((last_day - first_day).days + 1)]
        spread = {"flexergy/origin": "late_data"}
        if len(days) > _REPAIR_DAYS:
            spread |= range_tags(first_day.isoformat(), last_day.isoformat())
            yield dg.RunRequest(
                run_key=f"{context.cursor} {site_id}", run_config=sites_config(assets, [site_id]), tags=spread
            )
            continue
        for day in days:
            yield dg.RunRequest(
                run_key=f"{context.cursor} {site_id} {day}",
                partition_key=day.isoformat(),
                run_config=sites_config(assets, [site_id]),
                tags=spread,
            )


def range_tags(first: str, last: str) -> dict[str, str]:
    """Tags that make one run work on all partitions from `first` to `last`."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


SENSORS = [meter_file_sensor, replan_sensor, late_data_sensor]
