"""Weather as it was forecast: every row has a valid time and, where the source gives it, an issue time.

Physical inputs are recognised by name (irradiance, temperature, wind at two heights); any other column serves as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.timegrid import DAY, frame_minutes, to_datetimes
from flexergy_pipelines.forecasting.weather_columns import (
    added_up,
    amounts,
    at_start,
    in_watts,
    light_column,
    usual_name,
)

if TYPE_CHECKING:
    from flexergy_pipelines.forecasting.timegrid import Floats, Minutes

ALWAYS = np.int64(0)
_SHIFT = np.int64(2**32)

TEMPERATURE = re.compile(r"temp|t2m|(^|_)t($|_)|drybulb|dry_bulb", re.IGNORECASE)
# pressure, humidity, temperature, wind and its components hold at an instant; other columns are means of intervals
INSTANT = re.compile(
    r"temp|t2m|d2m|(^|_)t($|_)|dry.?bulb|dew|wind|(^|_)w[sd]\d*|(^|_)[uv](10|100)?m?($|_)|press|(^|_)(sp|msl|rh|r)($|_)|humid",
    re.IGNORECASE,
)
WIND_ANY = re.compile(r"wind.?speed|(^|_)ws|^wind$", re.IGNORECASE)


@dataclass(frozen=True)
class WeatherPanel:
    """Weather values by valid time and issue time, sorted.

    Attributes
    ----------
    columns : tuple of str
        Names of the values.
    valid, issue : ndarray, shape (n,)
        Start of the interval and time the row was published [min since epoch]; issue 0 means always known.
    values : ndarray, shape (n, k)
        NaN where the source gave none.
    light : str or None
        The column that shows the light on the ground.
    """

    columns: tuple[str, ...]
    valid: Minutes
    issue: Minutes
    values: Floats
    light: str | None = None

    def lookup(self, minutes: Minutes, issue: Minutes) -> Floats:
        """Values for `minutes` from the newest forecast published by `issue`; NaN where there is none."""
        if self.valid.size == 0:
            return np.full((minutes.size, len(self.columns)), np.nan)
        position = np.searchsorted(self._keys, minutes * _SHIFT + issue, side="right") - 1
        found = (position >= 0) & (self.valid[np.maximum(position, 0)] == minutes)
        out = np.full((minutes.size, len(self.columns)), np.nan)
        out[found] = self.values[position[found]]
        return out

    @cached_property
    def _keys(self) -> Minutes:
        return self.valid * _SHIFT + self.issue

    def known_at(self, issue: int) -> WeatherPanel:
        """Only what had been published by `issue`."""
        keep = self.issue <= issue
        if keep.all():
            return self
        return WeatherPanel(self.columns, self.valid[keep], self.issue[keep], self.values[keep], self.light)


EMPTY_PANEL = WeatherPanel((), np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 0)))


def _vector_partner(name: str, names: list[str]) -> str | None:
    """The v component that belongs to a u component of the wind."""
    match = re.fullmatch(r"(.*?)(^|_|era5_|merra2_)u(_?\d*.*)", name, re.IGNORECASE)
    if match is None or not re.fullmatch(r"_?(wind|\d+m?|_|ms|component_?)*", match.group(3), re.IGNORECASE):
        return None
    partner = f"{match.group(1)}{match.group(2)}{'V' if 'U' in name else 'v'}{match.group(3)}"
    return partner if partner in names else None


def _derived(frame: pl.DataFrame, columns: list[str], step: int, zone: str) -> tuple[pl.DataFrame, list[str]]:
    """Neighbours in time, changes, daily means and wind speed of components, each within one issue."""
    per_hour = max(1, 60 // step)
    for name in list(columns):
        partner = _vector_partner(name, columns)
        if partner is not None:
            speed = f"speed({name})"
            u, v = pl.col(name), pl.col(partner)
            frame = frame.with_columns(
                (u**2 + v**2).sqrt().alias(speed),
                pl.arctan2(u, v).sin().alias(f"sin({name})"),
                pl.arctan2(u, v).cos().alias(f"cos({name})"),
            )
            columns += [speed, f"sin({name})", f"cos({name})"]
    local_day = pl.col("time").dt.convert_time_zone(zone).dt.date()
    changing = [c for c in columns if not c.startswith(("sin(", "cos("))]
    extra: list[pl.Expr] = []
    for name in changing:
        value = pl.col(name)
        extra += [
            value.shift(per_hour).over("issued_at").alias(f"{name}|-1h"),
            value.shift(-per_hour).over("issued_at").alias(f"{name}|+1h"),
            (value - value.shift(per_hour).over("issued_at")).alias(f"{name}|change"),
            value.mean().over("issued_at", local_day).alias(f"{name}|day"),
            value.rolling_mean(24 * per_hour, min_samples=per_hour).over("issued_at").alias(f"{name}|24h"),
            value.rolling_mean(5 * per_hour, min_samples=1, center=True).over("issued_at").alias(f"{name}|5h"),
        ]
    frame = frame.with_columns(extra)
    return frame, [c for c in frame.columns if c not in ("time", "issued_at")]


def _upsampled(frame: pl.DataFrame, columns: list[str], step: int) -> pl.DataFrame:
    """Each issue on the target's step: linear between the middles of the source's intervals.

    Irradiance is refined further by the clear-sky features of the model, so that linear is enough here.
    """
    frame = frame.sort("issued_at", "time")
    minutes_all = frame_minutes(frame["time"])
    issued_all = np.asarray(frame["issued_at"].to_numpy(), dtype=np.int64)
    values_all = frame.select(pl.col(columns).fill_null(float("nan"))).to_numpy()
    instants = [INSTANT.search(name) is not None for name in columns]
    edges = np.flatnonzero(np.diff(issued_all)) + 1
    grids: list[Minutes] = []
    issues: list[Minutes] = []
    blocks: list[Floats] = []
    parts = np.split(np.arange(issued_all.size), edges)
    alone = np.array([part[0] for part in parts if part.size == 1], dtype=np.int64)
    if alone.size:
        grid, held = _held(minutes_all, alone, step)
        grids.append(grid)
        blocks.append(values_all[held])
        issues.append(issued_all[held])
    for part in parts:
        if part.size < 2:
            continue
        grid, block = _one_issue(minutes_all[part], values_all[part], step, instants)
        grids.append(grid)
        blocks.append(block)
        issues.append(np.full(grid.size, issued_all[part[0]], dtype=np.int64))
    if not grids:
        return frame.clear()
    block = np.concatenate(blocks)
    stamps = {"time": to_datetimes(np.concatenate(grids)), "issued_at": pl.Series(np.concatenate(issues))}
    return pl.DataFrame(stamps | {name: block[:, k] for k, name in enumerate(columns)}).with_columns(
        pl.col(columns).fill_nan(None)
    )


def _held(minutes: Minutes, alone: Minutes, step: int) -> tuple[Minutes, Minutes]:
    """Steps that rows with an issue time of their own stand for, and the rows: archives of a fixed lead are so.

    There is nothing to interpolate to within such an issue; a value is held until the next stamp of the source.
    """
    gaps = np.diff(np.unique(minutes))
    source = min(int(np.median(gaps)), DAY) if gaps.size else step
    held = np.repeat(alone, max(1, source // step))
    ahead = np.tile(np.arange(max(1, source // step), dtype=np.int64) * step, alone.size)
    return minutes[held] // step * step + ahead, held


def _one_issue(minutes: Minutes, values: Floats, step: int, instants: list[bool]) -> tuple[Minutes, Floats]:
    """One issue's values on the step; NaN where it had a gap of three intervals or more.

    What holds at the stamps of a source of more than an hour (`instants`) is no mean of the hours after them.
    """
    source = int(np.median(np.diff(minutes)))
    width = max(source, step)
    grid = np.arange(minutes[0] // step * step, minutes[-1] + source, step, dtype=np.int64)
    out = np.full((grid.size, values.shape[1]), np.nan)
    if source == step:
        out[(minutes - grid[0]) // step] = values
        return grid, out
    nearest = np.clip(np.searchsorted(minutes, grid, side="right") - 1, 0, minutes.size - 1)
    gap = grid - minutes[nearest] >= width * 3
    for k in range(values.shape[1]):
        good = np.isfinite(values[:, k])
        if good.any():
            middle = 0.0 if instants[k] and source > 60 else source / 2
            out[:, k] = np.interp(grid + step / 2, minutes[good] + middle, values[good, k])
    out[gap] = np.nan
    return grid, out


def build_panel(frame: pl.DataFrame | None, step_minutes: int, time_zone: str) -> WeatherPanel:
    """Make the weather ready for features.

    Parameters
    ----------
    frame : polars.DataFrame or None
        ``time``, optionally ``issued_at``, and any numeric or boolean columns. Rows without issue time count as known
        at every issue time. Columns that hold nothing are dropped.
    step_minutes : int
        Step of the target [min].
    time_zone : str
        IANA name, for daily means.

    Returns
    -------
    WeatherPanel
    """
    if frame is None or frame.is_empty():
        return EMPTY_PANEL
    columns = [c for c, kind in frame.schema.items() if kind.is_numeric() or kind == pl.Boolean]
    frame = frame.with_columns(pl.col(columns).cast(pl.Float64).fill_nan(None))
    columns = [c for c in columns if frame[c].is_not_null().any()]
    if not columns:
        return EMPTY_PANEL
    issued = (
        pl.Series("issued_at", frame_minutes(frame["issued_at"]))
        if "issued_at" in frame.columns
        else pl.Series("issued_at", np.zeros(frame.height, dtype=np.int64))
    )
    minutes = frame_minutes(frame["time"])
    clean = frame.select(columns).with_columns(
        pl.Series("time", minutes * 60_000_000).cast(pl.Datetime("us", "UTC")), issued
    )
    clean = clean.unique(["issued_at", "time"], keep="last", maintain_order=True).sort("issued_at", "time")
    clean, columns = _as_amounts(clean, columns)
    light = light_column(columns, frame_minutes(clean["time"]), _matrix(clean, columns))
    clean = _upsampled(clean, columns, step_minutes).sort("issued_at", "time")
    if clean.is_empty():
        return EMPTY_PANEL
    clean, names = _derived(clean, list(columns), step_minutes, time_zone)
    clean = clean.sort("time", "issued_at")
    return WeatherPanel(
        tuple(names),
        frame_minutes(clean["time"]),
        np.asarray(clean["issued_at"].to_numpy(), dtype=np.int64),
        _matrix(clean, names),
        light,
    )


def _matrix(frame: pl.DataFrame, columns: list[str]) -> Floats:
    return np.asarray(frame.select(pl.col(columns).fill_null(float("nan"))).to_numpy(), dtype=np.float64)


def _as_amounts(frame: pl.DataFrame, columns: list[str]) -> tuple[pl.DataFrame, list[str]]:
    """Columns under their usual names; what adds up since midnight or since the issue as amounts, radiation in W/m2."""
    minutes, issued = frame_minutes(frame["time"]), np.asarray(frame["issued_at"].to_numpy(), dtype=np.int64)
    out = frame.select("time", "issued_at")
    names: list[str] = []
    gap = np.diff(minutes)[issued[1:] == issued[:-1]]
    # within an hour it is not known whether the target's own stamps are starts or ends
    coarse = bool(gap.size) and float(np.median(gap)) > 60
    for column in columns:
        name = usual_name(column)
        name = column if name in columns or name in names else name
        values = np.asarray(frame[column].fill_null(float("nan")).to_numpy(), dtype=np.float64)
        if added_up(minutes, issued, values):
            values = amounts(minutes, issued, values)
            if coarse:
                values = at_start(issued, values)
        out = out.with_columns(pl.Series(name, in_watts(minutes, values, name=name)).fill_nan(None))
        names.append(name)
    return out, names
