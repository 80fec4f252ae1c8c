"""How good the served forecasts were, and what that calls for."""

from typing import TYPE_CHECKING

import dagster as dg

from assets_defs.labels import FRAME_KINDS, OWNERS
from assets_defs.partitions import daily_asset, days_of, each_day
from assets_defs.resources import StoreResource
from assets_defs.sites import RETRY, SiteReport, SitesConfig, for_each_site

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore


@daily_asset(
    group_name="forecasts",
    owners=OWNERS,
    kinds=FRAME_KINDS,
    deps=["forecasts", "clean_readings", "day_ahead_prices"],
    retry_policy=RETRY,
    description=(
        "Of each local day and target: error by lead time, bias, coverage of P10 to P90, pinball loss, drift of "
        "measurements and weather against training, and quality of the measurements. Beyond the site's limits the "
        "operator gets an alarm, and decayed accuracy or drift asks for a new training of that target."
    ),
)
def forecast_quality(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource
) -> dg.MaterializeResult:
    from flexergy_pipelines.forecasting.health import assess_site
    from flexergy_pipelines.forecasting.monitoring import monitor_day

    now, (first, last) = store.now(), days_of(context)

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        figures = [monitor_day(db, site_id, day, now) for day in each_day(first, last)]
        verdicts = assess_site(db, site_id, figures[-1], now)
        compared = sum("mae" in one.values for one in figures[-1])
        complaints = [f"{v.target.asset_id}: {code}" for v in verdicts for code in v.complaints]
        facts = {
            "days": len(figures),
            "targets compared": compared,
            "complaints": "; ".join(complaints),
            "to be trained anew": ", ".join(v.target.asset_id for v in verdicts if v.retrain),
        }
        return SiteReport(facts, summary=f"{compared} targets compared, {len(complaints)} complaints")

    return for_each_site(context, store, config, work)
