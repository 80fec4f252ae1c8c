"""Columns of the shipped data files as regular wall-clock grids of 364 days."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from flexergy_pipelines.grid.replay.rule import PERIOD_DAYS, PERIOD_S
from flexergy_pipelines.grid.replay_source import ReplayColumn

# SimBench's clock is local time of Germany; the sample sites keep Central European Time too.
LOCAL_CLOCK_COLUMN = "time_local_cet"
UTC_CLOCK_COLUMN = "time_utc"


@dataclass(frozen=True, slots=True)
class WallGrid:
    """Interval means over the 364-day window of one source year, by local wall-clock time.

    Attributes
    ----------
    year : int
        Source year whose 1 January, 00:00 local, the grid begins at.
    step_s : int
        Length of an interval [s].
    raw : ndarray
        Values as they are in the source; NaN where it has none.
    """

    year: int
    step_s: int
    raw: np.ndarray

    @property
    def filled(self) -> np.ndarray:
        """Values with holes interpolated over the (periodic) window."""
        return interpolate_periodic(self.raw)


def interpolate_periodic(values: np.ndarray) -> np.ndarray:
    """Linear interpolation of NaNs, the end of the window joined to its beginning."""
    good = np.flatnonzero(np.isfinite(values))
    if good.size == 0:
        raise ValueError("a column of the sample data holds no value in its window")
    if good.size == values.size:
        return values.copy()
    return np.interp(np.arange(values.size), good, values[good], period=values.size)


# A small cache: a long-running simulator shall not keep whole files, yet a column used twice is read once.
@lru_cache(maxsize=4)
def _column(path: Path, column: str, year: int, zone: str) -> WallGrid:
    schema = pl.read_parquet_schema(path)
    clock = next((name for name in (LOCAL_CLOCK_COLUMN, UTC_CLOCK_COLUMN) if name in schema), None)
    if clock is None:
        raise ValueError(f"{path.name} has neither {LOCAL_CLOCK_COLUMN} nor {UTC_CLOCK_COLUMN}")
    if column not in schema:
        raise ValueError(f"{path.name} has no column {column}")
    frame = pl.read_parquet(path, columns=[clock, column])
    wall = frame[clock]
    if clock == UTC_CLOCK_COLUMN:
        wall = wall.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    step_s = int(wall.diff().dt.total_seconds().mode().min())  # pyright: ignore[reportArgumentType]
    full_years = _full_years(wall, step_s)
    if not full_years:
        raise ValueError(f"{path.name} covers no whole year")
    source_year = year if year in full_years else full_years[0]
    values = pl.DataFrame({"wall": wall, "value": frame[column].cast(pl.Float64)}).filter(
        pl.col("wall").dt.year() == source_year
    )
    # The hour that the change of clocks repeats becomes its mean.
    values = values.group_by("wall").agg(pl.col("value").mean())
    start = pl.datetime(source_year, 1, 1)
    index = values.select(((pl.col("wall") - start).dt.total_seconds() // step_s).alias("i"))["i"].to_numpy()
    raw = np.full(PERIOD_S // step_s, np.nan)
    stamped = np.zeros(raw.size, dtype=bool)
    inside = index < raw.size
    raw[index[inside]] = values["value"].to_numpy()[inside]
    stamped[index[inside]] = True
    # The hour that it skips is no fault of the data, so it is interpolated even in the raw series.
    raw = np.where(stamped, raw, interpolate_periodic(raw))
    return WallGrid(source_year, step_s, raw)


def _full_years(wall: pl.Series, step_s: int) -> list[int]:
    """Years of which the file covers at least the 364-day window (holes apart)."""
    counts = wall.dt.year().value_counts().sort(wall.name)
    needed = 0.98 * PERIOD_DAYS * 86400 / step_s
    return [year for year, count in counts.iter_rows() if count >= needed]


def read_column(folder: Path, column: ReplayColumn, year: int, zone: str) -> WallGrid:
    """One column, scaled, with its copies added up.

    Parameters
    ----------
    folder : Path
        Folder of the data files.
    year : int
        Preferred source year; a file that does not cover it gives its first whole year.
    zone : str
        Time zone of the site, for files in UTC.

    Raises
    ------
    ValueError
        The file has no such column, no known clock, or no whole year.
    FileNotFoundError
        There is no such file.
    """
    path = folder / column.file
    if not path.is_file():
        raise FileNotFoundError(f"sample data file {column.file} is not in {folder}")
    grid = _column(path, column.column, year, zone)
    per_day = 86400 // grid.step_s
    total = sum(np.roll(grid.raw, copy * column.copy_shift_days * per_day) for copy in range(column.copies))
    return WallGrid(grid.year, grid.step_s, column.scale * np.asarray(total))


def add_grids(grids: list[WallGrid]) -> WallGrid:
    """Sum of grids of one source year, at the finest of their steps.

    Raises
    ------
    ValueError
        The grids come from different years, so their sum would mix weekdays.
    """
    years = {grid.year for grid in grids}
    if len(years) > 1:
        raise ValueError(f"columns of one series come from different years {sorted(years)}")
    step_s = min(grid.step_s for grid in grids)
    parts = [np.repeat(grid.raw, grid.step_s // step_s) for grid in grids]
    return WallGrid(grids[0].year, step_s, np.sum(parts, axis=0))
