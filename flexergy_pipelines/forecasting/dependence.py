"""How the errors of past forecasts hung together in time and between targets."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.targets import Target
from flexergy_pipelines.forecasting.timegrid import frame_minutes, known_until, series_from_frame
from flexergy_pipelines.forecasting.trajectories import Dependence, normal_scores

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes
    from flexergy_pipelines.store import TenantStore

BANDS = tuple(f"p{level}" for level in range(10, 100, 10))
LEARN_DAYS = 60
BELIEF_DAYS = 14.0
"""Days of past errors that weigh as much as the assumed dependence."""

MEMORY_H = {"pv": 3.0, "wind": 8.0, "load": 4.0, "controllable_load": 3.0, "ev": 2.0, "price": 6.0}
"""Assumed memory of errors [h] while few forecasts can be compared with what came."""


def learnt_dependence(db: TenantStore, site_id: str, targets: list[Target], known_at: datetime) -> Dependence:
    """Memory and correlation of the errors of the stored forecasts, drawn to assumed ones while there are few.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    targets : list of Target
    known_at : datetime
        Later forecasts and measurements are not used.
    """
    from flexergy_pipelines.forecasting.site_data import read_histories
    from flexergy_pipelines.store.forecast_issues import read_forecast_issues

    memory = np.array([MEMORY_H[target.kind] for target in targets])
    correlation = np.eye(len(targets))
    if not targets:
        return Dependence(memory, correlation, 0.0)
    start = known_at - timedelta(days=LEARN_DAYS)
    issues = read_forecast_issues(db, site_id, start, known_at, spacing=timedelta(hours=12), known_at=known_at).filter(
        pl.col("fallback_level") == 0
    )
    if issues.is_empty():
        return Dependence(memory, correlation, 0.0)
    histories = read_histories(db, site_id, targets, known_at, LEARN_DAYS)
    scores = [_hourly_scores(issues, histories[target.name], target) for target in targets]
    joined = scores[0]
    for k, one in enumerate(scores[1:], 1):
        joined = joined.join(one.rename({"z": f"z{k}"}), on=["issue", "hour"], how="full", coalesce=True)
    joined = joined.rename({"z": "z0"}).sort("issue", "hour")
    columns = [f"z{k}" for k in range(len(targets))]
    table = joined.select(columns).fill_null(float("nan")).to_numpy()
    key = joined.select("issue", "hour").to_numpy()
    days = np.unique(key[:, 1] // 24).size
    trust = days / (days + BELIEF_DAYS)
    for k in range(len(targets)):
        own = _memory(table[:, k], key)
        if own is not None:
            memory[k] = np.exp(trust * np.log(own) + (1 - trust) * np.log(memory[k]))
    correlation = _correlation(table, trust)
    return Dependence(memory, correlation, float(days))


def _hourly_scores(issues: pl.DataFrame, history: pl.DataFrame, target: Target) -> pl.DataFrame:
    """Normal scores of a target's errors, ``issue, hour, z``, hourly means of the steps."""
    own = issues.filter((pl.col("asset_id") == target.asset_id) & (pl.col("quantity") == target.quantity))
    valid = frame_minutes(own["time"])
    truth = series_from_frame(history, target.step_minutes).at(valid)
    if target.kind == "price":
        # what was published when the forecast was made is no forecast
        truth = np.where(valid < known_until(frame_minutes(own["issued_at"]), target), np.nan, truth)
    z = normal_scores(truth, own.select(BANDS).to_numpy().astype(np.float64))
    frame = pl.DataFrame({"issue": frame_minutes(own["issued_at"]) // 60, "hour": valid // 60, "z": z})
    return frame.filter(pl.col("z").is_not_nan()).group_by("issue", "hour").agg(pl.col("z").mean())


def _memory(z: Floats, key: Minutes) -> float | None:
    """Time in which the correlation of successive errors falls to 1/e [h], from pairs one and three hours apart."""
    estimates: list[float] = []
    for lag in (1, 3):
        same = (key[lag:, 0] == key[:-lag, 0]) & (key[lag:, 1] - key[:-lag, 1] == lag)
        a, b = z[:-lag][same], z[lag:][same]
        good = np.isfinite(a) & np.isfinite(b)
        if good.sum() < 48:
            continue
        power = float(np.sqrt((a[good] ** 2).mean() * (b[good] ** 2).mean()))
        rho = float((a[good] * b[good]).mean()) / max(power, 1e-9)
        estimates.append(-lag / np.log(np.clip(rho, 0.05, 0.99)))
    return float(np.clip(np.mean(estimates), 0.3, 72.0)) if estimates else None


def _correlation(table: Floats, trust: float) -> Floats:
    size = table.shape[1]
    out = np.eye(size)
    for i in range(size):
        for j in range(i):
            good = np.isfinite(table[:, i]) & np.isfinite(table[:, j])
            if good.sum() < 48:
                continue
            a, b = table[good, i], table[good, j]
            power = float(np.sqrt((a**2).mean() * (b**2).mean()))
            out[i, j] = out[j, i] = trust * float(np.clip((a * b).mean() / max(power, 1e-9), -0.95, 0.95))
    return out
