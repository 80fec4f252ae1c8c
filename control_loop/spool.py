"""The spool: what is meant for the store waits here, on disk, until the store has taken it.

A batch is durable when `append` returns. It is handed out in order and only forgotten after `confirm`, so a batch may
be delivered twice but never lost; the store's writes are idempotent.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_MAX_BYTES = 2 * 1024**3


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

    Raises
    ------
    SpoolError
        When the file cannot be opened or is damaged.
    """

    def __init__(self, path: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.dropped = 0
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS batch "
                "(id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, size INTEGER NOT NULL, rows TEXT NOT NULL)"
            )
            total, count = self._db.execute("SELECT coalesce(sum(size), 0), count(*) FROM batch").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise SpoolError(f"spool {path}: {error}") from error
        self._bytes: int = total
        self._count: int = count

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
        """The oldest batches, in order; they stay until confirmed."""
        with self._lock:
            found = self._db.execute("SELECT id, kind, rows FROM batch ORDER BY id LIMIT ?", (limit,)).fetchall()
        return [Batch(batch_id, kind, json.loads(text)) for batch_id, kind, text in found]

    def confirm(self, batches: Sequence[Batch]) -> None:
        """Forget batches that the store has taken; confirming twice does nothing."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            for batch in batches:
                row = self._db.execute("SELECT size FROM batch WHERE id = ?", (batch.batch_id,)).fetchone()
                if row is not None:
                    self._db.execute("DELETE FROM batch WHERE id = ?", (batch.batch_id,))
                    self._bytes -= row[0]
                    self._count -= 1
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._db.close()


def _iso(value: Any) -> str:
    return value.isoformat()
