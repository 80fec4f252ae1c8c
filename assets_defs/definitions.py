"""Everything Dagster shows and runs; `workspace.yaml` loads this module."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets_defs.assets.accounting import kpis, period_kpis
from assets_defs.assets.forecasts import forecast_models, forecasts
from assets_defs.assets.market import day_ahead_prices
from assets_defs.assets.metering import (
    bulk_meter_readings,
    clean_readings,
    energy_15min,
    meter_quality,
    raw_meter_readings,
)
from assets_defs.assets.monitoring import forecast_quality
from assets_defs.assets.planning import day_ahead_plan, dispatch_status, intraday_plan, plan_value
from assets_defs.assets.weather import weather_archive, weather_forecast
from assets_defs.checks import CHECKS
from assets_defs.jobs import ASSET_JOBS
from assets_defs.purge import purge
from assets_defs.resources import ModelsResource, StoreResource
from assets_defs.schedules import SCHEDULES
from assets_defs.sensors import SENSORS

ASSETS = [
    weather_forecast,
    weather_archive,
    day_ahead_prices,
    raw_meter_readings,
    bulk_meter_readings,
    clean_readings,
    meter_quality,
    energy_15min,
    forecast_models,
    forecasts,
    forecast_quality,
    day_ahead_plan,
    intraday_plan,
    dispatch_status,
    plan_value,
    kpis,
    period_kpis,
]


def build_defs(overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions.

    Parameters
    ----------
    overrides : mapping, optional
        Resources to use in place of the usual ones, by name (``store``, ``models``).
    """
    return dg.Definitions(
        assets=ASSETS,
        asset_checks=CHECKS,
        jobs=[*ASSET_JOBS, purge],
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={"store": StoreResource(), "models": ModelsResource(), **(overrides or {})},
        # One process a run: solvers must not run in threads or forked workers, and a second process costs 300 MB.
        executor=dg.in_process_executor,
    )


defs = build_defs()
