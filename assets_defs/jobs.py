"""Jobs: the pieces of the pipeline that are started together, each on its own schedule.

Every piece is a job of its own, so that a site that fails in one keeps the other sites from nothing: a step that fails
skips what follows it in the same run, for all sites.
"""

import dagster as dg

from assets_defs.checks import EXPECTATIONS


def _quick(*assets: str) -> dg.AssetSelection:
    """The assets with their checks, but for the slow ones of the validation job."""
    return dg.AssetSelection.assets(*assets) - dg.AssetSelection.checks(*EXPECTATIONS)


WEATHER = dg.define_asset_job("weather", _quick("weather_forecast"), description="Acquire weather forecasts.")
WEATHER_ARCHIVE = dg.define_asset_job(
    "weather_archive_days", ["weather_archive"], description="Acquire what the weather was, for training."
)
MARKET = dg.define_asset_job("market", _quick("day_ahead_prices"), description="Acquire market prices.")
METER_FILES = dg.define_asset_job(
    "meter_files",
    _quick("raw_meter_readings"),
    description="Take meter files from the drop folder.",
)
BULK_READING = dg.define_asset_job(
    "bulk_reading", ["bulk_meter_readings"], description="Ask every meter for its values."
)
CLEANING = dg.define_asset_job(
    "cleaning",
    _quick("clean_readings", "meter_quality", "energy_15min"),
    description="Cleanse days of readings, judge the meters, and count energy.",
)
LATE_DATA = dg.define_asset_job(
    "late_data",
    _quick("clean_readings", "meter_quality", "energy_15min", "kpis", "period_kpis"),
    description="Do a day again into which readings came late, from cleansing to its indicators and its month's.",
)
VALIDATION = dg.define_asset_job(
    "validation",
    dg.AssetSelection.checks(*EXPECTATIONS),
    description="Great Expectations on every source, and whether meters agree.",
)
TRAINING = dg.define_asset_job("training", ["forecast_models"], description="Train and compare forecast models.")
FORECASTING = dg.define_asset_job("forecasting", ["forecasts"], description="Serve forecasts of all targets.")
MONITORING = dg.define_asset_job(
    "monitoring", ["forecast_quality"], description="Judge yesterday's forecasts, and ask for trainings."
)
DAY_AHEAD = dg.define_asset_job("day_ahead", ["day_ahead_plan"], description="Plan a day.")
INTRADAY = dg.define_asset_job("intraday", ["intraday_plan"], description="Plan the rest of the day again.")
DISPATCH = dg.define_asset_job("dispatch", ["dispatch_status"], description="Compare what was sent with the plan.")
ACCOUNTING = dg.define_asset_job(
    "accounting",
    ["kpis", "period_kpis", "plan_value"],
    description="Account for days, their month and year, and what the plans were worth.",
)

ASSET_JOBS = [
    WEATHER, WEATHER_ARCHIVE, MARKET, METER_FILES, BULK_READING, CLEANING, LATE_DATA, VALIDATION, TRAINING,
    FORECASTING, MONITORING, DAY_AHEAD, INTRADAY, DISPATCH, ACCOUNTING,
]  # fmt: skip
