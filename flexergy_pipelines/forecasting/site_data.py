"""Reads from the store what models learn from and forecast with."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from flexergy_pipelines.forecasting.exclusions import Lesson, lesson, uncurtailed
from flexergy_pipelines.forecasting.targets import PRICE_ASSET, Target
from flexergy_pipelines.forecasting.weather import WeatherPanel

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store import TenantStore

HISTORY_DAYS = 400
AVAILABLE = "available_power_kw"
SERVING_LIMITS_DAYS = 60
"""How far back forecasts look for limits that held the measured power down [d]; trainings look at all."""
_EMPTY = pl.DataFrame(schema={"time": pl.Datetime("us", "UTC"), "value": pl.Float64})
_NOTHING = pl.DataFrame(schema={"time": pl.Datetime("us", "UTC"), "value": pl.Float64, "flag": pl.String})


def read_histories(
    db: TenantStore, site_id: str, targets: list[Target], now: datetime, days: int = HISTORY_DAYS
) -> dict[str, pl.DataFrame]:
    """History of each target as known at `now`: cleaned values, and raw ones where cleansing has not come yet.

    Curtailed intervals hold the available power where that is reported, and are missing where not.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    targets : list of Target
    now : datetime
        Aware; nothing later is read.
    days : int
        How far back [d].

    Returns
    -------
    dict of polars.DataFrame
        By target name: ``time, value``; empty where there is nothing.
    """
    measured = read_measured(db, site_id, targets, now, days, limits_days=SERVING_LIMITS_DAYS)
    return {name: frame.select("time", "value").drop_nulls() for name, frame in measured.items()}


def read_lessons(db: TenantStore, site: Site, targets: list[Target], now: datetime) -> dict[str, Lesson]:
    """What the models of each target learn from, by the site's settings; see `exclusions.lesson`.

    Returns
    -------
    dict of Lesson
        By target name.
    """
    chosen = {target.name: site.forecasts.of(target.asset_id) for target in targets}
    days = max((own.training_window_days or HISTORY_DAYS for own in chosen.values()), default=HISTORY_DAYS)
    plain = [target for target in targets if not chosen[target.name].exclude_curtailed]
    measured = read_measured(db, site.id, [t for t in targets if t not in plain], now, days)
    measured |= read_measured(db, site.id, plain, now, days, curtailment=False)
    found: dict[str, Lesson] = {}
    for target in targets:
        frame = measured[target.name]
        found[target.name] = (
            Lesson(frame.select("time", "value").drop_nulls())
            if target.asset_id == PRICE_ASSET
            else lesson(frame, target, chosen[target.name])
        )
    return found


def read_measured(
    db: TenantStore,
    site_id: str,
    targets: list[Target],
    now: datetime,
    days: int,
    *,
    curtailment: bool = True,
    limits_days: int | None = None,
) -> dict[str, pl.DataFrame]:
    """History of each target with its flags: ``time, value, flag`` and, for powers, ``curtailed``.

    Limits are looked at for the last `limits_days` only (None: all): setpoints come by the minute.
    """
    from flexergy_pipelines.store.limits import read_limits

    start = now - timedelta(days=days)
    power = [target for target in targets if target.asset_id != PRICE_ASSET]
    found: dict[str, pl.DataFrame] = {}
    if power:
        points = [(target.asset_id, target.quantity) for target in power]
        possible = [(target.asset_id, AVAILABLE) for target in power if target.kind in ("pv", "wind") and curtailment]
        values = _clean_then_raw(db, site_id, [*points, *possible], start, now)
        since = start if limits_days is None else max(start, now - timedelta(days=limits_days))
        limits = read_limits(db, site_id, since, now) if curtailment else None
        for target in power:
            frame = values[target.asset_id, target.quantity]
            if limits is not None:
                own = limits.filter(pl.col("asset_id") == target.asset_id)
                reported = values.get((target.asset_id, AVAILABLE), _NOTHING)
                frame = uncurtailed(frame, own, reported.select("time", available_kw="value"), target)
            found[target.name] = frame
    for target in targets:
        if target.asset_id == PRICE_ASSET:
            prices = _prices(db, site_id, start, now)
            found[target.name] = prices.with_columns(flag=pl.lit(None, dtype=pl.String))
    return found


def _clean_then_raw(
    db: TenantStore, site_id: str, points: list[tuple[str, str]], start: datetime, now: datetime
) -> dict[tuple[str, str], pl.DataFrame]:
    """``time, value, flag`` of each point: cleaned, and after the last cleaned value raw means of whole intervals."""
    from flexergy_pipelines.store.clean import read_clean
    from flexergy_pipelines.store.readings import read_readings

    clean = read_clean(db, site_id, start, now, points)
    newest = clean.filter(pl.col("value").is_not_null()).group_by("asset_id", "quantity").agg(pl.col("time").max())
    cleansed = {(row["asset_id"], row["quantity"]): row["time"] for row in newest.iter_rows(named=True)}
    # raw readings come by the minute: only points that were never cleansed are read from the start
    parts = [(min(cleansed.values(), default=start), list(cleansed)), (start, [p for p in points if p not in cleansed])]
    raw = pl.concat(
        [read_readings(db, site_id, since, now, chosen, step="15m") for since, chosen in parts if chosen]
    ).filter(pl.col("value").is_not_null())
    found: dict[tuple[str, str], pl.DataFrame] = {}
    for asset_id, quantity in points:
        here = (pl.col("asset_id") == asset_id) & (pl.col("quantity") == quantity)
        cleaned = clean.filter(here).select("time", "value", "flag")
        last = cleaned.filter(pl.col("value").is_not_null())["time"].max()
        fresh = raw.filter(here).select("time", "value", flag=pl.lit(None, dtype=pl.String))
        # an interval that has not ended has only part of its mean
        fresh = fresh.filter(pl.col("time") + timedelta(minutes=15) <= now)
        if isinstance(last, datetime):
            cleaned, fresh = cleaned.filter(pl.col("time") <= last), fresh.filter(pl.col("time") > last)
        found[asset_id, quantity] = pl.concat([cleaned, fresh])
    return found


def _prices(db: TenantStore, site_id: str, start: datetime, now: datetime) -> pl.DataFrame:
    from flexergy_pipelines.store.prices import read_prices

    frame = read_prices(db, site_id, start, now + timedelta(days=2), known_at=now)
    return frame.select("time", pl.col("price_eur_per_kwh").alias("value")) if frame.height else _EMPTY


def read_weather(
    db: TenantStore, site_id: str, now: datetime, *, days: int = HISTORY_DAYS, spacing_hours: int = 12
) -> pl.DataFrame | None:
    """Weather forecasts published by `now`, whole and with their issue times, thinned to one in `spacing_hours`.

    Parameters
    ----------
    db : TenantStore
    site_id : str
    now : datetime
        Aware; later issues are not read.
    days : int
        How far back issues are read [d].
    spacing_hours : int
        Of the issues in each such period the newest is read [h].

    Returns
    -------
    polars.DataFrame or None
        ``time, issued_at`` and the weather columns; None when there are none.
    """
    from flexergy_pipelines.store.weather import read_weather_archive, read_weather_issues

    start = now - timedelta(days=days)
    found = read_weather_issues(db, site_id, start, now, timedelta(hours=spacing_hours))
    first = found["issued_at"].min()
    archive = read_weather_archive(db, site_id, start, first if isinstance(first, datetime) else now)
    if archive.height:
        found = pl.concat([_as_issued(archive).select(found.columns), found])
    return found if found.height else None


def _as_issued(archive: pl.DataFrame) -> pl.DataFrame:
    """Archived weather as if it had been forecast each midnight (UTC) for two days: for the time before forecasts.

    Models that learn from it trust forecasts too much at first; the cyclic training replaces it as forecasts come in.
    """
    midnight = pl.col("time").dt.truncate("1d")
    return pl.concat([archive.with_columns(issued_at=midnight - timedelta(days=back)) for back in (1, 0)]).sort(
        "issued_at", "time"
    )


def chosen_columns(panel: WeatherPanel, wanted: tuple[str, ...] | None) -> WeatherPanel:
    """The panel with only the weather inputs that a target's settings allow, and what was derived from them.

    Parameters
    ----------
    panel : WeatherPanel
    wanted : tuple of str or None
        Names of weather columns; None allows all.
    """
    if wanted is None:
        return panel
    keep = [i for i, column in enumerate(panel.columns) if any(name in column for name in wanted)]
    return WeatherPanel(tuple(panel.columns[i] for i in keep), panel.valid, panel.issue, panel.values[:, keep])
