"""Readings as they came, cleansed, and how good they are."""

import time
from typing import TYPE_CHECKING

import dagster as dg

from assets_defs.labels import CLEANING_POOL, FIELD_KINDS, FRAME_KINDS, OWNERS
from assets_defs.partitions import daily_asset, days_of, local_span
from assets_defs.resources import StoreResource
from assets_defs.sites import RETRY, SiteReport, SitesConfig, for_each_site

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore


@dg.asset(
    group_name="ami",
    owners=OWNERS,
    kinds=FIELD_KINDS,
    tags={"source": "field"},
    retry_policy=RETRY,
    description=(
        "Readings as the field gave them: telemetry of the control loop, and meter files from the drop folder, which "
        "are taken here. What a file got wrong lies in quarantine with row and reason."
    ),
)
def raw_meter_readings(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource
) -> dg.MaterializeResult:
    from assets_defs.summaries import file_metadata, raw_facts
    from ingestion.meters.files import ingest_inbox

    now = store.now()
    files = ingest_inbox(store.db(), store.settings().inbox_dir, now, time.time())
    result = for_each_site(context, store, config, lambda db, site_id: raw_facts(db, site_id, now))
    return dg.MaterializeResult(metadata={**(result.metadata or {}), **file_metadata(files)})


@daily_asset(
    group_name="ami",
    owners=OWNERS,
    kinds=FRAME_KINDS,
    deps=["raw_meter_readings"],
    pool=CLEANING_POOL,
    retry_policy=RETRY,
    description=(
        "Each local day on a 15-minute grid: spikes, frozen values, gaps and impossible values found and, where that "
        "is safe, filled. Every changed value says what was done to it; raw readings stay as they came."
    ),
)
def clean_readings(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource
) -> dg.MaterializeResult:
    from assets_defs.summaries import clean_facts
    from flexergy_pipelines.quality import clean_day
    from flexergy_pipelines.store.sites import load_site

    now, (first, last) = store.now(), days_of(context)

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        start, end = local_span(first, last, load_site(db, site_id).zone)
        return clean_facts(clean_day(db, site_id, start, min(end, now)))

    return for_each_site(context, store, config, work)


@daily_asset(
    group_name="ami",
    owners=OWNERS,
    kinds=FRAME_KINDS,
    deps=["clean_readings"],
    retry_policy=RETRY,
    description="Coverage, share of changed values and longest outage of every measured point, day by day.",
)
def meter_quality(context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource) -> dg.MaterializeResult:
    from assets_defs.summaries import quality_facts
    from flexergy_pipelines.store.sites import load_site

    now, (first, last) = store.now(), days_of(context)

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        start, end = local_span(first, last, load_site(db, site_id).zone)
        return quality_facts(db, site_id, start, min(end, now))

    return for_each_site(context, store, config, work)
