"""Readings as they came, cleansed, and how good they are."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

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
    from assets_defs.ami_facts import file_metadata, raw_facts
    from ingestion.meters.files import ingest_inbox

    now = store.now()
    files = ingest_inbox(store.db(), store.settings().inbox_dir, now, time.time())
    result = for_each_site(context, store, config, lambda db, site_id: raw_facts(db, site_id, now))
    return dg.MaterializeResult(metadata={**(result.metadata or {}), **file_metadata(files)})


class BulkConfig(SitesConfig):
    """Which jobs are done; a job tells its meters, what is asked for, and how patiently."""

    jobs: list[str] = Field(default=[], description="Names of the jobs; none means every enabled job of each site.")


@dg.asset(
    group_name="ami",
    owners=OWNERS,
    kinds={"python", "postgres", "modbus"},
    tags={"source": "meters"},
    retry_policy=RETRY,
    description=(
        "Jobs of bulk reading: meters asked for their present values and load profiles, many at once, each with its "
        "tries; with success rate, latency and completeness by meter and data concentrator. A meter that does not "
        "answer costs the others nothing. Jobs are set by operators (`flexergy meters job set`)."
    ),
)
def bulk_meter_readings(
    context: dg.AssetExecutionContext, config: BulkConfig, store: StoreResource
) -> dg.MaterializeResult:
    from assets_defs.ami_facts import bulk_facts
    from flexergy_pipelines.metering.keys import access_of
    from flexergy_pipelines.settings import read_endpoints
    from flexergy_pipelines.store.sites import load_site
    from ingestion.meters.bulk import read_in_bulk
    from ingestion.meters.jobs import jobs_of, rules_of

    settings = store.settings()
    addresses = read_endpoints(settings)

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        site = load_site(db, site_id)
        wanted = [job for job in jobs_of(db, site_id) if (job.name in config.jobs if config.jobs else job.enabled)]
        reports = {
            job.name: read_in_bulk(
                db, site, store.now(), addresses, meters=list(job.meters) or None, rules=rules_of(job), job=job.name,
                credentials=lambda device: access_of(settings, device),
            )
            for job in wanted
        }  # fmt: skip
        return bulk_facts(reports)

    return for_each_site(context, store, config, work)


@daily_asset(
    group_name="ami",
    owners=OWNERS,
    kinds=FRAME_KINDS,
    deps=["raw_meter_readings", "bulk_meter_readings"],
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
    from assets_defs.ami_facts import clean_facts
    from flexergy_pipelines.quality import clean_day

    def work(db: "TenantStore", site_id: str, start: datetime, end: datetime) -> SiteReport:
        return clean_facts(clean_day(db, site_id, start, end))

    return _for_each_span(context, store, config, work)


@daily_asset(
    group_name="ami",
    owners=OWNERS,
    kinds=FRAME_KINDS,
    deps=["clean_readings"],
    retry_policy=RETRY,
    description=(
        "Coverage, share of changed values and longest outage of every measured point, day by day; stored as a series "
        "of each meter that the Data quality page shows."
    ),
)
def meter_quality(context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource) -> dg.MaterializeResult:
    from assets_defs.ami_facts import quality_facts

    return _for_each_span(context, store, config, quality_facts)


@daily_asset(
    group_name="ami",
    owners=OWNERS,
    kinds=FRAME_KINDS,
    deps=["clean_readings"],
    retry_policy=RETRY,
    description=(
        "Energy of each quarter of an hour of every asset, forward and reverse: from the meter's registers where they "
        "were read, else from the cleansed power. A local day has 92, 96 or 100 quarters."
    ),
)
def energy_15min(context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource) -> dg.MaterializeResult:
    from assets_defs.ami_facts import energy_facts
    from flexergy_pipelines.metering import energy_of_site

    def work(db: "TenantStore", site_id: str, start: datetime, end: datetime) -> SiteReport:
        written = energy_of_site(db, site_id, start, end)
        return energy_facts(db, site_id, start, end, written)

    return _for_each_span(context, store, config, work)


def _for_each_span(
    context: dg.AssetExecutionContext,
    store: StoreResource,
    config: SitesConfig,
    work: Callable[["TenantStore", str, datetime, datetime], SiteReport],
) -> dg.MaterializeResult:
    """Do `work` for each site on the run's local days, as far as they are past."""
    from flexergy_pipelines.store.sites import load_site

    now, (first, last) = store.now(), days_of(context)

    def on_days(db: "TenantStore", site_id: str) -> SiteReport:
        start, end = local_span(first, last, load_site(db, site_id).zone)
        return work(db, site_id, start, min(end, now))

    return for_each_site(context, store, config, on_days)
