"""What a plan is made from, as the store knew it at the time, with a note of where each number came from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from flexergy_pipelines.optimization.planning_state import POWER, read_state
from flexergy_pipelines.optimization.problem import Horizon
from flexergy_pipelines.optimization.series import FloatArray
from flexergy_pipelines.optimization.site_problem import SiteState

if TYPE_CHECKING:
    from flexergy_pipelines.grid import Site
    from flexergy_pipelines.store.engine import TenantStore

PRICE_ASSET, PRICE_QUANTITY = "market", "day_ahead_price_eur_per_kwh"
WEEK = timedelta(days=7)


class PlanInputError(ValueError):
    """A number that a plan can't do without is nowhere to be found."""


@dataclass(slots=True)
class PlanInputs:
    """Series and state of one plan.

    Attributes
    ----------
    power_kw : dict
        Expected power of every source and load (kW).
    spot_eur_per_kwh : ndarray
        Market price (EUR/kWh).
    state : SiteState
        State at the start.
    quantiles_kw : dict
        P10 and P90 of each power where its forecast gives them (kW).
    sources : dict
        Where the numbers came from, for the plan's record.
    """

    power_kw: dict[str, FloatArray]
    spot_eur_per_kwh: FloatArray
    state: SiteState
    quantiles_kw: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)


def read_inputs(db: TenantStore, site: Site, horizon: Horizon, now: datetime) -> PlanInputs:
    """Everything that the plan of `horizon` needs, as known at `now`.

    Raises
    ------
    PlanInputError
        When a power or a price has neither a forecast nor last week's value; the message names it.
    """
    sources: dict[str, Any] = {}
    power: dict[str, FloatArray] = {}
    assets = [*site.sources(), *site.loads, *site.controllable_loads(), *site.ev_blocks()]
    quantiles: dict[str, tuple[FloatArray, FloatArray]] = {}
    for asset in assets:
        power[asset.id], band, tags = _power(db, site.id, asset.id, horizon, now)
        sources[asset.id] = tags
        if band is not None:
            quantiles[asset.id] = band
    spot, tags = _spot(db, site.id, horizon, now)
    sources["price"] = tags
    state, state_tags = read_state(db, site, horizon, now)
    sources["state"] = state_tags
    return PlanInputs(power, spot, state, quantiles, sources)


def _power(
    db: TenantStore, site_id: str, asset_id: str, horizon: Horizon, now: datetime
) -> tuple[FloatArray, tuple[FloatArray, FloatArray] | None, dict[str, Any]]:
    from flexergy_pipelines.store.clean import read_clean
    from flexergy_pipelines.store.forecasts import read_forecast
    from flexergy_pipelines.store.readings import read_readings

    start, end = horizon.start, horizon.end
    found = read_forecast(db, site_id, asset_id, POWER, start, end, known_at=now)
    values, from_where = _fill(np.full(horizon.steps, np.nan), on_grid(found, "value", horizon), "forecast")
    tags: dict[str, Any] = {}
    if found.height and "issued_at" in found.columns:
        tags["issued_at"] = found["issued_at"].max()
        tags["model"] = sorted({str(name) for name in found["model"].to_list()})
    points = [(asset_id, POWER)]
    for label, shift in (("yesterday", timedelta(days=1)), ("last week", WEEK)) if end - now < WEEK else ():
        if not np.isnan(values).any():
            break
        if end - shift > now and label == "yesterday":
            continue
        past = read_clean(db, site_id, start - shift, end - shift, points)
        if past.is_empty():
            past = read_readings(db, site_id, start - shift, end - shift, points, step=f"{horizon.step_minutes}m")
        values, more = _fill(values, on_grid(past, "value", horizon, shift), label)
        from_where += more
    step = timedelta(minutes=horizon.step_minutes)
    if np.isnan(values[0]) and start <= now < start + step:
        # Forecasts begin with the next step; of a site that is new, only the present tells about the running one.
        present = read_readings(db, site_id, now - step, now, points, step=None)["value"].drop_nulls()
        if present.len():
            values[0] = float(np.mean(present.to_numpy()))
            from_where["measured"] += 1
    if np.isnan(values).any():
        missing = int(np.isnan(values).sum())
        raise PlanInputError(
            f"{asset_id}: no power for {missing} of {horizon.steps} steps: neither a forecast nor last week's values"
        )
    return values, _band(found, values, horizon), {**_plain(tags), "steps": dict(from_where)}


def _band(found: pl.DataFrame, values: FloatArray, horizon: Horizon) -> tuple[FloatArray, FloatArray] | None:
    """P10 and P90 around the expected power, which they never cross; None where the forecast gives none."""
    if found.is_empty() or not {"p10", "p90"} <= set(found.columns):
        return None
    low, high = on_grid(found, "p10", horizon), on_grid(found, "p90", horizon)
    if np.isnan(low).all():
        return None
    return np.fmin(low, values), np.fmax(high, values)


def _spot(db: TenantStore, site_id: str, horizon: Horizon, now: datetime) -> tuple[FloatArray, dict[str, Any]]:
    """Market price: the published one, else its forecast, else last week's of the same hour."""
    from flexergy_pipelines.store.forecasts import read_forecast
    from flexergy_pipelines.store.prices import read_prices

    hour = timedelta(hours=1)
    start, end = horizon.start, horizon.end
    known = read_prices(db, site_id, start - hour, end, known_at=now)
    values, from_where = _fill(
        np.full(horizon.steps, np.nan), on_grid(known, "price_eur_per_kwh", horizon), "day ahead"
    )
    if np.isnan(values).any():
        expected = read_forecast(db, site_id, PRICE_ASSET, PRICE_QUANTITY, start - hour, end, known_at=now)
        values, more = _fill(values, on_grid(expected, "value", horizon), "forecast")
        from_where += more
    if np.isnan(values).any():
        past = read_prices(db, site_id, start - WEEK - hour, end - WEEK, known_at=now)
        values, more = _fill(values, on_grid(past, "price_eur_per_kwh", horizon, WEEK), "last week")
        from_where += more
    if np.isnan(values).any():
        missing = int(np.isnan(values).sum())
        raise PlanInputError(
            f"price: none for {missing} of {horizon.steps} steps: neither published, nor forecast, nor last week's"
        )
    return values, {"steps": dict(from_where)}


def _fill(values: FloatArray, more: FloatArray, label: str) -> tuple[FloatArray, Counter[str]]:
    """Fill what is still missing in `values`, and count what was filled."""
    use = np.isnan(values) & ~np.isnan(more)
    return np.where(use, more, values), Counter({label: int(use.sum())} if use.any() else {})


def on_grid(frame: pl.DataFrame, column: str, horizon: Horizon, shift: timedelta = timedelta(0)) -> FloatArray:
    """A series on the steps of a horizon, NaN where it has nothing.

    Finer values are averaged; a coarser value (an hour's price) holds until the next one, at most for an hour.

    Parameters
    ----------
    frame : polars.DataFrame
        ``time`` and `column`.
    shift : timedelta
        Added to the frame's times (a week, to use last week's values).
    """
    empty = np.full(horizon.steps, np.nan)
    if frame.is_empty():
        return empty
    series = frame.select((pl.col("time") + shift).alias("time"), pl.col(column).cast(pl.Float64).alias("value"))
    series = series.drop_nulls().filter(pl.col("value").is_finite()).sort("time")
    if series.is_empty():
        return empty
    step = timedelta(minutes=horizon.step_minutes)
    start = horizon.start.astimezone(UTC)
    place = (pl.col("time") - pl.lit(start, dtype=pl.Datetime("us", "UTC"))).dt.total_seconds() // int(
        step.total_seconds()
    )
    means = series.with_columns(place.alias("place")).group_by("place").agg(pl.col("value").mean())
    values = empty.copy()
    for position, value in means.iter_rows():
        if 0 <= position < horizon.steps:
            values[int(position)] = value
    return _hold(values, series, horizon)


def _hold(values: FloatArray, series: pl.DataFrame, horizon: Horizon) -> FloatArray:
    """Let a value hold until the next one, for at most an hour."""
    steps = pl.DataFrame({"time": horizon.times()}, schema={"time": pl.Datetime("us", "UTC")})
    held = steps.join_asof(
        series.with_columns(pl.col("time").dt.cast_time_unit("us")).unique("time", keep="last").sort("time"),
        on="time",
        strategy="backward",
        tolerance=timedelta(minutes=59, seconds=59),
    )["value"].to_numpy()
    return np.where(np.isnan(values), held, values)


def _plain(tags: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in tags.items()}
