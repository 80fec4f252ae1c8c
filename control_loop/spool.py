"""The spool: what is meant for the store waits here, on disk, until the store has taken it.

A batch is durable when `append` returns. It is handed out in order and only forgotten after `confirm`, so a batch may
be delivered twice but never lost; the store's writes are idempotent. A file that was damaged is set aside, and what can
still be read of it waits on in a new one.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_MAX_BYTES = 2 * 1024**3
MEMORY_MAX_BYTES = 64 * 1024**2


class SpoolError(Exception):
    """The spool could not be opened or written; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One spooled batch.

    Attributes
    ----------
    batch_id : int
        Rises with every batch.
    kind : str
        What the rows are.
    rows : list
        As they were appended, times as ISO text.
    """

    batch_id: int
    kind: str
    rows: list[list[Any]]


class Spool:
    """A bounded first-in first-out file of batches.

    Parameters
    ----------
    path : Path
        SQLite file; its folder is made.
    max_bytes : int
        Payload kept at most; beyond it the oldest batches go and are counted in `dropped`.

    Attributes
    ----------
    dropped : int
        Batches that were given up: for want of room, or because they cannot be read.
    problem : str
        What was found damaged, and where it lies now; empty when nothing was.

    Raises
    ------
    SpoolError
        When the file cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.dropped = 0
        self.problem = ""
        self._lock = threading.Lock()
        self._taken: set[int] = set()
        self._count = self._bytes = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = self._opened()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                self._db = self._salvaged(error)
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"spool {path}: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute(
                "CREATE TABLE IF NOT EXISTS batch "
                "(id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, size INTEGER NOT NULL, rows TEXT NOT NULL)"
            )
            self._bytes, self._count = db.execute("SELECT coalesce(sum(size), 0), count(*) FROM batch").fetchone()
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _salvaged(self, problem: sqlite3.Error) -> sqlite3.Connection:
        """A new file with what can be read of the damaged one, which is kept beside it."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        with contextlib.suppress(sqlite3.Error):
            kept = sqlite3.connect(self.path)
            kept.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            kept.close()
        self.path.replace(aside)
        for tail in ("-wal", "-shm"):
            self.path.with_name(self.path.name + tail).unlink(missing_ok=True)
        found = _readable(aside)
        self.problem = f"{problem}; it is kept as {aside.name}, {len(found)} batches could still be read"
        db = self._opened()
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO batch (id, kind, size, rows) VALUES (?, ?, ?, ?)", found)
        db.execute("COMMIT")
        self._count, self._bytes = len(found), sum(row[2] for row in found)
        return db

    @property
    def waiting(self) -> int:
        """Batches that the store has not taken yet."""
        return self._count

    def append(self, kind: str, rows: Sequence[Sequence[Any]]) -> None:
        """Keep a batch; it is on disk when this returns.

        Raises
        ------
        SpoolError
            When it could not be written (disk full, for one); then nothing of the batch is kept.
        """
        if not rows:
            return
        text = json.dumps(rows, default=_iso, separators=(",", ":"))
        size = len(text)
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                removed, freed = self._make_room(size)
                self._db.execute("INSERT INTO batch (kind, size, rows) VALUES (?, ?, ?)", (kind, size, text))
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise SpoolError(f"spool {self.path}: {error}") from error
            self._bytes += size - freed
            self._count += 1 - removed
            self.dropped += removed

    def _make_room(self, size: int) -> tuple[int, int]:
        removed = freed = 0
        while self._bytes - freed + size > self.max_bytes and self._count > removed:
            oldest, oldest_size = self._db.execute("SELECT id, size FROM batch ORDER BY id LIMIT 1").fetchone()
            self._db.execute("DELETE FROM batch WHERE id = ?", (oldest,))
            removed += 1
            freed += oldest_size
        return removed, freed

    def peek(self, limit: int = 100) -> list[Batch]:
        """The oldest batches, in order; they stay until confirmed. One that cannot be read is given up.

        Raises
        ------
        SpoolError
            The file cannot be read.
        """
        with self._lock:
            try:
                found = self._oldest(limit)
            except sqlite3.OperationalError as error:
                raise SpoolError(f"spool {self.path}: {error}") from error
            except sqlite3.DatabaseError as error:
                self._db.close()
                try:
                    self._db = self._salvaged(error)
                    found = self._oldest(limit)
                except (sqlite3.Error, OSError) as again:
                    raise SpoolError(f"spool {self.path}: {again}") from again
            batches: list[Batch] = []
            for batch_id, kind, text in found:
                try:
                    batches.append(Batch(batch_id, kind, json.loads(text)))
                except ValueError:
                    self.dropped += 1
                    self._forget([batch_id])
        return batches

    def _oldest(self, limit: int) -> list[tuple[int, str, str]]:
        rows = self._db.execute(
            "SELECT id, kind, rows FROM batch ORDER BY id LIMIT ?", (limit + len(self._taken),)
        ).fetchall()
        return [row for row in rows if row[0] not in self._taken][:limit]

    def confirm(self, batches: Sequence[Batch]) -> None:
        """Forget batches that the store has taken; confirming twice does nothing.

        On a full disk they are only not handed out again, until there is room for forgetting them.
        """
        with self._lock:
            self._forget([batch.batch_id for batch in batches])

    def _forget(self, batch_ids: Sequence[int]) -> None:
        self._taken.update(batch_ids)
        removed = freed = 0
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for batch_id in self._taken:
                row = self._db.execute("DELETE FROM batch WHERE id = ? RETURNING size", (batch_id,)).fetchone()
                if row is not None:
                    removed += 1
                    freed += row[0]
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            return
        self._taken.clear()
        self._count -= removed
        self._bytes -= freed

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._db.close()


def spool_or_memory(path: Path) -> Spool:
    """The spool of a file; one in memory where it cannot be opened, for a site must be controlled all the same."""
    try:
        return Spool(path)
    except SpoolError as error:
        spool = Spool(Path(":memory:"), MEMORY_MAX_BYTES)
        spool.problem = f"{error}; what the store has not taken is kept in memory and lost with this process"
        return spool


def _readable(path: Path) -> list[tuple[int, str, int, str]]:
    """Batches of a damaged file, read from both ends up to what cannot be read."""
    found: dict[int, tuple[int, str, int, str]] = {}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        db.execute("PRAGMA writable_schema = ON")  # else a file that was cut off is not read at all
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
                for row in db.execute(f"SELECT id, kind, size, rows FROM batch ORDER BY id {order}"):  # noqa: S608
                    if row[0] in found:
                        break
                    if isinstance(row[1], str) and isinstance(row[3], str):
                        found[row[0]] = (row[0], row[1], len(row[3]), row[3])
    return [found[batch_id] for batch_id in sorted(found)]


def _iso(value: Any) -> str:
    return value.isoformat()
