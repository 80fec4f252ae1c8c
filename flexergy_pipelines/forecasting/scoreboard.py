"""How good each target's forecast proved in its backtest, stored where screens find it without the model registry."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from flexergy_pipelines.forecasting.targets import Target

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

PERIOD_KIND = "training"
TRAINED = "trained"
_SCHEMA = {
    "period_kind": pl.String,
    "period_start": pl.Datetime("us", "UTC"),
    "scope": pl.String,
    "kpi": pl.String,
    "value": pl.Float64,
    "unit": pl.String,
    "coverage": pl.Float64,
    "reference": pl.String,
}


def record_scores(
    db: TenantStore, site_id: str, now: datetime, scored: list[tuple[Target, str, dict[str, float]]]
) -> None:
    """Store the mean absolute error of what serves and of the best naive forecast, target by target.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    now : datetime
        Time of the training, aware; kept to the hour.
    scored : list of (Target, champion, metrics)
        Metrics as in `TrainedTarget.metrics`, in the target's unit.
    """
    from flexergy_pipelines.store.kpis_table import write_kpis

    hour = now.replace(minute=0, second=0, microsecond=0)
    rows: list[dict[str, Any]] = []
    for target, champion, metrics in scored:
        for kpi, metric, reference in (("forecast_mae", "mae", champion), ("naive_mae", "naive_mae", "best naive")):
            rows.append(
                {
                    "period_kind": PERIOD_KIND,
                    "period_start": hour,
                    "scope": f"{target.asset_id}/{target.quantity}",
                    "kpi": kpi,
                    "value": metrics.get(metric),
                    "unit": target.unit,
                    "coverage": metrics.get("coverage_80"),
                    "reference": reference,
                }
            )
    if rows:
        write_kpis(db, site_id, pl.DataFrame(rows, schema=_SCHEMA))


def record_attempts(db: TenantStore, site_id: str, now: datetime, promoted: list[tuple[Target, bool, str]]) -> None:
    """Note that targets were trained, whether their new models took over (value 1) or not (0), and why.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    now : datetime
        Time of the training, aware; kept to the hour.
    promoted : list of (Target, bool, str)
        Target, whether it took over, reason.
    """
    from flexergy_pipelines.store.kpis_table import write_kpis

    hour = now.replace(minute=0, second=0, microsecond=0)
    rows = [
        (PERIOD_KIND, hour, f"{target.asset_id}/{target.quantity}", TRAINED, float(took_over), "1", None, reason)
        for target, took_over, reason in promoted
    ]
    if rows:
        write_kpis(db, site_id, pl.DataFrame(rows, schema=_SCHEMA, orient="row"))
