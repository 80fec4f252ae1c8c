"""Which format a meter file is in, told by its content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from ingestion.meters.checking import Batch, Seen, check_rows
from ingestion.meters.csv_file import read_csv
from ingestion.meters.points import PointMap

_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def read_batches(
    path: Path, points: Mapping[str, PointMap], now: datetime, site_id: str | None, folder: Path | None = None
) -> Iterator[Batch]:
    """Check a meter file of any known format (CSV, also by gzip, Excel, Green Button, IEC 61968-9) piece by piece.

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

    Raises
    ------
    FileRefusedError
        When the file as a whole is unusable; nothing was yielded then, unless the text turns bad further down.
    """
    with path.open("rb") as file:
        start = file.read(256)
    if start.startswith(_WORKBOOKS):
        from ingestion.meters.excel_file import read_excel

        yield check_rows(read_excel(path), points, now, site_id, Seen())
    elif _is_xml(start):
        from ingestion.meters.xml_file import read_xml

        yield check_rows(read_xml(path), points, now, site_id, Seen())
    else:
        yield from read_csv(path, points, now, site_id, folder)


def _is_xml(start: bytes) -> bool:
    for mark in _BYTE_ORDER_MARKS:
        start = start.removeprefix(mark)
    return start.replace(b"\x00", b"").lstrip().startswith(b"<")
