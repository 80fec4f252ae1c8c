"""Jobs: the pieces of the pipeline that are started together, each on its own schedule.

Every piece is a job of its own, so that a site that fails in one keeps the other sites from nothing: a step that fails
skips what follows it in the same run, for all sites.
"""

import dagster as dg

from assets_defs.checks import EXPECTATIONS

WEATHER = dg.define_asset_job("weather", ["weather_forecast"], description="Acquire weather forecasts.")
MARKET = dg.define_asset_job("market", ["day_ahead_prices"], description="Acquire market prices.")
METER_FILES = dg.define_asset_job(
    "meter_files",
    dg.AssetSelection.assets("raw_meter_readings").without_checks(),
    description="Take meter files from the drop folder.",
)
BULK_READING = dg.define_asset_job(
    "bulk_reading", ["bulk_meter_readings"], description="Ask every meter for its values."
)
CLEANING = dg.define_asset_job(
    "cleaning",
    dg.AssetSelection.assets("clean_readings", "meter_quality").without_checks(),
    description="Cleanse days of readings and judge the meters.",
)
VALIDATION = dg.define_asset_job(
    "validation",
    dg.AssetSelection.checks(*EXPECTATIONS),
    description="Great Expectations on the last day of raw and clean readings.",
)
TRAINING = dg.define_asset_job("training", ["forecast_models"], description="Train and compare forecast models.")
FORECASTING = dg.define_asset_job("forecasting", ["forecasts"], description="Serve forecasts of all targets.")
DAY_AHEAD = dg.define_asset_job("day_ahead", ["day_ahead_plan"], description="Plan a day.")
INTRADAY = dg.define_asset_job("intraday", ["intraday_plan"], description="Plan the rest of the day again.")
DISPATCH = dg.define_asset_job("dispatch", ["dispatch_status"], description="Compare what was sent with the plan.")
ACCOUNTING = dg.define_asset_job(
    "accounting", ["kpis", "period_kpis"], description="Account for days, and for their month and year."
)

ASSET_JOBS = [
    WEATHER, MARKET, METER_FILES, BULK_READING, CLEANING, VALIDATION, TRAINING, FORECASTING, DAY_AHEAD, INTRADAY,
    DISPATCH, ACCOUNTING,
]  # fmt: skip
