"""A sample site's reality: series of its assets, prices and weather at any time, from the shipped data."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from flexergy_pipelines.grid.replay.rule import PERIOD_S, ReplayRule
from flexergy_pipelines.grid.replay.sources import WallGrid, add_grids, interpolate_periodic, read_column
from flexergy_pipelines.grid.replay.weather import SampleWeather, utc_range
from flexergy_pipelines.grid.samples import examples_dir
from flexergy_pipelines.grid.site import Site


class ReplayedSite:
    """What would happen at a sample site if nothing were controlled.

    Series are the *available* power of sources and the *uncurtailed* power of loads [kW], interval means stamped with
    the start of their interval. The storage, the gensets and the PCC have none: they follow from control.

    Parameters
    ----------
    site : Site
        A site with a `replay` section.
    folder : Path or None
        Folder of the data files; None means the checkout's `examples/data`.

    Raises
    ------
    ValueError
        The site has no `replay` section.
    """

    def __init__(self, site: Site, rule: ReplayRule, folder: Path | None = None) -> None:
        if site.replay is None:
            raise ValueError(f"site {site.id} has no replay section, so nothing can stand for its reality")
        folder = folder or examples_dir() / "data"
        year, zone = site.replay.source_year, rule.zone.key
        self.site = site
        self.rule = rule
        self._raw: dict[str, WallGrid] = {}
        for series in site.replay.series:
            grids = [read_column(folder, column, year, zone) for column in series.columns]
            self._raw[series.asset] = add_grids(grids)
        limits = {series.asset: series.maximum_kw for series in site.replay.series}
        self._filled = {asset: self._fill(asset, limits[asset]) for asset in self._raw}
        self._offset = {asset: rule.offset_s(grid.year) for asset, grid in self._raw.items()}
        self._price = read_column(folder, site.replay.price, year, zone)
        self._price_filled = self._price.filled
        self._weather = SampleWeather(site.replay, rule, folder)

    @property
    def asset_ids(self) -> tuple[str, ...]:
        """Assets that have a series."""
        return tuple(self._raw)

    def _fill(self, asset_id: str, maximum_kw: float | None) -> np.ndarray:
        """Series without holes: where sister assets of the same kind have a value their mean stands in."""
        grid = self._raw[asset_id]
        values = grid.raw.copy()
        hole = ~np.isfinite(values)
        kind = self.site.asset(asset_id).kind
        sisters = [
            other.raw
            for other_id, other in self._raw.items()
            if other_id != asset_id and self.site.asset(other_id).kind == kind and other.raw.size == values.size
        ]
        if hole.any() and sisters:
            known = np.isfinite(sisters)
            total = np.where(known, sisters, 0.0).sum(axis=0)
            count = known.sum(axis=0)
            usable = hole & (count > 0)
            values[usable] = total[usable] / count[usable]
        return np.clip(interpolate_periodic(values), 0.0, maximum_kw)

    def _grid(self, asset_id: str) -> WallGrid:
        if asset_id not in self._raw:
            raise KeyError(f"site {self.site.id} replays no series for {asset_id}, only for {', '.join(self._raw)}")
        return self._raw[asset_id]

    def series(
        self, asset_id: str, start: datetime, end: datetime, step_minutes: int = 15, *, raw: bool = False
    ) -> pl.DataFrame:
        """Interval means from `start` until before `end`.

        Parameters
        ----------
        step_minutes : int
            Length of an interval; finer than the source is interpolated, coarser is averaged.
        raw : bool
            The source as it is, holes (null) and small negative values included.

        Returns
        -------
        DataFrame
            `time` (UTC, start of the interval) and `value` [kW].

        Raises
        ------
        KeyError
            The asset has no series.
        """
        grid = self._grid(asset_id)
        values = grid.raw if raw else self._filled[asset_id]
        step_s = step_minutes * 60
        sub_s = min(step_s, grid.step_s)
        if step_s % sub_s:
            raise ValueError(f"step_minutes {step_minutes} is no multiple of the source's {grid.step_s // 60}")
        times = utc_range(start, end, timedelta(seconds=sub_s))
        seconds = self.rule.source_seconds(times, grid.year)
        if sub_s < grid.step_s:
            result = _between(values, (seconds + sub_s / 2) / grid.step_s)
        else:
            result = values[(seconds // grid.step_s).astype(np.int64) % values.size]
        frame = pl.DataFrame({"time": times, "value": pl.Series(result).fill_nan(None)})
        if sub_s == step_s:
            return frame
        parts = step_s // sub_s
        groups = frame.with_row_index("i").group_by(pl.col("i") // parts, maintain_order=True)
        return groups.agg(pl.col("time").first(), pl.col("value").mean()).select("time", "value")

    def value(self, asset_id: str, time: datetime) -> float:
        """Instantaneous power [kW] at `time`, linear between the middles of the source's intervals."""
        grid = self._grid(asset_id)
        wall = time.astimezone(self.rule.zone)
        offset = wall.utcoffset() or timedelta()
        seconds = (time.timestamp() + offset.total_seconds() - self._offset[asset_id]) % PERIOD_S
        position = seconds / grid.step_s - 0.5
        low = int(position // 1)
        share = position - low
        values = self._filled[asset_id]
        return float((1 - share) * values[low % values.size] + share * values[(low + 1) % values.size])

    def price(self, start: datetime, end: datetime) -> pl.DataFrame:
        """Day-ahead prices of the hours that begin from `start` until before `end`.

        Returns
        -------
        DataFrame
            `time` (UTC, start of the hour) and `price_eur_per_mwh`.
        """
        whole = start.replace(minute=0, second=0, microsecond=0)
        first = whole if whole == start else whole + timedelta(hours=1)
        times = utc_range(first, end, timedelta(hours=1))
        seconds = self.rule.source_seconds(times, self._price.year)
        hours = (seconds // self._price.step_s).astype(np.int64) % self._price_filled.size
        return pl.DataFrame({"time": times, "price_eur_per_mwh": self._price_filled[hours].round(2)})

    def weather_forecast(self, issued_at: datetime, hours: int = 48, step_minutes: int = 60) -> pl.DataFrame:
        """Synthetic forecast issued at `issued_at`; see `flexergy_pipelines.grid.replay.weather`."""
        return self._weather.forecast(issued_at, hours, step_minutes)

    def weather_actual(self, start: datetime, end: datetime, step_minutes: int = 60) -> pl.DataFrame:
        """Weather as it comes to pass; nothing but the simulator may ask for its future."""
        return self._weather.actual(start, end, step_minutes)


def _between(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Values at fractional interval positions, linear between the middles of the intervals."""
    shifted = position - 0.5
    low = np.floor(shifted).astype(np.int64)
    share = shifted - low
    return (1 - share) * values[low % values.size] + share * values[(low + 1) % values.size]
