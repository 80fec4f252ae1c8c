"""Files that are too large to be held in memory at once: read, cleansed and written piece by piece.

Each piece is cleansed with rows of its neighbours around it, so that gaps and slips across its edges are seen whole.
What a series usually does is told from each piece anew; a piece holds hundreds of thousands of rows.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import numpy as np
import polars as pl

from flexergy_pipelines.quality.files import (
    PARQUET_MAGIC,
    FileError,
    Table,
    encoding_of,
    layout_of,
    read_body,
    read_table,
    write_table,
)
from flexergy_pipelines.quality.observable import most_observable
from flexergy_pipelines.quality.stamps import parse_times
from flexergy_pipelines.quality.tables import ChannelReport, DayShares, TableReport, clean_table

if TYPE_CHECKING:
    import pyarrow.parquet as pq

    from flexergy_pipelines.quality.spec import SeriesKind

PARQUET_NAMES: Final = (".parquet", ".pq")
LARGE_BYTES: Final = 120_000_000  # text; from here on in pieces
PIECE_CHARACTERS: Final = 60_000_000
LARGE_CELLS: Final = 12_000_000  # of a Parquet file
PIECE_CELLS: Final = 6_000_000
CONTEXT_ROWS: Final = 12_000  # of the neighbours


def clean_file(path: Path, out: Path, kind: SeriesKind | None, capacity_kw: float | None) -> TableReport:
    """Cleanse a file into another one, in pieces if it is large.

    Raises
    ------
    FileError
        What `read_table`, `clean_table` and `write_table` refuse; or a large file whose rows are not in order of time.
    """
    if out.exists() and not out.is_file():
        # A device such as /dev/stdout would be replaced by the file.
        raise FileError(f"{out}: cannot be written: is no regular file")
    pieces = _pieces(path)
    if pieces is None:
        table, report = clean_table(read_table(path), kind, capacity_kw)
        write_table(table, out)
        return report
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file, closing(_Writer(file, parquet=out.suffix.lower() in PARQUET_NAMES)) as writer:
            report = _clean_pieces(path, pieces, writer, kind, capacity_kw)
        scratch.replace(out)
    except OSError as error:
        raise FileError(f"{out}: cannot be written: {error.strerror or error}") from None
    finally:
        scratch.unlink(missing_ok=True)
    return report


def _pieces(path: Path) -> Iterator[Table] | None:
    """Tables that follow each other in the file; None when it fits into one."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            parquet = file.read(4) == PARQUET_MAGIC
    except OSError:
        return None
    if parquet:
        return _of_parquet(path)
    return _of_text(path) if size > LARGE_BYTES else None


def _of_parquet(path: Path) -> Iterator[Table] | None:
    try:
        lazy = pl.scan_parquet(path)
        rows = int(lazy.select(pl.len()).collect().item())
        width = len(lazy.collect_schema())
    except (pl.exceptions.PolarsError, OSError):
        return None
    if rows * width <= LARGE_CELLS:
        return None
    step = max(2 * CONTEXT_ROWS, PIECE_CELLS // width)
    return (Table(lazy.slice(at, step).collect()) for at in range(0, rows, step))


def _of_text(path: Path) -> Iterator[Table]:
    with path.open(encoding=encoding_of(path), errors="replace", newline="") as file:
        layout = None
        rest = ""
        while True:
            block = file.read(PIECE_CHARACTERS)
            text = rest + block
            if not text.strip():
                return
            cut = text.rfind("\n") + 1 if block else len(text)
            rest, text = text[cut:], text[:cut]
            if layout is None:
                layout = layout_of(path, text)
                text = text[layout.start :]
            if text.strip():
                yield read_body(path, layout, text)


@dataclass(slots=True)
class _Sums:
    """What the report of a channel is made of."""

    kind: SeriesKind
    counts: Counter[str] = field(default_factory=Counter)
    usable: float = 0.0
    days: dict[date, float] = field(default_factory=dict)


def _clean_pieces(
    path: Path, pieces: Iterator[Table], writer: _Writer, kind: SeriesKind | None, capacity_kw: float | None
) -> TableReport:
    before: pl.DataFrame | None = None
    current = next(pieces)
    sums: dict[str, _Sums] = {}
    rows, step, latest = 0, 0.0, -np.inf
    while current is not None:
        following = next(pieces, None)
        frame = current.frame
        latest = _in_order(path, frame, latest)
        head = 0 if before is None else before.height
        parts = [] if before is None else [before]
        parts.append(frame)
        if following is not None:
            parts.append(following.frame.head(CONTEXT_ROWS))
        kinds: dict[str, SeriesKind] | None = {name: one.kind for name, one in sums.items()} or None
        table = Table(pl.concat(parts, how="vertical_relaxed"), current.decimal_comma)
        clean, report = clean_table(table, kind, capacity_kw, kinds=kinds, core=slice(head, head + frame.height))
        writer.write(clean.slice(head, frame.height), report.channels)
        for name, channel in report.channels.items():
            one = sums.setdefault(name, _Sums(channel.kind))
            one.counts.update(channel.counts)
            one.usable += channel.coverage * frame.height
            for day, share in zip(channel.days.days, channel.days.shares.tolist(), strict=True):
                one.days[day] = one.days.get(day, 0.0) + share
        rows, step = rows + frame.height, step or report.step_minutes
        before, current = frame.tail(CONTEXT_ROWS), following
    return TableReport(rows, step, {name: _report(one, rows) for name, one in sums.items()})


def _report(one: _Sums, rows: int) -> ChannelReport:
    shares = DayShares([], np.zeros(0))
    if one.days:
        first, last = min(one.days), max(one.days)
        days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
        shares = DayShares(days, np.array([min(one.days.get(day, 0.0), 1.0) for day in days]))
    return ChannelReport(
        one.kind,
        dict(one.counts.most_common()),
        one.usable / max(rows, 1),
        most_observable(shares.days, shares.shares),
        shares,
    )


def _in_order(path: Path, frame: pl.DataFrame, latest: float) -> float:
    times, known, _ = parse_times(frame[frame.columns[0]])
    if not known.any():
        raise FileError(f"{path}: {frame.height} rows in a row without a time that can be read")
    low, high = np.quantile(times[known], [0.05, 0.95])
    if low < latest:
        raise FileError(
            f"{path}: rows are not in order of time; a file this large is cleansed in pieces, sort it first"
        )
    return float(high)


class _Writer:
    """Appends tables to a CSV or Parquet file."""

    def __init__(self, file: IO[bytes], *, parquet: bool) -> None:
        self.file, self.parquet = file, parquet
        self._writer: pq.ParquetWriter | None = None
        self._begun = False

    def close(self) -> None:
        """Write what ends the file."""
        if self._writer is not None:
            self._writer.close()

    def write(self, frame: pl.DataFrame, channels: dict[str, ChannelReport]) -> None:
        """Append rows."""
        if not self.parquet:
            buffer = io.BytesIO()
            frame.write_csv(buffer, include_header=not self._begun)
            self.file.write(buffer.getbuffer())
            self._begun = True
            return
        import pyarrow.parquet as pq

        # Numbers stay numbers in every piece, whether something was found in it or not.
        frame = frame.with_columns(pl.col(name).cast(pl.Float64, strict=False) for name in channels)
        table = frame.to_arrow()
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.file, table.schema)
        self._writer.write_table(table.cast(self._writer.schema))
