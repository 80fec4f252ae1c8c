"""Any table of measured values as people have it: separators, names, stamps, and several series in one file."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import polars as pl

from flexergy_pipelines.forecasting.timegrid import DAY, frame_minutes

TIME_NAMES = ("time_utc", "time", "timestamp", "datetime", "date_time", "date", "utc_timestamp", "ds", "valid_time")
# texts that usually stand for a missing value
NOTHING = ("", "na", "n/a", "nan", "null", "none", "-", "--", "?", ".")
# values of a column that may tell series apart
MOST_SERIES = 60


class DataError(ValueError):
    """The file or an option cannot be used; the text says which and why."""


def read_table(path: Path, time_column: str | None, time_zone: str) -> pl.DataFrame:
    """Read CSV or Parquet and find its time column.

    Parameters
    ----------
    path : Path
    time_column : str or None
        None looks for a usual name, then for the first column of stamps.
    time_zone : str
        IANA name in which stamps without zone are read; repeated stamps in autumn count as the earlier ones.

    Returns
    -------
    polars.DataFrame
        The columns of the file, the time column renamed ``time`` and in UTC.

    Raises
    ------
    DataError
    """
    if not path.is_file():
        raise DataError(f"data {path}: there is no such file")
    try:
        frame = pl.read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"data {path}: cannot be read ({str(error).splitlines()[0]})") from error
    trimmed = [name.strip() for name in frame.columns]
    if len(set(trimmed)) == len(trimmed):
        frame = frame.rename(dict(zip(frame.columns, trimmed, strict=True)))
    try:
        zone = ZoneInfo(time_zone).key
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise DataError(f"time zone {time_zone!r} is not an IANA name such as Europe/Amsterdam") from error
    name = find_column(frame, time_column) if time_column else _time_column(frame)
    if name is None:
        name = time_column
    if name is None or name not in frame.columns:
        raise DataError(f"data {path}: no time column{f' {name!r}' if name else ''}; it has {_names(frame)}")
    times = stamps(_with_hours(frame, name), path, zone)
    frame = frame.with_columns(times).drop([name] if name != "time" else [])
    return frame.select("time", *(column for column in frame.columns if column != "time"))


def _with_hours(frame: pl.DataFrame, name: str) -> pl.Series:
    """The time column; where it holds days only and another column their hours, 0 to 23 or 1 to 24, both together."""
    column = frame[name]
    if column.dtype == pl.String:
        dates = (column.str.strip_chars().str.to_date(layout, strict=False) for layout in DATES)
        column = next((day for day in dates if day.null_count() <= 0.05 * day.len()), column)
    hour = next((c for c in frame.columns if c.strip().casefold().replace(" ", "_") in HOUR_NAMES), None)
    if column.dtype != pl.Date or hour is None or not frame[hour].dtype.is_numeric():
        return column.alias(name)
    hours = frame[hour].cast(pl.Int64)
    first = int(hours.max() == 24)  # the hour that ends at midnight is named 24
    after = ((hours - first) * 3_600_000_000).cast(pl.Duration("us"))
    return (column.cast(pl.Datetime("us")) + after).alias(name)


def _read_csv(path: Path) -> pl.DataFrame:
    """A CSV file with comma, semicolon or tab; with a semicolon, decimal commas are understood."""
    with path.open(encoding="utf-8", errors="replace") as file:
        head = [line for line, _ in zip(file, range(3), strict=False)]
    separator = max(",;\t", key=head[0].count) if head else ","
    commas = separator == ";" and any("," in line for line in head[1:])
    return pl.read_csv(
        path, separator=separator, decimal_comma=commas, try_parse_dates=True, infer_schema_length=20_000,
        null_values=["", "NA", "NaN", "nan", "null", "NULL", "-"],
    )  # fmt: skip


def find_column(frame: pl.DataFrame, name: str) -> str | None:
    """The column of that name; spaces around it and, if no other differs by them alone, capitals do not matter."""
    if name in frame.columns:
        return name
    alike = [column for column in frame.columns if column.strip().casefold() == name.strip().casefold()]
    return alike[0] if len(alike) == 1 else None


def columns_of(frame: pl.DataFrame, text: str, what: str) -> list[str]:
    """Columns named in `text`, separated by commas; names that hold a comma themselves are found too.

    Raises
    ------
    DataError
        For a name that is no column.
    """
    parts = text.split(",")
    found: list[str] = []
    while parts:
        for size in range(len(parts), 0, -1):
            name = find_column(frame, ",".join(parts[:size]))
            if name is not None:
                found.append(name)
                parts = parts[size:]
                break
        else:
            if parts[0].strip():
                raise DataError(f"{what} {parts[0].strip()!r} is not a column; the data has {_names(frame)}")
            parts = parts[1:]
    return found


def one_series(frame: pl.DataFrame, choices: list[str], keys: list[str]) -> pl.DataFrame:
    """The rows of one series, where the file holds several under each other.

    Parameters
    ----------
    frame : polars.DataFrame
    choices : list of str
        Such as ``ZONEID=1``; all have to hold.
    keys : list of str
        Columns that tell the rows of one series apart: ``time``, and the issue time if there is one.

    Raises
    ------
    DataError
        For a choice that leaves nothing, and where most stamps occur several times and a column tells why.
    """
    for choice in choices:
        name, sign, value = choice.partition("=")
        column = find_column(frame, name)
        if column is None or not sign:
            raise DataError(f"where {choice!r} is not like COLUMN=VALUE; the data has {_names(frame)}")
        chosen = frame.filter(pl.col(column).cast(pl.String).str.strip_chars() == value.strip())
        if chosen.is_empty():
            raise DataError(f"where {choice!r}: column {column!r} holds {_values(frame[column])}")
        frame = chosen
    if frame.height < 1.5 * frame.select(keys).unique().height:
        return frame
    for column in frame.columns:
        values = frame[column]
        if column in keys or values.dtype.is_float() or not 2 <= values.n_unique() <= MOST_SERIES:
            continue
        if frame.height <= 1.01 * frame.select(*keys, column).unique().height:
            raise DataError(
                f"data holds {values.n_unique()} series, told apart by {column!r} ({_values(values)}); "
                f"choose one, such as --where {column}={values[0]}"
            )
    return frame


def _values(column: pl.Series) -> str:
    return ", ".join(str(value) for value in column.unique().sort()[:8])


def _names(frame: pl.DataFrame) -> str:
    return ", ".join(frame.columns[:30])


def _time_column(frame: pl.DataFrame) -> str | None:
    lower = {column.lower(): column for column in frame.columns}
    for name in TIME_NAMES:
        if name in lower:
            return lower[name]
    return next((c for c, kind in frame.schema.items() if kind in (pl.Datetime, pl.Date)), None)


LAYOUTS = (
    None, "%Y%m%d %H:%M", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d-%m-%Y %H:%M", "%Y/%m/%d %H:%M",
    "%d.%m.%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d-%m-%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %I:%M %p", "%Y%m%d %H:%M:%S",
)  # fmt: skip
DATES = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y/%m/%d")
HOUR_NAMES = ("hour", "hr", "he", "hr_end", "hour_ending", "hourending", "hour_end")
COMPACT_HOUR = r"^\d{10}$"


def stamps(column: pl.Series, path: Path, zone: str) -> pl.Series:
    """A column of stamps, text or numbers like 2012070100 as UTC instants, named ``time``."""
    name = column.name
    if column.dtype.is_integer():
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        column = _parsed(column.str.strip_chars())
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    if not isinstance(column.dtype, pl.Datetime) or column.null_count() > 0.05 * column.len():
        raise DataError(f"data {path}: column {name!r} holds no time stamps")
    zoned = column.dtype.time_zone is not None
    column = column.cast(pl.Datetime("us", column.dtype.time_zone))
    if not zoned:
        column = column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return column.dt.convert_time_zone("UTC").alias("time")


def _parsed(text: pl.Series) -> pl.Series:
    """Text as stamps, in the layout that reads most rows and, of two such, the one in which time runs on."""
    if text.len() and text.str.contains(COMPACT_HOUR).all():
        return (text + "00").str.to_datetime("%Y%m%d%H%M", strict=False)
    # midnight as the 24th hour belongs to the next day
    late = text.str.contains(r"[ T]24:00(:00)?$").fill_null(False)
    text = text.str.replace(r"([ T])24:00", "${1}00:00")
    best, best_rank = text, (text.len(), text.len())
    for layout in LAYOUTS:
        try:
            parsed = text.str.to_datetime(layout, strict=False)
        except pl.exceptions.ComputeError:
            continue
        backwards = int((parsed.diff().dt.total_seconds() < 0).sum() or 0)
        rank = (parsed.null_count(), backwards)
        if rank < best_rank:
            best, best_rank = parsed, rank
    if late.any() and isinstance(best.dtype, pl.Datetime):
        best = best + (late.cast(pl.Int64) * DAY * 60_000_000).cast(pl.Duration("us"))
    return best


def numeric(frame: pl.DataFrame, column: str, what: str) -> pl.Series:
    """A column as numbers, or an error that names it."""
    name = find_column(frame, column)
    if name is None:
        raise DataError(f"{what} {column!r} is not a column; the data has {_names(frame)}")
    values = frame[name]
    if values.dtype == pl.String:
        values = values.str.strip_chars().cast(pl.Float64, strict=False)
    if not (values.dtype.is_numeric() or values.dtype == pl.Boolean) or values.null_count() == values.len():
        raise DataError(f"{what} {column!r} holds no numbers")
    return values.cast(pl.Float64)


def not_numbers(frame: pl.DataFrame, column: str, what: str) -> list[str]:
    """Says how many texts `numeric` takes for missing values, other than those that usually stand for one."""
    name = find_column(frame, column)
    if name is None or frame[name].dtype != pl.String:
        return []
    text = frame[name].str.strip_chars()
    odd = text.filter(text.cast(pl.Float64, strict=False).is_null() & ~text.str.to_lowercase().is_in(NOTHING))
    if odd.is_empty():
        return []
    return [f"{odd.len()} values of {what} {column!r} are no numbers, such as {odd[0]!r}, and are left out"]


def infer_step(frame: pl.DataFrame) -> int:
    """The usual distance of stamps [min], between 5 and 60."""
    gaps = np.diff(np.unique(frame_minutes(frame["time"].drop_nulls())))
    usual = int(np.median(gaps)) if gaps.size else 60
    return next((step for step in (5, 10, 15, 20, 30, 60) if usual <= step), 60)
