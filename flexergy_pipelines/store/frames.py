"""Checks of frames before anything is written: columns, types, aware times, finite values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import polars as pl

from flexergy_pipelines.store.errors import InvalidDataError

TIME: Final = pl.Datetime("us", "UTC")
Kind = Literal["time", "number", "integer", "text"]
_DTYPES: Final[dict[str, pl.DataType]] = {
    "time": TIME,
    "number": pl.Float64(),
    "integer": pl.Int64(),
    "text": pl.String(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """What a column of a frame must be.

    Attributes
    ----------
    kind : {"time", "number", "integer", "text"}
        Numbers must be finite; a missing one is null, never NaN.
    nullable : bool
        Whether null is allowed.
    optional : bool
        Whether the column may be left out (it is then all null).
    """

    kind: Kind
    nullable: bool = False
    optional: bool = False


def conform(frame: pl.DataFrame, columns: dict[str, Column], what: str) -> pl.DataFrame:
    """The frame with exactly `columns`, in that order and in their types.

    Raises
    ------
    InvalidDataError
        A column is missing, unknown or of another type; a time has no zone; a value is null, NaN or infinite.
    """
    if not isinstance(frame, pl.DataFrame):
        raise InvalidDataError(f"{what}: a polars DataFrame is needed, not {type(frame).__name__}")
    missing = [name for name, column in columns.items() if name not in frame.columns and not column.optional]
    if missing:
        raise InvalidDataError(f"{what}: column '{missing[0]}' is missing; needed: {', '.join(columns)}")
    unknown = [name for name in frame.columns if name not in columns]
    if unknown:
        raise InvalidDataError(f"{what}: column '{unknown[0]}' is not known; allowed: {', '.join(columns)}")
    return pl.DataFrame([_series(frame, name, column, what) for name, column in columns.items()])


def _series(frame: pl.DataFrame, name: str, column: Column, what: str) -> pl.Series:
    if name not in frame.columns:
        return pl.Series(name, [None] * frame.height, dtype=_DTYPES[column.kind])
    series = frame[name]
    if series.dtype != pl.Null:
        _check_dtype(series, column.kind, what)
    if column.kind == "number":
        series = series.cast(pl.Float64)
        strange = ~series.is_finite()
        if strange.any():
            row = strange.arg_true()[0]
            raise InvalidDataError(f"{what}: {name} is {series[row]} in row {row}; give a finite number or null")
    series = series.cast(_DTYPES[column.kind])
    if not column.nullable and series.null_count():
        row = series.is_null().arg_true()[0]
        raise InvalidDataError(f"{what}: {name} is null in row {row}; a value is needed")
    return series


def _check_dtype(series: pl.Series, kind: Kind, what: str) -> None:
    dtype = series.dtype
    if kind == "time":
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None:
            raise InvalidDataError(f"{what}: {series.name} has no time zone; give aware times")
        fits = isinstance(dtype, pl.Datetime)
    elif kind == "number":
        fits = dtype.is_float() or dtype.is_integer()
    elif kind == "integer":
        fits = dtype.is_integer()
    else:
        fits = dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum)
    if not fits:
        raise InvalidDataError(f"{what}: {series.name} is {dtype}; a {kind} is needed")


def utc(moment: datetime, what: str) -> datetime:
    """`moment` in UTC; a naive one is refused."""
    if moment.tzinfo is None:
        raise InvalidDataError(f"{what} {moment!r} has no time zone; give an aware datetime")
    return moment.astimezone(UTC)


def period(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Start and end in UTC, checked to be in order."""
    first, last = utc(start, "start"), utc(end, "end")
    if first > last:
        raise InvalidDataError(f"start {first.isoformat()} is after end {last.isoformat()}")
    return first, last


def frame_of(rows: list[tuple], schema: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """Rows of a query as a frame of a fixed schema, also when there are none."""
    return pl.DataFrame(rows, schema=schema, orient="row")
