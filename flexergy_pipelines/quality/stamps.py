"""Times as files write them: many formats, several zones in one column, 25-hour days."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Microseconds = NDArray[np.int64]
Mask = NDArray[np.bool_]

_TIME = r"(?:[T ]+(\d{1,2})[:.h](\d{2})(?::(\d{2})(?:[.,](\d+))?)?\s*([AaPp][Mm])?)?"
_ZONE = r"\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})?\s*$"
_YEAR_FIRST = r"^\s*(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})" + _TIME + _ZONE
_YEAR_LAST = r"^\s*(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})" + _TIME + _ZONE
_DAY_US = 86_400_000_000


def parse_times(column: pl.Series) -> tuple[Microseconds, Mask, bool]:
    """Times of a column of text, dates or numbers.

    Returns
    -------
    times : ndarray of int64
        Microseconds since 1970; of UTC where the text names a zone, else of the clock that was written.
    known : ndarray of bool
        False where no time could be read.
    zoned : bool
        Whether the times are UTC.
    """
    if isinstance(column.dtype, pl.Datetime):
        zoned = column.dtype.time_zone is not None
        epochs = column.dt.epoch("us")
        return epochs.fill_null(0).to_numpy().astype(np.int64), column.is_not_null().to_numpy(), zoned
    if column.dtype == pl.Date:
        epochs = column.cast(pl.Datetime("us")).dt.epoch("us")
        return epochs.fill_null(0).to_numpy().astype(np.int64), column.is_not_null().to_numpy(), False
    if column.dtype.is_numeric():
        return _from_numbers(column.cast(pl.Float64))
    text = column.cast(pl.String)
    numbers = text.str.strip_chars().cast(pl.Float64, strict=False)
    if int(numbers.is_not_null().sum()) > 0.9 * int(text.is_not_null().sum()):
        return _from_numbers(numbers)
    return _from_text(text)


def _from_numbers(numbers: pl.Series) -> tuple[Microseconds, Mask, bool]:
    """Seconds, milli-, micro- or nanoseconds since 1970 (UTC), or days of a spreadsheet."""
    values = numbers.fill_null(np.nan).to_numpy().astype(np.float64)
    known = np.isfinite(values)
    size = float(np.median(np.abs(values[known]))) if known.any() else 0.0
    if 20_000 < size < 100_000:  # days since 1899-12-30, as spreadsheets count
        micros = np.round((np.where(known, values, 25_569) - 25_569) * 86_400) * 1e6
        return micros.astype(np.int64), known, False
    for largest, scale in ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (1e20, 1e-3)):
        if 1e8 < size < largest:
            return np.round(np.where(known, values, 0) * scale).astype(np.int64), known, True
    return np.zeros(values.size, dtype=np.int64), np.zeros(values.size, dtype=bool), False


def _from_text(text: pl.Series) -> tuple[Microseconds, Mask, bool]:
    first, last = _groups(text, _YEAR_FIRST), _groups(text, _YEAR_LAST)
    year_first = first["1"].is_not_null().sum() >= last["1"].is_not_null().sum()
    fields = first if year_first else last
    year, month, day = ("1", "2", "3") if year_first else ("3", "2", "1")
    numbers = fields.select(pl.col(f"{i}").cast(pl.Int64, strict=False) for i in range(1, 7))
    if not year_first and _month_comes_first(numbers):
        month, day = day, month
    micros, known = _assemble(numbers, fields, (year, month, day))
    zone = fields["9"]
    zoned = zone.is_not_null()
    if zoned.any():
        sign = pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
        hours = zone.str.extract(r"^[+-](\d{2})").cast(pl.Int64, strict=False).fill_null(0)
        minutes = zone.str.extract(r"^[+-]\d{2}:?(\d{2})$").cast(pl.Int64, strict=False).fill_null(0)
        offset = (pl.select(sign.alias("s"))["s"] * (hours * 60 + minutes)).fill_null(0).to_numpy()
        micros = micros - offset * 60_000_000
    return micros, known, bool(zoned.any())


def _groups(text: pl.Series, pattern: str) -> pl.DataFrame:
    return text.str.extract_groups(pattern).struct.unnest()


def _month_comes_first(numbers: pl.DataFrame) -> bool:
    """Of 3/4/2024, whether 3 is the month: told by numbers above 12, else by which order runs on in time."""
    a, b = numbers["1"].drop_nulls(), numbers["2"].drop_nulls()
    if a.len() == 0 or (a > 12).any():
        return False
    if (b > 12).any():
        return True
    changes = (int((a.diff().drop_nulls() != 0).sum()), int((b.diff().drop_nulls() != 0).sum()))
    return changes[1] > changes[0]  # the day changes more often than the month


def _assemble(numbers: pl.DataFrame, fields: pl.DataFrame, order: tuple[str, str, str]) -> tuple[Microseconds, Mask]:
    year, month, day = (pl.col(name) for name in order)
    hour, minute, second = (pl.col(name).fill_null(0) for name in ("4", "5", "6"))
    half = fields["8"].str.to_lowercase()
    fraction = ("0." + fields["7"].fill_null("0")).cast(pl.Float64, strict=False).fill_null(0.0)
    frame = numbers.with_columns(half.alias("half"), fraction.alias("fraction"))
    hour = (
        pl.when(pl.col("half") == "pm")
        .then(hour % 12 + 12)
        .when(pl.col("half") == "am")
        .then(hour % 12)
        .otherwise(hour)
    )
    in_day = hour * 3600 + minute * 60 + second
    fits = month.is_between(1, 12) & day.is_between(1, 31) & (in_day <= 86_400) & minute.is_between(0, 59)
    date = pl.when(fits).then(pl.concat_str(year, month, day, separator="-")).str.to_date("%Y-%m-%d", strict=False)
    frame = frame.with_columns(date.alias("date"), in_day.alias("in_day"))
    known = (frame["date"].is_not_null() & frame["in_day"].is_not_null()).to_numpy()
    days = frame["date"].cast(pl.Int32).fill_null(0).to_numpy().astype(np.int64)
    seconds = frame["in_day"].fill_null(0).to_numpy().astype(np.int64)
    micros = days * _DAY_US + seconds * 1_000_000 + np.round(frame["fraction"].to_numpy() * 1e6).astype(np.int64)
    return micros, known
