"""Judging the monitored figures: alarms while something is wrong, cleared when it is right, and requests to train."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from flexergy_pipelines.forecasting.monitoring import DayFigures, scope_of, write_figures
from flexergy_pipelines.forecasting.scoreboard import TRAINED
from flexergy_pipelines.forecasting.targets import Target, targets_of

if TYPE_CHECKING:
    from flexergy_pipelines.grid import ForecastMonitoring
    from flexergy_pipelines.store import TenantStore

ACCURACY: Final = "forecast_accuracy"
BIAS: Final = "forecast_bias"
COVERAGE: Final = "forecast_coverage"
DRIFT: Final = "forecast_drift"
INPUTS: Final = "forecast_inputs"
SEVERITY: Final = {ACCURACY: 3, BIAS: 4, COVERAGE: 4, DRIFT: 4, INPUTS: 3}
RETRAIN: Final = "retrain"
USUAL_MARGIN: Final = 1.25
LEAST_DAYS: Final = 3
REQUEST_VALID: Final = timedelta(days=3)


@dataclass(frozen=True)
class Health:
    """Verdict on one target.

    Attributes
    ----------
    target : Target
    complaints : dict
        Message by alarm code; empty when all is well.
    judged : frozenset of str
        Codes about which something could be said; those without complaint are cleared.
    retrain : str
        Why a new training is asked for; empty when it is not.
    """

    target: Target
    complaints: dict[str, str] = field(default_factory=dict)
    judged: frozenset[str] = frozenset()
    retrain: str = ""


def judge_target(
    target: Target,
    days: pl.DataFrame,
    backtest_mae: float | None,
    limits: ForecastMonitoring,
) -> Health:
    """Compare a target's figures of the last days with the site's limits.

    Parameters
    ----------
    target : Target
    days : polars.DataFrame
        ``period_start, kpi, value`` of the window, newest day included.
    backtest_mae : float or None
        Error that training promised [unit of the target]; None when it never was trained.
    limits : ForecastMonitoring
    """
    complaints: dict[str, str] = {}
    judged: set[str] = set()
    newest = days["period_start"].max()
    series = {str(name): part["value"] for (name,), part in days.group_by("kpi")}
    latest = {row["kpi"]: row["value"] for row in days.filter(pl.col("period_start") == newest).iter_rows(named=True)}
    fewest = min(LEAST_DAYS, limits.window_days)
    enough = {name: float(values.mean()) for name, values in series.items() if values.len() >= fewest}  # pyright: ignore[reportArgumentType]
    unit, span = target.unit, f"over the last {limits.window_days} d"
    mae = enough.get("mae")
    if mae is not None:
        if backtest_mae:
            judged.add(ACCURACY)
            if mae > limits.accuracy_decay * backtest_mae:
                complaints[ACCURACY] = (
                    f"mean error {mae:.3g} {unit} {span}, {mae / backtest_mae:.1f} times the {backtest_mae:.3g} {unit} "
                    f"of its backtest (limit {limits.accuracy_decay:g})"
                )
        judged.add(BIAS)
        bias = enough.get("bias", 0.0)
        if mae > 0 and abs(bias) > limits.bias_share * mae:
            side = "too high" if bias > 0 else "too low"
            complaints[BIAS] = f"forecasts {abs(bias):.3g} {unit} {side} {span}, of a mean error of {mae:.3g} {unit}"
    covered = enough.get("coverage_80")
    if covered is not None:
        judged.add(COVERAGE)
        if not limits.coverage_low <= covered <= limits.coverage_high:
            complaints[COVERAGE] = (
                f"{covered:.0%} of measurements inside P10 to P90 {span} "
                f"(80 % is right, limits {limits.coverage_low:.0%} to {limits.coverage_high:.0%})"
            )
    # how far beyond its limit each index is: the site's, or what the series always did
    bounds = {
        name: max(limits.drift_psi, USUAL_MARGIN * latest.get(f"{name}_usual", 0.0))
        for name in ("psi_target", "psi_weather")
    }
    drifted = {name: latest[name] / bounds[name] for name in bounds if name in latest}
    if drifted:
        judged.add(DRIFT)
        worst = max(drifted, key=lambda name: drifted[name])
        if drifted[worst] > 1:
            what = "measurements" if worst == "psi_target" else "weather"
            complaints[DRIFT] = (
                f"{what} of the last four weeks are unlike those of training: stability index {latest[worst]:.2f} "
                f"(limit {bounds[worst]:.2g})"
            )
    quality = latest.get("input_quality")
    if quality is not None:
        judged.add(INPUTS)
        if quality < limits.input_quality:
            complaints[INPUTS] = (
                f"{quality:.0%} of the day's values measured and good (at least {limits.input_quality:.0%} wanted)"
            )
    return Health(target, complaints, frozenset(judged), _why_retrain(complaints, drifted, limits))


def _why_retrain(complaints: dict[str, str], drifted: dict[str, float], limits: ForecastMonitoring) -> str:
    """Decayed accuracy, or measurements that drifted; weather alone that is unusual is no reason to learn anew."""
    if not limits.retrain:
        return ""
    if ACCURACY in complaints:
        return complaints[ACCURACY]
    if drifted.get("psi_target", 0.0) > 1:
        return complaints[DRIFT]
    return ""


def assess_site(db: TenantStore, site_id: str, found: list[DayFigures], now: datetime) -> list[Health]:
    """Judge a site's targets after a day was monitored: raise and clear alarms, and ask for trainings.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    found : list of DayFigures
        Of the newest monitored day, already stored.
    now : datetime
        Aware.
    """
    from flexergy_pipelines.store.alarms import clear_alarm, raise_alarm
    from flexergy_pipelines.store.kpis_table import read_kpis
    from flexergy_pipelines.store.sites import load_site

    site = load_site(db, site_id)
    limits = site.forecasts.monitoring
    promised = backtest_errors(db, site_id, now)
    trained = last_attempts(db, site_id, now)
    verdicts: list[Health] = []
    for figures in found:
        first = figures.day_start - timedelta(days=limits.window_days - 1, hours=1)
        rows = read_kpis(
            db, site_id, first, figures.day_start + timedelta(hours=1), period_kind="monitoring", scope=figures.scope
        )
        health = judge_target(figures.target, rows, promised.get(figures.scope), limits)
        last = trained.get(figures.scope)
        pause = timedelta(days=limits.retrain_pause_days)
        # a model trained after the monitored day has not served on it
        if last is not None and (last > now - pause or last > figures.day_start + timedelta(days=1)):
            health = Health(health.target, health.complaints, health.judged)
        asset = figures.target.asset_id
        for code in SEVERITY:
            if code in health.complaints:
                raise_alarm(db, site_id, code, SEVERITY[code], f"{asset}: {health.complaints[code]}", asset)
            elif code in health.judged:
                clear_alarm(db, site_id, code, asset)
        if health.retrain:
            write_figures(db, site_id, [(figures.scope, figures.day_start, RETRAIN, 1.0, "1", 1.0, health.retrain)])
        verdicts.append(health)
    return verdicts


def backtest_errors(db: TenantStore, site_id: str, at: datetime) -> dict[str, float]:
    """Mean absolute error that the last training of each target promised, by scope."""
    from flexergy_pipelines.store.kpis_table import read_kpis

    rows = read_kpis(db, site_id, at - timedelta(days=400), at, period_kind="training", kpi="forecast_mae")
    return {row["scope"]: row["value"] for row in rows.sort("period_start").iter_rows(named=True)}


def last_attempts(db: TenantStore, site_id: str, at: datetime) -> dict[str, datetime]:
    """When each target was trained last, whether the new model took over or not, by scope."""
    from flexergy_pipelines.store.kpis_table import read_kpis

    rows = read_kpis(db, site_id, at - timedelta(days=400), at, period_kind="training", kpi=TRAINED)
    return {row["scope"]: row["period_start"] for row in rows.sort("period_start").iter_rows(named=True)}


def targets_to_retrain(db: TenantStore, site_id: str, now: datetime) -> dict[str, str]:
    """Targets for which monitoring asked a new training that has not happened since, with the reason, by name."""
    from flexergy_pipelines.store.kpis_table import read_kpis
    from flexergy_pipelines.store.sites import load_site

    names = {scope_of(target): target.name for target in targets_of(load_site(db, site_id))}
    asked = read_kpis(db, site_id, now - REQUEST_VALID, now + timedelta(hours=1), period_kind="monitoring", kpi=RETRAIN)
    trained = last_attempts(db, site_id, now + timedelta(hours=1))
    wanted: dict[str, str] = {}
    for row in asked.sort("period_start").iter_rows(named=True):
        done = trained.get(row["scope"])
        if row["scope"] in names and (done is None or done < row["period_start"] + timedelta(days=1)):
            wanted[names[row["scope"]]] = row["reference"] or ""
    return wanted
