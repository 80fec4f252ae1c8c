"""Prices of the markets that the sites buy and sell at."""

from typing import TYPE_CHECKING

import dagster as dg

from assets_defs.labels import HTTP_KINDS, OWNERS
from assets_defs.resources import StoreResource
from assets_defs.sites import RETRY, SiteReport, SitesConfig, for_each_site

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore


@dg.asset(
    group_name="market",
    owners=OWNERS,
    kinds=HTTP_KINDS,
    tags={"source": "market"},
    retry_policy=RETRY,
    description=(
        "Day-ahead prices of each site's market area with the time from which they were known, and those of the "
        "services that it offers at the market's price."
    ),
)
def day_ahead_prices(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource
) -> dg.MaterializeResult:
    from flexergy_pipelines.optimization.replanning import replan_on_news
    from ingestion.ancillary import fetch_ancillary
    from ingestion.market import MarketError, fetch_prices, market_url

    now, url = store.now(), market_url(store.settings())

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        try:
            services = fetch_ancillary(db, site_id, now, url)
        except MarketError as error:  # its alarm is active; day-ahead prices do not wait for it
            services = str(error)
        result = fetch_prices(db, site_id, now, url)
        price = result.frame["price_eur_per_kwh"]
        asked = replan_on_news(db, site_id, now)
        return SiteReport(
            {
                "rows": result.frame.height,
                "known until": result.reaches,
                "lowest EUR/kWh": price.min(),
                "mean EUR/kWh": price.mean(),
                "highest EUR/kWh": price.max(),
                "prices of services": "none offered" if services is None else services,
                "new plan asked for": "; ".join(asked) or "no",
            },
            summary=f"{result.frame.height} prices, mean {price.mean() or 0:.3f} EUR/kWh",
        )

    return for_each_site(context, store, config, work)
