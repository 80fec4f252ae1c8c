"""Export of readings to files, a month at a time, so that memory stays bounded whatever the period."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from flexergy_pipelines.store.clean import read_clean
from flexergy_pipelines.store.errors import InvalidDataError
from flexergy_pipelines.store.frames import period
from flexergy_pipelines.store.readings import read_readings

if TYPE_CHECKING:
    from flexergy_pipelines.store.engine import TenantStore


def export_readings(
    db: TenantStore,
    site_id: str,
    start: datetime,
    end: datetime,
    out: Path,
    *,
    points: list[tuple[str, str]] | None = None,
    clean: bool = False,
) -> int:
    """Write readings (or clean values) with start <= time < end to a CSV or Parquet file, by month, point and time.

    Parameters
    ----------
    db : TenantStore
        Tenant that the site belongs to.
    site_id : str
        The site.
    start, end : datetime
        The period.
    out : Path
        Its ending decides the format. The file appears under this name only when it is complete.
    points : list of (asset_id, quantity), optional
        Default: all.
    clean : bool
        Clean values with flag and uncertainty instead of readings with quality.

    Returns
    -------
    int
        Rows written.
    """
    writers = {".csv": _write_csv, ".parquet": _write_parquet}
    if out.suffix not in writers:
        raise InvalidDataError(f"{out}: ends with '{out.suffix}'; give a name that ends with .csv or .parquet")
    first, last = period(start, end)
    read = read_clean if clean else read_readings
    scratch = out.with_name(f".{out.name}.part")
    try:
        frames = (read(db, site_id, lower, upper, points) for lower, upper in _months(first, last))
        rows = writers[out.suffix](frames, scratch)
        scratch.replace(out)
    finally:
        scratch.unlink(missing_ok=True)
    return rows


def _months(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    lower = start
    while True:
        upper = min((lower.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0), end)
        upper = upper.replace(microsecond=0, tzinfo=UTC) if upper != end else end
        yield lower, upper
        if upper >= end:
            return
        lower = upper


def _write_csv(frames: Iterator[pl.DataFrame], path: Path) -> int:
    rows = 0
    with path.open("wb") as file:
        for number, frame in enumerate(frames):
            frame.write_csv(file, include_header=number == 0, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
            rows += frame.height
    return rows


def _write_parquet(frames: Iterator[pl.DataFrame], path: Path) -> int:
    import pyarrow.parquet as pq

    rows, writer = 0, None
    try:
        for frame in frames:
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            rows += frame.height
    finally:
        if writer is not None:
            writer.close()
    return rows
