"""Plans, and whether they are being followed."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

import dagster as dg

from assets_defs.labels import OWNERS, PLAN_KINDS, PLANNING_POOL
from assets_defs.partitions import DAYS, daily_asset, days_of, each_day
from assets_defs.resources import StoreResource
from assets_defs.sites import RETRY, SiteReport, SitesConfig, for_each_site

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore


@dg.asset(
    group_name="planning",
    owners=OWNERS,
    kinds=PLAN_KINDS,
    deps=["forecasts", "day_ahead_prices"],
    partitions_def=DAYS,
    pool=PLANNING_POOL,
    retry_policy=RETRY,
    description=(
        "The plan of a day, made at midnight of the site (or when its operator says): setpoints of every controllable "
        "asset at least cost within all limits, with solver status, gap, cost by part and the cost without storage."
    ),
)
def day_ahead_plan(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource
) -> dg.MaterializeResult:
    return _planned(context, config, store, "day_ahead", date.fromisoformat(context.partition_key))


@dg.asset(
    group_name="planning",
    owners=OWNERS,
    kinds=PLAN_KINDS,
    deps=["forecasts", "day_ahead_prices"],
    pool=PLANNING_POOL,
    retry_policy=RETRY,
    description=(
        "The rest of the day planned again from the state as it is: every hour, and when the control loop or an "
        "operator asks for it."
    ),
)
def intraday_plan(context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource) -> dg.MaterializeResult:
    return _planned(context, config, store, "intraday")


@daily_asset(
    group_name="planning",
    owners=OWNERS,
    kinds=PLAN_KINDS,
    deps=["clean_readings", "day_ahead_prices"],
    pool=PLANNING_POOL,
    retry_policy=RETRY,
    description=(
        "What the plan was worth, after the fact: what storage earned in each local day against no storage, and which "
        "share that is of what perfect foresight would have earned."
    ),
)
def plan_value(context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource) -> dg.MaterializeResult:
    from flexergy_pipelines.optimization.value import account_value
    from flexergy_pipelines.store.sites import load_site

    now, (first, last) = store.now(), days_of(context)

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        site = load_site(db, site_id)
        if not site.ess():
            return SiteReport({"storage": "none"}, summary="no storage")
        today = now.astimezone(site.zone).date()
        facts: dict[str, object] = {}
        for day in each_day(first, min(last, today - timedelta(days=1))):
            found = {row["kpi"]: row["value"] for row in account_value(db, site_id, day, now).iter_rows(named=True)}
            facts[f"{day} captured"] = found["value_captured"]
            facts[f"{day} earned [EUR]"] = found["value_earned"]
        return SiteReport(facts, summary=f"{len(facts) // 2} days")

    return for_each_site(context, store, config, work)


@dg.asset(
    group_name="planning",
    owners=OWNERS,
    kinds={"postgres"},
    deps=["day_ahead_plan", "intraday_plan"],
    description="What was sent to the field last, against the plan: planned, sent and read back for every actuator.",
)
def dispatch_status(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource
) -> dg.MaterializeResult:
    from assets_defs.summaries import dispatch_facts

    now = store.now()
    return for_each_site(context, store, config, lambda db, site_id: dispatch_facts(db, site_id, now))


def _planned(
    context: dg.AssetExecutionContext,
    config: SitesConfig,
    store: StoreResource,
    kind: Literal["day_ahead", "intraday"],
    day: date | None = None,
) -> dg.MaterializeResult:
    from assets_defs.summaries import plan_facts
    from flexergy_pipelines.optimization.planning import plan_site
    from flexergy_pipelines.store.commands import close_replan, pending_replans

    now = store.now()

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        asked = [request for request in pending_replans(db) if request.site_id == site_id]
        plan_site(db, site_id, kind, now, day=day, because=[request.reason for request in asked])
        for request in asked:
            close_replan(db, request.id)
        return plan_facts(db, site_id, now)

    return for_each_site(context, store, config, work)
