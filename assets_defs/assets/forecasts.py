"""Models and the forecasts they give."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from assets_defs.labels import FORECAST_KINDS, MODEL_KINDS, OWNERS, TRAINING_POOL
from assets_defs.resources import ModelsResource, StoreResource
from assets_defs.sites import RETRY, SiteReport, SitesConfig, for_each_site

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore


class TrainingConfig(SitesConfig):
    """Which sites' models are trained, and whether those that are still fresh are left alone."""

    only_due: bool = Field(
        default=False, description="Only targets without a champion, or with one older than the training period."
    )
    targets: list[str] = Field(
        default=[], description="Only these targets, by asset id or full name; none means all. For runs of one site."
    )
    quick: bool = Field(
        default=False,
        description="Small models in seconds a target, for a first start; else the full ones in minutes a target, "
        "with a search for better parameters when the site has a tuning_budget_s.",
    )


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
    context: dg.AssetExecutionContext, config: TrainingConfig, store: StoreResource, models: ModelsResource
) -> dg.MaterializeResult:
    from assets_defs.due import targets_to_train
    from assets_defs.summaries import training_facts
    from flexergy_pipelines.forecasting.training import train_site
    from flexergy_pipelines.store.sites import load_site

    now, registry = store.now(), models.registry()

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        own_periods = any(target.training_period_days for target in load_site(db, site_id).forecasts.targets)
        only_due = config.only_due or (own_periods and not config.targets)
        targets = targets_to_train(db, site_id, now, registry) if only_due else config.targets or None
        results = [] if targets == [] else train_site(db, site_id, now, registry, targets=targets, quick=config.quick)
        return training_facts(results)

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
    from assets_defs.due import targets_to_serve
    from assets_defs.summaries import forecast_facts
    from flexergy_pipelines.forecasting.serving import serve_site
    from flexergy_pipelines.optimization.replanning import replan_on_news

    now, registry = store.now(), models.registry()

    def work(db: "TenantStore", site_id: str) -> SiteReport:
        targets = targets_to_serve(db, site_id, now)
        served = serve_site(db, site_id, now, registry, targets=targets)
        replan_on_news(db, site_id, now)
        return forecast_facts(db, site_id, now, served)

    return for_each_site(context, store, config, work)
