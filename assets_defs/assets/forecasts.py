"""Models and the forecasts they give."""

from typing import TYPE_CHECKING

import dagster as dg

from assets_defs.labels import FORECAST_KINDS, MODEL_KINDS, OWNERS, TRAINING_POOL
from assets_defs.resources import ModelsResource, StoreResource
from assets_defs.sites import RETRY, SiteReport, SitesConfig, for_each_site

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore


@dg.asset(
    group_name="training",
    owners=OWNERS,
    kinds=MODEL_KINDS,
    deps=["clean_readings", "weather_forecast", "day_ahead_prices"],
    pool=TRAINING_POOL,
    retry_policy=RETRY,
    description=(
        "For every target of every site: the models trained on clean history and the weather as it was forecast, "
        "compared in a rolling backtest; the best that beats the naive forecast becomes champion in the registry."
    ),
)
def forecast_models(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource, models: ModelsResource
) -> dg.MaterializeResult:
    from flexergy_pipelines.forecasting.training import train_site

    from assets_defs.summaries import training_facts

    now, registry = store.now(), models.registry()

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        return training_facts(train_site(db, site_id, now, registry))

    return for_each_site(context, store, config, work)


@dg.asset(
    group_name="forecasts",
    owners=OWNERS,
    kinds=FORECAST_KINDS,
    deps=["forecast_models", "weather_forecast", "clean_readings"],
    retry_policy=RETRY,
    description=(
        "PV, wind, load, EV and price forecasts with quantiles and issue time. Always there: when the champion fails, "
        "the previous one, a similar day or the naive forecast serves, and the operator gets an alarm."
    ),
)
def forecasts(
    context: dg.AssetExecutionContext, config: SitesConfig, store: StoreResource, models: ModelsResource
) -> dg.MaterializeResult:
    from flexergy_pipelines.forecasting.serving import serve_site

    from assets_defs.summaries import forecast_facts

    now, registry = store.now(), models.registry()

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        return forecast_facts(db, site_id, now, serve_site(db, site_id, now, registry))

    return for_each_site(context, store, config, work)
