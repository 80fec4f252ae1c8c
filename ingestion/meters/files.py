"""The drop folder: meter files in, readings in the store, what fails in quarantine with row and reason.

A file lies in ``<inbox>/<site>/`` or, when its rows name their site, in ``<inbox>/`` itself. It is taken once it has
lain still; afterwards it moves to ``<inbox>/done/`` or ``<inbox>/quarantine/``. Content that was taken whole is not
taken again, whatever its name; what was refused is, once its cause is gone. A crash half-way is repaired by the next
pass: writing the same readings again changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import signal
import tempfile
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from flexergy_pipelines.logs import get_logger
from ingestion.meters.checking import FileRefusedError
from ingestion.meters.formats import read_batches
from ingestion.meters.points import PointMap, point_map

if TYPE_CHECKING:
    from flexergy_pipelines.store import TenantStore

DONE, QUARANTINE, WORK = "done", "quarantine", ".work"
SETTLED_S = 2.0
"""A file is taken when it was not written to for this long [s]; uploads in progress are left alone."""
_UNFINISHED = (".part", ".tmp", ".crdownload", ".filepart")

Status = Literal["ingested", "partly", "refused", "repeated", "deferred"]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file.

    Attributes
    ----------
    name : str
        File name.
    status : str
        ``ingested`` (all rows), ``partly`` (some rows in quarantine), ``refused`` (nothing taken), ``repeated`` (the
        same content was taken whole before) or ``deferred`` (not complete yet, or no room to check it; it stays).
    rows, rejected : int
        Rows taken and rows refused.
    reason : str or None
        Why it was refused, or the first rejected row.
    days : mapping
        For each site the local days its new readings fall into: what has to be cleansed again.
    """

    name: str
    status: Status
    rows: int = 0
    rejected: int = 0
    reason: str | None = None
    days: dict[str, tuple[date, ...]] = field(default_factory=dict)


class _UnfinishedError(Exception):
    """The file is not complete yet."""


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def waiting_files(inbox: Path, wall_time_s: float) -> list[Path]:
    """Files that lie still in the inbox and its site folders, oldest first.

    Parameters
    ----------
    inbox : Path
        Drop folder; need not exist.
    wall_time_s : float
        Present time as seconds of the epoch, to be compared with the files' own.
    """
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(FileNotFoundError):
        for folder in [inbox, *(p for p in inbox.iterdir() if p.is_dir() and p.name not in {DONE, QUARANTINE, WORK})]:
            for path in folder.iterdir():
                if not path.is_file() or path.name.startswith(".") or path.suffix.lower() in _UNFINISHED:
                    continue
                changed = path.stat().st_mtime
                if wall_time_s - changed >= SETTLED_S and not being_written(path):
                    found.append((changed, path))
    return [path for _, path in sorted(found)]


def ingest_inbox(db: TenantStore, inbox: Path, now: datetime, wall_time_s: float) -> list[FileReport]:
    """Take every waiting file.

    Parameters
    ----------
    db : TenantStore
        Where readings and the register of files are.
    inbox : Path
        Drop folder.
    now : datetime
        Readings after it are refused, aware.
    wall_time_s : float
        Present time as seconds of the epoch.

    Returns
    -------
    list of FileReport
        One for each file; a file that fails never stops the next.
    """
    return [ingest_file(db, inbox, path, now) for path in waiting_files(inbox, wall_time_s)]


def ingest_file(db: TenantStore, inbox: Path, path: Path, now: datetime) -> FileReport:
    """Take one file: store its good rows, put the others into quarantine, register it, move it away.

    Raises
    ------
    StoreError
        When the store is away; the file stays where it is and is taken by the next pass.
    """
    from flexergy_pipelines.store import InvalidDataError
    from flexergy_pipelines.store.meter_files import find_meter_file
    from flexergy_pipelines.store.sites import list_sites, load_site

    points = {site_id: point_map(load_site(db, site_id)) for site_id in list_sites(db)}
    site_id = _site_of(inbox, path, points)
    state = _state(path)
    try:
        digest = _sha256(path)
        registered = [site_id] if site_id in points else list(points)
        earlier = [find_meter_file(db, site, digest) for site in registered if site is not None]
        # What was refused, in whole or in part, may be good by now: its meters registered, its times past.
        if any(record is not None and record.status == "ingested" for record in earlier):
            _move(path, inbox / DONE)
            return FileReport(path.name, "repeated", reason="the same content was taken before")
        if site_id is not None and site_id not in points:
            raise FileRefusedError(f"folder '{site_id}' is no site; known: {', '.join(points) or 'none'}")
        report = _take(db, path, inbox, points, now=now, site_id=site_id)
        if _state(path) != state:
            raise _UnfinishedError("it was written to while it was read")
    except (_UnfinishedError, OSError) as trouble:
        # What was stored is stored again by the next pass, and changes nothing then.
        reason = f"left for the next pass: {trouble}"
        _log.warning("meter file deferred", file=path.name, reason=reason)
        return FileReport(path.name, "deferred", reason=reason)
    except (FileRefusedError, InvalidDataError) as refusal:
        report = FileReport(path.name, "refused", reason=str(refusal))
        if site_id in points and site_id is not None:
            _register(db, {site_id}, report, _sha256(path))
        _refuse(path, inbox / QUARANTINE, str(refusal))
        _log.warning("meter file refused", file=path.name, reason=str(refusal))
        return report
    _register(db, set(report.days) or {s for s in [site_id] if s}, report, digest)
    _move(path, inbox / DONE)
    _log.info("meter file taken", file=path.name, status=report.status, rows=report.rows, rejected=report.rejected)
    return report


def _take(
    db: TenantStore, path: Path, inbox: Path, points: dict[str, PointMap], *, now: datetime, site_id: str | None
) -> FileReport:
    """Check all of the file first, then store what is good: a file that is refused leaves nothing behind."""
    from flexergy_pipelines.store.readings import write_readings

    rows = rejected = 0
    first_reason: str | None = None
    days: dict[str, set[date]] = {}
    source = f"file:{_printable(path.name)}"[:200]
    work = inbox / WORK
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        folder = Path(scratch)
        refusals, pieces = folder / "rejected.csv", list[Path]()
        for batch in read_batches(path, points, now, site_id, folder):
            _append(refusals, batch.rejected)
            rejected += batch.rejected.height
            if first_reason is None and not batch.rejected.is_empty():
                row, reason = batch.rejected.select("row", "reason").row(0)
                first_reason = f"row {row}: {reason}"
            if not batch.accepted.is_empty():
                pieces.append(folder / f"rows-{len(pieces)}.parquet")
                batch.accepted.write_parquet(pieces[-1])
            rows += batch.accepted.height
        if rows == 0:
            _keep(refusals, inbox, path)
            raise FileRefusedError(f"no row could be taken; {first_reason or 'the file holds only a header'}")
        for piece in pieces:
            accepted = pl.read_parquet(piece, memory_map=False)
            with db.begin():
                for (site,), part in accepted.group_by("site_id"):
                    write_readings(db, str(site), part.drop("site_id"), source=source)
                    local = part["time"].dt.convert_time_zone(points[str(site)].time_zone).dt.date()
                    days.setdefault(str(site), set()).update(local.unique().to_list())
        _keep(refusals, inbox, path)
    sorted_days = {site: tuple(sorted(found)) for site, found in days.items()}
    return FileReport(path.name, "partly" if rejected else "ingested", rows, rejected, first_reason, sorted_days)


def _append(refusals: Path, rejected: pl.DataFrame) -> None:
    if rejected.is_empty():
        return
    begun = refusals.exists()
    with refusals.open("ab") as file:
        rejected.write_csv(file, include_header=not begun)


def _keep(refusals: Path, inbox: Path, path: Path) -> None:
    """Put refused rows, if there are any, into quarantine under the name of their file."""
    if refusals.exists():
        (inbox / QUARANTINE).mkdir(parents=True, exist_ok=True)
        refusals.replace(inbox / QUARANTINE / f"{path.name}.rejected.csv")


def being_written(path: Path) -> bool:
    """Whether some process of this machine has the file open for writing; False where that cannot be told."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        try:
            # A read lease is only given on a file that nobody has open for writing. Who opens it while the lease
            # stands is told by a signal, here one that is ignored unless somebody asks for it.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _site_of(inbox: Path, path: Path, points: dict[str, PointMap]) -> str | None:
    if path.parent != inbox:
        return path.parent.name
    return next(iter(points)) if len(points) == 1 else None


def _register(db: TenantStore, sites: set[str], report: FileReport, digest: str) -> None:
    from flexergy_pipelines.store.meter_files import record_meter_file

    name, reason = _printable(report.name), None if report.reason is None else _printable(report.reason)
    for site_id in sorted(sites):
        record_meter_file(db, site_id, name, digest, report.status, report.rows, report.rejected, reason)


def _printable(text: str) -> str:
    """The text with everything escaped that the store could not hold or a screen not show, such as NUL."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(path: Path, folder: Path) -> Path:
    """Move into `folder` on the same file system, never over another file."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    number = 1
    while target.exists():
        target = folder / f"{path.stem}.{number}{path.suffix}"
        number += 1
    return path.replace(target)


def _refuse(path: Path, folder: Path, reason: str) -> None:
    moved = _move(path, folder)
    moved.with_name(f"{moved.name}.reason.txt").write_text(f"{reason}\n", encoding="utf-8")
