"""What a day brought."""

from datetime import date, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from assets_defs.labels import FRAME_KINDS, OWNERS
from assets_defs.partitions import daily_asset, days_of, each_day
from assets_defs.resources import StoreResource
from assets_defs.sites import RETRY, SiteReport, SitesConfig, for_each_site

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore


@daily_asset(
    group_name="accounting",
    owners=OWNERS,
    kinds=FRAME_KINDS,
    deps=["clean_readings", "dispatch_status"],
    retry_policy=RETRY,
    description="Energy, cost, battery and reliability indicators of each local day of each site.",
)
def kpis(context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource) -> dg.MaterializeResult:
    from flexergy_pipelines.kpis import account_day

    now, (first, last) = store.now(), days_of(context)

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        facts: dict[str, object] = {"days": (last - first).days + 1}
        for day in each_day(first, last):
            frame = account_day(db, site_id, day, now)
            facts |= {f"{row['kpi']} [{row['unit']}]": row["value"] for row in frame.iter_rows(named=True)}
        return SiteReport(facts, summary=f"{(last - first).days + 1} days, {len(facts) - 1} indicators")

    return for_each_site(context, store, config, work)


class PeriodConfig(SitesConfig):
    """Which sites, and which month and year."""

    day: str = Field(default="", description="A day (ISO) of the month and year to account for; empty: yesterday.")


@dg.asset(
    group_name="accounting",
    owners=OWNERS,
    kinds=FRAME_KINDS,
    deps=["clean_readings", "dispatch_status"],
    retry_policy=RETRY,
    description=(
        "The same indicators for the month and year to which yesterday belongs, or a day that late readings changed."
    ),
)
def period_kpis(context: dg.AssetExecutionContext, config: PeriodConfig, store: StoreResource) -> dg.MaterializeResult:
    from flexergy_pipelines.kpis import account_month, account_year
    from flexergy_pipelines.store.sites import load_site

    now = store.now()

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        day = now.astimezone(load_site(db, site_id).zone).date() - timedelta(days=1)
        day = date.fromisoformat(config.day) if config.day else day
        month = account_month(db, site_id, day.year, day.month)
        year = account_year(db, site_id, day.year)
        facts = {"month": f"{day:%Y-%m}", "figures of the month": month.height, "figures of the year": year.height}
        return SiteReport(facts, summary=f"{month.height} figures of {day:%Y-%m}")

    return for_each_site(context, store, config, work)
