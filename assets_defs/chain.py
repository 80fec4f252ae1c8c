"""The whole chain once, in this process: every step is a run that Dagster records and shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

import dagster as dg

from assets_defs.assets.forecasts import TrainingConfig
from assets_defs.resources import StoreResource
from assets_defs.sensors import range_tags
from assets_defs.sites import SitesConfig

Status = Literal["started", "done", "failed"]

HISTORY_DAYS = 366
ACCOUNTED_DAYS = 7


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the chain.

    Attributes
    ----------
    name : str
        As shown to the user.
    job : str
        Job that does it.
    config : dict
        Configuration of each asset.
    tags : dict
        Tags of the run.
    partition : str or None
        Day it works on.
    """

    name: str
    job: str
    config: dict[str, dg.Config] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    partition: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of progress."""

    step: str
    status: Status
    seconds: float = 0.0
    detail: str = ""


def run_chain(
    instance: dg.DagsterInstance,
    sites: Sequence[str],
    show: Callable[[Progress], None],
    *,
    backfill_days: int | None = None,
    defs: dg.Definitions | None = None,
    store: StoreResource | None = None,
) -> bool:
    """Run every step once; a step that fails is shown, and the next ones run with what there is.

    Parameters
    ----------
    instance : DagsterInstance
        Where runs are recorded.
    sites : sequence of str
        Sites to work on; none means all.
    show : callable
        Told when a step starts and ends.
    backfill_days : int, optional
        How many days back history is cleansed (default: from the first day that is not done, at most a year) and
        indicators are computed (default: at most a week).
    defs : Definitions, optional
        Definitions to run, for tests.
    store : StoreResource, optional
        The store that the definitions use, for tests.

    Returns
    -------
    bool
        Whether every step succeeded.
    """
    if defs is None:
        from assets_defs.definitions import defs as usual

        defs = usual
    store = store or StoreResource()
    good = True
    for step in steps(instance, store, list(sites), _today(store.now()), backfill_days):
        show(Progress(step.name, "started"))
        began = time.monotonic()
        detail, failure = _execute(defs, instance, step)
        seconds = round(time.monotonic() - began, 2)
        if failure is None:
            show(Progress(step.name, "done", seconds, detail))
        else:
            good = False
            show(Progress(step.name, "failed", seconds, failure))
    return good


def steps(
    instance: dg.DagsterInstance, store: StoreResource, sites: list[str], today: date, backfill_days: int | None
) -> Iterator[Step]:
    """The steps in their order, with the days that are still to do."""
    only = SitesConfig(sites=sites)
    yield Step("weather", "weather", {"weather_forecast": only})
    yield Step("prices", "market", {"day_ahead_prices": only})
    yield Step("readings", "meter_files", {"raw_meter_readings": only})
    first = first_open_day(instance, "clean_readings", today, backfill_days or HISTORY_DAYS)
    if backfill_days is None:
        first = max(first, min(store_clean_from(store, sites), today))
    yield Step(
        "cleansing", "cleaning", {"clean_readings": only, "meter_quality": only, "energy_15min": only},
        range_tags(first.isoformat(), today.isoformat()),
    )  # fmt: skip
    yield Step("training", "training", {"forecast_models": TrainingConfig(sites=sites, only_due=True, quick=True)})
    yield Step("forecasts", "forecasting", {"forecasts": only})
    yield Step("day-ahead plan", "day_ahead", {"day_ahead_plan": only}, partition=today.isoformat())
    yield Step("intraday plan", "intraday", {"intraday_plan": only})
    yield Step("dispatch", "dispatch", {"dispatch_status": only})
    yesterday = today - timedelta(days=1)
    first = first_open_day(instance, "kpis", yesterday, backfill_days or ACCOUNTED_DAYS)
    yield Step(
        "kpis", "accounting", {"kpis": only, "period_kpis": only, "plan_value": only},
        range_tags(first.isoformat(), yesterday.isoformat()),
    )  # fmt: skip


def first_open_day(instance: dg.DagsterInstance, asset: str, last: date, most: int) -> date:
    """The first of the `most` days up to `last` whose partition was never done; `last` when all were."""
    done = instance.get_materialized_partitions(dg.AssetKey(asset))
    days = [last - timedelta(days=back) for back in range(most - 1, -1, -1)]
    return next((day for day in days if day.isoformat() not in done), last)


def store_clean_from(store: StoreResource, sites: list[str]) -> date:
    """The first local day that some site's clean history does not cover to its end; imports bring a clean history."""
    from flexergy_pipelines.store.clean import read_clean
    from flexergy_pipelines.store.sites import list_sites, load_site

    db, now = store.db(), store.now()
    days: list[date] = []
    for site_id in sites or list_sites(db):
        site = load_site(db, site_id)
        exchange = [(site.grid_connection.id, "active_power_kw")]
        newest = read_clean(db, site_id, now - timedelta(days=HISTORY_DAYS), now, exchange)["time"].max()
        days.append(newest.astimezone(site.zone).date() if isinstance(newest, datetime) else date.min)
    return min(days, default=date.min)


def _execute(defs: dg.Definitions, instance: dg.DagsterInstance, step: Step) -> tuple[str, str | None]:
    """Run one step; gives its detail, and what failed if anything did."""
    job = defs.resolve_job_def(step.job)
    result = job.execute_in_process(
        run_config=dg.RunConfig(ops=dict(step.config)),
        instance=instance,
        tags={"flexergy/origin": "chain", **step.tags},
        partition_key=step.partition,
        raise_on_error=False,
    )
    if result.success:
        return _detail(result), None
    reasons = [
        event.step_failure_data.user_failure_data.description
        if event.step_failure_data.user_failure_data
        else event.step_failure_data.error_display_string.strip().splitlines()[0]
        for event in result.all_events
        if event.is_step_failure
    ]
    failures = [event.message for event in result.all_events if event.is_run_failure] if not reasons else []
    return "", "; ".join(str(reason) for reason in reasons or failures)


def _detail(result: dg.ExecuteInProcessResult) -> str:
    parts: dict[str, str] = {}
    for event in result.get_asset_materialization_events():
        summary = event.materialization.metadata.get("summary")
        name = event.materialization.asset_key.path[-1]
        if summary is not None:
            parts[name] = str(summary.value)
    return "; ".join(dict.fromkeys(parts.values()))


def _today(now: Any) -> date:
    from zoneinfo import ZoneInfo

    from assets_defs.partitions import installation_zone

    return now.astimezone(ZoneInfo(installation_zone())).date()
