"""Meter values in a spreadsheet: the first sheet, with the columns of the CSV."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ingestion.meters.checking import FileRefusedError
from ingestion.meters.columns import columns_of

LARGEST_BYTES = 50_000_000


def read_excel(path: Path) -> pl.DataFrame:
    """Rows of the first sheet, as text for the check.

    Raises
    ------
    FileRefusedError
        When it is too large, no workbook, empty, or its header is unusable.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise FileRefusedError(f"a workbook of more than {LARGEST_BYTES // 1_000_000} MB is not taken; give a CSV")
    from fastexcel import FastExcelError
    from fastexcel import read_excel as open_workbook

    try:
        sheet = open_workbook(path).load_sheet(0, dtypes="string").to_polars()
    except FastExcelError as error:
        raise FileRefusedError(f"the workbook cannot be read: {str(error).splitlines()[0]}") from error
    names = columns_of(sheet.columns)
    texts = [pl.col(old).cast(pl.String).fill_null("").str.strip_chars().alias(new) for old, new in names.items()]
    frame = sheet.select(texts).with_row_index("row", offset=2)
    given = [name for name in frame.columns if name != "row"]
    return frame.with_columns(
        pl.concat_str(given, separator=";").alias("line"),
        pl.lit(None, dtype=pl.String).alias("reason"),
    ).filter(pl.any_horizontal(pl.col(given) != ""))
