"""Forecasts of the peers at their defaults; run by the Python of their own environment, never by ours.

    python forecasting_peers.py openstef|mlforecast HISTORY.parquet FORECASTS.parquet FIRST DAYS GATE_HOUR

The history holds ``time, value`` and weather columns known in advance, hourly. Each day is forecast whole from the gate
hour (UTC) of the day before; models are fitted at the start and after four weeks. Prints CPU seconds as JSON.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
import warnings
from typing import Any

REFIT_DAYS = 28
# what a model needs of the past to build its features
RECENT_DAYS = 40
LEAD_HOURS = 48


def openstef(frame: Any, issues: list[Any]) -> tuple[Any, dict[str, float]]:
    """OpenSTEF 3 as its documentation starts: xgb, standard features, no tuning."""
    import pandas as pd

    structlog: Any = importlib.import_module("structlog")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    jobs: Any = importlib.import_module("openstef.data_classes.prediction_job")
    specs: Any = importlib.import_module("openstef.data_classes.model_specifications")
    training: Any = importlib.import_module("openstef.pipeline.train_model")
    serving: Any = importlib.import_module("openstef.pipeline.create_forecast")
    job = jobs.PredictionJobDataClass(
        id=1, model="xgb", forecast_type="demand", horizon_minutes=2880, resolution_minutes=60, name="target",
        quantiles=[0.1, 0.5, 0.9],
    )  # fmt: skip
    data = frame.rename(columns={"value": "load"})
    parts, seconds = [], {"fit_s": 0.0, "predict_s": 0.0}
    model, made = None, specs.ModelSpecificationDataClass(id=1)
    for k, issue in enumerate(issues):
        if k % REFIT_DAYS == 0:
            began = time.process_time()
            known = data[data.index < issue]
            model, _, made, _ = training.train_model_pipeline_core(
                job, specs.ModelSpecificationDataClass(id=1), known, horizons=[24.0, 47.0]
            )
            # otherwise set by its store of models, and written into each forecast
            model.path = "in memory"
            seconds["fit_s"] += time.process_time() - began
        began = time.process_time()
        span = pd.Timedelta(days=RECENT_DAYS), pd.Timedelta(hours=LEAD_HOURS)
        recent = data[(data.index >= issue - span[0]) & (data.index < issue + span[1])].copy()
        recent.loc[recent.index >= issue, "load"] = float("nan")
        parts.append(serving.create_forecast_pipeline_core(job, recent, model, made)["forecast"])
        seconds["predict_s"] += time.process_time() - began
    return parts, seconds


def mlforecast(frame: Any, issues: list[Any]) -> tuple[Any, dict[str, float]]:
    """Nixtla's mlforecast as its documentation starts: LightGBM on lags of a day and a week, hour and weekday."""
    import pandas as pd

    lightgbm: Any = importlib.import_module("lightgbm")
    library: Any = importlib.import_module("mlforecast")
    data = frame.reset_index().rename(columns={"time": "ds", "value": "y"})
    data.insert(0, "unique_id", "target")
    data["ds"] = data["ds"].dt.tz_localize(None)
    weather = [c for c in frame.columns if c != "value"]
    parts, seconds, model = [], {"fit_s": 0.0, "predict_s": 0.0}, None
    for k, issue in enumerate(issues):
        now = issue.tz_localize(None)
        known = data[data["ds"] < now]
        if k % REFIT_DAYS == 0:
            began = time.process_time()
            regressor = lightgbm.LGBMRegressor(verbosity=-1, n_jobs=1)
            model = library.MLForecast(
                models={"lgbm": regressor}, freq="h", lags=[1, 24, 168], date_features=["hour", "dayofweek", "month"]
            )
            model.fit(known, static_features=[])
            seconds["fit_s"] += time.process_time() - began
        began = time.process_time()
        ahead = data[(data["ds"] >= now) & (data["ds"] < now + pd.Timedelta(hours=LEAD_HOURS))]
        recent = known[known["ds"] >= now - pd.Timedelta(days=RECENT_DAYS)]
        options = {"X_df": ahead[["unique_id", "ds", *weather]]} if weather else {}
        said: Any = model
        out = said.predict(h=len(ahead), new_df=recent, **options)
        parts.append(pd.Series(out["lgbm"].to_numpy(), index=pd.DatetimeIndex(out["ds"]).tz_localize("UTC")))
        seconds["predict_s"] += time.process_time() - began
    return parts, seconds


def main() -> None:
    """Forecast day by day and keep, of each forecast, the day after its issue."""
    import pandas as pd

    warnings.simplefilter("ignore")
    peer, source, target, first, days, gate = sys.argv[1:7]
    frame = pd.read_parquet(source).set_index("time").sort_index()
    # OpenSTEF joins with stamps of its own, in nanoseconds and by pandas' own UTC
    frame.index = pd.DatetimeIndex(frame.index, name="time").tz_localize(None).as_unit("ns").tz_localize("UTC")
    starts = [pd.Timestamp(first, tz="UTC") + pd.Timedelta(days=k) for k in range(int(days))]
    issues = [start - pd.Timedelta(hours=24 - int(gate)) for start in starts]
    parts, seconds = {"openstef": openstef, "mlforecast": mlforecast}[peer](frame, issues)
    kept = [
        part[(part.index >= start) & (part.index < start + pd.Timedelta(days=1))]
        for part, start in zip(parts, starts, strict=True)
    ]
    series = pd.concat(kept).rename("value")
    series.index.name = "time"
    series.reset_index().to_parquet(target)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
