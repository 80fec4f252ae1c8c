"""Charging transactions on disk: each one gets a number that is never given twice, and nothing told is forgotten."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ChargingTransaction:
    """One charging transaction; what is not known yet is None.

    Attributes
    ----------
    energy_kwh : float or None
        Meter at the end less meter at the start.
    """

    transaction_id: int
    charge_point: str
    connector: int
    id_tag: str
    started: str
    stopped: str | None
    energy_kwh: float | None
    reason: str | None


class Journal:
    """Transactions of one charging manager.

    Parameters
    ----------
    path : Path or None
        SQLite file; None keeps them in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS charging (id INTEGER PRIMARY KEY AUTOINCREMENT, charge_point TEXT NOT NULL, "
            "connector INTEGER NOT NULL, id_tag TEXT NOT NULL, started TEXT NOT NULL, meter_start_wh INTEGER NOT NULL, "
            "stopped TEXT, meter_stop_wh INTEGER, reason TEXT, "
            "UNIQUE (charge_point, connector, id_tag, started, meter_start_wh))"
        )

    def start(self, charge_point: str, connector: int, id_tag: str, started: str, meter_start_wh: int) -> int:
        """Number of a transaction; the same one when a charge point tells it again after a lost answer."""
        key = (charge_point, connector, id_tag, started, meter_start_wh)
        with self._lock:
            self._db.execute(
                "INSERT INTO charging (charge_point, connector, id_tag, started, meter_start_wh) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                key,
            )
            row = self._db.execute(
                "SELECT id FROM charging WHERE charge_point = ? AND connector = ? AND id_tag = ? AND started = ? "
                "AND meter_start_wh = ?",
                key,
            ).fetchone()
        return row[0]

    def stop(self, transaction_id: int, stopped: str, meter_stop_wh: int, reason: str | None) -> None:
        """Note the end of a transaction; the first word counts."""
        with self._lock:
            self._db.execute(
                "UPDATE charging SET stopped = ?, meter_stop_wh = ?, reason = ? WHERE id = ? AND stopped IS NULL",
                (stopped, meter_stop_wh, reason, transaction_id),
            )

    def transactions(self) -> list[ChargingTransaction]:
        """All of them, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, charge_point, connector, id_tag, started, stopped, "
                "(meter_stop_wh - meter_start_wh) / 1000.0, reason FROM charging ORDER BY id"
            ).fetchall()
        return [ChargingTransaction(*row) for row in rows]

    def running(self) -> list[tuple[int, str, str, int]]:
        """Transactions that nobody has ended: number, charge point, start, and meter at the start [Wh]."""
        with self._lock:
            return self._db.execute(
                "SELECT id, charge_point, started, meter_start_wh FROM charging WHERE stopped IS NULL ORDER BY id"
            ).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
