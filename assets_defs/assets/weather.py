"""Weather forecasts of every site's location."""

from typing import TYPE_CHECKING

import dagster as dg

from assets_defs.labels import HTTP_KINDS, OWNERS
from assets_defs.resources import StoreResource
from assets_defs.sites import RETRY, SiteReport, SitesConfig, for_each_site

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore


@dg.asset(
    group_name="weather",
    owners=OWNERS,
    kinds=HTTP_KINDS,
    tags={"source": "weather_service"},
    retry_policy=RETRY,
    description=(
        "Forecast of irradiance, temperature, wind and clouds for each site's place, with its issue time. When no "
        "provider answers, an earlier forecast or a similar day of the past stands in and the operator gets an alarm."
    ),
)
def weather_forecast(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource
) -> dg.MaterializeResult:
    from assets_defs.previews import weather_preview
    from flexergy_pipelines.store.sites import load_site
    from ingestion.weather import configured_providers, fetch_weather

    now, settings = store.now(), store.settings()

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        result = fetch_weather(db, site_id, now, configured_providers(settings, site_id))
        facts = {
            "provider": result.provider,
            "rows": result.frame.height,
            "until": result.frame["time"].max(),
            "gaps filled": result.filled,
            "failed providers": "; ".join(result.failures),
        }
        summary = f"{result.frame.height} intervals from {result.provider}"
        return SiteReport(facts, weather_preview(result.frame, load_site(db, site_id).zone), summary)

    return for_each_site(context, store, config, work)
