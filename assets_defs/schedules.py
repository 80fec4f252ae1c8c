"""Schedules: each looks every quarter of an hour which sites are due by their own settings and time zone."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from assets_defs import due
from assets_defs.resources import StoreResource
from assets_defs.sites import SitesConfig

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site

Day = date | None
Due = Callable[["Site", datetime], "list[Day]"]
"""For a site and a quarter of an hour: nothing when not due, ``[None]`` when due, else the days that are due."""


def site_schedule(job: str, assets: list[str], minute: int, when: Due, description: str) -> dg.ScheduleDefinition:
    """A schedule that starts one run for all sites that are due, or one for each day that is.

    Parameters
    ----------
    job : str
        Name of the job to run.
    assets : list of str
        Its assets; each is told the sites.
    minute : int
        Minutes after each quarter at which to look: later pieces of the chain look later.
    when : callable
        Says what is due.
    description : str
        For the UI.
    """

    @dg.schedule(
        name=f"{job}_schedule",
        job_name=job,
        cron_schedule=f"{minute}-59/15 * * * *" if minute else "*/15 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
        tags={"flexergy/origin": "schedule"},
    )
    def _schedule(
        context: dg.ScheduleEvaluationContext, store: StoreResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from flexergy_pipelines.store.sites import list_sites, load_site

        at = context.scheduled_execution_time.astimezone(UTC)
        tick = at - timedelta(minutes=minute)
        db = store.db()
        days: dict[Day, list[str]] = {}
        for site_id in list_sites(db):
            for day in when(load_site(db, site_id), tick):
                days.setdefault(day, []).append(site_id)
        if not days:
            yield dg.SkipReason(f"no site is due at {tick:%H:%M} UTC")
        for day, sites in days.items():
            yield dg.RunRequest(
                run_key=f"{at.isoformat()} {day or ''}".strip(),
                run_config=sites_config(assets, sites),
                partition_key=day.isoformat() if day else None,
            )

    return _schedule


def sites_config(assets: list[str], sites: list[str]) -> dg.RunConfig:
    """Run configuration that limits each of `assets` to `sites`."""
    return dg.RunConfig(ops={asset: SitesConfig(sites=sites) for asset in assets})


def _periodic(minutes: "Callable[[Site], int]") -> Due:
    return lambda site, tick: [None] if due.every(minutes(site), tick) else []


def _hourly(_site: "Site", tick: datetime) -> list[Day]:
    return [None] if due.every(60, tick) else []


def _cleaning(site: "Site", tick: datetime) -> list[Day]:
    """Every hour today; in the first hour of a day also the day that ended."""
    if not due.every(60, tick):
        return []
    local = tick.astimezone(site.zone)
    return [local.date() - timedelta(days=1), local.date()] if local.hour == 0 else [local.date()]


def _day_ahead(site: "Site", tick: datetime) -> list[Day]:
    day = due.at_local_time(site.operation.day_ahead_time, site, tick)
    return [day] if day else []


def _accounting(site: "Site", tick: datetime) -> list[Day]:
    day = due.at_local_time("00:30", site, tick)
    return [day - timedelta(days=1)] if day else []


def _archiving(site: "Site", tick: datetime) -> list[Day]:
    return [None] if due.at_local_time("01:30", site, tick) else []


def _monitoring(site: "Site", tick: datetime) -> list[Day]:
    """After yesterday was cleansed once more."""
    day = due.at_local_time("01:00", site, tick)
    return [day - timedelta(days=1)] if day else []


BULK_TICK_MINUTES = 5


@dg.schedule(
    name="bulk_reading_schedule",
    job_name="bulk_reading",
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Meters asked for their values by the jobs that operators set, each at its period (hourly without).",
    tags={"flexergy/origin": "schedule"},
)
def bulk_reading_schedule(
    context: dg.ScheduleEvaluationContext, store: StoreResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run for each set of jobs that is due, with the sites that have them."""
    from assets_defs.assets.metering import BulkConfig
    from flexergy_pipelines.store.sites import list_sites
    from ingestion.meters.jobs import due_jobs

    tick = context.scheduled_execution_time.astimezone(UTC)
    db = store.db()
    due: dict[tuple[str, ...], list[str]] = {}
    for site_id in list_sites(db):
        names = tuple(job.name for job in due_jobs(db, site_id, tick, BULK_TICK_MINUTES))
        if names:
            due.setdefault(names, []).append(site_id)
    if not due:
        yield dg.SkipReason(f"no job is due at {tick:%H:%M} UTC")
    for names, sites in due.items():
        config = dg.RunConfig(ops={"bulk_meter_readings": BulkConfig(sites=sites, jobs=list(names))})
        yield dg.RunRequest(run_key=f"{tick.isoformat()} {','.join(names)}", run_config=config)


SCHEDULES = [
    site_schedule(
        "weather", ["weather_forecast"], 0, _periodic(lambda site: site.forecasts.weather_period_minutes),
        "Weather forecasts at each site's period (60 min unless configured).",
    ),
    site_schedule(
        "weather_archive_days", ["weather_archive"], 7, _archiving,
        "What the weather was is fetched at 01:30 of the site, before the training.",
    ),
    site_schedule(
        "market", ["day_ahead_prices"], 0, _hourly, "Market prices every hour.",
    ),
    bulk_reading_schedule,
    site_schedule(
        "cleaning", ["clean_readings", "meter_quality", "energy_15min"], 1, _cleaning,
        "Today's readings cleansed every hour; yesterday's once more after midnight of the site.",
    ),
    site_schedule(
        "training", ["forecast_models"], 2, lambda site, tick: [None] if due.training(site, tick) else [],
        "Models trained at 03:00 of the site, every 7 days unless configured.",
    ),
    site_schedule(
        "forecasting", ["forecasts"], 3, lambda site, tick: [None] if due.forecasting(site, tick) else [],
        "Forecasts at each site's period (60 min unless configured), after the weather, and before a day-ahead plan.",
    ),
    site_schedule(
        "day_ahead", ["day_ahead_plan"], 0, _day_ahead,
        "The day's plan at midnight of the site, or at the time its operator set.",
    ),
    site_schedule(
        "intraday", ["intraday_plan"], 6, _periodic(lambda site: site.operation.intraday_period_minutes),
        "The rest of the day planned again at each site's period (60 min unless configured), after the forecasts.",
    ),
    site_schedule(
        "monitoring", ["forecast_quality"], 4, _monitoring, "Yesterday's forecasts judged at 01:00 of the site.",
    ),
    site_schedule(
        "dispatch", ["dispatch_status"], 10, _hourly, "What was sent against the plan, hourly.",
    ),
    site_schedule(
        "accounting", ["kpis", "period_kpis", "plan_value"], 0, _accounting,
        "Yesterday's indicators at 00:30 of the site.",
    ),
    dg.ScheduleDefinition(
        name="validation_schedule", job_name="validation", cron_schedule="20 2 * * *", execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING, description="The last day's readings validated every night.",
    ),
    dg.ScheduleDefinition(
        name="purge_schedule", job_name="purge", cron_schedule="40 3 * * *", execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING, description="Old runs and old history deleted every night.",
    ),
]  # fmt: skip
