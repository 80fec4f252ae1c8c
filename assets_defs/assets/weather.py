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
        "What the weather was at each site's place, from the archive of its provider, for the days that models learn "
        "from: a new site has no forecasts of its own yet. Sites whose providers have no archive are left as they are."
    ),
)
def weather_archive(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource
) -> dg.MaterializeResult:
    from flexergy_pipelines.store.sites import load_site
    from ingestion.weather import configured_providers
    from ingestion.weather.archive import fetch_archive

    now, settings = store.now(), store.settings()

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        window = load_site(db, site_id).forecasts.training_window_days
        result = fetch_archive(db, site_id, now, configured_providers(settings, site_id), window)
        facts = {"provider": result.provider or "none has an archive", "days added": result.days}
        return SiteReport(facts, summary=f"{result.days} days of archive")

    return for_each_site(context, store, config, work)


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
