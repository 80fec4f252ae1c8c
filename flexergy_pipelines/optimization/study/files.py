"""Series of a case from CSV and Parquet files that lie beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
from pydantic import Field

from flexergy_pipelines.optimization.errors import ProblemError, Spec
from flexergy_pipelines.optimization.problem import Horizon
from flexergy_pipelines.optimization.series import FloatArray
from flexergy_pipelines.optimization.study.time_of_use import Period, TimeOfUse

LARGEST_FILE_BYTES = 500_000_000


class SeriesFile(Spec):
    """Where a series stands in a file.

    Attributes
    ----------
    file : str
        CSV or Parquet, in the case's folder or below it.
    column : str
        Column with the values.
    scale, offset : float
        The series is ``scale * value + offset``.
    time : str or None
        Column with the start of each interval. With it the horizon's steps are looked up, a coarser value holds for its
        interval and finer ones are averaged. Without it the rows are the steps, from `first_row`.
    first_row : int
        Row of the first step, where there is no time column.
    """

    file: Annotated[str, Field(min_length=1)]
    column: Annotated[str, Field(min_length=1)]
    scale: float = 1.0
    offset: float = 0.0
    time: str | None = None
    first_row: Annotated[int, Field(ge=0)] = 0


class SeriesReader:
    """Reads series for one case; each file once.

    Parameters
    ----------
    folder : Path
        Folder of the case; nothing outside of it is read.
    horizon : Horizon
        Steps that every series is brought to.
    """

    def __init__(self, folder: Path, horizon: Horizon) -> None:
        self._folder = folder.resolve()
        self._horizon = horizon
        self._frames: dict[Path, pl.DataFrame] = {}
        self._resolved: dict[int, Any] = {}

    def resolve(self, node: Any, where: str = "") -> Any:
        """A copy of a case's tree with every reference to a file replaced by its numbers.

        A part that stands in several places (a YAML alias) is read once and stays one part.
        """
        if not isinstance(node, dict | list):
            return node
        if id(node) not in self._resolved:
            self._resolved[id(node)] = self._part(node, where)
        return self._resolved[id(node)]

    def _part(self, node: dict[str, Any] | list[Any], where: str) -> Any:
        if isinstance(node, dict):
            if "file" in node and "column" in node:
                try:
                    return self.read(SeriesFile(**node), where)
                except ProblemError as error:
                    raise ProblemError([f"{where}: {line}" for line in error.problems]) from None
            if set(node) == {"time_of_use"}:
                return self._by_clock(node["time_of_use"], where)
            return {key: self.resolve(value, f"{where}.{key}" if where else str(key)) for key, value in node.items()}
        return [self.resolve(value, f"{where}[{position}]") for position, value in enumerate(node)]

    def _by_clock(self, node: Any, where: str) -> FloatArray:
        if not isinstance(node, dict):
            raise ProblemError([f"{where}: time_of_use must be a mapping with time_zone, periods and otherwise"])
        try:
            periods = tuple(Period(**period) for period in node.get("periods", ()))
            return TimeOfUse(**{**node, "periods": periods}).values(self._horizon)
        except ProblemError as error:
            raise ProblemError([f"{where}: {line}" for line in error.problems]) from None
        except TypeError:
            raise ProblemError([f"{where}: time_of_use: periods must be a list of mappings"]) from None

    def path(self, name: str) -> Path:
        """The file of that name in the case's folder.

        Raises
        ------
        ProblemError
            When the name leads out of the folder, by whatever way, or nowhere.
        """
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder):
            raise ProblemError([f"file {name!r} lies outside the case's folder; copy it there"])
        if not path.is_file():
            raise ProblemError([f"file {name!r} does not exist in the case's folder"])
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise ProblemError([f"file {name!r} is larger than {LARGEST_FILE_BYTES // 1_000_000} MB"])
        return path

    def read(self, source: SeriesFile, where: str) -> FloatArray:
        """One series, at the horizon's steps."""
        frame = self._frame(source.file)
        for name in (source.column, source.time):
            if name is not None and name not in frame.columns:
                known = ", ".join(frame.columns[:20])
                raise ProblemError([f"{source.file} has no column {name!r}; it has {known}"])
        values = _numbers(frame[source.column], source)
        if source.time is None:
            return self._by_row(values, source, where)
        return self._by_time(frame[source.time], values, source)

    def _frame(self, name: str) -> pl.DataFrame:
        path = self.path(name)
        if path not in self._frames:
            try:
                _refuse_semicolons(path, name)
                if path.suffix.lower() == ".parquet":
                    self._frames[path] = pl.read_parquet(path)
                else:
                    self._frames[path] = pl.read_csv(path, infer_schema_length=None, try_parse_dates=False)
            except (pl.exceptions.PolarsError, OSError) as error:
                first = str(error).splitlines()[0]
                raise ProblemError([f"file {name!r} can't be read: {first}"]) from None
        return self._frames[path]

    def _by_row(self, values: FloatArray, source: SeriesFile, where: str) -> FloatArray:
        first, steps = source.first_row, self._horizon.steps
        if values.size - first < steps:
            raise ProblemError(
                [f"{where}: {source.file} has {max(values.size - first, 0)} rows, the horizon has {steps} steps"]
            )
        chosen = values[first : first + steps]
        _refuse_gaps(chosen, source, [str(first + k + 1) for k in range(steps)], "row")
        return chosen

    def _by_time(self, stamps: pl.Series, values: FloatArray, source: SeriesFile) -> FloatArray:
        times = _utc(stamps, source)
        change = np.diff(times)
        if (change <= 0).any():
            position = int(np.flatnonzero(change <= 0)[0]) + 1
            kind = "appears twice" if change[position - 1] == 0 else "is earlier than the one before"
            raise ProblemError([f"{source.file}: time {stamps[position]} in row {position + 1} {kind}"])
        step = self._horizon.step_minutes * 60
        start = int(self._horizon.start.timestamp())
        edges = start + step * np.arange(self._horizon.steps + 1)
        width = int(np.median(change)) if change.size else step
        if width < step:
            place = np.searchsorted(edges, times, side="right") - 1
            inside = (place >= 0) & (place < self._horizon.steps)
            sums = np.bincount(place[inside], values[inside], self._horizon.steps)
            counts = np.bincount(place[inside], minlength=self._horizon.steps)
            chosen = np.divide(sums, counts, out=np.full(self._horizon.steps, np.nan), where=counts * width >= step)
        else:
            place = np.searchsorted(times, edges[:-1], side="right") - 1
            held = (place >= 0) & (edges[:-1] - times[np.maximum(place, 0)] < width)
            chosen = np.where(held, values[np.maximum(place, 0)], np.nan)
        labels = [datetime.fromtimestamp(int(edge), UTC).isoformat() for edge in edges[:-1]]
        _refuse_gaps(chosen, source, labels, "step")
        return chosen


def _refuse_semicolons(path: Path, name: str) -> None:
    """Refuse a table as some spreadsheets write it, whose numbers would be cut at the comma."""
    if path.suffix.lower() == ".parquet":
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.readline(10_000)
    if ";" in head and "," not in head:
        raise ProblemError([f"file {name!r} separates its columns by ';'; write commas, and numbers with a point"])


def _numbers(column: pl.Series, source: SeriesFile) -> FloatArray:
    """The values of a column, brought to the series' unit; nothing where a cell is empty."""
    numbers = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String:
        wrong = (numbers.is_null() & column.is_not_null() & (column.str.strip_chars() != "")).to_numpy()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ProblemError(
                [f"{source.file}: column {source.column!r} holds {column[row]!r} in row {row + 1}, which is no number"]
            )
    return numbers.to_numpy() * source.scale + source.offset


def _utc(stamps: pl.Series, source: SeriesFile) -> np.ndarray:
    """Seconds since 1970 of a column of stamps; text must carry its offset from UTC."""
    if stamps.dtype == pl.String:
        seconds = []
        for row, text in enumerate(stamps.to_list()):
            try:
                stamp = datetime.fromisoformat(str(text))
            except ValueError:
                raise ProblemError([f"{source.file}: time {text!r} in row {row + 1} is not an ISO time"]) from None
            if stamp.tzinfo is None:
                raise ProblemError(
                    [f"{source.file}: time {text!r} in row {row + 1} has no offset from UTC (write 2026-01-01T00:00Z)"]
                )
            seconds.append(int(stamp.timestamp()))
        return np.array(seconds, dtype=np.int64)
    if not isinstance(stamps.dtype, pl.Datetime):
        raise ProblemError([f"{source.file}: column {source.time!r} holds {stamps.dtype}, not times"])
    if stamps.dtype.time_zone is None:
        raise ProblemError([f"{source.file}: column {source.time!r} has no time zone"])
    return stamps.dt.epoch("s").to_numpy()


def _refuse_gaps(values: FloatArray, source: SeriesFile, labels: list[str], what: str) -> None:
    missing = np.flatnonzero(~np.isfinite(values))
    if missing.size:
        raise ProblemError(
            [
                f"{source.file}: column {source.column!r} has no number for {missing.size} of {values.size} steps, "
                f"first at {what} {labels[int(missing[0])]}"
            ]
        )


def steps_between(start: datetime, end: datetime, step_minutes: int) -> int:
    """Whole steps from `start` to `end`.

    Raises
    ------
    ValueError
        When `end` is not after `start`, or not a whole number of steps after it.
    """
    if end <= start:
        raise ValueError(f"end {end.isoformat()} must be after start {start.isoformat()}")
    steps, rest = divmod(end - start, timedelta(minutes=step_minutes))
    if rest:
        raise ValueError(
            f"end {end.isoformat()} must be a whole number of steps of {step_minutes} minutes after start "
            f"{start.isoformat()}; {rest.total_seconds() / 60:g} minutes are left over"
        )
    return steps
