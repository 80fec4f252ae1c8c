"""Reading a meter CSV strictly: every row becomes a reading or a rejection with its reason.

A file has a header with ``meter`` (or ``asset``), ``quantity``, ``time`` and ``value``, and may have ``unit`` and
``site``, in any order. Separator is comma, semicolon or tab; a decimal comma is understood where the comma is not the
separator. Times are ISO 8601; those without offset are local to the site, and the doubled hour of autumn is told apart
by order.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, TextIO, cast

import polars as pl

from ingestion.meters.checking import Batch, FileRefusedError, Seen, check_rows
from ingestion.meters.columns import columns_of
from ingestion.meters.points import PointMap

CHUNK_ROWS = 100_000
LONGEST_LINE = 4_000
_GZIP = b"\x1f\x8b"


def read_csv(
    path: Path, points: Mapping[str, PointMap], now: datetime, site_id: str | None, folder: Path | None = None
) -> Iterator[Batch]:
    """Check a CSV file piece by piece.

    Parameters
    ----------
    path : Path
        The file.
    points : mapping
        For each site its known points.
    now : datetime
        Stamps after it (with five minutes of grace) are refused, aware.
    site_id : str or None
        Site of rows that name none.
    folder : Path, optional
        Where keys of earlier rows may wait, so that a file of any size needs little memory.

    Yields
    ------
    Batch
        At most 100,000 rows each; the header is checked before the first.

    Raises
    ------
    FileRefusedError
        When encoding or header are unusable.
    """
    seen, encoding = Seen(folder), "utf-8"
    try:
        with _plain(path) as file:
            encoding = _encoding(file.read(4))
        with _plain(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
            header, separator = _header(text)
            row = 2
            for lines, ends_cut in _chunks(text):
                raw = _split(lines, header, separator, row, cut_last=ends_cut)
                yield check_rows(raw, points, now, site_id, seen)
                row += len(lines)
    except UnicodeDecodeError as error:
        raise FileRefusedError(
            f"byte {error.start} is not {encoding}: save the file as UTF-8 (found {error.object[error.start]:#04x})"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileRefusedError(f"the compressed file is broken or cut off: {error}") from error


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked when it is compressed by gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        yield cast("IO[bytes]", file)


def _encoding(start: bytes) -> str:
    if not start:
        raise FileRefusedError("the file is empty")
    if start.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\x00" in start or start.startswith(b"%PDF"):
        raise FileRefusedError("this is no text file; drop a CSV, a workbook or XML")
    return "utf-8"


def _header(text: TextIO) -> tuple[list[str], str]:
    line = text.readline(LONGEST_LINE).strip("\r\n")
    separator = max((";", "\t", ","), key=line.count)
    parts = line.split(separator)
    if len(set(parts)) != len(parts):
        raise FileRefusedError("header names a column twice")
    names = list(columns_of(parts).values())
    return names, separator


def _chunks(text: TextIO) -> Iterator[tuple[list[str], bool]]:
    """Lines in pieces, and whether the file ends inside the last of them."""
    lines: list[str] = []
    cut = False
    while line := text.readline(LONGEST_LINE):
        if len(lines) == CHUNK_ROWS:
            yield lines, False
            lines = []
        cut = not line.endswith(("\n", "\r"))
        lines.append(line.rstrip("\r\n"))
        if cut and len(line) >= LONGEST_LINE:
            while (rest := text.readline(LONGEST_LINE)) and not rest.endswith("\n"):
                pass
            cut = not rest
    if lines:
        yield lines, cut


def _split(lines: list[str], header: list[str], separator: str, first_row: int, *, cut_last: bool) -> pl.DataFrame:
    frame = pl.DataFrame({"line": lines}).with_row_index("row", offset=first_row)
    fields = pl.col("line").str.split(separator)
    count = fields.list.len()
    reason = (
        pl.when(pl.col("line").str.len_chars() >= LONGEST_LINE)
        .then(pl.lit(f"line is longer than {LONGEST_LINE} characters"))
        .when(pl.col("line").str.count_matches('"', literal=True) % 2 == 1)
        .then(pl.lit("a quote is not closed"))
        .when(count != len(header))
        .then(pl.format("{} fields, the header has {}", count, pl.lit(len(header))))
    )
    frame = frame.with_columns(
        reason.alias("reason"),
        *(fields.list.get(i, null_on_oob=True).str.strip_chars(' "').alias(name) for i, name in enumerate(header)),
    ).filter(pl.col("line").str.strip_chars() != "")
    if separator != ",":
        frame = frame.with_columns(pl.col("value").str.replace(",", ".", literal=True))
    if cut_last:
        cut = pl.col("row") == first_row + len(lines) - 1
        text = "the file ends inside this row (no line break): it may be cut off"
        frame = frame.with_columns(pl.when(cut).then(pl.lit(text)).otherwise("reason").alias("reason"))
    return frame
