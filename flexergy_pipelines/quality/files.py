"""Tables of measured series from CSV and Parquet, in whatever dialect they come."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

PARQUET_MAGIC = b"PAR1"
SEPARATORS = (";", "\t", ",", "|")
SNIFF_LINES = 200
STARTS_LIKE_TIME = re.compile(r"^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{9,19}$)")
_TWICE = re.compile(r"^(.+)_duplicated_\d+$")
_NUMBER = r"^\s*[+-]?[\d.,' ]+([eE][+-]?\d+)?\s*$"
_HALVES = re.compile(r"^[^,]+(,[+-]?\d+,\d+)+$")


class FileError(ValueError):
    """A file that cannot be used; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was in the file: CSV columns as text, Parquet columns typed.

    Attributes
    ----------
    decimal_comma : bool
        Whether numbers are written like 1.234,5.
    """

    frame: pl.DataFrame
    decimal_comma: bool = False


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file.

    Raises
    ------
    FileError
        The file is missing, empty, unreadable or no table.
    """
    try:
        if path.is_dir():
            raise FileError(f"{path}: is a folder, give a file")
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from None
    if not head:
        raise FileError(f"{path}: is empty")
    if head == PARQUET_MAGIC or path.suffix.lower() in (".parquet", ".pq"):
        try:
            table = Table(pl.read_parquet(path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise FileError(f"{path}: is no whole Parquet file ({str(error).splitlines()[0]})") from None
    else:
        table = _read_csv(path)
    if table.frame.width < 2:
        raise FileError(f"{path}: has {table.frame.width} column(s); needed are a time and at least one series")
    return table


@dataclass(frozen=True, slots=True)
class Layout:
    """How a CSV text is laid out.

    Attributes
    ----------
    start : int
        Where the header, or without one the first row, begins in the text.
    header : str
        Line with the names of the columns.
    """

    separator: str
    start: int
    header: str


def encoding_of(path: Path) -> str:
    """Encoding of a text, told by its first two megabytes."""
    with path.open("rb") as file:
        head = file.read(2_000_000)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        head[: head.rfind(b"\n") + 1].decode("utf-8-sig")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _decode(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def _read_csv(path: Path) -> Table:
    try:
        text = _decode(path.read_bytes())
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from None
    layout = layout_of(path, text)
    return read_body(path, layout, text[layout.start :])


def layout_of(path: Path, text: str) -> Layout:
    """Separator and header of a CSV text, from its beginning.

    Raises
    ------
    FileError
        It is no text, or has no rows.
    """
    if "\x00" in text[:4096]:
        raise FileError(f"{path}: is neither CSV text nor Parquet")
    lines = [line for line in text[:1_000_000].splitlines() if line.strip()]
    if len(lines) < 2:
        raise FileError(f"{path}: has no rows below its header")
    separator = _separator(lines[1:SNIFF_LINES])
    start, header = _header(text, lines, separator)
    return Layout(separator, start, header)


def read_body(path: Path, layout: Layout, text: str) -> Table:
    """Rows of a CSV text of a known layout, with or without the header on top.

    Raises
    ------
    FileError
        It is no table, or has no rows.
    """
    if not text.startswith(layout.header):
        text = layout.header + "\n" + text
    try:
        frame = pl.read_csv(
            io.BytesIO(text.encode()),
            separator=layout.separator,
            infer_schema=False,
            truncate_ragged_lines=True,
        )
    except (pl.exceptions.PolarsError, ValueError) as error:
        _check_quotes(path, (line for line in text.splitlines() if line.count('"') % 2))
        raise FileError(f"{path}: is no table ({str(error).splitlines()[0]})") from None
    if frame.is_empty():
        raise FileError(f"{path}: has no rows below its header")
    twice = [match[1] for name in frame.columns if (match := _TWICE.match(name)) and name not in layout.header]
    if twice:
        raise FileError(f"{path}: column {twice[0]} is there twice")
    if '"' in text:
        for column in frame:
            swallowing = column.filter(column.str.contains("\n", literal=True))
            _check_quotes(path, (cell for cell in swallowing if any(map(STARTS_LIKE_TIME.match, cell.split("\n")[1:]))))
    frame = _without_long_rows(path, layout, text, frame)
    return Table(frame, _has_decimal_comma(frame, layout.separator))


def _without_long_rows(path: Path, layout: Layout, text: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows with more fields than the header say nothing for sure: their values become no numbers, their stamps stay.

    Raises
    ------
    FileError
        All numbers fall into two fields, as decimal commas do where the comma separates fields as well.
    """
    separator, most = layout.separator, frame.width - 1
    if text.count(separator) <= most * (frame.height + 1):
        return frame
    lines = [line for line in text.splitlines() if line.strip()][1:]
    counts = [_outside_quotes(line).rstrip(f"{separator} ").count(separator) for line in lines]
    long = [row for row, count in enumerate(counts) if count > most]
    if separator == "," and long and 2 * counts.count(2 * most) > len(lines) and _HALVES.match(lines[long[0]]):
        raise FileError(f"{path}: decimal commas and commas between fields cannot be told apart, in {lines[long[0]]!r}")
    if not long or 2 * len(long) > len(lines) or len(lines) != frame.height:
        return frame
    rows = pl.int_range(frame.height).is_in(long)
    numbers = rows & pl.col(frame.columns[1:]).str.contains(_NUMBER)
    return frame.with_columns(
        pl.when(~numbers | numbers.is_null()).then(pl.col(frame.columns[1:])).otherwise(pl.lit("?"))
    )


def _check_quotes(path: Path, suspects: Iterator[str]) -> None:
    """A quote that is not closed swallows the rows below it."""
    for text in suspects:
        raise FileError(f"{path}: a quote is not closed, in {text.splitlines()[0][:80]!r}")


def _separator(lines: list[str]) -> str:
    """The separator that splits the lines most evenly into the most fields."""
    best, rank = ",", (0.0, 0)
    for candidate in SEPARATORS:
        counts = [_outside_quotes(line).count(candidate) for line in lines]
        usual = max(set(counts), key=counts.count)
        if usual and (even := counts.count(usual) / len(counts)) >= 0.6:
            # A decimal comma also splits evenly, but a semicolon or tab beside it is the separator then.
            here = (round(even, 1) if candidate != "," else round(even, 1) - 0.15, usual)
            if here > rank:
                best, rank = candidate, here
    return best


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _header(text: str, lines: list[str], separator: str) -> tuple[int, str]:
    """Where the table begins, and its header: the line above the first that begins with a time.

    Exports often begin with lines about the meter; some have no header at all and get one.
    """
    fields = [_outside_quotes(line).count(separator) for line in lines[:SNIFF_LINES]]
    usual = max(set(fields[1:]), key=fields[1:].count)
    first = [line.split(separator)[0].strip(' "') for line in lines[:SNIFF_LINES]]
    data = next((i for i, word in enumerate(first) if fields[i] >= usual and STARTS_LIKE_TIME.match(word)), None)
    if data == 0:
        names = ["time", *(f"column_{i}" for i in range(1, usual + 1))]
        return text.index(lines[0]), separator.join(names)
    if data is None:
        header = next((line for line, count in zip(lines, fields, strict=False) if count >= usual), lines[0])
        return text.index(header), header
    # The header is searched for by its place, as its words may occur above it.
    place = 0
    for line in lines[: data - 1]:
        place = text.index(line, place) + len(line)
    return text.index(lines[data - 1], place), lines[data - 1]


def _has_decimal_comma(frame: pl.DataFrame, separator: str) -> bool:
    if separator == "," and not any('"' in name for name in frame.columns):
        sample = frame.head(500)
    else:
        sample = frame.head(2000)
    comma = point = 0
    for name in frame.columns[1:]:
        values = sample[name].drop_nulls().str.strip_chars()
        comma += int(values.str.contains(r"^[+-]?[\d.\s]*\d,\d+(?:[eE][+-]?\d+)?$").sum())
        point += int(values.str.contains(r"^[+-]?[\d,\s]*\d?\.\d+(?:[eE][+-]?\d+)?$").sum())
    return comma > point


def to_numbers(column: pl.Series, *, decimal_comma: bool, at_least: float = 0.8) -> tuple[pl.Series, pl.Series] | None:
    """A column as numbers, and where it holds something that is no number.

    Returns
    -------
    None when the column is no series of numbers (text, dates, true and false).
    """
    if column.dtype.is_numeric():
        numbers = column.cast(pl.Float64)
        strange = numbers.is_nan() | numbers.is_infinite()
        return numbers, strange.fill_null(False)
    if column.dtype != pl.String:
        return None
    text = column.str.strip_chars().str.replace_all(r"[\s\u00a0']", "")
    empty = text.is_null() | (text == "")
    if decimal_comma:
        plain = text.str.replace_all(".", "", literal=True).str.replace_all(",", ".", literal=True)
    else:
        plain = text.str.replace_all(",", "", literal=True)
    numbers = plain.cast(pl.Float64, strict=False)
    numbers = pl.select(pl.when(numbers.is_finite()).then(numbers).otherwise(None).alias(column.name))[column.name]
    told = text.str.to_lowercase().is_in(["nan", "null", "none", "na", "n/a", "-", "--", "inf", "-inf", "+inf"])
    readable = int(numbers.is_not_null().sum())
    others = int((~empty & numbers.is_null() & ~told).sum())
    if at_least and (readable == 0 or readable < at_least * (readable + others)):
        return None
    return numbers, ~empty & numbers.is_null()


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a table as Parquet or CSV (by its name), whole or not at all.

    Raises
    ------
    FileError
        The file cannot be written.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame.write_parquet(scratch)
        else:
            frame.write_csv(scratch)
        scratch.replace(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        scratch.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise FileError(f"{path}: cannot be written: {reason}") from None
